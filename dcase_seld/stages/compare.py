"""The stage `compare`: several scored predictions in one table, each against the first, with jackknife intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage

FIGURES = {
    "f_score": ("F20/1 %", 100.0, 1),
    "f_score_onscreen": ("on/off F %", 100.0, 1),
    "doa_error_deg": ("DOA err. °", 1.0, 1),
    "relative_distance_error": ("rel. dist. err.", 1.0, 3),
    "onscreen_accuracy": ("on/off acc. %", 100.0, 1),
}
"""Figure → column title, factor, decimals."""
_CELL = 26


class RowConfig(Config):
    """One row."""

    label: str = Field(description="what the table calls it")
    score: Annotated[str, Ref("scores")] = Field(description="the score step")
    against: str | None = Field(
        default=None, description="label of the row that it is compared with; null: the first row"
    )


class CompareConfig(Config):
    """The rows of the table."""

    rows: tuple[RowConfig, ...] = Field(min_length=1, description="in the order of the table")

    @model_validator(mode="after")
    def _labels_fit(self) -> CompareConfig:
        labels = [row.label for row in self.rows]
        if len(set(labels)) != len(labels):
            raise ValueError("rows: two have one label")
        for row in self.rows:
            if row.against is not None and row.against not in labels:
                raise ValueError(f"rows: against {row.against!r} is no row; the rows are {', '.join(labels)}")
        return self


def run(config: CompareConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write compare.json, and return the table as `show`."""
    from dcase_seld.metrics.scorefile import write_json
    from dcase_seld.report.errors import paired_difference
    from dcase_seld.report.gather import gather

    runs = {row.label: gather(inputs[f"rows.{place}.score"])[0] for place, row in enumerate(config.rows)}
    rows = []
    for row, (label, one) in zip(config.rows, runs.items(), strict=True):
        scores = one.scores.to_json()
        intervals = scores["jackknife"] or {}
        base = row.against or config.rows[0].label
        rows.append(
            {
                "row": label,
                "against": None if base == label else base,
                "clips": scores["clips"],
                "unit": one.unit,
                "figures": {name: {"value": scores[name], **_interval(intervals.get(name))} for name in FIGURES},
                "difference": {} if base == label else _finite(paired_difference(runs[base], one)),
            }
        )
    write_json(out / "compare.json", rows)
    return {"rows": list(runs), "show": format_table(rows)}


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return two lines per row: figures with their 95 % interval, and the difference to another row with its own."""
    notes = [f"  minus {row['against']}" for row in rows if row["against"]]
    width = max(len(text) for text in [*notes, *(row["row"] for row in rows)]) + 2
    lines = [f"{'':{width}}" + "".join(f"{title:<{_CELL}}" for title, _, _ in FIGURES.values())]
    for row in rows:
        cells = [_figure(row["figures"][name], factor, places) for name, (_, factor, places) in FIGURES.items()]
        lines.append(f"{row['row']:{width}}" + "".join(f"{cell:<{_CELL}}" for cell in cells))
        if row["against"]:
            changes = [_change(row["difference"].get(name), f, places) for name, (_, f, places) in FIGURES.items()]
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


STAGE = Stage("compare", "comparison", CompareConfig, run)
"""Ends a recipe of ablations: `dcase-seld run` prints its table."""
