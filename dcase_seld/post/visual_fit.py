"""Learning the weights of the visual post-processing on validation clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.post.visual import Evidence, network_logit
from dcase_seld.post.visual_config import DETECTED, LogisticWeights, VisualConfig
from dcase_seld.task.events import Events
from dcase_seld.task.facts import DOA_THRESHOLD_DEG

LEAST_EVENTS = 8
"""With fewer events on or off screen than this a part keeps the weights that it has."""
PULL = 2.0
"""Strength of the pull toward the present weights (inverse variance of a Gaussian prior), in events."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Weights learned, and what they rest on.

    Attributes:
        weights: part (or "detected") → weights.
        rows: part → matched rows that it was learned from.
        accuracy: part → (on-screen accuracy of the network alone, of the fitted weights) on those rows.
    """

    weights: dict[str, LogisticWeights]
    rows: dict[str, int]
    accuracy: dict[str, tuple[float, float]]


def fit_weights(prediction: Events, reference: Events, evidence: Evidence, config: VisualConfig) -> Fit:
    """Return weights fitted on predictions whose references are known.

    Each prediction is compared with the nearest reference of its class in its clip and frame, if that is within 20°.
    The logistic weights maximise the likelihood of the reference's on-screen flag with a pull toward the present
    weights; `refine` is the share of the gap that minimises the squared azimuth error of events on screen.
    """
    match, error_deg = match_rows(prediction, reference)
    known = (match >= 0) & (evidence.key != "") & evidence.watched
    label = np.zeros(len(prediction), bool)
    label[match >= 0] = reference.onscreen[match[match >= 0]]
    match_source = np.zeros(len(prediction), np.int64)
    match_source[match >= 0] = reference.source[match[match >= 0]]
    network, near = network_logit(prediction), evidence.near
    weights: dict[str, LogisticWeights] = {}
    rows_of: dict[str, int] = {}
    accuracy: dict[str, tuple[float, float]] = {}
    for name in np.unique(evidence.key[known]).tolist():
        rows = np.flatnonzero(known & (evidence.key == name))
        present = config.weights.get(name, LogisticWeights())
        on = label[rows]
        # Frames of one event tell the same story: together they count as one.
        one_event = np.stack([prediction.clip[rows], prediction.class_index[rows], match_source[rows]], axis=1)
        _, event, size = np.unique(one_event, axis=0, return_inverse=True, return_counts=True)
        share_of_event = 1.0 / size[event.reshape(-1)]
        if min(float(share_of_event[on].sum()), float(share_of_event[~on].sum())) < LEAST_EVENTS:
            continue
        design = np.stack([np.ones(len(rows)), network[rows], near[rows]], axis=1)
        start = np.array([present.bias, present.network, present.near])
        beta = _logistic(design, on.astype(np.float64), share_of_event, start)
        share = present.refine
        gap = evidence.gap_deg[rows]
        pairs = on & (np.abs(np.nan_to_num(gap, nan=np.inf)) <= evidence.tolerance_deg[rows])
        if name != DETECTED and float(share_of_event[pairs].sum()) >= LEAST_EVENTS:
            share = _share(gap[pairs], error_deg[rows][pairs])
        weights[name] = LogisticWeights(
            bias=float(beta[0]), network=float(beta[1]), near=float(beta[2]), refine=float(share)
        )
        rows_of[name] = len(rows)
        before = float(np.mean(prediction.onscreen[rows] == on))
        accuracy[name] = (before, float(np.mean((design @ beta >= 0) == on)))
    return Fit(weights, rows_of, accuracy)


def match_rows(prediction: Events, reference: Events) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return (E,) the row of the nearest reference within 20°, or -1, and (E,) its azimuth less the prediction's."""
    clip_of = {name: index for index, name in enumerate(reference.clips)}
    clips = np.array([clip_of.get(name, -1) for name in prediction.clips], np.int64)
    width = int(max(prediction.class_index.max(initial=0), reference.class_index.max(initial=0))) + 1
    length = int(max(prediction.frame.max(initial=0), reference.frame.max(initial=0))) + 1

    def cell(clip: npt.NDArray[np.int64], events: Events) -> npt.NDArray[np.int64]:
        return np.asarray((clip * length + events.frame) * width + events.class_index, np.int64)

    own = clips[prediction.clip] if len(prediction) else np.zeros(0, np.int64)
    wanted = np.where(own >= 0, cell(own, prediction), -1)
    cells = cell(reference.clip.astype(np.int64), reference)
    order = np.argsort(cells, kind="stable")
    low = np.searchsorted(cells[order], wanted, side="left")
    high = np.searchsorted(cells[order], wanted, side="right")
    match = np.full(len(prediction), -1, np.int64)
    error = np.full(len(prediction), np.inf)
    for step in range(int((high - low).max(initial=0))):
        rows = np.flatnonzero(low + step < high)
        candidate = order[low[rows] + step]
        difference = reference.azimuth_deg[candidate] - prediction.azimuth_deg[rows]
        better = np.abs(difference) < np.abs(error[rows])
        error[rows[better]] = difference[better]
        match[rows[better]] = candidate[better]
    far = np.abs(error) > DOA_THRESHOLD_DEG
    match[far] = -1
    return match, np.where(far, np.nan, error)


def _logistic(design: Floats, label: Floats, weight: Floats, start: Floats, steps: int = 50) -> Floats:
    """Return the weights that maximise the penalised likelihood, by Newton's method from the prior's mean."""
    beta = start.copy()
    for _ in range(steps):
        probability = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -30.0, 30.0)))
        gradient = design.T @ (weight * (label - probability)) - PULL * (beta - start)
        curvature = (design * (weight * probability * (1.0 - probability))[:, None]).T @ design + PULL * np.eye(
            len(beta)
        )
        step = np.linalg.solve(curvature, gradient)
        # A bounded step keeps Newton's method from leaping where the classes are nearly separable.
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return beta


def _share(gap_deg: Floats, error_deg: Floats) -> float:
    """Return the share w in [0, 1] that minimises the sum of (error - w · gap)²."""
    total = float((gap_deg**2).sum())
    return float(np.clip((gap_deg * error_deg).sum() / total, 0.0, 1.0)) if total > 0 else 0.0
