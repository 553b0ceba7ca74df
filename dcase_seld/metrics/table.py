"""Scores as one plain table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dcase_seld.metrics.official import FIGURES, Scores

TITLES = {
    "f_score": "F20/1 %",
    "f_score_onscreen": "F20/1/on-off %",
    "doa_error_deg": "DOA err. °",
    "distance_error_cm": "dist. err. cm",
    "relative_distance_error": "rel. dist. err.",
    "onscreen_accuracy": "on/off acc. %",
}
"""Column titles of the figures."""

_FORMS = {
    "f_score": (100.0, 1),
    "f_score_onscreen": (100.0, 1),
    "doa_error_deg": (1.0, 1),
    "distance_error_cm": (1.0, 0),
    "relative_distance_error": (1.0, 2),
    "onscreen_accuracy": (100.0, 1),
}


def format_scores(scores: Scores, class_names: Sequence[str]) -> str:
    """Return the overall and class-wise figures as lines of text; "–" where nothing was matched."""
    names = [name for name in FIGURES if getattr(scores, name) is not None]
    head = ["", *(TITLES[name] for name in names)]
    lines = [[scores.average, *(_number(name, getattr(scores, name)) for name in names)]]
    if scores.jackknife is not None:
        lines.append(["95 % from", *(_number(name, _bound(scores, name, 0)) for name in names)])
        lines.append(["95 % to", *(_number(name, _bound(scores, name, 1)) for name in names)])
    classwise = [
        [label, *(_number(name, (scores.classwise[name] or [])[index]) for name in names)]
        for index, label in enumerate(class_names)
    ]
    table = [head, *lines, *classwise]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    title = f"Track {scores.track}, {scores.average} average, {scores.protocol} protocol, {scores.clips:,} clips"
    parts = [title, _line(head, widths), rule]
    parts += [_line(row, widths) for row in lines]
    parts += [rule, *(_line(row, widths) for row in classwise)]
    return "\n".join(parts)


def _bound(scores: Scores, name: str, end: int) -> float | None:
    entry = (scores.jackknife or {}).get(name)
    return None if entry is None else float(entry["interval"][end])


def _number(name: str, value: float | None) -> str:
    factor, digits = _FORMS[name]
    if value is None or not math.isfinite(value):
        return "–"
    scaled = value * factor
    return f"{scaled:.{digits}f}" if abs(scaled) < 1e6 else f"{scaled:.2e}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
