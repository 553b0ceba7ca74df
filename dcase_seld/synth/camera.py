"""The simulated camera: where true directions are in a picture.

Two views exist: the perspective frame of the challenge's videos, and the 360° canvas (equirectangular) that the
converter cuts perspective frames from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.task.facts import HORIZONTAL_FOV_DEG, VIDEO_HEIGHT, VIDEO_WIDTH

Floats = npt.NDArray[np.float64]
FOCAL_PX = VIDEO_WIDTH / 2.0 / float(np.tan(np.radians(HORIZONTAL_FOV_DEG / 2.0)))
"""Focal length of the pinhole camera in pixels."""


@dataclass(frozen=True)
class View:
    """A picture's size and projection: perspective, or the whole sphere."""

    width: int
    height: int
    panorama: bool

    def rays(self) -> Floats:
        """Return unit-depth directions (height, width, 3) of the pixels' centres: x to the front, y left, z up."""
        columns, rows = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        if self.panorama:
            azimuth = np.pi - columns / self.width * 2.0 * np.pi
            elevation = np.pi / 2.0 - rows / self.height * np.pi
            level = np.cos(elevation)
            return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=2)
        scale = FOCAL_PX * self.width / VIDEO_WIDTH
        return np.stack(
            [np.ones(columns.shape), (self.width / 2.0 - columns) / scale, (self.height / 2.0 - rows) / scale], axis=2
        )

    def place(self, azimuth_deg: float, elevation_deg: float, distance_m: float) -> tuple[float, float, float] | None:
        """Return column, row and pixels per metre of a true direction at a distance, or None behind the camera."""
        if self.panorama:
            column = (180.0 - azimuth_deg) / 360.0 * self.width % self.width
            row = (90.0 - elevation_deg) / 180.0 * self.height
            return column, row, self.width / (2.0 * np.pi * max(distance_m, 0.1))
        column_px, row_px = project(azimuth_deg, elevation_deg)
        if not np.isfinite(column_px):
            return None
        depth = distance_m * np.cos(np.radians(azimuth_deg)) * np.cos(np.radians(elevation_deg))
        scale = self.width / VIDEO_WIDTH
        return float(column_px) * scale, float(row_px) * scale, FOCAL_PX * scale / max(float(depth), 0.1)


PERSPECTIVE = View(VIDEO_WIDTH, VIDEO_HEIGHT, panorama=False)
"""The challenge's 100° frame, 640×360."""
PANORAMA = View(1920, 960, panorama=True)
"""The 360° canvas of STARSS23."""


def project(azimuth_deg: npt.ArrayLike, elevation_deg: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return pixel column and row of true directions (degrees); NaN behind the camera."""
    azimuth, elevation = np.radians(np.asarray(azimuth_deg, float)), np.radians(np.asarray(elevation_deg, float))
    front = np.cos(azimuth) * np.cos(elevation)
    front = np.where(front > 1e-6, front, np.nan)
    column = VIDEO_WIDTH / 2.0 - FOCAL_PX * np.sin(azimuth) * np.cos(elevation) / front
    row = VIDEO_HEIGHT / 2.0 - FOCAL_PX * np.sin(elevation) / front
    return column, row
