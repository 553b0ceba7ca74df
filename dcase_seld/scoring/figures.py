"""Scores as one plain table for the terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcase_seld.scoring.official import FIGURES, Scores

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


EPOCH_COLUMNS = (
    "epoch",
    "step",
    "lr",
    "loss",
    "loss_doa",
    "loss_distance",
    "loss_onscreen",
    "val_loss",
    *FIGURES,
    "clips_per_second",
    "wait_share",
    "train_seconds",
    "val_seconds",
)
"""Columns of epochs.csv; validation's are empty in epochs without one. wait_share: time spent waiting for data."""


def read_epochs(path: Path) -> list[dict[str, float]]:
    """Return the rows of an epochs.csv as numbers; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(stream)]


COMPARED = {
    "f_score": ("F20/1 %", 100.0, 1),
    "f_score_onscreen": ("on/off F %", 100.0, 1),
    "doa_error_deg": ("DOA err. °", 1.0, 1),
    "relative_distance_error": ("rel. dist. err.", 1.0, 3),
    "onscreen_accuracy": ("on/off acc. %", 100.0, 1),
}
"""Figure → column title, factor, decimals."""

_CELL = 26


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return two lines per row: figures with their 95 % interval, and the difference to another row with its own."""
    notes = [f"  minus {row['against']}" for row in rows if row["against"]]
    width = max(len(text) for text in [*notes, *(row["row"] for row in rows)]) + 2
    lines = [f"{'':{width}}" + "".join(f"{title:<{_CELL}}" for title, _, _ in COMPARED.values())]
    for row in rows:
        cells = [_figure(row["figures"][name], factor, places) for name, (_, factor, places) in COMPARED.items()]
        lines.append(f"{row['row']:{width}}" + "".join(f"{cell:<{_CELL}}" for cell in cells))
        if row["against"]:
            changes = [_change(row["difference"].get(name), f, places) for name, (_, f, places) in COMPARED.items()]
            lines.append(f"{'  minus ' + row['against']:{width}}" + "".join(f"{cell:<{_CELL}}" for cell in changes))
    lines.append(
        f"{rows[0]['clips']:,} clips; 95 % intervals by leaving out one {rows[0]['unit']} at a time, differences"
        " paired; * the interval excludes 0. They tell the chance of the test clips, not that of another training seed."
    )
    return "\n".join(line.rstrip() for line in lines)


def _interval(jackknife: Mapping[str, Any] | None) -> dict[str, float | None]:
    low, high = (jackknife or {}).get("interval") or (None, None)
    return {"low": low, "high": high}


def _finite(differences: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the differences that are numbers; NaN has no place in JSON."""
    return {
        name: dict(change)
        for name, change in differences.items()
        if all(change[key] == change[key] for key in ("value", "low", "high"))
    }


def _figure(figure: Mapping[str, float | None], factor: float, places: int) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{factor * value:.{places}f}"
    return f"{factor * value:.{places}f} [{factor * low:.{places}f}, {factor * high:.{places}f}]"


def _change(change: Mapping[str, float] | None, factor: float, places: int) -> str:
    if change is None:
        return "–"
    value, low, high = (factor * change[key] for key in ("value", "low", "high"))
    mark = "*" if low > 0 or high < 0 else ""
    return f"{value:+.{places}f} [{low:+.{places}f}, {high:+.{places}f}]{mark}"
