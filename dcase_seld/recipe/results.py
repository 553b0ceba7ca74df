"""A result's receipt, written last; its lock while it is made; and taking results away."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.core.errors import SeldError, near_names
from dcase_seld.core.files import PART, RESULTS, follow, may_run, start_of, whole_file, write_bytes, write_json
from dcase_seld.core.reading import Facts, read_json

NAME = "receipt.json"

FORMAT = 1


def write_receipt(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write and return the receipt of a finished folder: `content`, its files with sizes, the versions used."""
    receipt = {"format": FORMAT, **content, "versions": package_versions(), "files": dict(sorted(_files(folder)))}
    write_json(folder / NAME, receipt, flush=True)
    return receipt


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """Return a folder's receipt, or None where there is none (or none that can be read)."""
    try:
        return read_json(folder / NAME, Receipt)
    except SeldError:
        return None


FolderName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]


class OutsideEntry(Facts):
    """What a receipt says of outside data."""

    path: str
    files: int
    bytes: int


class Receipt(Facts):
    """What a receipt must hold; one that does not is none, and its step is made again."""

    format: Literal[1]
    stage: str
    produces: str
    recipe: str
    step: str
    config: dict[str, Any]
    inputs: dict[str, list[FolderName]]
    files: dict[str, int]
    facts: dict[str, Any]
    finished: float = Field(ge=0, lt=2**35)  # what a calendar can show
    seconds: float = Field(ge=0, lt=2**35)
    outside: dict[str, list[OutsideEntry]] = Field(default={})
    versions: dict[str, str] = Field(default={})
    identity: dict[str, Any] = Field(default={})


