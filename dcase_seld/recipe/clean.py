"""Which results no recipe uses any more, and removing them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcase_seld.errors import SeldError
from dcase_seld.recipe.lock import held_by, lock_path
from dcase_seld.recipe.plan import RESULTS
from dcase_seld.recipe.receipt import NAME, follow, read_receipt


@dataclass(frozen=True)
class Leftover:
    """A result folder that no recipe uses.

    Attributes:
        folder: where it is.
        step: "recipe/step" that made it, or "" for an unfinished one.
        size: its bytes.
    """

    folder: Path
    step: str
    size: int


def leftovers(work: Path) -> list[Leftover]:
    """Return the results that no `work/<recipe>/<step>` leads to, not even through what those results were made of.

    Results that a living process holds are in use.
    """
    results = work / RESULTS
    used: set[str] = set()
    todo = [follow(place).name for place in _links(work)]
    while todo:
        name = todo.pop()
        if name in used:
            continue
        used.add(name)
        receipt = read_receipt(results / name) or {}
        todo.extend(Path(folder).name for folders in receipt.get("inputs", {}).values() for folder in folders)
    found = []
    for folder in sorted(results.iterdir()) if results.is_dir() else ():
        if folder.is_dir() and folder.name not in used and held_by(folder) is None:
            receipt = read_receipt(folder) or {}
            step = f"{receipt['recipe']}/{receipt['step']}" if receipt else ""
            found.append(Leftover(folder, step, _size(folder)))
    return found


def remove(items: Iterable[Leftover]) -> None:
    """Remove result folders; the receipt goes first, so that an interrupted removal leaves nothing that looks done."""
    for item in items:
        (item.folder / NAME).unlink(missing_ok=True)
        shutil.rmtree(item.folder)
        lock_path(item.folder).unlink(missing_ok=True)


def forget(work: Path, recipe: str) -> int:
    """Remove the links of a recipe, so that its results count as unused, and return how many there were.

    Raises:
        SeldError: the work directory holds no such recipe.
    """
    folder = work / recipe
    places = [place for place in _links(work) if place.parent == folder]
    if not places:
        names = sorted({place.parent.name for place in _links(work)})
        raise SeldError(f"{work} holds no results of a recipe {recipe!r}.", f"It has: {', '.join(names) or 'none'}.")
    for place in places:
        place.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return len(places)


def _links(work: Path) -> list[Path]:
    """Return every `work/<recipe>/<step>` that leads into the results."""
    places = [p for f in sorted(work.iterdir()) if f.is_dir() and f.name[0] != "." for p in sorted(f.iterdir())]
    return [p for p in places if (p.is_symlink() or p.is_file()) and follow(p).parent.name == RESULTS]


def _size(folder: Path) -> int:
    return sum((Path(path) / name).lstat().st_size for path, _, names in os.walk(folder) for name in names)
