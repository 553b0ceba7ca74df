"""Error statistics of a run: confusion, errors in bins, on/off, calibration, clips, differences between runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.event_files import official_rows
from dcase_seld.core.events import COLUMNS, Events, stack
from dcase_seld.core.geometry import GEOMETRIES
from dcase_seld.core.task import DOA_THRESHOLD_DEG, RELATIVE_DISTANCE_THRESHOLD
from dcase_seld.report.run import Run
from dcase_seld.scoring.counts import Counts, match, refuse_crowd
from dcase_seld.scoring.official import Scores

Indices = npt.NDArray[np.int64]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Rows of two event tables brought together."""

    reference: Indices  # (M,) rows of the references that were matched in their own class
    prediction: Indices  # (M,) rows of the predictions, in the same order
    confused_reference: Indices  # (K,) rows of references whose class nobody predicted, but another class within 20°
    confused_prediction: Indices  # (K,) rows of those predictions
    missed: Indices  # rows of references with no prediction at all
    extra: Indices  # rows of predictions with no reference at all


def pair(prediction: Events, reference: Events, n_classes: int) -> Pairs:
    """Return the pairs of every frame: first within classes by direction, as scored; then across classes within 20°.

    Directions are azimuths, on the sphere where the references have elevations.
    """
    there, here = (directions(table, reference) for table in (reference, prediction))
    place = {name: index for index, name in enumerate(reference.clips)}
    clip_of = np.array([place.get(name, -1) for name in prediction.clips], np.int64)
    clip = clip_of[prediction.clip]
    frames = 1 + max((int(table.frame.max()) for table in (prediction, reference) if len(table)), default=0)
    guess = clip * frames + prediction.frame
    truth = reference.clip.astype(np.int64) * frames + reference.frame
    a, b = _match(truth * n_classes + reference.class_index, there, guess * n_classes + prediction.class_index, here)
    left_a, left_b = _others(len(reference), a), _others(len(prediction), b)
    i, j = _match(truth[left_a], there[left_a], guess[left_b], here[left_b])
    other_a, other_b = left_a[i], left_b[j]
    near = apart_deg(there[other_a], here[other_b]) <= DOA_THRESHOLD_DEG
    other_a, other_b = other_a[near], other_b[near]
    missed = _others(len(reference), a, other_a)
    return Pairs(a, b, other_a, other_b, missed, _others(len(prediction), b, other_b))


def directions(table: Events, reference: Events) -> Floats:
    """Return (E, 2) azimuths and elevations in degrees, or (E, 1) azimuths where the references have no elevations."""
    if reference.elevation_deg is None:
        return table.azimuth_deg[:, None]
    height = np.zeros(len(table)) if table.elevation_deg is None else table.elevation_deg
    return np.stack([table.azimuth_deg, height], axis=1)


def apart_deg(first: Floats, second: Floats) -> Floats:
    """Return the degrees between directions (…, 1) or (…, 2): of azimuth, or on the sphere."""
    if first.shape[-1] == 1:
        return np.abs(first[..., 0] - second[..., 0])
    return GEOMETRIES["sphere"].error_deg(first[..., 0], second[..., 0], first[..., 1], second[..., 1])


def _others(size: int, *rows: Indices) -> Indices:
    """Return the numbers below `size` that are not among `rows`."""
    left = np.ones(size, np.bool_)
    for some in rows:
        left[some] = False
    return np.flatnonzero(left)


