"""What a result depends on, as a hash of configuration, steps and outside data; and the steps that one came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from dcase_seld.core.config import names_in
from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import PART, follow, write_json
from dcase_seld.core.reading import Facts, read_json
from dcase_seld.core.registry import METRICS, used_plugins
from dcase_seld.core.work import progress
from dcase_seld.recipe.graph import Step
from dcase_seld.recipe.results import has_receipt, read_receipt
from dcase_seld.recipe.stage import KeyPath

LENGTH = 12

_HASH_SIZE = 16


@dataclass(frozen=True)
class OutsideData:
    """What is known of one outside path."""

    path: Path  # the file or folder
    files: int  # how many files it holds (hidden ones and unfinished files are passed over)
    size: int  # their bytes
    digest: str  # hash of their names, sizes and contents
    listing: str = ""  # hash of their names, sizes and mtimes


def listing_of(path: Path) -> str:
    """Return a hash of the names, sizes and mtimes of a file or folder: another one means that something changed.

    Raises:
        SeldError: the path does not exist or cannot be read.
    """
    return _hash_listing(sorted(_list_files(path)))


def _hash_listing(found: list[tuple[str, int, int]]) -> str:
    text = "".join(f"{name}\0{size}\0{mtime}\n" for name, size, mtime in found)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_HASH_SIZE).hexdigest()


def outside_data(path: Path, cache_folder: Path, quiet: bool = True) -> OutsideData:
    """Return the digest of a file or folder; contents are read only where an mtime or a size is new.

    What was read is remembered in `cache_folder`, so that a second look costs one directory listing, and touching a
    file costs reading that file and changes nothing. Raises SeldError: the path does not exist or cannot be read.
    """
    found = sorted(_list_files(path))
    cache_file = (
        cache_folder / f"{hashlib.blake2b(str(path).encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}.json"
    )
    known = _read_cache(cache_file)
    fresh = {name: [size, mtime] for name, size, mtime in found if known.get(name, [])[:2] != [size, mtime]}
    if fresh:

        def hashed(name: str) -> tuple[str, str]:
            return name, _hash_file(path / name if name else path)

        title = f"reading {path.name}"
        with ThreadPoolExecutor(4) as pool, progress(title, len(fresh), "files", quiet) as advance:
            for name, digest in pool.map(hashed, list(fresh)):
                known[name] = [*fresh[name], digest]
                advance()
    names = {name for name, _, _ in found}
    if fresh or names != set(known):
        known = {name: entry for name, entry in known.items() if name in names}
        with suppress(OSError):  # it saves reading again: where nothing may be written, `status` still answers
            cache_folder.mkdir(parents=True, exist_ok=True)
            write_json(cache_file, known)
    total = hashlib.blake2b(digest_size=_HASH_SIZE)
    for name, size, _ in found:
        total.update(f"{name}\0{size}\0{known[name][2]}\n".encode("utf-8", "surrogateescape"))
    size = sum(size for _, size, _ in found)
    return OutsideData(path, len(found), size, total.hexdigest(), _hash_listing(found))


def identity(step: Step, fingerprints: Mapping[str, str], outside: Mapping[Path, OutsideData]) -> dict[str, Any]:
    """Return what the step's result depends on, as plain data: the thing that is hashed, and compared by `status`.

    Steps and outside paths are replaced by their fingerprints: renaming a step or moving a folder changes nothing.
    """
    config = step.config.model_dump(mode="json")
    for mark in step.fields:
        if mark.run_time:
            _put(config, mark.path, None, delete=True)
            continue
        paths = iter(step.outside.get(mark.name, ()))
        read = list(step.reads.get(mark.name, ()))
        for place, text in mark.items():
            if text in read:
                _put(config, place, f"step:{fingerprints[text]}")
            elif mark.outside:
                _put(config, place, f"outside:{outside[next(paths)].digest}")
    what = {"stage": step.stage.name, "version": step.stage.version, "config": config}
    measured = METRICS.names if step.stage.measures else ()
    plugins = used_plugins((step.stage.name, *names_in(config), *measured))
    return {**what, "plugins": plugins} if plugins else what


def fingerprint(what: Mapping[str, Any]) -> str:
    """Return the hash of an identity, 12 hexadecimal digits."""
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:LENGTH]


def _list_files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name relative to path, bytes, mtime in ns) of every file; a single file has the name ""."""
    try:
        if path.is_file():
            about = path.stat()
            yield "", about.st_size, about.st_mtime_ns
            return
        if not path.is_dir():
            known = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise SeldError(f"{path} {known}.", "Give the path of data that is there.")
        yield from _walk(str(path), "", set())
    except OSError as error:
        raise SeldError(
            f"{error.filename or path} cannot be read: {error.strerror}.", "Mend it or its rights."
        ) from error


def _walk(folder: str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    about = Path(folder).stat()
    if (about.st_dev, about.st_ino) in seen:  # a link to a folder above
        return
    seen = seen | {(about.st_dev, about.st_ino)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(PART):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", seen)
            elif entry.is_file():
                file = entry.stat()
                yield prefix + entry.name, file.st_size, file.st_mtime_ns


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_HASH_SIZE)).hexdigest()
    except OSError as error:
        raise SeldError(f"{path} cannot be read: {error.strerror}.", "Mend it or its rights.") from error


def _read_cache(path: Path) -> dict[str, list[Any]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    good = isinstance(data, dict) and all(isinstance(entry, list) and len(entry) == 3 for entry in data.values())
    return data if good else {}


def _put(tree: Any, place: KeyPath, value: Any, delete: bool = False) -> None:
    for key in place[:-1]:
        tree = tree[key]
    if delete:
        del tree[place[-1]]
    else:
        tree[place[-1]] = value


@dataclass(frozen=True)
class FinishedStep:
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

    def before(self, *fields: str) -> list[FinishedStep]:
        """Return the finished steps among what it read, see `inputs`."""
        return [step for step in map(read_step, self.inputs(*fields)) if step is not None]

    def lost(self) -> list[Path]:
        """Return the steps among what it read whose receipts are gone or cannot be read: nobody knows what they did."""
        named = {name for names in self.receipt["inputs"].values() for name in names}
        named -= {Path(one["path"]).name for data in self.receipt.get("outside", {}).values() for one in data}
        return [one for one in self.inputs() if read_step(one) is None and (one.name in named or has_receipt(one))]


def read_step(folder: Path) -> FinishedStep | None:
    """Return the finished step in a folder, or None."""
    receipt = read_receipt(folder)
    return None if receipt is None else FinishedStep(folder.resolve(), receipt)


def linked_steps(folder: Path) -> Iterator[tuple[str, FinishedStep]]:
    """Yield (name, step) of the finished steps that a folder holds or links to, by name."""
    for place in sorted(folder.iterdir()):
        step = read_step(follow(place))
        if step is not None:
            yield place.name, step


class ScoresJson(Facts):
    """What a scores.json holds: what it is of, and figures, which are numbers or null."""

    __pydantic_extra__: dict[str, float | None]
    track: str | None = None
    task: str = ""
    average: str = ""
    protocol: str = ""
    classwise: dict[str, list[float | None] | None] = Field(default={})
    jackknife: dict[str, Any] | None = None


def load_scores(folder: Path, remedy: str = "Run the score step again.") -> dict[str, Any]:
    """Return what the scores.json of a folder, or a file of another name, says."""
    return read_json(folder / "scores.json" if folder.is_dir() else folder, ScoresJson, remedy)


def history(folder: Path) -> list[FinishedStep]:
    """Return the steps behind a result, itself last: each once, and after those it read."""
    order: list[FinishedStep] = []
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
