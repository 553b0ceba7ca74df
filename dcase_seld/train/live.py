"""The live line of a training: epoch, loss parts, learning rate, clips per second, time left, best score."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from dcase_seld.progress import say


class LiveLine:
    """Draws the state of a training on standard error: live on a terminal, one line per epoch elsewhere."""

    def __init__(self, epochs: int, steps: int, done: int, quiet: bool) -> None:
        """Start at update `done` of `steps`; with `quiet` nothing is printed."""
        self.epochs, self.steps, self.done, self.quiet = epochs, steps, done, quiet
        self._start = time.monotonic()
        self._began_at = done
        self._best = ""
        self._shown = 0.0
        self._bar = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("train", total=steps, completed=done, text="")
            self._bar.start()

    def update(self, epoch: int, step: int, losses: Mapping[str, float], lr: float, rate: float) -> None:
        """Show update `step`: mean losses of the epoch, learning rate, clips per second."""
        self.done = step
        now = time.monotonic()
        if self._bar is None or (now - self._shown < 0.2 and step < self.steps):
            return
        self._shown = now
        parts = " ".join(f"{name.removeprefix('loss_')} {value:.4f}" for name, value in losses.items())
        text = f"{parts} · lr {lr:.1e} · {rate:,.0f} clips/s · {self.time_left()} left{self._best}"
        self._bar.update(self._task, completed=step, description=f"epoch {epoch + 1}/{self.epochs}", text=text)

    def epoch_done(self, row: Mapping[str, object], criterion: str, best: float, is_best: bool) -> None:
        """Print one line about a finished epoch (percent for scores)."""
        if best >= 0:
            self._best = f" · best {100 * best:.1f}"
        score = row.get(criterion)
        shown = f" · {criterion} {100 * score:.1f}{' (best)' if is_best else ''}" if isinstance(score, float) else ""
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
        if self._bar is not None:
            self._bar.stop()
