"""How a result came to be: receipts read back, and the steps that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcase_seld.core.files import follow
from dcase_seld.core.reading import read_json
from dcase_seld.recipe.results import read_receipt


@dataclass(frozen=True)
class Step:
    """A finished step: its folder and its receipt."""

    folder: Path
    receipt: dict[str, Any]

    @property
    def name(self) -> str:
        """Return what the recipe calls it."""
        return str(self.receipt["step"])

    @property
    def stage(self) -> str:
        """Return the stage that made it."""
        return str(self.receipt["stage"])

    @property
    def produces(self) -> str:
        """Return the kind of folder."""
        return str(self.receipt["produces"])

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the step said of its result."""
        return dict(self.receipt["facts"])

    @property
    def config(self) -> dict[str, Any]:
        """Return the step's configuration."""
        return dict(self.receipt["config"])

    def inputs(self, *fields: str) -> list[Path]:
        """Return the folders that the step read: those of some fields of its configuration, or all.

        A folder that was given by its path, a step of another work directory or a network, lies where it was then.
        """
        read = self.receipt.get("inputs") or {}
        outside = self.receipt.get("outside") or {}
        folders = []
        for field in fields or dict.fromkeys((*read, *outside)):
            given = [Path(str(entry.get("path"))) for entry in outside.get(field) or ()]
            named = [self.folder.parent / name for name in read.get(field) or ()]
            left = [path.resolve() for path in given if path.is_dir()]
            for folder in named:
                same = [path for path in given if path.name == folder.name and not folder.is_dir()]
                folders.append(same[0].resolve() if same else folder)
            folders += [path for path in left if path not in folders]
        return folders


def read_step(folder: Path) -> Step | None:
    """Return the finished step in a folder, or None."""
    receipt = read_receipt(folder)
    return None if receipt is None else Step(folder.resolve(), receipt)


def upstream(starts: list[Step], stop: Callable[[Step], bool] | None = None) -> Iterator[Step]:
    """Yield steps and all that they come from, each once; what a step with `stop(step)` comes from is left out."""
    waiting, seen = list(starts), {step.folder for step in starts}
    while waiting:
        step = waiting.pop(0)
        yield step
        if stop is not None and stop(step):
            continue
        for folder in step.inputs():
            before = read_step(folder)
            if before is not None and folder not in seen:
                seen.add(folder)
                waiting.append(before)


def linked_steps(folder: Path) -> Iterator[tuple[str, Step]]:
    """Yield (name, step) of the finished steps that a folder holds or links to, by name."""
    for place in sorted(folder.iterdir()):
        step = read_step(follow(place))
        if step is not None:
            yield place.name, step


def load_scores(folder: Path) -> dict[str, Any]:
    """Return what the scores.json of a folder says."""
    return read_json(folder / "scores.json", remedy="Run the score step again.")


def history(folder: Path) -> list[Step]:
    """Return the steps behind a result, itself last: each once, and after those it read."""
    order: list[Step] = []
    seen: set[Path] = set()

    def visit(folder: Path) -> None:
        step = None if folder in seen else read_step(folder)
        seen.add(folder)
        if step is not None:
            for before in step.inputs():
                visit(before)
            order.append(step)

    visit(folder)
    return order
