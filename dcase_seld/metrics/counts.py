"""What the challenge's figures are made of: hits, misses, extras and errors, summed per clip and class.

Per class and frame, reference and predicted sources are matched by azimuth. A match within 20° whose distance is off by
at most the reference distance is a hit; any other match is a spatial false positive.

Source: the DCASE 2025 Challenge Task 3 scorer, which the "official" protocol reproduces with its quirks: the last
annotated frame is never scored; a clip without reference events is never scored; of more than ten sources of one class
in a frame, each further one overwrites the first track; a zero reference distance divides by machine epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError, listing
from dcase_seld.metrics.matching import match
from dcase_seld.task.dcase_csv import official_rows
from dcase_seld.task.dcase_rows import Rows
from dcase_seld.task.events import Events
from dcase_seld.task.facts import DOA_THRESHOLD_DEG, RELATIVE_DISTANCE_THRESHOLD

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
    "hits",
    "hits_onscreen",
    "matches",
    "extras",
    "misses",
    "azimuth_error",
    "distance_error",
    "relative_error",
    "onscreen_right",
)
"""What is summed; hits_onscreen are hits whose on-screen flag agrees; azimuth in degrees, distance in centimetres."""

_MOST_TRACKS = 10
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Counts:
    """Sums per clip and class.

    Attributes:
        clips: names of the scored clips.
        values: (len(COUNTS), clips, C).
    """

    clips: tuple[str, ...]
    values: npt.NDArray[np.float64]


def count_events(
    prediction: Events, reference: Events, *, n_classes: int = 13, protocol: Protocol = "official"
) -> Counts:
    """Return the sums per clip and class that all figures follow from; clips are matched by name.

    Args:
        prediction: predicted events; clips that it does not list count as missing files.
        reference: annotated events.
        n_classes: number of classes C.
        protocol: "official" or "complete", see PROTOCOLS.

    Raises:
        SeldError: a predicted clip is not among the references.
    """
    place = {name: index for index, name in enumerate(reference.clips)}
    unknown = [name for name in prediction.clips if name not in place]
    if unknown:
        raise SeldError(
            f"{len(unknown)} predicted clip(s) have no reference: {listing(unknown)}.",
            "Score predictions against the references of the same split.",
        )
    listed = np.array([place[name] for name in prediction.clips], np.int64)
    guess, guess_clip = official_rows(prediction), listed[prediction.clip]
    truth, truth_clip = official_rows(reference), reference.clip.astype(np.int64)
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
    values = _count((truth, truth_clip), (guess, guess_clip), len(place), n_classes)
    names = tuple(name for name, flag in zip(reference.clips, scored.tolist(), strict=True) if flag)
    return Counts(names, values[:, scored])


@dataclass(frozen=True)
class _Groups:
    """Rows ordered so that the sources of one clip, frame and class stand together, in the order of their file."""

    rows: Rows
    key: Integers
    start: Integers
    count: Integers


def _count(truth: tuple[Rows, Integers], guess: tuple[Rows, Integers], clips: int, n_classes: int) -> Any:
    """Return sums (len(COUNTS), clips, C) of official rows and the clip of each row."""
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

    for name, groups in (("misses", references), ("extras", predictions)):
        add(name, groups.key, groups.count)
        add(name, common, -matches)
    add("matches", common, matches)

    truth_row, guess_row, group = _pair(references, in_truth, predictions, in_guess)
    a = references.rows[truth_row].astype(np.float64)
    b = predictions.rows[guess_row].astype(np.float64)
    key = common[group]
    azimuth_error = np.abs(a[:, 3] - b[:, 3])
    distance_error = np.abs(a[:, 4] - b[:, 4])
    relative_error = distance_error / (a[:, 4] + _EPS)
    hit = (azimuth_error <= DOA_THRESHOLD_DEG) & (relative_error <= RELATIVE_DISTANCE_THRESHOLD)
    right = a[:, 5] == b[:, 5]
    add("hits", key, hit)
    add("hits_onscreen", key, hit & right)
    add("azimuth_error", key, azimuth_error)
    add("distance_error", key, distance_error)
    add("relative_error", key, relative_error)
    add("onscreen_right", key, right)
    return values.reshape(len(COUNTS), clips, n_classes)


def _group(rows: Rows, clip: Integers, frames: int, n_classes: int) -> _Groups:
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
    return _Groups(rows, unique, start, count)


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


def _pair(
    references: _Groups, in_truth: Integers, predictions: _Groups, in_guess: Integers
) -> tuple[Integers, Integers, Integers]:
    """Return the reference row, the predicted row and the common group of every matched pair."""
    truth_start, guess_start = references.start[in_truth], predictions.start[in_guess]
    n_truth, n_guess = references.count[in_truth], predictions.count[in_guess]
    single = np.flatnonzero((n_truth == 1) & (n_guess == 1))
    parts = [(truth_start[single], guess_start[single], single)]
    several = np.flatnonzero((n_truth > 1) | (n_guess > 1))
    for rows, columns in np.unique(np.stack([n_truth[several], n_guess[several]], axis=1), axis=0).tolist():
        group = several[(n_truth[several] == rows) & (n_guess[several] == columns)]
        azimuth = references.rows[truth_start[group][:, None] + np.arange(rows), 3].astype(np.float64)
        guessed = predictions.rows[guess_start[group][:, None] + np.arange(columns), 3].astype(np.float64)
        row, column = match(np.abs(azimuth[:, :, None] - guessed[:, None, :]))
        owner = np.repeat(group, row.shape[1])
        parts.append(
            ((truth_start[group][:, None] + row).ravel(), (guess_start[group][:, None] + column).ravel(), owner)
        )
    truth_row, guess_row, owners = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return truth_row, guess_row, owners
