"""The live line of long work: a bar, items per second and time left; silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def say(message: str) -> None:
    """Print one line of the program's own progress to standard error (standard output is for results)."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int, unit: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note="")`, which moves a live bar of `total` units (clips, files, …).

    With `quiet`, or where standard error is no terminal, nothing is drawn.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda count=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="", note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.1f} {unit}/s" if speed else "")
            if note:
                bar.update(task, note=note)

        yield advance
