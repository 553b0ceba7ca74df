"""Three signs that a system goes wrong in a way that its scores hide; each is named and printed as a warning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcase_seld.post.visual_fit import match_rows
from dcase_seld.task.events import Events

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
    """A failure sign that shows.

    Attributes:
        name: "always-off-screen", "azimuth-error-at-edges" or "distance-too-large-when-dry".
        text: the figures, in one sentence.
    """

    name: str
    text: str


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
