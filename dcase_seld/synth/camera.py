"""The simulated camera: which true directions are on screen, and where in the picture they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcase_seld.task.facts import HORIZONTAL_FOV_DEG, VIDEO_HEIGHT, VIDEO_WIDTH

Floats = npt.NDArray[np.float64]
FOCAL_PX = VIDEO_WIDTH / 2.0 / float(np.tan(np.radians(HORIZONTAL_FOV_DEG / 2.0)))
"""Focal length of the pinhole camera in pixels."""


def project(azimuth_deg: npt.ArrayLike, elevation_deg: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return pixel column and row of true directions (degrees); NaN behind the camera."""
    azimuth, elevation = np.radians(np.asarray(azimuth_deg, float)), np.radians(np.asarray(elevation_deg, float))
    front = np.cos(azimuth) * np.cos(elevation)
    ahead = front > 1e-6
    front = np.where(ahead, front, np.nan)
    column = VIDEO_WIDTH / 2.0 - FOCAL_PX * np.sin(azimuth) * np.cos(elevation) / front
    row = VIDEO_HEIGHT / 2.0 - FOCAL_PX * np.sin(elevation) / front
    return column, row


def is_onscreen(azimuth_deg: npt.ArrayLike, elevation_deg: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return whether true directions (degrees) are in front of the camera and inside its picture."""
    column, row = project(azimuth_deg, elevation_deg)
    inside = (column >= 0.0) & (column <= VIDEO_WIDTH) & (row >= 0.0) & (row <= VIDEO_HEIGHT)
    return np.asarray(inside & np.isfinite(column))
