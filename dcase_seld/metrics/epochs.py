"""The table of a training's epochs, epochs.csv: what it holds, and how it is read back."""

from __future__ import annotations

import csv
from pathlib import Path

from dcase_seld.metrics.official import FIGURES

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
