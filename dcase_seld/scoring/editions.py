"""What the scores of the editions before 2025 are made of: full sphere, no on-screen flag; files read, sources counted.

2024 matches sources per label frame and asks for 20° and for a relative distance error of at most 1. 2023 (and 2022)
matches them per frame but counts per segment of one second, and knows no distance.

Sources: the scorers of DCASE2024_seld_baseline and seld-dcase2023 (the same as seld-dcase2022). Quirks that are part of
the official numbers: frames from the last annotated one on (2024), or a last second of which only the first frame is
annotated (2023), are not scored; a clip without a prediction file counts nothing; classes that do not exist are left
out; in 2024 vectors are normalised by √(x²+y²+z²+1e-10), so exactly 20° never passes, and a zero reference distance
divides by machine epsilon; in 2023 the error of a segment is the mean over frames per reference row, a class without a
match has 180°, and where predictions and references of one segment share no frame, the *predicted* sources are counted
as misses. The program's printed value beside a jackknife interval is that of its last round: here it is the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.csv_rows import Limits, Mistake, parse_numbers
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import file_content, mistake_error
from dcase_seld.core.events import Events
from dcase_seld.core.task import DOA_THRESHOLD_DEG, RELATIVE_DISTANCE_THRESHOLD
from dcase_seld.scoring.counts import EPS, Floats, Groups, Integers, pair_rows, refuse_unknown

FORMATS = {
    "polar": "frame, class, source, azimuth, elevation in degrees; then metres where there is a distance",
    "polar-cm": "the same with centimetres",
    "cartesian": "frame, class, source, x, y, z; then metres where there is a distance",
}
"""How a prediction file may be written."""

_COLUMNS: dict[str, dict[str, tuple[int, ...]]] = {
    "dcase2024": {"polar": (6,), "polar-cm": (6,), "cartesian": (7,)},
    "dcase2023": {"polar": (5, 6), "polar-cm": (5, 6), "cartesian": (6, 7)},
}

METRES_BELOW = 0.2
"""Metres: where all sources are nearer, centimetres were probably meant to be metres."""

LOOKS_LIKE_CM = 30.0
"""Median of predicted distances above which "metres" are doubted."""

SUMS = ("hit", "match", "extra", "miss", "references", "angle", "distance", "relative", "errors")
"""What is summed per clip and class, in degrees and metres; extra: unmatched predictions; errors: the numerator of the
error rate, which belongs to no class and stands in the first."""


@dataclass(frozen=True)
class Sources:
    """Sounding sources, one row per source and label frame, in the order of their files.

    Attributes:
        clips: names of all clips.
        clip, frame, sound: (E,) number of the clip, label frame, class.
        place: (E, 6) x, y, z of length 1, azimuth and elevation in radians, distance in metres (NaN: not given).
        notes: sentences on what was read.
    """

    clips: tuple[str, ...]
    clip: Integers
    frame: Integers
    sound: Integers
    place: Floats
    notes: tuple[str, ...] = ()

    def notes_of(self, n_classes: int) -> list[str]:
        """Return the notes, and how many rows are left out because their class does not exist."""
        left_out = int(np.count_nonzero(self.sound >= n_classes))
        said = f"{left_out:,} row(s) of classes above {n_classes - 1} are left out, as by the official program."
        return [*self.notes, *([said] if left_out else [])]


def read_sources(
    files: Sequence[tuple[str, str]], task: str, *, reference: bool = False, form: str | None = None
) -> Sources:
    """Return the sources in CSV files.

    Args:
        files: (clip name, path) of references, or of the predictions of one system, see `list_csv`.
        task: "dcase2024" or "dcase2023".
        reference: annotated files: degrees and centimetres.
        form: one of FORMATS; None: what the number of columns says, where it leaves no doubt.

    Raises:
        SeldError: a file is wrong (names its line), or its number of columns leaves the format open.
    """
    allowed = _COLUMNS[task]
    if reference:
        widths: set[int] = {6} if task == "dcase2024" else {5, 6}
    elif form is None:
        widths = {width for found in allowed.values() for width in found}
    else:
        widths = set(allowed[form])
    parts, found_forms, counts, mistakes = [np.empty((0, 8))], set(), [], dict[str, Mistake]()
    for _, path in files:
        rows, mistake = parse_numbers(file_content(path, Limits(frames=None)), widths)
        if mistake is not None:
            mistakes[path] = mistake
            continue
        one = "polar-cm" if reference else form or _form_of(rows, task, path)
        found_forms.add(one if len(rows) else "")
        parts.append(_places(rows, one))
        counts.append(len(rows))
    if mistakes:
        raise mistake_error(mistakes)
    table = np.concatenate(parts)
    notes = []
    median = float(np.nanmedian(table[:, 7])) if np.isfinite(table[:, 7]).any() else 0.0
    if not reference and "polar-cm" not in found_forms and median >= LOOKS_LIKE_CM:
        notes.append(
            f"the median of the predicted distances is {median:.0f} m, read as metres like the official program does; "
            "if these are centimetres, give --format polar-cm."
        )
    farthest = float(np.nanmax(table[:, 7])) if np.isfinite(table[:, 7]).any() else 0.0
    if "polar-cm" in found_forms and 0 < farthest < METRES_BELOW:
        side = "references" if reference else "predictions"
        notes.append(f"all distances of the {side} are below {100 * METRES_BELOW:.0f} cm: they look like metres.")
    if reference and not len(table):
        notes.append("the references hold no event at all: there is nothing to find, and no figure says anything.")
    at_zero = np.count_nonzero(table[:, 7] == 0)
    if reference and task == "dcase2024" and at_zero:
        notes.append(
            f"{at_zero:,} of {len(table):,} annotated rows have distance 0: relative distance errors divide by it (RDE "
            "is huge or means nothing), and no other distance is near enough for F."
        )
    whole = table[:, :2].astype(np.int64)
    clip = np.repeat(np.arange(len(files)), counts)
    return Sources(tuple(name for name, _ in files), clip, whole[:, 0], whole[:, 1], table[:, 2:], tuple(notes))


def _form_of(rows: Floats, task: str, path: str) -> str:
    """Return the format that the number of columns tells."""
    fitting = [name for name, widths in _COLUMNS[task].items() if rows.shape[1] in widths and name != "polar-cm"]
    if len(rows) and len(fitting) > 1:
        raise SeldError(
            f"{path} has {rows.shape[1]} columns, which may be {' or '.join(fitting)} in {task}.",
            f"Say which: --format {' or --format '.join(FORMATS)}.",
        )
    return fitting[0]


def _places(rows: Floats, form: str) -> Floats:
    """Return (E, 8) frame, class and what `Sources.place` holds, of a file's rows."""
    made = np.full((len(rows), 8), np.nan)
    made[:, :2] = rows[:, :2]
    azimuth, elevation, distance = rows[:, 3], rows[:, 4], rows[:, 5:]
    if form == "cartesian":  # vectors of any length: the programs go on with their degrees
        x, y, z = rows[:, 3:6].T
        azimuth = np.arctan2(y, x) * 180.0 / np.pi
        elevation = np.arctan2(z, np.sqrt(x**2 + y**2)) * 180.0 / np.pi
        distance = rows[:, 6:]
    made[:, 2:7] = _directions(azimuth, elevation)
    if distance.shape[1]:
        made[:, 7] = distance[:, 0] / 100.0 if form == "polar-cm" else distance[:, 0]
    return made