def broken_files(folder: Path, receipt: dict[str, Any]) -> list[str]:
    """Return the files that the receipt lists and that are missing or have another size."""
    broken = []
    root = str(folder)
    for name, size in receipt.get("files", {}).items():
        try:
            if os.stat(f"{root}/{name}").st_size != size:  # noqa: PTH116 - 30,000 files: a Path each is slow
                broken.append(name)
        except OSError:
            broken.append(name)
    return broken


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages it needs, as installed."""
    versions = {"python": platform.python_version()}
    try:
        lines = [line for line in importlib.metadata.requires("dcase-seld") or () if "extra ==" not in line]
        needed = [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in lines]
    except importlib.metadata.PackageNotFoundError:
        needed = []
    for name in ("dcase-seld", *needed):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield (name with forward slashes, bytes) of every file of a result."""
    for path, _, names in os.walk(folder):
        inner = os.path.relpath(path, folder).replace(os.sep, "/")
        for name in names:
            if name != NAME and not name.endswith(PART):
                yield (name if inner == "." else f"{inner}/{name}"), (Path(path) / name).stat().st_size


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    pid: int  # process id
    host: str  # the machine's name
    born: str  # start of the process in clock ticks since boot ("" where the system does not tell): ids are used again
    since: str  # when it was taken, local time

    def alive(self) -> bool:
        """Return whether the process may still run."""
        return may_run(self.pid, self.host, self.born)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `<folder>.lock` while the block runs. Raises SeldError: another living process holds it; says which."""
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    me = Holder(os.getpid(), socket.gethostname(), start_of(os.getpid()), time.strftime("%Y-%m-%d %H:%M:%S"))
    with _guard(path.parent):
        holder = held_by(folder)
        if holder is not None:
            raise SeldError(
                f"{folder.name} is being made by process {holder.pid} on {holder.host} since {holder.since}.",
                f"Wait for it or stop it; if it is surely gone, remove {path}.",
            )
        write_json(path, asdict(me))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def held_by(folder: Path) -> Holder | None:
    """Return the living process that holds a folder, or None."""
    try:
        holder = Holder(**json.loads(lock_path(folder).read_text(encoding="utf-8")))
        return holder if holder.alive() else None
    except (OSError, ValueError, TypeError):  # none, or unreadable: written by nobody who still runs
        return None


def drop_stale_lock(folder: Path) -> None:
    """Remove the lock of a finished result that a killed process left."""
    if lock_path(folder).exists() and held_by(folder) is None:
        lock_path(folder).unlink(missing_ok=True)


def lock_path(folder: Path) -> Path:
    """Return the lock file of a result folder: beside it, so that the folder holds results only."""
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look at and take locks; the kernel frees it when a process dies."""
    try:
        import fcntl
    except ImportError:  # no such call on this system: the gap between look and take is microseconds
        yield
        return
    with (folder / ".guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Leftover:
    """A result folder that no recipe uses."""

    folder: Path  # where it is
    step: str  # "recipe/step" that made it, or "" for an unfinished one
    size: int  # its bytes


def leftovers(work: Path) -> list[Leftover]:
    """Return the results that no `work/<recipe>/<step>` leads to, not even through what those results were made of.

    Results that a living process holds are in use.

    Raises:
        SeldError: a result in use has a receipt that cannot be read: what it was made from is not known.
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
        if not receipt and has_receipt(results / name):
            raise SeldError(
                f"{results / name / NAME} cannot be read: what this result was made from is not known.",
                "Mend its rights, run its recipe again, or give that recipe up with --forget.",
            )
        todo.extend(Path(folder).name for folders in receipt.get("inputs", {}).values() for folder in folders)
    found = []
    for folder in sorted(results.iterdir()) if results.is_dir() else ():
        if folder.is_dir() and folder.name not in used and held_by(folder) is None:
            receipt = read_receipt(folder) or {}
            step = f"{receipt['recipe']}/{receipt['step']}" if receipt else ""
            found.append(Leftover(folder, step, _size(folder)))
    return found


def has_receipt(folder: Path) -> bool:
    """Return whether a receipt is there, be it what it may, or may be: in a folder that nobody may look into."""
    try:
        (folder / NAME).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def remove(items: Iterable[Leftover]) -> None:
    """Remove result folders; the receipt goes first, so that an interrupted removal leaves nothing that looks done."""
    for item in items:
        remove_result(item.folder)
        lock_path(item.folder).unlink(missing_ok=True)
        for curves in (item.folder.parent.parent / CURVES).glob(f"**/*-{_few_digits(item.folder)}"):
            shutil.rmtree(curves)


def remove_result(folder: Path) -> None:
    """Remove one; of a result that its user keeps elsewhere, the link to it alone."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        (folder / NAME).unlink(missing_ok=True)
        shutil.rmtree(folder)


CURVES = "tensorboard"
"""Folder of the work directory with the curves of all steps."""


def curves_folder(work: Path, recipe: str, step: str, folder: Path) -> Path:
    """Return where the curves of a step are: at one place, by its name, though several ways lead to its result."""
    return work / CURVES / recipe / f"{step}-{_few_digits(folder)}"


def _few_digits(folder: Path) -> str:
    """Return the first digits of a result's fingerprint."""
    return folder.name.rpartition("-")[2][:6]


def forget(work: Path, recipe: str) -> int:
    """Remove the links of a recipe, so that its results count as unused, and return how many there were.

    Raises:
        SeldError: the work directory holds no such recipe.
    """
    folder = work / recipe
    places = [place for place in _links(work) if place.parent == folder]
    if not places:
        names = sorted({place.parent.name for place in _links(work)})
        raise SeldError(f"{work} holds no results of a recipe {recipe!r}.", near_names(recipe, names))
    for place in (*places, folder / OWNER):
        place.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
    return len(places)


OWNER = ".recipe"
"""File in `work/<recipe>/` that names the recipe's file: two of one name shall not take each other's links."""


def refuse_other_recipe(folder: Path, recipe: Path) -> None:
    """Refuse `work/<recipe>/` where it holds the links of another recipe file, which is still there and says otherwise.

    Raises:
        SeldError: it does; what the other's links lead to would count as unused.
    """
    try:
        owner = Path(os.fsdecode((folder / OWNER).read_bytes()))
        other = not owner.samefile(recipe) and owner.read_bytes() != recipe.read_bytes()
    except (OSError, ValueError):
        return
    if other:
        raise SeldError(
            f"{folder} holds the results of another recipe of this name, {owner}.",
            f"Rename one of the two files, give another --work, or give those results up with "
            f"`dcase-seld clean --work {folder.parent} --forget {folder.name}`.",
        )


def note_recipe(folder: Path, recipe: Path) -> None:
    """Note whose links `work/<recipe>/` holds."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / OWNER, os.fsencode(recipe.absolute()))


def link(place: Path, folder: Path) -> None:
    """Make `place` lead to `folder`: a relative symbolic link, or a text file with the path where links are refused."""
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(folder, place.parent)
    if os.path.lexists(place) and not is_link(place):
        raise SeldError(f"{place} is where a link to results should be.", "Move it away, or use another --work.")
    with whole_file(place, through=False) as part:
        part.unlink(missing_ok=True)
        try:
            part.symlink_to(target, target_is_directory=True)
        except (OSError, NotImplementedError):
            part.write_text(target + "\n", encoding="utf-8")


def is_link(place: Path) -> bool:
    """Return whether `link` made this: it leads into a folder of results (that may be gone)."""
    return (place.is_symlink() or place.is_file()) and follow(place).parent.name == RESULTS


def _links(work: Path) -> list[Path]:
    """Return every `work/<recipe>/<step>` that leads into the results."""
    places = [p for f in sorted(work.iterdir()) if f.is_dir() and f.name[0] != "." for p in sorted(f.iterdir())]
    return [p for p in places if is_link(p)]


def _size(folder: Path) -> int:
    return sum((Path(path) / name).lstat().st_size for path, _, names in os.walk(folder) for name in names)
