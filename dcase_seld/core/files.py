"""Files and folders that are replaced as a whole: at any moment, also after a kill, one intact version can be read."""

from __future__ import annotations

import csv
import glob
import io
import json
import math
import os
import shutil
import socket
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from dcase_seld.core.errors import SeldError, is_disk_full


def settle(target: Path) -> Path:
    """Return `target` after finishing or undoing a replacement that was interrupted.

    `replace_folder` moves the old folder aside only after the new one is complete; so if the target is missing, the
    new one takes its place, and otherwise what lies beside it is dropped.
    """
    new, old = _beside(target, "new"), _beside(target, "old")
    if not target.exists():
        if old.exists() and new.exists():
            new.rename(target)
        elif old.exists():
            old.rename(target)
    for rest in filter(Path.exists, (new, old)):
        shutil.rmtree(rest)
    return target


def whole(target: Path) -> Path:
    """Return the folder that holds the newest intact version of `target`; unlike `settle` it changes nothing.

    For readers: the training that writes the folder may be running.
    """
    new, old = _beside(target, "new"), _beside(target, "old")
    if target.exists() or not old.exists():
        return target
    return new if new.exists() else old


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, which replaces `target` when the block ends without an error.

    Raises SeldError: the disk is full; `target` is as it was.
    """
    settle(target)
    new, old = _beside(target, "new"), _beside(target, "old")
    new.mkdir(parents=True)
    try:
        yield new
        for path in filter(Path.is_file, new.rglob("*")):
            _flush(path)
        _flush(new)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if is_disk_full(error):
            raise SeldError(
                f"The disk is full: {target} could not be written; what was there before is intact.",
                "Free some space and run the same command again: a training goes on from its last checkpoint.",
            ) from error
        raise
    if target.exists():
        target.rename(old)
    new.rename(target)
    _flush(target.parent)
    if old.exists():
        shutil.rmtree(old)


def _beside(target: Path, ending: str) -> Path:
    here = target if target.name else target.absolute()  # "." has no name
    return here.parent / f".{here.name}.{ending}"


def _flush(path: Path) -> None:
    """Make sure that a file or folder is on the disk before anything relies on it."""
    if os.name != "posix":  # Windows flushes neither folders nor what is open to be read
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path | str, *, flush: bool = False, through: bool = True) -> Iterator[Path]:
    """Yield a path to write to, whose content becomes that of `path` when the block ends without an error.

    At any moment `path` is the old file or the new one. What is no regular file (a pipe, a device) is written into,
    never replaced. After an error nothing is left behind.

    Args:
        path: the file.
        flush: make sure that the content is on the disk before the file takes its name.
        through: of a link, replace what it leads to, not the link.

    Raises SeldError: a folder is in the file's place.
    """
    target = Path(os.path.realpath(path)) if through and os.path.islink(path) else Path(path)  # noqa: PTH114
    try:
        mode = target.lstat().st_mode
    except OSError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise SeldError(f"{target} is a folder; a file is to be written there.", "Give a file's name.")
    regular = stat.S_ISREG(mode) or stat.S_ISLNK(mode)
    with nullcontext() if regular else tempfile.TemporaryDirectory() as aside:
        part = Path(aside, "content") if aside else target.with_name(f"{_mine(target.name)}{os.getpid()}{PART}")
        try:
            yield part
            if not regular:
                with part.open("rb") as content, target.open("wb") as stream:
                    shutil.copyfileobj(content, stream)
                return
            if flush:
                _flush(part)
            os.replace(part, target)  # noqa: PTH105 - twice as fast, and thousands of label files are written
        except OSError as error:  # a full disk names no file, and nobody knows the temporary one
            if error.errno is not None and error.filename in (None, str(part)):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        finally:
            with suppress(OSError):
                os.unlink(part)  # noqa: PTH108


PART = ".part"
"""Ending of an unfinished file; its name begins with a dot and tells the machine and the process that write it."""


def _mine(name: str) -> str:
    """Return how this machine begins the name of an unfinished file, before the process' number."""
    return f".{name}.{zlib.crc32(socket.gethostname().encode()):08x}-"


