"""Drawn things and people that stand for sources, so that audio-visual scenes need no download.

A sprite is an image with transparency, its height in metres, and the point of it that sounds: a mouth, clapping
hands, feet, a bell's body.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import profile_of

Image = npt.NDArray[np.uint8]

Point = tuple[float, float]

PIXELS = 256
"""Height in pixels of a drawing before it is scaled into the picture."""

SPRITE_FPS = 10
"""Images per second that are taken from short videos of sources."""


@dataclass(frozen=True, eq=False)
class Sprite:
    """A picture of a source."""

    image: Image  # (H, W, 4) uint8, blue, green, red, alpha
    height_m: float  # its height in metres
    sounding: Point  # the sounding point as shares of width and height
    # images of the same size that follow one another, SPRITE_FPS a second, from a short video; or none
    moving: tuple[Image, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Return the memory of its images in bytes."""
        return self.image.nbytes * max(1, len(self.moving))

    def image_at(self, time_s: float) -> Image:
        """Return the image at a time in seconds; a short video starts again at its end."""
        return self.moving[int(time_s * SPRITE_FPS) % len(self.moving)] if self.moving else self.image


def draw(folder: str, seed: int, sounding: bool) -> Sprite:
    """Return a drawing of a class's source; the same seed is the same person or thing, at rest or sounding."""
    rng = np.random.default_rng([seed, zlib.crc32(folder.encode("utf-8"))])
    profile = profile_of(folder)
    height = profile.height_m
    if profile.person:
        image = _person(rng, folder, sounding)
        height *= float(rng.uniform(0.92, 1.08))
    else:
        image = _THINGS.get(folder, _stand_in)(rng, folder, sounding)
    return Sprite(image, height, profile.sounds_at)


def _canvas(width: int) -> Image:
    return np.zeros((PIXELS, width, 4), np.uint8)


def _colour(rng: np.random.Generator, low: int = 20, high: int = 235) -> tuple[int, int, int, int]:
    blue, green, red = (int(c) for c in rng.integers(low, high, 3))
    return blue, green, red, 255


def _shade(colour: tuple[int, int, int, int], factor: float) -> tuple[int, int, int, int]:
    blue, green, red = (int(np.clip(c * factor, 0, 255)) for c in colour[:3])
    return blue, green, red, 255


