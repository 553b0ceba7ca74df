"""What stands around the figures: that predictions and references are of the same clips, and the JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.scoring.counts import COUNTS, Counts, Protocol, count_events


def check_clips(
    predicted: tuple[str, ...], annotated: tuple[str, ...], pred: Path, ref: Path, missing_allowed: bool = False
) -> list[str]:
    """Return the clips without predictions, which must be allowed; predictions of unknown clips never are.

    Raises:
        SeldError: names them.
    """
    known = set(annotated)
    unknown = [name for name in predicted if name not in known]
    if unknown:
        raise SeldError(
            f"{len(unknown)} prediction file(s) in {pred} have no reference in {ref}: {listing(unknown)}.",
            "Score against the references of the same split, or remove these files.",
        )
    given = set(predicted)
    missing = [name for name in annotated if name not in given]
    if missing and not missing_allowed:
        raise SeldError(
            f"{len(missing)} of {len(annotated)} clips in {ref} have no prediction file in {pred}: {listing(missing)}.",
            "Write a file with the header alone where nothing was detected, or pass --allow-missing to leave them out.",
        )
    return missing


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
