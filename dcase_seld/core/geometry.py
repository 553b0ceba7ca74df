"""Directions: folding to the front, half circle and sphere, recordings' channels, the camera's pinhole geometry.

Azimuths are in degrees, positive to the LEFT. A stereo pair of coincident cardioids cannot tell front from back, so the
challenge folds every azimuth to the front, [-90, 90].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import HORIZONTAL_FOV_DEG, VIDEO_HEIGHT, VIDEO_WIDTH

Floats = npt.NDArray[np.float64]
Heights = npt.ArrayLike | None


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


class HalfCircle:
    """Directions of a stereo pair: an azimuth folded to the front; vectors are (x to the front, y to the left)."""

    name = "half_circle"
    dimensions = 2
    columns: ClassVar[tuple[str, ...]] = ("azimuth_deg",)

    def to_vector(self, azimuth_deg: npt.ArrayLike, elevation_deg: Heights = None) -> Floats:
        """Return unit vectors (…, 2) of azimuths in degrees; a half circle has no elevation."""
        azimuth = np.radians(np.asarray(azimuth_deg, np.float64))
        return np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)

    def to_angles(self, vector: Floats) -> tuple[Floats, Floats | None]:
        """Return azimuths in degrees, folded to the front, of vectors (…, 2), and no elevation."""
        return fold(np.degrees(np.arctan2(vector[..., 1], vector[..., 0]))), None

    def canonical(self, azimuth_deg: npt.ArrayLike, elevation_deg: Heights = None) -> tuple[Floats, Floats | None]:
        """Return the azimuths that a stereo pair can tell apart, and no elevation."""
        return fold(azimuth_deg), None

    def error_deg(
        self,
        azimuth_deg: npt.ArrayLike,
        other_azimuth_deg: npt.ArrayLike,
        elevation_deg: Heights = None,
        other_elevation_deg: Heights = None,
    ) -> Floats:
        """Return the difference of azimuths in degrees."""
        return np.abs(np.asarray(azimuth_deg, np.float64) - np.asarray(other_azimuth_deg, np.float64))


class Sphere:
    """Directions all around: azimuth and elevation; vectors are (x to the front, y to the left, z up)."""

    name = "sphere"
    dimensions = 3
    columns: ClassVar[tuple[str, ...]] = ("azimuth_deg", "elevation_deg")

    def to_vector(self, azimuth_deg: npt.ArrayLike, elevation_deg: Heights = None) -> Floats:
        """Return unit vectors (…, 3) of azimuths and elevations in degrees (no elevation: 0)."""
        azimuth = np.radians(np.asarray(azimuth_deg, np.float64))
        elevation = np.radians(np.zeros_like(azimuth) if elevation_deg is None else np.asarray(elevation_deg, float))
        level = np.cos(elevation)
        return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=-1)

    def to_angles(self, vector: Floats) -> tuple[Floats, Floats | None]:
        """Return azimuths in [-180, 180) and elevations in [-90, 90] degrees of vectors (…, 3) of any length."""
        azimuth = wrap(np.degrees(np.arctan2(vector[..., 1], vector[..., 0])))
        return azimuth, np.degrees(np.arctan2(vector[..., 2], np.hypot(vector[..., 0], vector[..., 1])))

    def canonical(self, azimuth_deg: npt.ArrayLike, elevation_deg: Heights = None) -> tuple[Floats, Floats | None]:
        """Return azimuths wrapped to [-180, 180), and the elevations (none: 0)."""
        azimuth = wrap(azimuth_deg)
        return azimuth, np.zeros_like(azimuth) if elevation_deg is None else np.asarray(elevation_deg, np.float64)

    def error_deg(
        self,
        azimuth_deg: npt.ArrayLike,
        other_azimuth_deg: npt.ArrayLike,
        elevation_deg: Heights = None,
        other_elevation_deg: Heights = None,
    ) -> Floats:
        """Return the great-circle angle between directions in degrees."""
        own, other = self.to_vector(azimuth_deg, elevation_deg), self.to_vector(other_azimuth_deg, other_elevation_deg)
        across = np.linalg.norm(np.cross(own, other), axis=-1)
        return np.asarray(np.degrees(np.arctan2(across, (own * other).sum(-1))))


Geometry = HalfCircle | Sphere

GEOMETRIES: dict[str, Geometry] = {"half_circle": HalfCircle(), "sphere": Sphere()}
"""Name of a geometry → what it knows of directions. Mirrored left and right, y changes its sign in both."""


@dataclass(frozen=True)
class Channels:
    """What the channels of a recording are."""

    name: str  # "stereo" or "foa"
    names: tuple[str, ...]  # of the channels, in order
    mirror_order: tuple[int, ...]  # channel that stands in each channel's place when left and right are exchanged
    mirror_sign: tuple[float, ...]  # sign that it gets then
    mono: tuple[float, ...]  # weights whose sum over the channels is the sound without direction

    @property
    def count(self) -> int:
        """Return the number of channels."""
        return len(self.names)


CHANNELS = {
    "stereo": Channels("stereo", ("left", "right"), (1, 0), (1.0, 1.0), (0.5, 0.5)),
    "foa": Channels("foa", ("w", "y", "z", "x"), (0, 1, 2, 3), (1.0, -1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0)),
}
"""Channel formats: two coincident cardioids, or first-order Ambisonics (ACN order, W, Y, Z, X)."""


@dataclass(frozen=True)
class Rotation:
    """A turn of the sphere by quarters about the vertical, or a mirroring of it: axes change places and signs."""

    order: tuple[int, int, int]  # which of x, y, z comes to stand in place of each
    sign: tuple[int, int, int]  # the sign that it gets there

    def of(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return for maps or channels, by name, which one comes to stand in place of each, and its sign.

        Names of an axis are x, y, z (channels and their levels, whose sign is not theirs: see `signed_maps`) and iv_x,
        iv_y, iv_z; others stay.
        """
        places, signs = list(range(len(names))), [1] * len(names)
        for before in ("", "iv_"):
            for axis, letter in enumerate("xyz"):
                if before + letter in names:
                    at = names.index(before + letter)
                    places[at] = names.index(before + "xyz"[self.order[axis]])
                    signs[at] = self.sign[axis]
        return tuple(places), tuple(signs)

    @property
    def inverse(self) -> Rotation:
        """Return the rotation that undoes this one."""
        back = (self.order.index(0), self.order.index(1), self.order.index(2))
        return Rotation(back, (self.sign[back[0]], self.sign[back[1]], self.sign[back[2]]))