def _person(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    """Return a standing person, 1.7 m over the drawing's height: head, hair, clothes, arms and legs in a posture."""
    image = _canvas(128)
    skin_tone = float(rng.uniform(0.45, 1.1))
    skin = (int(min(255, 150 * skin_tone)), int(min(255, 180 * skin_tone)), int(min(255, 230 * skin_tone)), 255)
    shirt, trousers, hair = _colour(rng), _colour(rng, 20, 130), _colour(rng, 10, 120)
    woman = folder == "female_speech" or (folder != "male_speech" and rng.random() < 0.5)
    hips, stride = 132, (14 if folder == "walk_footsteps" else 7)
    for side in (-1, 1):
        foot = (64 + side * stride, 246 - (8 if folder == "walk_footsteps" and sounding and side > 0 else 0))
        cv2.line(image, (64 + side * 7, hips), foot, trousers, 12, cv2.LINE_AA)
        cv2.ellipse(image, (foot[0] + 3, foot[1] + 3), (9, 5), 0, 0, 360, _shade(trousers, 0.5), -1, cv2.LINE_AA)
    if woman:
        cv2.ellipse(image, (64, 30), (19, 27), 0, 0, 360, hair, -1, cv2.LINE_AA)
    body = np.asarray([[44, 56], [84, 56], [80, hips + 6], [48, hips + 6]], np.int32)
    cv2.fillConvexPoly(image, body, shirt, cv2.LINE_AA)
    for side in (-1, 1):
        shoulder = (64 + side * 19, 60)
        if folder == "clapping":
            gap = 3 if sounding else 14
            elbow, hand = (64 + side * 27, 92), (64 + side * gap, 87)
        else:
            elbow, hand = (64 + side * 26, 96), (64 + side * int(rng.integers(18, 30)), int(rng.integers(100, 130)))
        cv2.line(image, shoulder, elbow, _shade(shirt, 0.9), 10, cv2.LINE_AA)
        cv2.line(image, elbow, hand, skin, 7, cv2.LINE_AA)
        cv2.circle(image, hand, 6, skin, -1, cv2.LINE_AA)
    cv2.rectangle(image, (59, 40), (69, 58), _shade(skin, 0.9), -1)
    cv2.ellipse(image, (64, 24), (14, 19), 0, 0, 360, skin, -1, cv2.LINE_AA)
    cv2.ellipse(image, (64, 14), (15, 12), 0, 180, 360, hair, -1, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(image, (64 + side * 6, 20), 2, (30, 30, 30, 255), -1, cv2.LINE_AA)
    opened = 1
    if sounding and folder.endswith("speech"):
        opened = 4
    elif sounding and folder == "laughter":
        opened = 6
    cv2.ellipse(image, (64, 30), (6, opened), 0, 0, 360, (60, 40, 160, 255), -1, cv2.LINE_AA)
    return image


def _telephone(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    image = _canvas(150)
    shell = _colour(rng, 10, 110)
    cv2.rectangle(image, (15, 6), (135, 250), shell, -1, cv2.LINE_AA)
    screen = (250, 240, 190, 255) if sounding else (70, 60, 50, 255)
    cv2.rectangle(image, (25, 30), (125, 215), screen, -1)
    cv2.circle(image, (75, 232), 9, _shade(shell, 1.8), -1, cv2.LINE_AA)
    return image


def _household(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    """Return a washing machine."""
    image = _canvas(220)
    shell = _colour(rng, 190, 250)
    cv2.rectangle(image, (8, 4), (212, 250), shell, -1, cv2.LINE_AA)
    cv2.rectangle(image, (8, 4), (212, 46), _shade(shell, 0.85), -1)
    cv2.circle(image, (110, 150), 72, _shade(shell, 0.6), -1, cv2.LINE_AA)
    cv2.circle(image, (110, 150), 56, (90, 70, 60, 255) if not sounding else (190, 150, 90, 255), -1, cv2.LINE_AA)
    for column in (40, 70, 180):
        cv2.circle(image, (column, 25), 9, _colour(rng), -1, cv2.LINE_AA)
    return image


def _door(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    """Return a door; one that sounds is ajar."""
    image = _canvas(124)
    wood = _colour(rng, 40, 190)
    cv2.rectangle(image, (2, 0), (121, 255), _shade(wood, 0.55), -1)
    right = 98 if sounding and folder == "door_open_close" else 113
    leaf = np.asarray(
        [[10, 8], [right, 8 + (113 - right) // 2], [right, 255 - (113 - right) // 2], [10, 255]], np.int32
    )
    cv2.fillConvexPoly(image, leaf, wood, cv2.LINE_AA)
    for top in (26, 140):
        cv2.rectangle(image, (26, top), (right - 18, top + 90), _shade(wood, 0.8), 3)
    cv2.circle(image, (right - 9, 136), 6, (60, 190, 210, 255), -1, cv2.LINE_AA)
    if folder == "knock":
        cv2.circle(image, (62, 126 if sounding else 150), 11, (130, 165, 215, 255), -1, cv2.LINE_AA)
        cv2.line(image, (62, 140 if sounding else 162), (76, 230), (130, 165, 215, 255), 14, cv2.LINE_AA)
    return image


def _loudspeaker(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    image = _canvas(150)
    box = _colour(rng, 10, 120)
    cv2.rectangle(image, (5, 2), (145, 253), box, -1, cv2.LINE_AA)
    for middle, radius in ((62, 34), (168, 58)):
        cv2.circle(image, (75, middle), radius, _shade(box, 0.5), -1, cv2.LINE_AA)
        cv2.circle(image, (75, middle), int(radius * (0.62 if sounding else 0.5)), _shade(box, 1.8), -1, cv2.LINE_AA)
    return image


def _instrument(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    """Return a guitar or a drum."""
    wood = _colour(rng, 40, 200)
    if rng.random() < 0.6:
        image = _canvas(110)
        cv2.rectangle(image, (49, 8), (61, 150), _shade(wood, 0.5), -1)
        cv2.ellipse(image, (55, 150), (34, 32), 0, 0, 360, wood, -1, cv2.LINE_AA)
        cv2.ellipse(image, (55, 205), (46, 46), 0, 0, 360, wood, -1, cv2.LINE_AA)
        cv2.circle(image, (55, 180), 15, (25, 25, 25, 255), -1, cv2.LINE_AA)
        for string in range(4):
            cv2.line(image, (51 + 3 * string, 10), (51 + 3 * string, 220), (220, 220, 220, 255), 1, cv2.LINE_AA)
        return image
    image = _canvas(230)
    cv2.rectangle(image, (20, 70), (210, 215), wood, -1)
    cv2.ellipse(image, (115, 215), (95, 36), 0, 0, 360, wood, -1, cv2.LINE_AA)
    cv2.ellipse(image, (115, 70), (95, 36), 0, 0, 360, (225, 235, 240, 255), -1, cv2.LINE_AA)
    return image


def _tap(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    image = _canvas(230)
    metal = _colour(rng, 150, 230)
    cv2.rectangle(image, (40, 60), (70, 180), metal, -1)
    cv2.ellipse(image, (105, 65), (58, 55), 0, 180, 360, metal, 26, cv2.LINE_AA)
    cv2.circle(image, (55, 50), 20, _shade(metal, 0.8), -1, cv2.LINE_AA)
    if sounding:
        cv2.line(image, (163, 75), (163, 200), (245, 225, 190, 220), 12, cv2.LINE_AA)
    cv2.ellipse(image, (115, 200), (108, 50), 0, 0, 180, (240, 240, 240, 255), -1, cv2.LINE_AA)
    return image


def _bell(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    image = _canvas(220)
    metal = (int(rng.integers(30, 90)), int(rng.integers(140, 200)), int(rng.integers(170, 240)), 255)
    tilt = 12 if sounding else 0
    cv2.ellipse(image, (110, 110), (66, 90), tilt, 180, 360, metal, -1, cv2.LINE_AA)
    skirt = np.asarray([[44, 105], [176, 105], [205, 200], [15, 200]], np.int32)
    cv2.fillConvexPoly(image, skirt, metal, cv2.LINE_AA)
    cv2.rectangle(image, (10, 198), (210, 214), _shade(metal, 0.75), -1)
    cv2.circle(image, (110 + 2 * tilt, 230), 18, _shade(metal, 0.5), -1, cv2.LINE_AA)
    return image


def _stand_in(rng: np.random.Generator, folder: str, sounding: bool) -> Image:
    """Return a polygon whose number of corners and colour follow from the class's name."""
    timbre = np.random.default_rng(zlib.crc32(folder.encode("utf-8")))
    colour, corners = _colour(timbre), int(timbre.integers(3, 9))
    image = _canvas(PIXELS)
    angles = 2.0 * np.pi * np.arange(corners) / corners + float(rng.uniform(0, 1))
    points = 128 + 120 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillConvexPoly(image, points.astype(np.int32), colour, cv2.LINE_AA)
    if sounding:
        cv2.circle(image, (128, 128), 50, _shade(colour, 1.6), -1, cv2.LINE_AA)
    return image


_THINGS: dict[str, Any] = {
    "telephone": _telephone,
    "domestic_sounds": _household,
    "door_open_close": _door,
    "music": _loudspeaker,
    "musical_instrument": _instrument,
    "water_tap": _tap,
    "bell": _bell,
    "knock": _door,
}
