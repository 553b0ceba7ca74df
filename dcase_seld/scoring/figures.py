"""The table of figures: what each is made of, what it is called and how it is printed; a user's own join it.

    @metric("hit_rate", title="hits %", scale=100)
    def hits(n):
        return n["hit"] / (n["hit"] + n["miss"])

`n` maps the names of `counts.COUNTS` to sums: one per class, or of all classes pooled, of all clips or of all but some.
Averages, class-wise values and jackknife intervals follow; a figure that is registered stands wherever figures do.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.registry import METRICS, is_loading
from dcase_seld.core.task import TITLES, Task
from dcase_seld.scoring.counts import COUNTS, EPS
from dcase_seld.scoring.editions import SUMS

Floats = npt.NDArray[np.float64]

Average = Literal["macro", "micro"]

Make = Callable[[Mapping[str, Any]], Any]
"""Sums by name → the figure, NaN or infinite where it is undefined."""

UNITS = ("%", "°", "cm", "m", "dB")
"""Last words of a title that are its unit."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: key in JSON files and CSV columns.
        make: the function of the sums.
        title: heading, with the unit as its last word.
        short: heading where room is short.
        scale: factor from the value to what is printed.
        decimals: of what is printed.
        unit: what follows a value that stands alone.
        higher_is_better: which direction is progress.
        onscreen: track a (audio only) does not have it.
        undefined: value of a class for which it is not defined; NaN leaves the class out of the mean.
        brief: stands in tables of many runs too.
    """

    name: str
    make: Make
    title: str
    short: str
    scale: float = 1.0
    decimals: int = 1
    unit: str = ""
    higher_is_better: bool = True
    onscreen: bool = False
    undefined: float = math.nan
    brief: bool = True

    @property
    def label(self) -> str:
        """Return the title without its unit."""
        return self.title.removesuffix(self.unit).rstrip()

    def text(self, value: float | None, unit: bool = False) -> str:
        """Return a value as people read it: 0.457 → "45.7" or "45.7 %"; "–" where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        scaled = value * self.scale
        printed = f"{scaled:z.{self.decimals}f}" if abs(scaled) < 1e6 else f"{scaled:.2e}"
        return printed + (self.unit if self.unit == "°" else f" {self.unit}".rstrip()) * unit

    def change(self, value: float) -> str:
        """Return a difference with its sign."""
        return f"{value * self.scale:+z.{self.decimals}f}"

    def of(self, sums: Floats) -> Floats:
        """Return the figure (...,) of sums (len(COUNTS), ...).

        Raises:
            SeldError: a user's function reads what is not counted, or does not answer with one number per class.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.asarray(self.make(_Sums(self.name, zip(COUNTS, sums, strict=True))), np.float64)
        if value.shape != sums.shape[1:]:
            raise SeldError(
                f"The metric {self.name!r} gave values of shape {value.shape} for sums of shape {sums.shape[1:]}.",
                "Combine the sums of n elementwise, e.g. n['hit'] / (n['hit'] + n['miss']).",
            )
        return np.where(np.isfinite(value), value, self.undefined)


FIGURES: dict[str, Figure] = {}
"""Name → figure, in the order of tables."""

RESERVED = ("track", "average", "protocol", "clips", "classwise", "jackknife", "notes", "figures", "name", "val_loss")
"""Keys that stand beside figures and cannot be names of one; nor can what begins with loss."""


class _Sums(dict[str, Any]):
    """Sums by name; a name that is not counted is the user's mistake."""

    def __init__(self, metric: str, items: Any) -> None:
        super().__init__(items)
        self.metric = metric

    def __missing__(self, key: str) -> Any:
        raise SeldError(f"The metric {self.metric!r} reads n[{key!r}].", f"What is counted: {', '.join(COUNTS)}.")


def metric(name: str, *, title: str, short: str = "", unit: str | None = None, **fields: Any) -> Callable[[Make], Make]:
    """Register the function below as a figure, and leave it as it is.

    `title`: a heading, e.g. "hits %"; `short`: one where room is short; `unit`: by default the title's last word, if
    that is one; `fields`: scale, decimals, higher_is_better, onscreen, undefined, brief of Figure.

    Raises:
        SeldError: the name is taken or no name.
    """
    if not name.isidentifier() or name in RESERVED or name.startswith(("loss", "_")) or name in EPOCH_COLUMNS:
        raise SeldError(f"{name!r} cannot be a metric's name.", "Give a word of its own, e.g. hit_rate.")
    if name in FIGURES and name not in METRICS:
        raise SeldError(f"Two metrics are called {name!r}.", "Give each a name of its own.")
    last = title.split(" ")[-1]
    unit = unit if unit is not None else last if last in UNITS else ""

    def register(make: Make) -> Make:
        figure = Figure(name, make, title, short or title, unit=unit, **fields)
        if is_loading():
            METRICS.add(name, figure)
        FIGURES[name] = figure
        return make

    return register


