"""Folders that are replaced as a whole: at any moment, also after a kill, one intact version can be read."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcase_seld.core.errors import SeldError


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
    for rest in (new, old):
        if rest.exists():
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

    Raises:
        SeldError: the disk is full; `target` is as it was.
    """
    settle(target)
    new, old = _beside(target, "new"), _beside(target, "old")
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            if path.is_file():
                _flush(path)
        _flush(new)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if is_disk_full(error):
            raise SeldError(
                f"The disk is full: {target} could not be written; the checkpoint before it is intact.",
                "Free some space and run the same command again: it goes on from that checkpoint.",
            ) from error
        raise
    if target.exists():
        target.rename(old)
    new.rename(target)
    _flush(target.parent)
    if old.exists():
        shutil.rmtree(old)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that no space, or no quota, is left (safetensors reports it only as text)."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return type(error).__name__ == "SafetensorError" and any(
        sign in str(error) for sign in ("os error 28", "os error 122", "os error 27", "No space left")
    )


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{ending}")


def _flush(path: Path) -> None:
    """Make sure that a file or folder is on the disk before anything relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that the file is either the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_scores_json(path: Path, data: object) -> None:
    """Write plain data to a JSON file, atomically."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise SeldError(f"{path} cannot be written: {error.strerror}.", "Check the folder.") from error


def link(place: Path, folder: Path) -> None:
    """Make `place` lead to `folder`: a relative symbolic link, or a text file with the path where links are refused."""
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(folder, place.parent)
    if place.is_dir() and not place.is_symlink():
        raise SeldError(
            f"{place} is a folder where a link to results should be.", "Move it away, or use another --work."
        )
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        part.symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError):
        part.write_text(target + "\n", encoding="utf-8")
    part.replace(place)


def follow(place: Path) -> Path:
    """Return the folder that `work/<recipe>/<step>` leads to (the path itself where it is a folder)."""
    if place.is_file() and place.stat().st_size < 4096:
        return Path(os.path.normpath(place.parent / place.read_text(encoding="utf-8", errors="replace").strip()))
    return Path(os.path.normpath(place.parent / place.readlink())) if place.is_symlink() else place


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


def _replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, then give it its own."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)
