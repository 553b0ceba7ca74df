"""What a training leaves for people: tables of epochs, curves, kept weights, and its live line."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcase_seld.core.files import replace_folder, whole_file, write_csv_table, write_json
from dcase_seld.core.task import Task
from dcase_seld.core.work import plain_lines, say
from dcase_seld.model.network import SeldNetwork
from dcase_seld.model.weights import Matching, count_parameters, save_model
from dcase_seld.scoring.figures import EPOCH_COLUMNS, Figure, criterion_of, epoch_columns, figures_of
from dcase_seld.store.source import StoreSource
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.state import Position


def write_tables(out: Path, history: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Write epochs.csv (one row per epoch) and classwise.csv (one row per validated epoch and class)."""
    own = sorted({name for row in history for name in row if name.startswith("loss_")} - set(EPOCH_COLUMNS))
    columns = (*epoch_columns(task), *own)
    write_csv_table(out / "epochs.csv", columns, [[_cell(row.get(name)) for name in columns] for row in history])
    rows, classes, figures = [], task.classes.classes, figures_of(task)
    missing = [None] * len(classes)  # of a metric that an earlier part of a resumed training did not know
    for row in history:
        for index, name in enumerate(classes if "classwise" in row else ()):
            rows.append(
                [
                    row["epoch"],
                    index,
                    name,
                    *(_cell((row["classwise"].get(score) or missing)[index]) for score in figures),
                ]
            )
    write_csv_table(out / "classwise.csv", ("epoch", "class", "name", *figures), rows)


def draw_curves(path: Path, history: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
    """Write a picture of loss, scores, errors and learning rate over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(2, 2)
    panels = (
        ("loss", ("loss", "val_loss", "loss_doa", "loss_distance", "loss_onscreen")),
        ("F-score", ("f_score", "f_score_onscreen", "F")),
        ("error", ("doa_error_deg", "relative_distance_error", "DOAE_deg", "LE_deg", "RDE")),
        ("learning rate", ("lr",)),
    )
    for axis, (title, names) in zip(axes.flat, panels, strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if _cell(row.get(name)) != ""]
            if not points:
                continue
            right = axis.twinx() if name in ("relative_distance_error", "RDE") else axis
            colour = "C1" if right is not axis else None
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
    with whole_file(path) as part:
        figure.savefig(part, dpi=90, format="png")


class Curves:
    """TensorBoard curves in a folder; does nothing where they are switched off."""

    def __init__(self, folder: Path, wanted: bool, step: int) -> None:
        self._writer: Any = None
        if wanted:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=step)

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


def note_matching(out: Path, fitted: Matching) -> None:
    """Write init.json: every weight's name under matched (taken over), partial, fresh (new) or unused (left behind)."""
    write_json(out / "init.json", asdict(fitted))


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
    facts = {
        "epoch": row["epoch"],
        "split": "val",
        **{name: row.get(name) for name in figures_of(judged.task)},
        **origin,
    }
    if improved:
        with replace_folder(out / "best") as folder:
            save_model(judged, folder, facts)
    if config.keep_top:
        score = row[criterion_of(judged.task, config.criterion)]
        ranked = sorted([*position.top, [score, row["epoch"]]], key=lambda item: (-item[0], item[1]))
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
    sources: Sequence[StoreSource],
    origin: dict[str, Any],
) -> None:
    """Write last/ (and best/ where nothing was validated), the picture of the curves and summary.json."""
    row = position.history[-1]
    for name in ("last",) if position.best_epoch >= 0 else ("last", "best"):
        with replace_folder(out / name) as folder:
            save_model(final, folder, {"epoch": row["epoch"], **origin})
    draw_curves(out / "curves.png", position.history, position.best_epoch + 1)
    best = position.history[position.best_epoch]
    summary = {
        "epochs": position.epoch,
        "best_epoch": position.best_epoch + 1,
        "criterion": criterion_of(final.task, config.criterion),
        "val": {name: best.get(name) for name in figures_of(final.task)},
        "final_loss": row["loss"],
        "parameters": count_parameters(final),
        "clips": sum(len(source.clips) for source in sources),
        "clips_per_second": sum(r["clips_per_second"] for r in position.history) / len(position.history),
        "seconds": round(seconds, 1),
        **origin,
    }
    write_json(out / "summary.json", summary)
    shutil.rmtree(out / "state", ignore_errors=True)


class LiveLine:
    """Draws the state of a training on standard error: live on a terminal, a line per epoch and 30 s elsewhere."""

    def __init__(self, epochs: int, steps: int, done: int, quiet: bool) -> None:
        """Start at update `done` of `steps`; with `quiet` nothing is printed."""
        self.epochs, self.steps, self.done, self.quiet = epochs, steps, done, quiet
        self._start = time.monotonic()
        self._began_at = done
        self._best = ""
        self._shown = 0.0
        self._bar = None
        self._plain = ExitStack()
        self._tell: Callable[[str], None] = lambda line: None
        if not quiet and not sys.stderr.isatty():
            self._tell = self._plain.enter_context(plain_lines())
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column

            # On a narrow terminal the end of the line is cut, never the epoch.
            widest = len(f"epoch {epochs}/{epochs}")
            self._bar = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=widest)),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
                console=Console(stderr=True),
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task("train", total=steps, completed=done, text="")
            self._bar.start()

    def update(self, epoch: int, step: int, losses: Mapping[str, float], lr: float, rate: float) -> None:
        """Show update `step`: mean losses of the epoch, learning rate, clips per second."""
        self.done = step
        now = time.monotonic()
        if self.quiet or (now - self._shown < 0.2 and step < self.steps):
            return
        self._shown = now
        parts = " ".join(f"{name.removeprefix('loss_')} {value:.4f}" for name, value in losses.items())
        text = f"{self.time_left()} left{self._best} · {rate:,.0f} clips/s · {parts} · lr {lr:.1e}"
        where = f"epoch {epoch + 1}/{self.epochs}"
        if self._bar is None:
            self._tell(f"{where}: update {step:,} of {self.steps:,} · {text}")
        else:
            self._bar.update(self._task, completed=step, description=where, text=text)

    def epoch_done(self, row: Mapping[str, object], figure: Figure, best: float, is_best: bool) -> None:
        """Print one line about a finished epoch (percent for scores); `figure` decides which is best."""
        if best >= 0:
            self._best = f" · best {figure.text(best)}"
        score = row.get(figure.name)
        shown = f" · {figure.label} {figure.text(score, True)}{' (best)' * is_best}" if isinstance(score, float) else ""
        line = (
            f"epoch {row['epoch']}/{self.epochs}: loss {row['loss']:.4f}{shown} · "
            f"{row['clips_per_second']:,.0f} clips/s · {self.time_left()} left"
        )
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        elif not self.quiet:
            say(line)

    def time_left(self) -> str:
        """Return the estimated time to the end as h:mm:ss, from the pace since the start."""
        made = self.done - self._began_at
        if made <= 0:
            return "-:--:--"
        seconds = int((time.monotonic() - self._start) / made * (self.steps - self.done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def close(self) -> None:
        """Take the live line away."""
        self._plain.close()
        if self._bar is not None:
            self._bar.stop()
