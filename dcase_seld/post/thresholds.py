"""Activity thresholds per class, unify angle and on-screen threshold, tuned on validation clips and on nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.model.outputs import SeldOutput
from dcase_seld.post.guard import recording
from dcase_seld.post.selection import Judged
from dcase_seld.post.settings import EnsembleSettings
from dcase_seld.task.events import Events

ACTIVITY_GRID = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
"""Activity thresholds that are tried, 0.1 … 0.9."""
UNIFY_GRID = (5.0, 10.0, 15.0, 20.0, 30.0)
"""Unify angles that are tried, degrees."""
ONSCREEN_GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""On-screen thresholds that are tried."""
FEWEST_GROUPS = 3
"""A class gets a threshold of its own only if it occurs in at least so many validation recordings."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        thresholds: activity threshold, one or one per class.
        unify_deg: unify angle in degrees.
        onscreen_threshold: on-screen probability threshold.
        before: the criterion with the untuned values, on the clips that were tuned on.
        after: the same with the tuned values; too good, because these clips chose them.
    """

    thresholds: tuple[float, ...]
    unify_deg: float
    onscreen_threshold: float
    before: float
    after: float


def tune(
    judged: Judged, output: SeldOutput, *, per_class: bool = True, unify: bool = True, onscreen: bool = True
) -> Tuned:
    """Return the thresholds and angle with the best score on validation clips.

    The macro score is the mean of the classes' own, so each class' threshold can be chosen alone. A threshold is judged
    by the mean of its score and its neighbours', so that one lucky value does not win; a class that too few recordings
    hold keeps the common threshold.

    Args:
        judged: the validation clips.
        output: what the ensemble says about them.
        per_class: tune one threshold per class; otherwise a common one.
        unify: tune the unify angle.
        onscreen: tune the on-screen threshold, where the output has one.
    """
    default = EnsembleSettings()
    known = classes_with_groups(judged.reference, judged.n_classes) >= FEWEST_GROUPS
    best: tuple[float, float, npt.NDArray[np.float64]] | None = None
    for angle in UNIFY_GRID if unify else (default.unify_deg,):
        table = np.array([_classwise(judged, output, [limit], angle) for limit in ACTIVITY_GRID])
        smooth = _smoothed(table)
        common = int(smooth.mean(1).argmax())
        chosen = np.where(known, smooth.argmax(0), common) if per_class else np.full(judged.n_classes, common)
        score = float(np.take_along_axis(smooth, chosen[None], 0).mean())
        if best is None or score > best[0]:
            best = (score, angle, np.array(ACTIVITY_GRID)[chosen])
    assert best is not None
    limits = tuple(float(limit) for limit in best[2])
    thresholds = limits if per_class else limits[:1]
    events = judged.events(output, thresholds=list(limits), unify_deg=best[1])
    screen = default.onscreen_threshold
    if onscreen and events.onscreen_probability is not None and judged.reference.onscreen.any():
        found = np.array([_onscreen_score(judged, events, limit) for limit in ONSCREEN_GRID])
        screen = ONSCREEN_GRID[int(_smoothed(found[:, None])[:, 0].argmax())]
    before = judged.score(output)
    after = judged.score(output, thresholds=list(limits), unify_deg=best[1], onscreen_threshold=screen)
    return Tuned(thresholds, best[1], screen, before, after)


def classes_with_groups(reference: Events, n_classes: int) -> npt.NDArray[np.int64]:
    """Return (C,) in how many recordings each class occurs."""
    groups = {name: number for number, name in enumerate(sorted({recording(name) for name in reference.clips}))}
    of_clip = np.array([groups[recording(name)] for name in reference.clips], np.int64)
    pairs = np.unique(np.stack([reference.class_index, of_clip[reference.clip]], 1), axis=0)
    return np.bincount(pairs[:, 0], minlength=n_classes).astype(np.int64)


def _classwise(judged: Judged, output: SeldOutput, limits: list[float], angle: float) -> list[float]:
    scores: dict[str, Any] = judged.scores(judged.events(output, thresholds=limits, unify_deg=angle))
    values: list[float] = scores["classwise"][judged.criterion]
    return values


def _onscreen_score(judged: Judged, events: Events, limit: float) -> float:
    assert events.onscreen_probability is not None
    scores = judged.scores(replace(events, onscreen=events.onscreen_probability > limit))
    return float(scores["f_score_onscreen"])


def _smoothed(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (G, C) the mean of each row and its neighbours."""
    padded = np.concatenate([table[:1], table, table[-1:]])
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3)
