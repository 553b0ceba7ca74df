"""Learning the weights of the visual post-processing on validation clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.events import Events
from dcase_seld.core.files import write_csv_table
from dcase_seld.core.task import DOA_THRESHOLD_DEG
from dcase_seld.vision.rules import DETECTED, REASONS, Evidence, Judged, LogisticWeights, VisualConfig, network_logit

LEAST_EVENTS = 8
"""With fewer events on or off screen than this a part keeps the weights that it has."""

PULL = 2.0
"""Strength of the pull toward the present weights (inverse variance of a Gaussian prior), in events."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Weights learned, and what they rest on."""

    weights: dict[str, LogisticWeights]  # part (or "detected") → weights
    rows: dict[str, int]  # part → matched rows that it was learned from
    # part → (on-screen accuracy of the network alone, of the fitted weights) on those rows
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


LEAST_ROWS = 50
"""Fewer matched rows than this prove nothing."""

ALWAYS_OFF_SHARE = 0.02
"""On-screen predictions below this share, while at least `TRUE_ON_SHARE` of the references are, are suspicious."""

TRUE_ON_SHARE = 0.1

EDGE_DEG = 30.0
"""Azimuths beyond this are the edge of the frame, those within half of it the middle."""

EDGE_RATIO = 1.5

NEAR_M = 1.5
"""Sources nearer than this (metres) reach the microphone with little reverberation, as in a dry room."""

DRY_RATIO = 1.25


@dataclass(frozen=True)
class FailureSign:
    """A failure sign that shows."""

    name: str  # "always-off-screen", "azimuth-error-at-edges" or "distance-too-large-when-dry"
    text: str  # the figures, in one sentence


def check_predictions(prediction: Events, reference: Events) -> list[FailureSign]:
    """Return the failure signs that predictions of labelled clips show."""
    match, error_deg = match_rows(prediction, reference)
    rows = np.flatnonzero(match >= 0)
    if len(rows) < LEAST_ROWS:
        return []
    true = match[rows]
    warnings = []
    on, true_on = float(prediction.onscreen[rows].mean()), float(reference.onscreen[true].mean())
    if on < ALWAYS_OFF_SHARE and true_on >= TRUE_ON_SHARE:
        warnings.append(
            FailureSign(
                "always-off-screen",
                f"{on:.1%} of the events are predicted on screen, {true_on:.1%} are; "
                "the on-screen loss ignores the imbalance, or a probability was cut to an integer",
            )
        )
    azimuth, error = np.abs(reference.azimuth_deg[true]), np.abs(error_deg[rows])
    seen = reference.onscreen[true]
    edge, middle = seen & (azimuth > EDGE_DEG), seen & (azimuth <= EDGE_DEG / 2)
    if min(edge.sum(), middle.sum()) >= LEAST_ROWS:
        ratio = float(error[edge].mean() / max(error[middle].mean(), 1e-9))
        if ratio > EDGE_RATIO:
            warnings.append(
                FailureSign(
                    "azimuth-error-at-edges",
                    f"on screen, the azimuth error beyond {EDGE_DEG:g}° is {error[edge].mean():.1f}°, "
                    f"{ratio:.1f} times that within {EDGE_DEG / 2:g}°; check the field of view",
                )
            )
    too_far = prediction.distance_m[rows] / np.maximum(reference.distance_m[true], 1e-3)
    near = reference.distance_m[true] < NEAR_M
    if near.sum() >= LEAST_ROWS and float(np.median(too_far[near])) > DRY_RATIO:
        warnings.append(
            FailureSign(
                "distance-too-large-when-dry",
                f"sources nearer than {NEAR_M:g} m, which reach the microphone dry, are predicted "
                f"{float(np.median(too_far[near])):.2f} times too far (others {_median(too_far[~near])})",
            )
        )
    return warnings


def _median(values: np.ndarray) -> str:
    return f"{float(np.median(values)):.2f} times" if len(values) else "none"


COLUMNS = (
    "clip", "frame", "class", "source", "azimuth_before_deg", "azimuth_after_deg", "onscreen_before",
    "onscreen_after", "probability_before", "probability_after", "gap_deg", "reason",
)  # fmt: skip


def write_changes(path: Path, before: Events, judged: Judged, taxonomy: Taxonomy) -> None:
    """Write a CSV with one line per row whose azimuth or on-screen flag changed, atomically."""
    after = judged.events
    rows = np.flatnonzero((before.onscreen != after.onscreen) | (np.abs(before.azimuth_deg - after.azimuth_deg) > 1e-9))
    write_csv_table(
        path,
        COLUMNS,
        (
            (
                before.clips[before.clip[row]],
                int(before.frame[row]),
                taxonomy.classes[before.class_index[row]],
                int(before.source[row]),
                f"{before.azimuth_deg[row]:.2f}",
                f"{after.azimuth_deg[row]:.2f}",
                int(before.onscreen[row]),
                int(after.onscreen[row]),
                _number(before, row),
                _number(after, row),
                "" if np.isnan(judged.gap_deg[row]) else f"{judged.gap_deg[row]:.2f}",
                REASONS[judged.reason[row]],
            )
            for row in rows.tolist()
        ),
    )


def count_changes(before: Events, judged: Judged) -> dict[str, object]:
    """Return how many rows were switched on, switched off and moved, and how often each reason occurred."""
    after = judged.events
    moved = np.abs(after.azimuth_deg - before.azimuth_deg)
    reasons = Counter(REASONS[i] for i in judged.reason.tolist())
    return {
        "events": len(before),
        "switched_on": int((after.onscreen & ~before.onscreen).sum()),
        "switched_off": int((~after.onscreen & before.onscreen).sum()),
        "moved": int((moved > 1e-9).sum()),
        "mean_move_deg": round(float(moved[moved > 1e-9].mean()), 2) if (moved > 1e-9).any() else 0.0,
        "reasons": {name: reasons[name] for name in REASONS if reasons[name]},
    }


def _number(events: Events, row: int) -> str:
    return "" if events.onscreen_probability is None else f"{float(events.onscreen_probability[row]):.4f}"
