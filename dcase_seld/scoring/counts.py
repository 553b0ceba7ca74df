"""What the challenge's figures are made of: hits, misses, extras and errors, summed per clip and class.

Per class and frame, reference and predicted sources are matched by azimuth. A match within 20° whose distance is off by
at most the reference distance is a hit; any other match is a spatial false positive.

Source: the DCASE 2025 Challenge Task 3 scorer, which the "official" protocol reproduces with its quirks: the last
annotated frame is never scored; a clip without reference events is never scored; of more than ten sources of one class
in a frame, each further one overwrites the first track; a zero reference distance divides by machine epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.core.csv_rows import Rows
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.event_files import official_rows
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import Sphere
from dcase_seld.core.task import DOA_THRESHOLD_DEG, RELATIVE_DISTANCE_THRESHOLD

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


MOST_TOGETHER = 400
"""Most sources on a side that are matched with each other: time and memory grow with their square and cube."""


def refuse_crowd(rows: int, columns: int) -> None:
    """Refuse to match so many annotated and predicted sources of one frame, which only a broken table has."""
    if max(rows, columns) > MOST_TOGETHER:
        raise SeldError(
            f"A frame has {rows:,} annotated and {columns:,} predicted sources; {MOST_TOGETHER} are matched at most.",
            "`dcase-seld data stats` on each folder says which has too many at a time; mend its tables.",
        )


def match(cost: Floats) -> tuple[Indices, Indices]:
    """Return the row and the column of every pair of the cheapest matching, each (G, min(R, P)).

    Args:
        cost: (G, R, P) finite costs of G tables.

    Source: D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (2016), with the order of columns and
    the rule for ties of scipy.optimize.linear_sum_assignment; pairs are listed in another order than there.
    """
    _, rows, columns = cost.shape
    if rows > columns:
        column, row = match(np.swapaxes(cost, 1, 2))
        return row, column
    partner = _solve(np.ascontiguousarray(cost))
    return np.broadcast_to(np.arange(rows), partner.shape), partner


def _solve(cost: Floats) -> Indices:
    """Return the column of every row, (G, n), of tables (G, n, m) with n <= m: rows join one by one."""
    tables, n, m = cost.shape
    row_price, column_price = np.zeros((tables, n)), np.zeros((tables, m))
    row_of = np.full((tables, m), -1, np.intp)
    column_of = np.full((tables, n), -1, np.intp)
    each = np.arange(tables)
    for new in range(n):
        path, shortest, total, sink, visited = _cheapest_path(cost, row_price, column_price, row_of, new)
        # Prices move so that every pair on a visited path costs nothing.
        gain = np.where(visited, total[:, None] - shortest, 0.0)
        row_price[:, new] += total
        for earlier in range(new):
            row_price[:, earlier] += gain[each, column_of[:, earlier]]
        column_price -= gain
        # Walk the path back from its free column and re-pair the rows on it.
        walking, column = each, sink
        while walking.size:
            row = path[walking, column]
            row_of[walking, column] = row
            previous = column_of[walking, row]
            column_of[walking, row] = column
            going = row != new
            walking, column = walking[going], previous[going]
    return column_of


def _cheapest_path(
    cost: Floats, row_price: Floats, column_price: Floats, row_of: Indices, new: int
) -> tuple[Indices, Floats, Floats, Indices, npt.NDArray[np.bool_]]:
    """Return path (G, m), shortest (G, m), total (G,), sink (G,) and visited columns (G, m) of joining row `new`."""
    tables, _, m = cost.shape
    path = np.full((tables, m), -1, np.intp)
    shortest = np.full((tables, m), np.inf)
    visited = np.zeros((tables, m), np.bool_)
    total = np.zeros(tables)
    sink = np.full(tables, -1, np.intp)
    # The place of each column in the solver's list of columns to look at, which begins reversed.
    place = np.broadcast_to(np.arange(m)[::-1], (tables, m)).copy()
    active, row = np.arange(tables), np.full(tables, new, np.intp)
    for left in range(m, 0, -1):
        # In SciPy's order of additions: the last digit decides between costs that are equal on paper.
        through = (total[active][:, None] + cost[active, row] - row_price[active, row][:, None]) - column_price[active]
        open_column = ~visited[active]
        distance = shortest[active]
        shorter = open_column & (through < distance)
        distance = np.where(shorter, through, distance)
        shortest[active] = distance
        path[active] = np.where(shorter, row[:, None], path[active])
        # Of equally near columns: the last free one in the list, else the first one.
        distance = np.where(open_column, distance, np.inf)
        nearest = distance.min(axis=1)
        where = place[active]
        rank = np.where(row_of[active] < 0, m + where, m - 1 - where)
        chosen = np.where(distance == nearest[:, None], rank, -1).argmax(axis=1)
        total[active] = nearest
        visited[active, chosen] = True
        # The last column of the list takes the place of the chosen one.
        hole = where[np.arange(active.size), chosen]
        place[active] = np.where(where == left - 1, hole[:, None], where)
        row = row_of[active, chosen]
        reached = row < 0
        sink[active[reached]] = chosen[reached]
        active, row = active[~reached], row[~reached]
        if not active.size:
            break
    return path, shortest, total, sink, visited


Apart = Callable[[npt.NDArray[Any], npt.NDArray[Any]], Floats]
"""Rows (…, 6 or more) of two sides → degrees between their directions (…)."""

Protocol = Literal["official", "complete"]
Integers = npt.NDArray[np.int64]

PROTOCOLS = {
    "official": "the challenge's own scorer, to the last digit: in each clip only the frames before the last annotated "
    "one count, so clips without reference events never count, and a missing prediction file counts nothing.",
    "complete": "every frame of every clip counts, also false alarms where nothing is annotated, and all sources of a "
    "clip without a prediction file are missed.",
}
"""What each protocol scores."""

COUNTS = (
    *("hit", "hit_onscreen", "match", "extra", "miss", "azimuth_error", "distance_error", "relative_error"),
    *("onscreen_right", "azimuth_right", "distance_right"),
)
"""What is summed, in degrees and centimetres: hit_onscreen are hits whose on-screen flag agrees, *_right matches of
which one thing is right; a hit has both azimuth and distance right."""

_MOST_TRACKS = 10
SPHERE = Sphere()

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Counts:
    """Sums per clip and class."""

    clips: tuple[str, ...]  # names of the scored clips
    values: npt.NDArray[np.float64]  # (len(COUNTS), clips, C)


def refuse_unknown(predicted: Sequence[str], annotated: Container[str], pred: object = "", ref: object = "") -> None:
    """Refuse predictions of clips without references, which are named, with the places `pred` and `ref` of files."""
    unknown = [name for name in predicted if name not in annotated]
    if unknown:
        what = (
            f"prediction file(s) in {pred} have no reference in {ref}"
            if pred
            else "predicted clip(s) have no reference"
        )
        raise SeldError(
            f"{len(unknown)} {what}: {listing(unknown)}.",
            f"Score against the references of the same split{', or remove these files' if pred else ''}.",
        )


def count_events(
    prediction: Events, reference: Events, *, n_classes: int = 13, protocol: Protocol = "official"
) -> Counts:
    """Return the sums per clip and class that all figures follow from; clips are matched by name.

    Args:
        prediction: predicted events; clips that it does not list count as missing files.
        reference: annotated events; where they have elevations, angles are those on the sphere.
        n_classes: number of classes C.
        protocol: "official" or "complete", see PROTOCOLS.

    Raises:
        SeldError: a predicted clip is not among the references.
    """
    place = {name: index for index, name in enumerate(reference.clips)}
    refuse_unknown(prediction.clips, place)
    listed = np.array([place[name] for name in prediction.clips], np.int64)
    sphere = reference.elevation_deg is not None
    made = _sphere_rows if sphere else official_rows
    guess, guess_clip = made(prediction), listed[prediction.clip]
    truth, truth_clip = made(reference), reference.clip.astype(np.int64)
    for rows in (guess, truth):
        if len(rows) and int(rows[:, 1].max()) >= n_classes:
            raise ValueError(f"class {int(rows[:, 1].max())}, but there are {n_classes} classes")
    scored = np.ones(len(place), bool)
    if protocol == "official":
        scored[:] = False
        scored[listed] = True
        end = np.zeros(len(place), np.int64)
        np.maximum.at(end, truth_clip, truth[:, 0])
        kept = guess[:, 0] < end[guess_clip]
        guess, guess_clip = guess[kept], guess_clip[kept]
        kept = scored[truth_clip] & (truth[:, 0] < end[truth_clip])
        truth, truth_clip = truth[kept], truth_clip[kept]
    apart = _great_circle if sphere else _azimuth_difference
    values = _count((truth, truth_clip), (guess, guess_clip), len(place), n_classes, apart)
    names = tuple(name for name, flag in zip(reference.clips, scored.tolist(), strict=True) if flag)
    return Counts(names, values[:, scored])


@dataclass(frozen=True)
class Groups:
    """Rows ordered so that the sources of one clip, frame and class stand together, in the order of their file."""

    rows: npt.NDArray[Any]  # (E, …) the rows in that order
    key: Integers  # (K,) number of each group, ascending
    start: Integers  # (K,) its first row
    count: Integers  # (K,) its rows


def _count(truth: tuple[Rows, Integers], guess: tuple[Rows, Integers], clips: int, n_classes: int, apart: Apart) -> Any:
    """Return sums (len(COUNTS), clips, C) of official rows and the clip of each row; `apart`: degrees between two."""
    frames = 1 + max((int(rows[:, 0].max()) for rows, _ in (truth, guess) if len(rows)), default=0)
    references, predictions = (_group(rows, clip, frames, n_classes) for rows, clip in (truth, guess))
    common, in_truth, in_guess = np.intersect1d(
        references.key, predictions.key, assume_unique=True, return_indices=True
    )
    matches = np.minimum(references.count[in_truth], predictions.count[in_guess])
    values = np.zeros((len(COUNTS), clips * n_classes))

    def add(name: str, key: Integers, weight: npt.NDArray[Any]) -> None:
        cell = key // (frames * n_classes) * n_classes + key % n_classes
        values[COUNTS.index(name)] += np.bincount(cell, weight, minlength=clips * n_classes)

    for name, groups in (("miss", references), ("extra", predictions)):
        add(name, groups.key, groups.count)
        add(name, common, -matches)
    add("match", common, matches)

    truth_row, guess_row, group = pair_rows(references, in_truth, predictions, in_guess, apart)
    a = references.rows[truth_row].astype(np.float64)
    b = predictions.rows[guess_row].astype(np.float64)
    key = common[group]
    azimuth_error = apart(a, b)
    distance_error = np.abs(a[:, 4] - b[:, 4])
    relative_error = distance_error / (a[:, 4] + EPS)
    azimuth_right = azimuth_error <= DOA_THRESHOLD_DEG
    distance_right = relative_error <= RELATIVE_DISTANCE_THRESHOLD
    hit = azimuth_right & distance_right
    right = a[:, 5] == b[:, 5]
    add("hit", key, hit)
    add("hit_onscreen", key, hit & right)
    add("azimuth_error", key, azimuth_error)
    add("distance_error", key, distance_error)
    add("relative_error", key, relative_error)
    add("onscreen_right", key, right)
    add("azimuth_right", key, azimuth_right)
    add("distance_right", key, distance_right)
    return values.reshape(len(COUNTS), clips, n_classes)


def _group(rows: Rows, clip: Integers, frames: int, n_classes: int) -> Groups:
    key = (clip * frames + rows[:, 0]) * n_classes + rows[:, 1]
    if (key[1:] < key[:-1]).any():
        order = np.argsort(key, kind="stable")
        rows, key = rows[order], key[order]
    unique, start, count = np.unique(key, return_index=True, return_counts=True)
    crowded = np.flatnonzero(count > _MOST_TRACKS)
    if crowded.size:
        kept = np.split(np.arange(len(rows)), start[1:])
        for group in crowded.tolist():
            kept[group] = kept[group][_tracks(rows[kept[group], 2].tolist())]
        rows = rows[np.concatenate(kept)]
        count = np.array([len(part) for part in kept])
        start = np.cumsum(count) - count
    return Groups(rows, unique, start, count)


def _tracks(sources: list[int]) -> list[int]:
    """Return which rows of one clip, frame and class remain, in the order of their tracks' first use.

    A row takes the track of its source number; if that is taken or not below 10, the first free one; if none is free,
    it overwrites track 0.
    """
    row_of: dict[int, int] = {}
    for row, source in enumerate(sources):
        track = source
        if source in row_of or source >= _MOST_TRACKS:
            track = next((free for free in range(_MOST_TRACKS) if free not in row_of), 0)
        row_of[track] = row
    return list(row_of.values())


def pair_rows(
    references: Groups, in_truth: Integers, predictions: Groups, in_guess: Integers, cost: Apart
) -> tuple[Integers, Integers, Integers]:
    """Return the reference row, the predicted row and the common group of every matched pair.

    Args:
        references: annotated rows.
        in_truth: (K,) the groups that are in both, as numbers of reference groups.
        predictions: predicted rows.
        in_guess: (K,) the same as numbers of predicted groups.
        cost: rows (G, R, 1, …) and (G, 1, P, …) → (G, R, P), what a match costs.
    """
    truth_start, guess_start = references.start[in_truth], predictions.start[in_guess]
    n_truth, n_guess = references.count[in_truth], predictions.count[in_guess]
    single = np.flatnonzero((n_truth == 1) & (n_guess == 1))
    parts = [(truth_start[single], guess_start[single], single)]
    several = np.flatnonzero((n_truth > 1) | (n_guess > 1))
    for rows, columns in np.unique(np.stack([n_truth[several], n_guess[several]], axis=1), axis=0).tolist():
        refuse_crowd(rows, columns)
        group = several[(n_truth[several] == rows) & (n_guess[several] == columns)]
        truth = references.rows[truth_start[group][:, None] + np.arange(rows)]
        guess = predictions.rows[guess_start[group][:, None] + np.arange(columns)]
        row, column = match(cost(truth[:, :, None], guess[:, None]))
        owner = np.repeat(group, row.shape[1])
        parts.append(
            ((truth_start[group][:, None] + row).ravel(), (guess_start[group][:, None] + column).ravel(), owner)
        )
    truth_row, guess_row, owners = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return truth_row, guess_row, owners


def _azimuth_difference(truth: npt.NDArray[Any], guess: npt.NDArray[Any]) -> Floats:
    """Return the differences of azimuth of official rows, as exact whole numbers."""
    return np.abs(truth[..., 3].astype(np.float64) - guess[..., 3].astype(np.float64))


def _sphere_rows(events: Events) -> Rows:
    """Return official rows with azimuths all around and, as a seventh column, elevations, in whole degrees."""
    height = np.zeros(len(events)) if events.elevation_deg is None else events.elevation_deg
    rows = np.column_stack([official_rows(events), np.rint(height).astype(np.int32)])
    rows[:, 3] = np.rint(events.azimuth_deg)
    return rows


def _great_circle(truth: npt.NDArray[Any], guess: npt.NDArray[Any]) -> Floats:
    return SPHERE.error_deg(truth[..., 3], guess[..., 3], truth[..., 6], guess[..., 6])
