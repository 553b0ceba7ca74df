"""The challenge's scores: counts per clip and class, and the figures that follow from them.

Per class and frame, reference and predicted sources are matched by azimuth. A match within 20° whose distance is off by
at most the reference distance is a hit; any other match is one spatial false positive. F = hits / (hits + spatial +
(extras + misses) / 2). Errors of direction and distance and the on-screen accuracy are means over all matches.

Source: the DCASE 2025 Challenge Task 3 scorer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError
from dcase_seld.metrics.counts import COUNTS, Counts, Protocol, count_events
from dcase_seld.task.events import Events

Floats = npt.NDArray[np.float64]
Average = Literal["macro", "micro"]

FIGURES = (
    "f_score",
    "f_score_onscreen",
    "doa_error_deg",
    "distance_error_cm",
    "relative_distance_error",
    "onscreen_accuracy",
)
"""Names of the figures: F20/1, F20/1/on-off, and four means over all matches (degrees, cm, ratio, fraction)."""
ONSCREEN_FIGURES = ("f_score_onscreen", "onscreen_accuracy")
"""Figures that the audio-only track does not have."""


@dataclass(frozen=True)
class Scores:
    """The figures of a set of predictions; fractions are 0–1, NaN where nothing was matched.

    Attributes:
        track: "a" (audio only: no on-screen figures) or "b".
        average: "macro" (mean over classes) or "micro" (all classes pooled).
        protocol: "official" or "complete".
        clips: number of scored clips.
        f_score: F20/1.
        f_score_onscreen: F20/1/on-off: the on-screen flag must agree too; None for track a.
        doa_error_deg: mean azimuth error of matches, degrees.
        distance_error_cm: mean distance error of matches, centimetres.
        relative_distance_error: mean of distance error / reference distance.
        onscreen_accuracy: fraction of matches with the right flag; None for track a.
        classwise: figure → one value per class.
        jackknife: figure → {value, estimate, std_err, interval: [low, high]}, or None if not asked for.
    """

    track: str
    average: str
    protocol: str
    clips: int
    f_score: float
    f_score_onscreen: float | None
    doa_error_deg: float
    distance_error_cm: float
    relative_distance_error: float
    onscreen_accuracy: float | None
    classwise: Mapping[str, list[float] | None]
    jackknife: Mapping[str, Mapping[str, Any] | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file: every key present, NaN and infinities as None."""
        plain: dict[str, Any] = _finite(dict(vars(self)))
        return plain


def score_events(
    prediction: Events,
    reference: Events,
    *,
    n_classes: int = 13,
    average: Average = "macro",
    protocol: Protocol = "official",
    track: str = "b",
) -> Scores:
    """Return the challenge's scores of predictions; clips are matched by name.

    Directions and distances are first rounded as the official CSV holds them, so scores before and after writing agree.

    Args:
        prediction: predicted events; clips that it does not list count as missing files.
        reference: annotated events.
        n_classes: number of classes C.
        average: "macro" or "micro".
        protocol: "official" or "complete", see counts.PROTOCOLS.
        track: "b", or "a" for no on-screen figures.

    Raises:
        SeldError: a predicted clip is not among the references, or a setting is none of those above.
    """
    for name, value, known in (
        ("average", average, get_args(Average)),
        ("protocol", protocol, get_args(Protocol)),
        ("track", track, ("a", "b")),
    ):
        if value not in known:
            raise SeldError(f"{name} is {value!r}.", f"Give one of {', '.join(known)}.")
    counts = count_events(prediction, reference, n_classes=n_classes, protocol=protocol)
    return scores_of(counts, average=average, protocol=protocol, track=track)


def scores_of(
    counts: Counts,
    *,
    average: Average = "macro",
    protocol: Protocol = "official",
    track: str = "b",
    jackknife: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> Scores:
    """Return the scores that follow from counts."""
    overall, classwise = figures(counts.values.sum(axis=1), average)
    hidden = ONSCREEN_FIGURES if track == "a" else ()
    return Scores(
        track=track,
        average=average,
        protocol=protocol,
        clips=len(counts.clips),
        classwise={name: None if name in hidden else classwise[name].tolist() for name in FIGURES},
        jackknife=jackknife,
        **{name: None if name in hidden else float(overall[name]) for name in FIGURES},  # type: ignore[arg-type]
    )


def figures(sums: Floats, average: Average) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the overall figures (...,) and the class-wise ones (..., C) of sums (len(COUNTS), ..., C)."""
    classwise = _figures(sums)
    if average == "micro":
        return _figures(sums.sum(axis=-1)), classwise
    matched = sums[COUNTS.index("matches")] > 0
    overall = {}
    for name, value in classwise.items():
        if name.startswith("f_score"):
            overall[name] = value.mean(axis=-1)
        else:  # the mean over classes that were matched at least once
            overall[name] = _ratio(np.where(matched, value, 0.0).sum(axis=-1), matched.sum(axis=-1))
    return overall, classwise


def _figures(sums: Floats) -> dict[str, Floats]:
    total = dict(zip(COUNTS, sums, strict=True))
    matches = total["matches"]
    # Every match is a hit or a spatial false positive, so hits + spatial = matches.
    denominator = matches + 0.5 * (total["extras"] + total["misses"])
    means = {
        name: _ratio(total[key], matches)
        for name, key in (
            ("doa_error_deg", "azimuth_error"),
            ("distance_error_cm", "distance_error"),
            ("relative_distance_error", "relative_error"),
            ("onscreen_accuracy", "onscreen_right"),
        )
    }
    return {
        "f_score": np.nan_to_num(_ratio(total["hits"], denominator)),
        "f_score_onscreen": np.nan_to_num(_ratio(total["hits_onscreen"], denominator)),
        **means,
    }


def _ratio(total: Floats, count: Floats) -> Floats:
    """Return total / count, NaN where the count is 0."""
    return np.asarray(total / np.where(count > 0, count, np.nan))


def _finite(value: Any) -> Any:
    """Return plain data with None for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
