"""Confidence intervals by leaving one clip, or all clips of one recording, out at a time."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import name_parts
from dcase_seld.scoring.counts import Counts
from dcase_seld.scoring.official import FIGURES, ONSCREEN_FIGURES, Average, Floats, figures

By = Literal["clip", "recording"]


def jackknife(
    counts: Counts, *, average: Average = "macro", track: str = "b", by: By = "clip", level: float = 0.95
) -> dict[str, dict[str, Any] | None]:
    """Return figure → {value, estimate, std_err, interval: [low, high]}; None for figures that the track lacks.

    `estimate` is the value without the jackknife's bias. An interval needs at least two units; with fewer its numbers
    are NaN.

    Args:
        counts: sums per clip and class.
        average: "macro" or "micro".
        track: "a" has no on-screen figures.
        by: what is left out: one clip (as the challenge does), or all windows of one recording at once, which is the
            honest choice where clips overlap in time and share their room.
        level: confidence of the interval.

    Raises:
        SeldError: `by` is "recording" and a name does not tell its recording.

    Source: M. H. Quenouille (1956), J. W. Tukey (1958); interval from Student's t with units - 1 degrees of freedom.
    """
    values = counts.values if by == "clip" else _by_recording(counts)
    units = values.shape[1]
    overall, _ = figures(counts.values.sum(axis=1), average)
    # Sums of all but one by running sums from both ends: a difference would lose the small numbers beside huge ones.
    before = np.cumsum(values, axis=1)
    after = np.cumsum(values[:, ::-1], axis=1)[:, ::-1]
    rest = np.zeros_like(values)
    rest[:, 1:] += before[:, :-1]
    rest[:, :-1] += after[:, 1:]
    partial, _ = figures(rest, average)
    reach = student_t(1.0 - (1.0 - level) / 2.0, units - 1) if units > 1 else math.nan
    result: dict[str, dict[str, Any] | None] = {}
    for name in FIGURES:
        if track == "a" and name in ONSCREEN_FIGURES:
            result[name] = None
            continue
        value, parts = float(overall[name]), partial[name]
        mean = float(parts.mean()) if units > 1 else math.nan
        estimate = value - (units - 1) * (mean - value)
        error = math.sqrt((units - 1) * float(np.mean((parts - mean) ** 2))) if units > 1 else math.nan
        result[name] = {
            "value": value,
            "estimate": estimate,
            "std_err": error,
            "interval": [estimate - reach * error, estimate + reach * error],
        }
    return result


def student_t(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution for a whole number of degrees of freedom.

    Its distribution function is a finite sum for whole degrees, inverted here by Newton's method.

    Source: M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    if probability < 0.5:
        return -student_t(1.0 - probability, freedom)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    x = 0.0
    for _ in range(200):
        density = math.exp(log_scale - (freedom + 1) / 2 * math.log1p(x * x / freedom))
        step = (probability - _student_cdf(x, freedom)) / density
        x += step
        if abs(step) <= 1e-14 * max(1.0, abs(x)):
            break
    return x


def _student_cdf(x: float, freedom: int) -> float:
    """Return P(T <= x) for x >= 0."""
    angle = math.atan2(x, math.sqrt(freedom))
    sine, cosine_squared = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    steps = np.arange(1, (freedom - odd) // 2, dtype=np.float64)
    factors = cosine_squared * (2 * steps - 1 + odd) / (2 * steps + odd)
    series = 1.0 + float(np.cumprod(factors).sum())
    if odd:
        inner = angle + (sine * math.cos(angle) * series if freedom > 1 else 0.0)
        within = 2.0 / math.pi * inner
    else:
        within = sine * series
    return 0.5 + 0.5 * within


def _by_recording(counts: Counts) -> Floats:
    """Return the sums of counts over the clips of each recording, (len(COUNTS), recordings, C)."""
    parts = [name_parts(name) for name in counts.clips]
    strange = [name for name, part in zip(counts.clips, parts, strict=True) if part is None]
    if strange:
        raise SeldError(
            f"{len(strange)} clip name(s) do not tell their recording: {listing(strange)}; expected names such as "
            "fold4_room15_mix012_deg179_start2495.",
            "Leave out clips instead (--jackknife-by clip).",
        )
    recordings = [part.recording for part in parts if part is not None]
    order = np.argsort(np.asarray(recordings), kind="stable")
    ordered = [recordings[index] for index in order]
    starts = [index for index, name in enumerate(ordered) if index == 0 or ordered[index - 1] != name]
    return np.add.reduceat(counts.values[:, order], starts, axis=1) if starts else counts.values
