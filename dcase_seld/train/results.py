"""The folders and files that a training leaves: best/, top/, last/, curves.png and summary.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcase_seld.data.batches import ClipSource
from dcase_seld.metrics.official import FIGURES
from dcase_seld.model.seld import SeldNetwork
from dcase_seld.model.weights import Matching, count_parameters, save_model
from dcase_seld.train import history
from dcase_seld.train.checkpoint import Position
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.folders import replace_folder


def note_matching(out: Path, fitted: Matching) -> None:
    """Write init.json: every weight's name under matched (taken over), partial, fresh (new) or unused (left behind)."""
    temporary = out / "init.json.part"
    temporary.write_text(json.dumps(asdict(fitted), indent=1), encoding="utf-8")
    temporary.replace(out / "init.json")


def keep_weights(
    out: Path,
    judged: SeldNetwork,
    position: Position,
    row: dict[str, Any],
    config: TrainConfig,
    improved: bool,
    origin: dict[str, Any],
) -> None:
    """Write best/ and top/ where an epoch deserves it."""
    facts = {"epoch": row["epoch"], "split": "val", **{name: row[name] for name in FIGURES}, **origin}
    if improved:
        with replace_folder(out / "best") as folder:
            save_model(judged, folder, facts)
    if config.keep_top:
        ranked = sorted([*position.top, [row[config.criterion], row["epoch"]]], key=lambda item: (-item[0], item[1]))
        position.top = ranked[: config.keep_top]
        kept = {f"epoch-{epoch:04d}" for _, epoch in position.top}
        name = f"epoch-{row['epoch']:04d}"
        if name in kept:
            (out / "top").mkdir(exist_ok=True)
            with replace_folder(out / "top" / name) as folder:
                save_model(judged, folder, facts)
        for folder in (out / "top").glob("epoch-*"):
            if folder.name not in kept:
                shutil.rmtree(folder)


def finish(
    out: Path,
    final: SeldNetwork,
    position: Position,
    config: TrainConfig,
    seconds: float,
    sources: Sequence[ClipSource],
    origin: dict[str, Any],
) -> None:
    """Write last/ (and best/ where nothing was validated), the picture of the curves and summary.json."""
    row = position.history[-1]
    for name in ("last",) if position.best_epoch >= 0 else ("last", "best"):
        with replace_folder(out / name) as folder:
            save_model(final, folder, {"epoch": row["epoch"], **origin})
    history.draw_curves(out / "curves.png", position.history, position.best_epoch + 1)
    best = position.history[position.best_epoch]
    summary = {
        "epochs": position.epoch,
        "best_epoch": position.best_epoch + 1,
        "criterion": config.criterion,
        "val": {name: best.get(name) for name in FIGURES},
        "final_loss": row["loss"],
        "parameters": count_parameters(final),
        "clips": sum(len(source.indices) for source in sources),
        "clips_per_second": sum(r["clips_per_second"] for r in position.history) / len(position.history),
        "seconds": round(seconds, 1),
        **origin,
    }
    temporary = out / "summary.json.part"
    temporary.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    temporary.replace(out / "summary.json")
    shutil.rmtree(out / "state", ignore_errors=True)
