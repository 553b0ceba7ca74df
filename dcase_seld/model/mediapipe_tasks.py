"""Opening MediaPipe's pose and face models, without the lines that its native code prints about itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcase_seld.errors import SeldError
from dcase_seld.model.pose_models import FACE_FILE


def open_pose_model(folder: Path, most: int, detection_threshold: float, presence_threshold: float) -> Any:
    """Return MediaPipe's PoseLandmarker for at most `most` people a picture; the caller closes it.

    Raises:
        SeldError: the folder holds no pose model.
    """
    from mediapipe.tasks.python import BaseOptions, vision

    files = sorted(folder.glob("*.task")) if folder.is_dir() else [folder]
    if not files:
        raise SeldError(f"{folder} holds no pose model (*.task).", "Fetch one with `dcase-seld models pull pose`.")
    return vision.PoseLandmarker.create_from_options(
        vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(files[0])),
            num_poses=most,
            min_pose_detection_confidence=detection_threshold,
            min_pose_presence_confidence=presence_threshold,
        )
    )


def open_face_detector(folder: Path, threshold: float) -> Any:
    """Return MediaPipe's FaceDetector; the caller closes it.

    Raises:
        SeldError: the folder holds no face detector.
    """
    from mediapipe.tasks.python import BaseOptions, vision

    path = (folder if folder.is_dir() else folder.parent) / FACE_FILE
    if not path.is_file():
        raise SeldError(f"{path} is missing.", "Fetch it with `dcase-seld models pull pose`.")
    return vision.FaceDetector.create_from_options(
        vision.FaceDetectorOptions(
            base_options=BaseOptions(model_asset_path=str(path)), min_detection_confidence=threshold
        )
    )


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
