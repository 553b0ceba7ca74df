"""Confidence intervals of scores and of their differences: one clip, or all of one recording, is left out at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import name_parts
from dcase_seld.scoring.counts import Counts, Indices
from dcase_seld.scoring.figures import EDITION_FIGURES, FIGURES, Average, Floats, edition_figures, figures, shown

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
    units = _units(counts.clips, by)
    overall, _ = figures(counts.values.sum(axis=1), average)
    partial, _ = figures(all_but_one(counts.values, units), average)
    result: dict[str, dict[str, Any] | None] = dict.fromkeys(FIGURES)
    for figure in shown(track):
        value = float(overall[figure.name])
        estimate, error, interval = interval_of(value, partial[figure.name], level)
        result[figure.name] = {"value": value, "estimate": estimate, "std_err": error, "interval": interval}
    return result


def paired_difference(
    first: Counts,
    second: Counts,
    *,
    average: Average = "macro",
    track: str = "b",
    by: By = "clip",
    level: float = 0.95,
    task: str = "dcase2025",
) -> dict[str, dict[str, Any]]:
    """Return figure → {value, low, high, units} of second minus first on the clips that both have; NaN is left out.

    Leaving the same recording (or clip) out of both at a time keeps what they share, hard and easy clips, out of the
    interval: it is the one to ask whether a difference is more than chance. Arguments as of `jackknife`; `task`: the
    edition whose sums these are.

    Source: M. H. Quenouille (1956), J. W. Tukey (1958).
    """
    places = [{clip: index for index, clip in enumerate(counts.clips)} for counts in (first, second)]
    shared = [clip for clip in first.clips if clip in places[1]]
    units = _units(shared, by)
    if not shared or int(units.max()) < 1 or first.values.shape[2] != second.values.shape[2]:
        return {}
    values = [
        counts.values[:, [place[clip] for clip in shared]]
        for counts, place in zip((first, second), places, strict=True)
    ]

    def made(sums: Floats) -> Mapping[str, Floats]:
        return edition_figures(sums, task, average)[0] if task in EDITION_FIGURES else figures(sums, average)[0]

    wholes = [made(value.sum(axis=1)) for value in values]
    parts = [made(all_but_one(value, units)) for value in values]
    result = {}
    for figure in EDITION_FIGURES.get(task) or shown(track):
        change = float(wholes[1][figure.name] - wholes[0][figure.name])
        _, _, (low, high) = interval_of(change, parts[1][figure.name] - parts[0][figure.name], level)
        if all(math.isfinite(bound) for bound in (change, low, high)):
            result[figure.name] = {"value": change, "low": low, "high": high, "units": int(units.max()) + 1}
    return result


def interval_of(value: float, parts: Floats, level: float) -> tuple[float, float, list[float]]:
    """Return the unbiased estimate, its standard error and [low, high], of a value and those of all units but one."""
    units = parts.size
    if units < 2:
        return math.nan, math.nan, [math.nan, math.nan]
    mean = float(parts.mean())
    estimate = value - (units - 1) * (mean - value)
    error = math.sqrt((units - 1) * float(np.mean((parts - mean) ** 2)))
    reach = student_t(1.0 - (1.0 - level) / 2.0, units - 1)
    return estimate, error, [estimate - reach * error, estimate + reach * error]


def all_but_one(values: Floats, units: Indices) -> Floats:
    """Return the sums (len(COUNTS), units, C) of all units but one, of values (len(COUNTS), clips, C)."""
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    if starts.size < units.size:
        values = np.add.reduceat(values[:, order], starts, axis=1)
    # Running sums from both ends: a difference would lose the small numbers beside huge ones.
    rest = np.zeros_like(values)
    np.cumsum(values[:, :-1], axis=1, out=rest[:, 1:])
    rest[:, :-1] += np.cumsum(values[:, :0:-1], axis=1)[:, ::-1]
    return rest


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


def _units(clips: Sequence[str], by: By) -> Indices:
    """Return the number of the unit, in the order of names where several clips are one, that each clip belongs to."""
    if by == "clip":
        return np.arange(len(clips))
    parts = [name_parts(name) for name in clips]
    strange = [name for name, part in zip(clips, parts, strict=True) if part is None]
    if strange:
        raise SeldError(
            f"{len(strange)} clip name(s) do not tell their recording: {listing(strange)}; expected names such as "
            "fold4_room15_mix012_deg179_start2495.",
            "Leave out clips instead (--jackknife-by clip).",
        )
    if not parts:
        return np.zeros(0, np.intp)
    return np.unique([part.recording for part in parts if part is not None], return_inverse=True)[1]