def may_run(pid: int, host: str, born: str = "") -> bool:
    """Return whether a process may still run, which nobody can tell of another machine's.

    Numbers are used again: `born`, where it is known, is what `start_of` said of the process.
    """
    if host != socket.gethostname() or os.name != "posix":  # signal 0 is Ctrl-C on Windows
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or nobody's number
        return True
    return not born or start_of(pid) in ("", born)


def start_of(pid: int) -> str:
    """Return when a process of this machine started, in clock ticks since boot; "" where the system does not tell."""
    with suppress(OSError, IndexError):
        # The name in brackets may hold spaces; the start time is the 20th word after it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def write_bytes(path: Path | str, content: bytes | memoryview, *, flush: bool = False) -> None:
    """Write a whole file, see `whole_file`."""
    with whole_file(path, flush=flush) as part, open(part, "wb") as stream:  # noqa: PTH123
        stream.write(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a whole text file in UTF-8, lines ending as they do in `text`; of names that are no text as escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path | str, data: Any, *, flush: bool = False) -> None:
    """Write plain data as a whole JSON file; numbers that are none become null, which every reader knows."""
    try:
        text = json.dumps(data, indent=1, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(data), indent=1)
    write_bytes(path, (text + "\n").encode(), flush=flush)


def finite(data: Any) -> Any:
    """Return plain data with None for every number that JSON cannot hold."""
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write_csv_table(path: Path | str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a whole CSV file with a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(chain([header], rows))
    write_text(path, text.getvalue())


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files that killed processes left below a folder which is this process' own."""
    for path in folder.rglob(f".*{PART}"):
        with suppress(OSError):
            path.unlink()


def remove_left_behind(folder: Path, names: Iterable[str]) -> None:
    """Remove what this machine's ended processes left unfinished of files of these names in a folder of the user's."""
    for name in names:
        for path in folder.glob(f"{glob.escape(_mine(name))}*{PART}"):
            pid = path.name[len(_mine(name)) : -len(PART)]
            if pid.isdecimal() and not may_run(int(pid), socket.gethostname()):
                path.unlink(missing_ok=True)


def refuse_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write where something is read. Raises SeldError: `output` is an input, by whatever name or link."""
    for given in inputs:
        with suppress(OSError):
            if output.exists() and output.samefile(given):
                raise SeldError(f"{output} is what is read, and would be written over.", "Write to another place.")


def refuse_results(output: Path) -> None:
    """Refuse to write into the results of recipes: what is made of a result later would hold it too.

    Raises SeldError: `output` is, or lies in, a folder of results, by whatever links.
    """
    if RESULTS in Path(os.path.realpath(output)).parts:  # follows what is there; the rest need not be
        raise SeldError(f"{output} is among the results of a recipe.", "Write to another place.")


def refuse_folder(folder: Path, ours: bool = False, what: str = "files that this work did not make") -> None:
    """Refuse to write into a folder that holds something, if that is not `ours`; `what` it is then.

    Raises SeldError: it does, or is no folder.
    """
    if folder.exists() and (not folder.is_dir() or (not ours and any(folder.iterdir()))):
        said = f"holds {what}" if folder.is_dir() else "is a file; a folder is to be written there"
        raise SeldError(f"{folder} {said}.", "Give another place, or move it away.")


class OutputFolder:
    """A folder of the user's own that a command writes files into: never over an input, nor over what it did not make.

    The list of what was made lies in the folder, so that the same command can be repeated.

    Args:
        folder: where to write; made where it is not there.
        inputs: files that are read.
        overwrite: the user said that other files may be replaced.
    """

    LIST = ".made-by-dcase-seld"

    def __init__(self, folder: Path, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
        self.folder, self.overwrite, self._inputs = folder, overwrite, list(inputs)
        self._list = folder / self.LIST
        self._made = self._read()

    def _read(self) -> dict[str, str | None]:
        with suppress(OSError, ValueError):
            lines = self._list.read_text(encoding="utf-8", errors="replace").splitlines()
            return {json.loads(f'"{name}"'): mark for name, _, mark in (line.partition("\t") for line in lines)}
        return {}

    def __enter__(self) -> OutputFolder:
        refuse_results(self.folder)
        refuse_folder(self.folder, ours=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_left_behind(self.folder, self._made)
        return self

    def __exit__(self, *exception: object) -> None:
        # Of other files the list says what it said: another command may have added some, and a user changed them.
        marks = self._read() | {name: self._mark(name) or "" for name, mark in self._made.items() if mark is None}
        write_text(self._list, "".join(f"{json.dumps(name)[1:-1]}\t{mark}\n" for name, mark in marks.items()))

    def file(self, name: str) -> Path:
        """Return where a file is to be written. Raises SeldError: an input, or something else, lies there already."""
        path = self.folder / name
        refuse_inputs(path, self._inputs)
        if name not in self._made and path.is_symlink() and not path.resolve().is_relative_to(self.folder.resolve()):
            raise SeldError(f"{path} is a link to {path.resolve()}, not in {self.folder}.", "Move the link away.")
        if self._mark(name) is not None and not self.overwrite and not self.made(name):
            raise SeldError(
                f"{path} is there already, and was not written by this command.",
                "Give another --out, move it away, or allow it to be replaced with --overwrite.",
            )
        # Noted before it is written: what a kill left half done may be written again. JSON keeps any name on a line.
        self._made[name] = None
        with self._list.open("a", encoding="utf-8") as stream:
            stream.write(f"{json.dumps(name)[1:-1]}\t\n")
        return path

    def made(self, name: str) -> bool:
        """Return whether a command wrote the file of this name, and nobody since."""
        return name in self._made and self._made[name] in (self._mark(name), "", None)

    def _mark(self, name: str) -> str | None:
        with suppress(OSError):
            about = (self.folder / name).stat()
            return f"{about.st_size} {about.st_mtime_ns}"
        return None


def visible_files(folder: Path, suffixes: Iterable[str] | None = None) -> list[Path]:
    """Return the files below a folder, sorted; hidden ones (._name, too), and what commands wrote there, are not seen.

    Args:
        folder: where to look, in sub-folders too.
        suffixes: only what ends so (lower case, with the dot), be it a broken link, a pipe or a folder: whoever reads
            it says so. None: all files. A folder that may not be looked into is among them, for the same reason.
    """
    wanted = None if suffixes is None else frozenset(suffixes)
    found: list[Path] = []

    def locked(error: OSError) -> None:
        if isinstance(error, PermissionError):
            found.append(Path(error.filename))

    for root, folders, files in os.walk(folder, onerror=locked):
        folders[:] = [name for name in folders if not name.startswith(".")]
        ours = OutputFolder(Path(root))
        paths = [Path(root, name) for name in (*folders, *files) if not name.startswith(".") and not ours.made(name)]
        found += [path for path in paths if (path.suffix.lower() in wanted if wanted else path.is_file())]
    return sorted(set(found))


RESULTS = ".results"
"""Folder of a work directory that holds the results of steps."""


def follow(place: Path) -> Path:
    """Return the folder that `work/<recipe>/<step>` leads to (the path itself where it is a folder)."""
    if place.is_file() and place.stat().st_size < 4096:
        with suppress(OSError, ValueError):  # another file: no text, or far too long for a path
            target = Path(os.path.normpath(place.parent / place.read_text(encoding="utf-8").strip()))
            return target if target.is_dir() or target.parent.name == RESULTS else place
    return Path(os.path.normpath(place.parent / place.readlink())) if place.is_symlink() else place
