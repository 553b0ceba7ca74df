"""What a training leaves for people: epochs.csv, classwise.csv, curves.png and TensorBoard curves."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcase_seld.metrics.epochs import EPOCH_COLUMNS
from dcase_seld.metrics.official import FIGURES


def write_tables(out: Path, history: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> None:
    """Write epochs.csv (one row per epoch) and classwise.csv (one row per validated epoch and class)."""
    _write_csv(out / "epochs.csv", EPOCH_COLUMNS, [[_cell(row.get(name)) for name in EPOCH_COLUMNS] for row in history])
    rows = []
    for row in history:
        for index, name in enumerate(classes if "classwise" in row else ()):
            rows.append([row["epoch"], index, name, *(_cell(row["classwise"][score][index]) for score in FIGURES)])
    _write_csv(out / "classwise.csv", ("epoch", "class", "name", *FIGURES), rows)


def draw_curves(path: Path, history: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
    """Write a picture of loss, scores, errors and learning rate over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(2, 2)
    panels = (
        ("loss", ("loss", "val_loss", "loss_doa", "loss_distance", "loss_onscreen")),
        ("F-score", ("f_score", "f_score_onscreen")),
        ("error", ("doa_error_deg", "relative_distance_error")),
        ("learning rate", ("lr",)),
    )
    for axis, (title, names) in zip(axes.flat, panels, strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if _cell(row.get(name)) != ""]
            right = axis.twinx() if name == "relative_distance_error" else axis
            colour = "C1" if right is not axis else None
            if points:
                right.plot(*zip(*points, strict=True), label=name, marker=".", color=colour)
            if right is not axis:
                right.set_ylabel(name, color="C1")
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        if best_epoch > 0:
            axis.axvline(best_epoch, color="grey", linestyle=":", label="best")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    temporary = path.with_name(path.name + ".part")
    figure.savefig(temporary, dpi=90, format="png")
    temporary.replace(path)


class Curves:
    """TensorBoard curves under out/tensorboard; does nothing where they are switched off."""

    def __init__(self, out: Path, wanted: bool, step: int) -> None:
        self._writer: Any = None
        if wanted:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step)

    def add(self, values: Mapping[str, Any], step: int, group: str) -> None:
        """Add one point per finite number in `values`."""
        for name, value in values.items():
            if self._writer is not None and isinstance(value, (int, float)) and math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(path)