def _directions(azimuth_deg: Floats, elevation_deg: Floats) -> Floats:
    """Return (E, 5) x, y, z and radians of directions in degrees."""
    azimuth, elevation = azimuth_deg * np.pi / 180.0, elevation_deg * np.pi / 180.0
    flat = np.cos(elevation)
    return np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation), azimuth, elevation], axis=1)


def sources_of(events: Events) -> Sources:
    """Return the sources of an event table with elevations."""
    elevation = np.zeros(len(events)) if events.elevation_deg is None else events.elevation_deg
    place = np.column_stack([_directions(events.azimuth_deg, elevation), events.distance_m])
    clip, frame, sound = (column.astype(np.int64) for column in (events.clip, events.frame, events.class_index))
    return Sources(events.clips, clip, frame, sound, place)


def events_of(sources: Sources, n_classes: int) -> Events:
    """Return sources as an event table with elevations; a distance that is not given is 0, unknown classes go."""
    kept = sources.sound < n_classes
    clip, frame, sound = (column[kept].astype(np.int32) for column in (sources.clip, sources.frame, sources.sound))
    place, zeros = sources.place[kept], np.zeros(int(kept.sum()), np.int32)
    azimuth, elevation = (place[:, column] * 180.0 / np.pi for column in (3, 4))
    return Events(
        sources.clips, clip, frame, sound, zeros, azimuth, np.nan_to_num(place[:, 5]), zeros > 0,
        elevation_deg=elevation,
    )  # fmt: skip


