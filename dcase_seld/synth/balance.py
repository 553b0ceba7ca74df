"""How a simulated corpus came out: frames of every class in every split, and the share on screen."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dcase_seld.task.dcase_csv import read_folder
from dcase_seld.task.taxonomy import Taxonomy

REPORT = "balance.csv"
"""Name of the report in the corpus' folder."""


def write_balance(root: Path, parts: Sequence[str], split_of: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, int]:
    """Write balance.csv (split, class, clips, frames, onscreen share); return labelled frames per class over all.

    Args:
        root: the corpus.
        parts: its parts, such as "dev-train-synth".
        split_of: room, as clip names spell it → split.
        taxonomy: the classes.
    """
    frames = np.zeros((len(taxonomy),), np.int64)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["split", "class", "clips", "frames", "onscreen_share"])
    for part in parts:
        events = read_folder(root / "metadata_dev" / part, n_classes=len(taxonomy))
        split_of_clip = np.asarray([split_of["_".join(name.split("_")[:2])] for name in events.clips])
        for split in sorted(set(split_of_clip)):
            for index, name in enumerate(taxonomy.classes):
                chosen = (split_of_clip[events.clip] == split) & (events.class_index == index)
                count = int(chosen.sum())
                share = f"{events.onscreen[chosen].mean():.3f}" if count else ""
                rows.writerow([split, name, len(np.unique(events.clip[chosen])), count, share])
                frames[index] += count
    temporary = root / f"{REPORT}.part"
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(root / REPORT)
    return dict(zip(taxonomy.classes, frames.tolist(), strict=True))
