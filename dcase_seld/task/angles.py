"""Directions: folding to the front, turning with the viewing angle, and the camera's pinhole geometry.

Azimuths are in degrees, positive to the LEFT. A stereo pair of coincident cardioids cannot tell front from back, so the
challenge folds every azimuth to the front, [-90, 90].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcase_seld.task.facts import HORIZONTAL_FOV_DEG, VIDEO_WIDTH

Floats = npt.NDArray[np.float64]


def wrap(azimuth_deg: npt.ArrayLike) -> Floats:
    """Return azimuths in degrees wrapped to [-180, 180)."""
    azimuth = np.asarray(azimuth_deg, dtype=np.float64)
    return np.asarray((azimuth + 180.0) % 360.0 - 180.0)


def fold(azimuth_deg: npt.ArrayLike) -> Floats:
    """Return azimuths in degrees folded to the front, [-90, 90]: az > 90 → 180 - az, az < -90 → -180 - az."""
    azimuth = wrap(azimuth_deg)
    azimuth = np.where(azimuth > 90.0, 180.0 - azimuth, azimuth)
    return np.where(azimuth < -90.0, -180.0 - azimuth, azimuth)


def turn(azimuth_deg: npt.ArrayLike, viewing_angle_deg: float) -> Floats:
    """Return azimuths in [-180, 180) seen at a viewing angle φ: the camera looks at -φ, so labels turn by +φ."""
    return wrap(np.asarray(azimuth_deg, dtype=np.float64) + viewing_angle_deg)


def azimuth_to_column(
    azimuth_deg: npt.ArrayLike, width: int = VIDEO_WIDTH, fov_deg: float = HORIZONTAL_FOV_DEG
) -> Floats:
    """Return pixel columns x = w/2 - w/2 · tan(azimuth) / tan(fov/2) of directions in front of a pinhole camera.

    Directions at or beyond ±90° have no column and give NaN.
    """
    azimuth = np.asarray(azimuth_deg, dtype=np.float64)
    half = width / 2.0
    column = half - half * np.tan(np.radians(azimuth)) / np.tan(np.radians(fov_deg / 2.0))
    return np.where(np.abs(azimuth) < 90.0, column, np.nan)


def column_to_azimuth(column: npt.ArrayLike, width: int = VIDEO_WIDTH, fov_deg: float = HORIZONTAL_FOV_DEG) -> Floats:
    """Return the azimuth in degrees of pixel columns; the inverse of `azimuth_to_column`."""
    half = width / 2.0
    offset = (half - np.asarray(column, dtype=np.float64)) / half
    return np.asarray(np.degrees(np.arctan(offset * np.tan(np.radians(fov_deg / 2.0)))))