def _match(
    key_a: Indices, place_a: Floats, key_b: Indices, place_b: Floats, within: float | None = None
) -> tuple[Indices, Indices]:
    """Return the indices of pairs that share a key, each key's pairs by the smallest sum of degrees between.

    With `within`: as many pairs as possible that differ by at most so many degrees, and no others.
    """
    order_a, order_b = np.argsort(key_a, kind="stable"), np.argsort(key_b, kind="stable")
    unique_a, start_a, count_a = np.unique(key_a[order_a], return_index=True, return_counts=True)
    unique_b, start_b, count_b = np.unique(key_b[order_b], return_index=True, return_counts=True)
    _, in_a, in_b = np.intersect1d(unique_a, unique_b, assume_unique=True, return_indices=True)
    start_a, count_a, start_b, count_b = start_a[in_a], count_a[in_a], start_b[in_b], count_b[in_b]
    found_a, found_b = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rows, columns in sorted(set(zip(count_a.tolist(), count_b.tolist(), strict=True))):
        refuse_crowd(rows, columns)
        here = (count_a == rows) & (count_b == columns)
        members_a = order_a[start_a[here][:, None] + np.arange(rows)]
        members_b = order_b[start_b[here][:, None] + np.arange(columns)]
        cost = apart_deg(place_a[members_a][:, :, None], place_b[members_b][:, None, :])
        i, j = match(cost if within is None else np.where(cost <= within, cost, _FAR_DEG))
        found_a.append(np.take_along_axis(members_a, np.asarray(i), axis=1).ravel())
        found_b.append(np.take_along_axis(members_b, np.asarray(j), axis=1).ravel())
    if within is not None:
        a, b = np.concatenate(found_a), np.concatenate(found_b)
        near = apart_deg(place_a[a], place_b[b]) <= within
        return a[near], b[near]
    return np.concatenate(found_a), np.concatenate(found_b)


_FAR_DEG = 1e6
"""Stands for "no pair": more than any sum of real differences."""

AZIMUTH_EDGES = (-90.0, -70.0, -50.0, -30.0, -10.0, 10.0, 30.0, 50.0, 70.0, 90.0)

ALL_AROUND_EDGES = (-180.0, -140.0, -100.0, -60.0, -20.0, 20.0, 60.0, 100.0, 140.0, 180.0)

ELEVATION_EDGES = (-90.0, -50.0, -30.0, -10.0, 10.0, 30.0, 50.0, 90.0)

DISTANCE_EDGES = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, math.inf)

POLYPHONY_EDGES = (1.0, 2.0, 3.0, 4.0, math.inf)


@dataclass(frozen=True)
class Binned:
    """Means within bins of a reference's property.

    Attributes:
        labels: the bins.
        count: reference rows in each.
        angle: mean error of direction (azimuth, or on the sphere) of the matched ones, degrees; NaN: there are none.
        distance: mean relative distance error of the matched ones.
        recall: fraction found: right class, direction within 20°, distance (not in 2023) within the reference distance.
    """

    labels: tuple[str, ...]
    count: npt.NDArray[np.int64]
    angle: Floats
    distance: Floats
    recall: Floats


def confusion(run: Run, pairs: Pairs) -> npt.NDArray[np.int64]:
    """Return (C + 1, C + 1) frame counts: row = annotated class, column = predicted; the last of each is "nothing"."""
    n = len(run.taxonomy)
    table = np.zeros((n + 1, n + 1), np.int64)
    truth, guess = run.reference.class_index, run.prediction.class_index
    np.add.at(table, (truth[pairs.reference], guess[pairs.prediction]), 1)
    np.add.at(table, (truth[pairs.confused_reference], guess[pairs.confused_prediction]), 1)
    table[:n, n] = np.bincount(truth[pairs.missed], minlength=n)
    table[n, :n] = np.bincount(guess[pairs.extra], minlength=n)
    return table


def errors_by(run: Run, pairs: Pairs, what: str) -> Binned:
    """Return errors by "azimuth", "elevation", "distance", "polyphony" or "class" of the reference."""
    truth = run.reference
    if what == "class":
        bins, labels = truth.class_index.astype(np.int64), run.taxonomy.classes
    else:
        around = AZIMUTH_EDGES if truth.elevation_deg is None else ALL_AROUND_EDGES
        edges = {"azimuth": around, "elevation": ELEVATION_EDGES, "distance": DISTANCE_EDGES}.get(what, POLYPHONY_EDGES)
        value = {"azimuth": truth.azimuth_deg, "elevation": truth.elevation_deg, "distance": truth.distance_m}.get(what)
        if value is None:
            value = polyphony(run)
        bins = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
        labels = _bin_labels(edges, what)
    size = len(labels)
    a, b = pairs.reference, pairs.prediction
    angle = apart_deg(directions(truth, truth)[a], directions(run.prediction, truth)[b])
    relative = np.abs(truth.distance_m[a] - run.prediction.distance_m[b]) / np.maximum(truth.distance_m[a], 0.01)
    hit = (angle <= DOA_THRESHOLD_DEG) & ((relative <= RELATIVE_DISTANCE_THRESHOLD) | (run.task == "dcase2023"))
    count = np.bincount(bins, minlength=size)
    matched = np.bincount(bins[a], minlength=size)

    def mean(weight: npt.NDArray[Any], over: npt.NDArray[np.int64]) -> Floats:
        total = np.bincount(bins[a], weight, minlength=size)
        return np.where(over > 0, total / np.maximum(over, 1), np.nan)

    return Binned(tuple(labels), count, mean(angle, matched), mean(relative, matched), mean(hit * 1.0, count))


