"""Sound and pictures as small byte strings that a page can hold: MP3 and JPEG, which every browser plays and shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt


def mp3_bytes(audio: npt.NDArray[Any], rate: int) -> bytes:
    """Return sound (S, channels), int16 or float in [-1, 1], as an MP3 file of variable rate."""
    import soundfile

    sound = audio.astype(np.float32) / 32768.0 if audio.dtype == np.int16 else audio
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format="MP3", subtype="MPEG_LAYER_III")
    return buffer.getvalue()


def jpeg_bytes(image: npt.NDArray[np.uint8], quality: int = 80) -> bytes:
    """Return a picture (H, W, 3), blue, green, red, as a JPEG file."""
    import cv2

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be written as JPEG")
    return bytes(data)