EPOCH_COLUMNS = ("epoch", "step", "lr", "loss", "loss_doa", "loss_distance", "loss_onscreen", "val_loss")

EPOCH_TIMES = ("clips_per_second", "wait_share", "train_seconds", "val_seconds")
"""Columns of epochs.csv before and after the figures; wait_share: time spent waiting for data."""


@metric("f_score", title=TITLES["f_score"], scale=100.0, undefined=0.0)
def _f_score(n: Mapping[str, Floats]) -> Floats:
    # Every match is a hit or a spatial false positive, so hits + spatial = matches.
    return n["hit"] / (n["match"] + 0.5 * (n["extra"] + n["miss"]))


@metric(
    "f_score_onscreen", title=TITLES["f_score_onscreen"], short="F/on-off %", scale=100.0, undefined=0.0, onscreen=True
)
def _f_score_onscreen(n: Mapping[str, Floats]) -> Floats:
    return n["hit_onscreen"] / (n["match"] + 0.5 * (n["extra"] + n["miss"]))


@metric("doa_error_deg", title=TITLES["doa_error_deg"], short="DOAE °", higher_is_better=False)
def _doa_error(n: Mapping[str, Floats]) -> Floats:
    return n["azimuth_error"] / n["match"]


@metric("distance_error_cm", title="Distance error cm", short="DE cm", decimals=0, higher_is_better=False, brief=False)
def _distance_error(n: Mapping[str, Floats]) -> Floats:
    return n["distance_error"] / n["match"]


@metric("relative_distance_error", title="Relative distance error", short="RDE", decimals=2, higher_is_better=False)
def _relative_distance_error(n: Mapping[str, Floats]) -> Floats:
    return n["relative_error"] / n["match"]


@metric("onscreen_accuracy", title="On/off accuracy %", short="on/off %", scale=100.0, onscreen=True, brief=False)
def _onscreen_accuracy(n: Mapping[str, Floats]) -> Floats:
    return n["onscreen_right"] / n["match"]


def _of_edition(name: str, title: str, short: str, **fields: Any) -> Figure:
    return Figure(name, lambda n: np.full_like(n["hit"], math.nan), title, short, **fields)  # made in `official`


_ER_F = (
    _of_edition("ER", "Error rate", "ER20", decimals=3, higher_is_better=False, brief=False),
    _of_edition("F", TITLES["F"], "F20 %", scale=100.0, unit="%"),
)
_LR_SELD = (
    _of_edition("LR", "Localization recall %", "LR %", scale=100.0, unit="%", brief=False),
    _of_edition("SELD", "SELD score", "SELD", decimals=3, higher_is_better=False),
)
EDITION_FIGURES = {
    "dcase2024": (
        *_ER_F,
        _of_edition("DOAE_deg", TITLES["DOAE_deg"], "DOAE °", unit="°", higher_is_better=False),
        _of_edition(
            "distance_error_m", "Distance error m", "DE m", decimals=2, unit="m", higher_is_better=False, brief=False
        ),
        _of_edition("RDE", "Relative distance error", "RDE", decimals=2, higher_is_better=False),
        *_LR_SELD,
    ),
    "dcase2023": (
        *_ER_F,
        _of_edition("LE_deg", "Localization error °", "LE °", unit="°", higher_is_better=False),
        *_LR_SELD,
    ),
}
"""Task → its figures, in the order of tables."""


def scored_as(task: Task) -> str:
    """Return the edition that a task is scored as: its own; on the sphere 2024 where it is of none, else 2025."""
    if task.geometry != "sphere":
        return "dcase2025"
    return task.name if task.name in EDITION_FIGURES else "dcase2024"


def figures_of(task: Task) -> Mapping[str, Figure]:
    """Return the figures that networks of a task are validated by, by name, in the order of tables."""
    return {one.name: one for one in EDITION_FIGURES.get(scored_as(task), FIGURES.values())}


def every_figure() -> dict[str, Figure]:
    """Return the figures of all editions by name."""
    return FIGURES | {figure.name: figure for edition in EDITION_FIGURES.values() for figure in edition}


def criterion_of(task: Task, criterion: str) -> str:
    """Return a criterion's name among the figures of a task; editions before 2025 have one F-score, F."""
    return "F" if scored_as(task) in EDITION_FIGURES else criterion


