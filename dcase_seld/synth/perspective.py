"""From the 360° picture to the camera's: which directions are on screen, and the view at a viewing angle."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dcase_seld.task.facts import HORIZONTAL_FOV_DEG, VIDEO_HEIGHT, VIDEO_WIDTH

Image = npt.NDArray[np.uint8]

_LOWEST_DEG = -34
_WIDEST_DEG = (10, 19, 25, 29, 33, 37, 40, 43, 46, 48, *[51] * 50, 48, 46, 43, 40, 37, 33, 29, 25, 19, 10)
"""The organisers' table of what is on screen at viewing angle 0, in whole degrees: at elevation -34 + i the azimuths
from 1 - w to w with w = _WIDEST_DEG[i]; nothing below and above. Equal, in all 360 x 180 cells, to the table of the
challenge's stereo data generator, whose cells are the view's directions rounded up."""


def is_onscreen(azimuth_deg: npt.ArrayLike, elevation_deg: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return whether true (unfolded) directions, relative to the camera, are on screen by the organisers' table."""
    azimuth = np.rint((np.asarray(azimuth_deg, np.float64) + 180.0) % 360.0 - 180.0).astype(np.int64)
    row = np.rint(np.asarray(elevation_deg, np.float64)).astype(np.int64) - _LOWEST_DEG
    inside = (row >= 0) & (row < len(_WIDEST_DEG))
    widest = np.asarray(_WIDEST_DEG)[np.clip(row, 0, len(_WIDEST_DEG) - 1)]
    return np.asarray(inside & (azimuth >= 1 - widest) & (azimuth <= widest))


def perspective_view(picture: Image, viewing_angle_deg: float) -> Image:
    """Return the (360, 640, 3) picture of the camera of a 360° picture (H, 2H, 3) at a viewing angle φ in degrees.

    The camera looks at azimuth -φ with a horizontal field of view of 100°; the middle of the 360° picture is azimuth 0,
    its left half is to the left. Pixels are interpolated linearly, across the picture's seam too.
    """
    import cv2

    places, fractions = _maps(picture.shape[1], picture.shape[0], float(viewing_angle_deg) % 360.0)
    view = cv2.remap(picture, places, fractions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(view, dtype=np.uint8)


@lru_cache(maxsize=64)
def _maps(width: int, height: int, viewing_angle_deg: float) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint16]]:
    """Return where each pixel of the view lies in the 360° picture, in OpenCV's fixed-point form."""
    import cv2

    reach = np.tan(np.radians(HORIZONTAL_FOV_DEG / 2.0))
    right = np.linspace(-reach, reach, VIDEO_WIDTH)
    down = np.linspace(-reach, reach, VIDEO_HEIGHT)[:, None] * (VIDEO_HEIGHT / VIDEO_WIDTH)
    azimuth = -np.arctan(right) - np.radians(viewing_angle_deg)
    elevation = -np.arctan2(down, np.sqrt(1.0 + right**2))
    # Pixel centres lie half a pixel inside: azimuth 0 is between the two middle columns.
    column = (0.5 - azimuth / (2.0 * np.pi)) * width - 0.5
    row = (0.5 - elevation / np.pi) * height - 0.5
    column = np.broadcast_to(column % width, row.shape).astype(np.float32)
    places, fractions = cv2.convertMaps(column, row.astype(np.float32), cv2.CV_16SC2)
    return np.asarray(places, dtype=np.int16), np.asarray(fractions, dtype=np.uint16)
