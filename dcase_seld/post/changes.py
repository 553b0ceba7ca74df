"""The log of what the visual post-processing changed, one line per changed event row, and why."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from dcase_seld.post.visual import REASONS, Judged
from dcase_seld.task.events import Events
from dcase_seld.task.taxonomy import Taxonomy

COLUMNS = (
    "clip",
    "frame",
    "class",
    "source",
    "azimuth_before_deg",
    "azimuth_after_deg",
    "onscreen_before",
    "onscreen_after",
    "probability_before",
    "probability_after",
    "gap_deg",
    "reason",
)


def write_changes(path: Path, before: Events, judged: Judged, taxonomy: Taxonomy) -> None:
    """Write a CSV with one line per row whose azimuth or on-screen flag changed, atomically."""
    after = judged.events
    rows = np.flatnonzero((before.onscreen != after.onscreen) | (np.abs(before.azimuth_deg - after.azimuth_deg) > 1e-9))
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in rows.tolist():
            writer.writerow(
                (
                    before.clips[before.clip[row]],
                    int(before.frame[row]),
                    taxonomy.classes[before.class_index[row]],
                    int(before.source[row]),
                    f"{before.azimuth_deg[row]:.2f}",
                    f"{after.azimuth_deg[row]:.2f}",
                    int(before.onscreen[row]),
                    int(after.onscreen[row]),
                    _number(before, row),
                    _number(after, row),
                    "" if np.isnan(judged.gap_deg[row]) else f"{judged.gap_deg[row]:.2f}",
                    REASONS[judged.reason[row]],
                )
            )
    part.replace(path)


def count_changes(before: Events, judged: Judged) -> dict[str, object]:
    """Return how many rows were switched on, switched off and moved, and how often each reason occurred."""
    after = judged.events
    moved = np.abs(after.azimuth_deg - before.azimuth_deg)
    reasons = Counter(REASONS[i] for i in judged.reason.tolist())
    return {
        "events": len(before),
        "switched_on": int((after.onscreen & ~before.onscreen).sum()),
        "switched_off": int((~after.onscreen & before.onscreen).sum()),
        "moved": int((moved > 1e-9).sum()),
        "mean_move_deg": round(float(moved[moved > 1e-9].mean()), 2) if (moved > 1e-9).any() else 0.0,
        "reasons": {name: reasons[name] for name in REASONS if reasons[name]},
    }


def _number(events: Events, row: int) -> str:
    return "" if events.onscreen_probability is None else f"{float(events.onscreen_probability[row]):.4f}"