ROTATIONS = tuple(
    Rotation((1, 0, 2) if turned else (0, 1, 2), (x, y, z))
    for turned in (False, True)
    for x in (1, -1)
    for y in (1, -1)
    for z in (1, -1)
)
"""The 16 patterns that only permute Ambisonic channels and change signs; the first one changes nothing. Source:
L. Mazzon et al., First order Ambisonics domain spatial augmentation for DNN-based direction of arrival estimation,
DCASE 2019."""


PEAK_LIMIT = 0.9999
"""A converted clip whose absolute peak exceeds this is discarded. Source: the challenge's stereo data generator."""


def foa_to_stereo(foa: npt.NDArray[np.float32], viewing_angle_deg: float) -> npt.NDArray[np.float32]:
    """Return (2, S) left and right of a (4, S) first-order recording at a viewing angle φ in degrees.

    Y' = sin φ · X + cos φ · Y; L = W + Y', R = W - Y'. Source: the challenge's stereo data generator. Raises SeldError:
    the recording has not four channels.
    """
    if foa.ndim != 2 or foa.shape[0] != 4:
        raise SeldError(
            f"A first-order Ambisonics recording has 4 channels (W, Y, Z, X); got an array of shape {foa.shape}.",
            "Give the FOA file, not the stereo or microphone-array one.",
        )
    angle = np.radians(viewing_angle_deg)
    omni, left, _, front = foa
    side = np.float32(np.sin(angle)) * front + np.float32(np.cos(angle)) * left
    return np.stack([omni + side, omni - side])


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
