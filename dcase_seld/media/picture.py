"""Reading and writing still pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Return a picture as (H, W, 3) uint8 BGR, turned upright as its file says.

    Raises:
        SeldError: the file is missing or no picture.
    """
    import cv2

    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise SeldError(f"The picture {path} cannot be read: {error.strerror}.", "Give an existing file.") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise SeldError(f"{path} is no picture that can be decoded.", "Give a JPEG, PNG, BMP, TIFF or WebP file.")
    return np.asarray(image, dtype=np.uint8)


def write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) uint8 BGR picture as PNG, atomically."""
    import cv2

    good, data = cv2.imencode(".png", image)
    if not good:
        raise ValueError(f"a picture of shape {image.shape} cannot be encoded")
    part = path.with_name(path.name + ".part")
    part.write_bytes(data.tobytes())
    part.replace(path)
