"""The receipt: the last file a step writes; with it, and the files it lists, the step is done."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcase_seld.errors import SeldError
from dcase_seld.recipe.fingerprint import write_json

NAME = "receipt.json"
FORMAT = 1


def write_receipt(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write and return the receipt of a finished folder: `content`, its files with sizes, the versions used."""
    receipt = {"format": FORMAT, **content, "versions": package_versions(), "files": dict(sorted(_files(folder)))}
    write_json(folder / NAME, receipt)
    return receipt


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """Return a folder's receipt, or None where there is none (or none that can be read)."""
    try:
        receipt = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return receipt if isinstance(receipt, dict) and receipt.get("format") == FORMAT else None


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


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages it needs, as installed."""
    versions = {"python": platform.python_version()}
    try:
        needed = [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in _requirements()]
    except importlib.metadata.PackageNotFoundError:
        needed = []
    for name in ("dcase-seld", *needed):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _requirements() -> list[str]:
    return [line for line in importlib.metadata.requires("dcase-seld") or () if "extra ==" not in line]


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield (name with forward slashes, bytes) of every file of a result."""
    for path, _, names in os.walk(folder):
        inner = os.path.relpath(path, folder).replace(os.sep, "/")
        for name in names:
            if name != NAME and not name.endswith(".part"):
                yield (name if inner == "." else f"{inner}/{name}"), (Path(path) / name).stat().st_size