def shown(track: str) -> list[Figure]:
    """Return the figures that a track has."""
    return [figure for figure in FIGURES.values() if track != "a" or not figure.onscreen]


def figures(sums: Floats, average: Average) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the overall figures (...,) and the class-wise ones (..., C) of sums (len(COUNTS), ..., C).

    Macro: the mean over the classes for which a figure is defined, NaN where there is none.
    """
    classwise = {name: figure.of(sums) for name, figure in FIGURES.items()}
    if average == "micro":
        pooled = sums.sum(axis=-1)
        return {name: figure.of(pooled) for name, figure in FIGURES.items()}, classwise
    overall = {}
    for name, value in classwise.items():
        known = ~np.isnan(value)
        count = known.sum(axis=-1)
        overall[name] = np.asarray(np.where(known, value, 0.0).sum(axis=-1) / np.where(count > 0, count, np.nan))
    return overall, classwise


def edition_figures(sums: Floats, task: str, average: str) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return overall figures (...,) and class-wise ones (..., C) of sums (len(SUMS), ..., C); NaN: undefined.

    The error rate is one number for all classes; class-wise SELD scores hold it too.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = sums[-1].sum(axis=-1) / (sums[SUMS.index("references")].sum(axis=-1) + EPS)  # as the programs do
        classwise = _made_of(sums, task, rate[..., None])
        if average == "micro":
            return _made_of(sums.sum(axis=-1), task, rate), classwise
    overall = {}
    for name, value in classwise.items():
        known = ~np.isnan(value)
        count = known.sum(axis=-1)
        overall[name] = np.where(known, value, 0.0).sum(axis=-1) / np.where(count > 0, count, np.nan)
    return {**overall, "ER": rate}, classwise


def _made_of(sums: Floats, task: str, rate: Floats) -> dict[str, Floats]:
    """Return the figures of sums (len(SUMS), ...)."""
    n = dict(zip(SUMS, sums, strict=True))
    f_score = np.nan_to_num(n["hit"] / (n["match"] + 0.5 * (n["extra"] + n["miss"])))
    recall = np.nan_to_num(n["match"] / (n["match"] + n["miss"]))
    angle = n["angle"] / n["match"]
    found = {"ER": np.broadcast_to(rate, f_score.shape), "F": f_score}
    if task == "dcase2023":
        angle = np.where(n["match"] > 0, angle, 180.0)
        seld = np.stack([found["ER"], 1 - f_score, angle / 180, 1 - recall]).mean(axis=0)
        return {**found, "LE_deg": angle, "LR": recall, "SELD": seld}
    relative = n["relative"] / n["match"]
    parts = np.stack([1 - f_score, angle / 180, relative])
    known = ~np.isnan(parts)
    seld = np.where(known, parts, 0.0).sum(axis=0) / known.sum(axis=0)
    return {**found, "DOAE_deg": angle, "distance_error_m": n["distance"] / n["match"], "RDE": relative, "LR": recall,
            "SELD": seld}  # fmt: skip


def epoch_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of epochs.csv; validation's are empty in epochs without one."""
    return (*EPOCH_COLUMNS, *figures_of(task), *EPOCH_TIMES)


def read_epochs(path: Path) -> list[dict[str, float]]:
    """Return the rows of an epochs.csv as numbers; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(stream)]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines: the first column flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def format_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Figure] | None = None) -> str:
    """Return two lines per row: figures with their 95 % interval, and the difference to another row with its own."""
    columns = list(FIGURES.values()) if columns is None else columns
    table = [["", *(figure.short for figure in columns)]]
    for row in rows:
        table.append([row["row"], *(_figure(one, row["figures"].get(one.name)) for one in columns)])
        if row["against"]:
            changes = [_change(one, row["difference"].get(one.name)) for one in columns]
            table.append([f"  minus {row['against']}", *changes])
    return "\n".join(
        [
            *align(table),
            f"{rows[0]['clips']:,} clips; 95 % intervals by leaving out one {rows[0]['unit']} at a time, differences"
            " paired; * the interval excludes 0. They tell the chance of the test clips, not that of another training"
            " seed.",
        ]
    )


def _figure(figure: Figure, entry: Mapping[str, float | None] | None) -> str:
    value, low, high = (entry or {}).get("value"), (entry or {}).get("low"), (entry or {}).get("high")
    within = "" if value is None or low is None else f" [{figure.text(low)}, {figure.text(high)}]"
    return figure.text(value) + within


def _change(figure: Figure, change: Mapping[str, float] | None) -> str:
    if change is None:
        return "–"
    value, low, high = (figure.change(change[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]{'*' if change['low'] > 0 or change['high'] < 0 else ''}"