def count_sources(
    prediction: Sources, reference: Sources, *, task: str, n_classes: int = 13, protocol: str = "official"
) -> tuple[tuple[str, ...], Floats]:
    """Return the scored clips and sums (len(SUMS), clips, C).

    Args:
        prediction: predicted sources; clips that it does not list count as missing files.
        reference: annotated sources.
        task: "dcase2024" or "dcase2023".
        n_classes: classes C; rows of others are left out, as the programs do.
        protocol: "official", or "complete": every frame of every clip, missing files are missed sources.
    """
    place = {name: index for index, name in enumerate(reference.clips)}
    refuse_unknown(prediction.clips, place)
    listed = np.array([place[name] for name in prediction.clips], np.int64)
    clips, second = len(place), 10 if task == "dcase2023" else 1
    scored, end = np.ones(clips, bool), np.full(clips, np.iinfo(np.int64).max)
    if protocol == "official":
        scored[:] = False
        scored[listed] = True
        last = np.zeros(clips, np.int64)
        np.maximum.at(last, reference.clip, reference.frame)
        end = -(-last // second) * second
    sides = []
    for table, clip in ((reference, reference.clip), (prediction, listed[prediction.clip])):
        kept = scored[clip] & (table.frame < end[clip]) & (table.sound < n_classes)
        sides.append((clip[kept], table.frame[kept], table.sound[kept], table.place[kept]))
    frames = second * (1 + max((int(side[1].max()) for side in sides if len(side[1])), default=0) // second)
    groups = [_group(clip, frame, sound, rows, frames, n_classes) for clip, frame, sound, rows in sides]
    values = (_segments if task == "dcase2023" else _frames)(groups[0], groups[1], clips, frames, n_classes)
    names = tuple(name for name, flag in zip(reference.clips, scored.tolist(), strict=True) if flag)
    return names, values[:, scored]


def _group(clip: Integers, frame: Integers, sound: Integers, rows: Floats, frames: int, n_classes: int) -> Groups:
    key = (clip * frames + frame) * n_classes + sound
    order = np.argsort(key, kind="stable")
    unique, start, count = np.unique(key[order], return_index=True, return_counts=True)
    return Groups(rows[order], unique, start, count)


def _angle_2024(truth: Floats, guess: Floats) -> Floats:
    """Return degrees between vectors, as the program of 2024 computes them."""
    x, y, z = (truth[..., axis] for axis in range(3))
    u, v, w = (guess[..., axis] for axis in range(3))
    first, second = np.sqrt(x**2 + y**2 + z**2 + 1e-10), np.sqrt(u**2 + v**2 + w**2 + 1e-10)
    product = x / first * (u / second) + y / first * (v / second) + z / first * (w / second)
    return np.asarray(np.arccos(np.clip(product, -1, 1)) * 180 / np.pi)


def _angle_2023(truth: Floats, guess: Floats) -> Floats:
    """Return great-circle degrees between azimuths and elevations, as the programs of 2022 and 2023 compute them."""
    azimuth, elevation = truth[..., 3], truth[..., 4]
    across = np.abs(azimuth - guess[..., 3])
    product = np.sin(elevation) * np.sin(guess[..., 4]) + np.cos(elevation) * np.cos(guess[..., 4]) * np.cos(across)
    return np.asarray(np.arccos(np.clip(product, -1, 1)) * 180 / np.pi)


def _common(references: Groups, predictions: Groups) -> tuple[Integers, Integers, Integers]:
    common, first, second = np.intersect1d(references.key, predictions.key, assume_unique=True, return_indices=True)
    return common, first, second


def _frames(references: Groups, predictions: Groups, clips: int, frames: int, n_classes: int) -> Floats:
    """Return the sums of 2024: every label frame by itself."""
    cells = clips * n_classes
    common, in_truth, in_guess = _common(references, predictions)
    a, b, group = pair_rows(references, in_truth, predictions, in_guess, _angle_2024)
    truth, guess = references.rows[a], predictions.rows[b]
    angle, apart = _angle_2024(truth, guess), np.abs(truth[:, 5] - guess[:, 5])
    relative = apart / (truth[:, 5] + EPS)
    hit = (angle <= DOA_THRESHOLD_DEG) & (relative <= RELATIVE_DISTANCE_THRESHOLD)
    matches = np.minimum(references.count[in_truth], predictions.count[in_guess])

    def add(key: Integers, weight: npt.NDArray[Any]) -> Floats:
        cell = key // (frames * n_classes) * n_classes + key % n_classes
        return np.asarray(np.bincount(cell, weight, minlength=cells), np.float64)

    heard = np.union1d(references.key // n_classes, predictions.key // n_classes)  # clips' frames with any source

    def per_frame(key: Integers, weight: npt.NDArray[Any]) -> Floats:
        where = np.searchsorted(heard, key // n_classes)
        return np.asarray(np.bincount(where, weight, minlength=len(heard)), np.float64)

    key = common[group]
    match = add(common, matches)
    sums = {
        "hit": add(key, hit),
        "match": match,
        "extra": add(predictions.key, predictions.count) - match,
        "miss": add(references.key, references.count) - match,
        "references": add(references.key, references.count),
        "angle": add(key, angle),
        "distance": add(key, apart),
        "relative": add(key, relative),
    }
    right, matched = per_frame(key, hit), per_frame(common, matches)
    extra = per_frame(predictions.key, predictions.count) - right
    miss = per_frame(references.key, references.count) - matched
    errors = np.bincount(heard // frames, np.maximum(extra, miss), minlength=clips)
    return _joined(sums, errors, n_classes)


def _segments(references: Groups, predictions: Groups, clips: int, frames: int, n_classes: int) -> Floats:
    """Return the sums of 2022 and 2023: segments of ten label frames."""
    seconds = frames // 10

    def cell(key: Integers) -> Integers:
        return key // (n_classes * 10) * n_classes + key % n_classes

    cells = np.union1d(cell(references.key), cell(predictions.key))  # segments' classes with any source
    size = len(cells)
    true, guessed = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for rows, groups in ((true, references), (guessed, predictions)):
        np.maximum.at(rows, np.searchsorted(cells, cell(groups.key)), groups.count)
    common, in_truth, in_guess = _common(references, predictions)
    a, b, group = pair_rows(references, in_truth, predictions, in_guess, _angle_2023)
    order = np.argsort(group, kind="stable")
    a, b, group = a[order], b[order], group[order]
    angle = _angle_2023(references.rows[a], predictions.rows[b])
    # Angles are averaged over the frames of a segment by the place of the reference's row in its frame.
    row = a - references.start[in_truth][group]
    widest = int(references.count.max(initial=1))
    tracks = np.searchsorted(cells, cell(common[group])) * widest + row
    tracks, where = np.unique(tracks, return_inverse=True)
    mean = np.bincount(where, angle, minlength=len(tracks)) / np.bincount(where, minlength=len(tracks))
    owner = tracks // widest
    hit = np.bincount(owner, mean <= DOA_THRESHOLD_DEG, minlength=size)
    match = np.bincount(owner, minlength=size)
    apart = (true > 0) & (guessed > 0) & (match == 0)
    miss = np.where(apart, guessed, np.maximum(true - guessed, 0))
    extra = np.where(apart, 0, np.maximum(guessed - true, 0))
    angles = np.bincount(owner, mean, minlength=size)
    sums = {"hit": hit, "match": match, "extra": extra, "miss": miss, "references": true, "angle": angles}
    here = cells // (n_classes * seconds) * n_classes + cells % n_classes
    total = {name: np.bincount(here, values, minlength=clips * n_classes) for name, values in sums.items()}
    segments, where = np.unique(cells // n_classes, return_inverse=True)
    wrong, missed = (np.bincount(where, values, minlength=len(segments)) for values in (extra + match - hit, miss))
    errors = np.bincount(segments // seconds, np.maximum(wrong, missed), minlength=clips)
    return _joined(total, errors, n_classes)


def _joined(sums: Mapping[str, npt.NDArray[Any]], errors: npt.NDArray[Any], n_classes: int) -> Floats:
    values = np.zeros((len(SUMS), len(errors), n_classes))
    for name, value in sums.items():
        values[SUMS.index(name)] = value.reshape(len(errors), n_classes)
    values[-1, :, 0] = errors
    return values