def polyphony(run: Run) -> Floats:
    """Return for every reference row how many sources sound in its frame."""
    truth = run.reference
    key = truth.clip.astype(np.int64) * (1 + int(truth.frame.max(initial=0))) + truth.frame
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse], np.float64)


def onscreen_table(run: Run, pairs: Pairs) -> npt.NDArray[np.int64]:
    """Return (2, 2) counts of matched rows: row = annotated off, on; column = predicted off, on."""
    table = np.zeros((2, 2), np.int64)
    truth = run.reference.onscreen[pairs.reference].astype(int)
    np.add.at(table, (truth, run.prediction.onscreen[pairs.prediction].astype(int)), 1)
    return table


def calibration(run: Run, pairs: Pairs, bins: int = 10) -> tuple[Floats, Floats, npt.NDArray[np.int64]] | None:
    """Return mean activity, fraction right (class and 20°) and count per bin of activity; None without activities."""
    activity = run.prediction.activity
    if activity is None or not len(activity):
        return None
    right = np.zeros(len(activity), bool)
    there, here = (directions(table, run.reference) for table in (run.reference, run.prediction))
    error = apart_deg(there[pairs.reference], here[pairs.prediction])
    right[pairs.prediction] = error <= DOA_THRESHOLD_DEG
    value = np.clip(activity.astype(np.float64), 0.0, 1.0)
    place = np.minimum((value * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    divisor = np.maximum(count, 1)
    keep = count > 0
    mean = np.bincount(place, value, minlength=bins) / divisor
    fraction = np.bincount(place, right, minlength=bins) / divisor
    return mean[keep], fraction[keep], count[keep]


def clip_scores(run: Run) -> dict[str, float]:
    """Return clip → its F (F20/1, or the edition's) over all classes pooled, where something is annotated."""
    sums = dict(zip(run.summed, run.counts.values.sum(axis=2), strict=True))
    annotated = sums["match"] + sums["miss"]
    score = sums["hit"] / np.maximum(sums["match"] + 0.5 * (sums["extra"] + sums["miss"]), 0.5)
    return {clip: float(score[index]) for index, clip in enumerate(run.counts.clips) if annotated[index] > 0}


BUDGET = {
    "as it is": "",
    "true distances": "Distances cost most: more weight in the loss, more rooms, features that hear them.",
    "true directions": "Directions cost most: more scenes and rooms, finer spatial features, swapped channels.",
    "true directions and distances": "",
    "true on-screen flags": "The on-screen flag costs most: tune its threshold, and let pictures of people decide.",
    "true classes within 20°": "Classes cost most: more recordings, or tokens of a network that heard more sounds.",
    "no misses": "Misses cost most: lower thresholds, and more recordings of what is missed.",
    "no false alarms": "False alarms cost most: higher thresholds, and scenes with more sounds that are no events.",
    "all of it true": "",
}
"""Row of the error budget → what to work on where this row gains most; rows that join others have no advice."""


def changed_predictions(run: Run) -> dict[str, Events]:
    """Return the predictions of a run as they are (rounded as scored) and with one fault at a time put right.

    Predictions take direction, distance or flag of the reference that they are matched with in scoring. A prediction
    without a reference of its own class within 20° takes the class of another one's reference that is left within
    20°. Missed references are added, predictions that match nothing are removed.
    """
    clips = run.reference.clips if run.protocol == "complete" else run.prediction.clips
    truth = _as_scored(run.reference.select_clips(clips))
    guess = _as_scored(run.prediction.select_clips(run.prediction.clips))
    place = {name: index for index, name in enumerate(clips)}
    moved = np.array([place[name] for name in guess.clips], np.int32)
    guess = replace(guess, clips=tuple(clips), clip=moved[guess.clip])
    frames = 1 + max((int(table.frame.max()) for table in (guess, truth) if len(table)), default=0)
    in_truth, in_guess = (table.clip.astype(np.int64) * frames + table.frame for table in (truth, guess))
    size = len(run.taxonomy)
    there, here = (directions(table, truth) for table in (truth, guess))
    a, b = _match(in_truth * size + truth.class_index, there, in_guess * size + guess.class_index, here)

    def put(name: str, at: Indices = b, source: Indices = a) -> npt.NDArray[Any]:
        column: npt.NDArray[Any] = getattr(guess, name).copy()
        column[at] = getattr(truth, name)[source]
        return column

    near = apart_deg(there[a], here[b]) <= DOA_THRESHOLD_DEG
    left_a, left_b = _others(len(truth), a[near]), _others(len(guess), b[near])
    i, j = _match(in_truth[left_a], there[left_a], in_guess[left_b], here[left_b], DOA_THRESHOLD_DEG)
    missed = truth.take(_others(len(truth), a))
    distance = put("distance_m")
    turned: dict[str, Any] = {"azimuth_deg": put("azimuth_deg")}
    if truth.elevation_deg is not None:
        turned["elevation_deg"] = put("elevation_deg")
    return {
        "as it is": guess,
        "true distances": replace(guess, distance_m=distance),
        "true directions": replace(guess, **turned),
        "true directions and distances": replace(guess, **turned, distance_m=distance),
        "true on-screen flags": replace(guess, onscreen=put("onscreen")),
        "true classes within 20°": replace(guess, class_index=put("class_index", left_b[j], left_a[i])),
        "no misses": stack([guess, missed], guess.clips),
        "no false alarms": guess.take(np.sort(b)),
        "all of it true": truth,
    }


def _as_scored(table: Events) -> Events:
    """Return a table rounded as the official CSV of 2025 holds it, without what is not scored."""
    plain = Events(**{name: getattr(table, name) for name in ("clips", *COLUMNS)}, elevation_deg=table.elevation_deg)
    if table.elevation_deg is not None:
        return plain
    rows = official_rows(table)
    return replace(plain, azimuth_deg=rows[:, 3].astype(np.float64), distance_m=rows[:, 4] / 100.0)


BUDGET_CLIPS = 2048
"""Clips whose changed predictions are in memory at a time."""


def budget(run: Run) -> dict[str, Scores]:
    """Return row → the scores of the changed predictions; the on-screen row only where the track has flags."""
    clips = run.reference.clips if run.protocol == "complete" else run.prediction.clips
    given = set(run.prediction.clips)
    without = {"true on-screen flags"} if run.track == "a" or run.task != "dcase2025" else set()
    if run.task == "dcase2023":
        without |= {"true distances", "true directions and distances"}
    sums: dict[str, Any] = {name: 0.0 for name in BUDGET if name not in without}
    scored: list[str] = []
    for start in range(0, len(clips), BUDGET_CLIPS):
        names = clips[start : start + BUDGET_CLIPS]
        prediction = run.prediction.select_clips([name for name in names if name in given])
        part = replace(run, prediction=prediction, reference=run.reference.select_clips(names))
        changed = changed_predictions(part)
        for name in sums:
            counts = part.count(changed[name])
            sums[name] = sums[name] + counts.values.sum(axis=1, keepdims=True)
        scored += counts.clips
    return {name: run.score(Counts(tuple(scored), values)) for name, values in sums.items() if scored}


def _bin_labels(edges: Sequence[float], what: str) -> tuple[str, ...]:
    if what == "polyphony":
        return (*map("{:g}".format, edges[:-2]), f"{edges[-2]:g}+")
    if what in ("azimuth", "elevation"):
        return tuple(f"{(low + high) / 2:g}" for low, high in itertools.pairwise(edges))
    return (*(f"{a:g}–{b:g}" for a, b in itertools.pairwise(edges[:-1])), f"{edges[-2]:g}+")
