"""The frames of a scene's video: the room, and every on-screen source where it sounds, as large as its distance says.

What the labels call on screen is drawn, and nothing else of the sources: labels and picture agree frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcase_seld.core.geometry import View, is_onscreen
from dcase_seld.core.task import LABEL_RATE, VIDEO_FPS
from dcase_seld.simulate.config import PictureConfig, RoomsConfig
from dcase_seld.simulate.pictures import PictureBank
from dcase_seld.simulate.render import active_frames, directions_at
from dcase_seld.simulate.rooms import direction, sample_source
from dcase_seld.simulate.scenes import Scene
from dcase_seld.simulate.sound_bank import SoundBank
from dcase_seld.simulate.sprites import Image, Sprite

EYES_M = (1.4, 1.7)
"""Heights of the heads of silent people in metres."""

LARGEST_PX = 1500
"""Largest height of a scaled sprite in pixels: of a nearer thing the frame shows a part, but not of a huge picture."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A sprite in one video frame: what, where (column, row of its sounding point), how large, how far."""

    sprite: Sprite
    image: Image
    column: float
    row: float
    pixels_per_m: float
    distance_m: float

    def __eq__(self, other: object) -> bool:
        """Return whether the other shows the very same image at the same place to a hundredth of a pixel."""
        if not isinstance(other, Placement) or self.image is not other.image:
            return False
        mine = (self.column, self.row, self.pixels_per_m)
        return all(abs(a - b) < 0.01 for a, b in zip(mine, (other.column, other.row, other.pixels_per_m), strict=True))


@dataclass(frozen=True)
class Actor:
    """A source over the clip: per label frame its direction, whether it is drawn, whether it sounds."""

    class_index: int | None
    seed: int
    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray
    distance_m: np.ndarray
    drawn: np.ndarray
    sounding: np.ndarray


def compose(
    scene: Scene,
    bank: SoundBank,
    pictures: PictureBank,
    config: PictureConfig,
    rooms: RoomsConfig,
    view: View,
    seed: int,
) -> Iterator[Image]:
    """Yield the scene's video frames, (H, W, 3) uint8 BGR, 29.97 a second; an unchanged frame is the same array again.

    A perspective `view` shows on-screen sources only, the 360° canvas all; `seed` is of the room's look.
    """
    background = pictures.background(scene.room, scene.split, seed, view)
    actors = list_actors(scene, bank, config, rooms, view)
    tracks = [_track(actor, scene.video_frames) for actor in actors]
    shown: list[Placement] = []
    frame = background
    for number in range(scene.video_frames):
        placements = [
            placement
            for actor, track in zip(actors, tracks, strict=True)
            if (placement := _placement(actor, track[number], number, pictures, scene.split, view))
        ]
        if placements != shown:
            frame = background.copy()
            for placement in sorted(placements, key=lambda p: -p.distance_m):
                paste(frame, placement, view)
            shown = placements
        yield frame


def list_actors(scene: Scene, bank: SoundBank, config: PictureConfig, rooms: RoomsConfig, view: View) -> list[Actor]:
    """Return the scene's sources and silent people with what of them is drawn in every label frame."""
    frames = np.arange(scene.frames)
    actors = []
    for event in scene.events:
        azimuth, elevation, distance = directions_at(event, scene.room, frames)
        sounding = active_frames(event, bank, scene.room, scene.frames)
        drawn = np.ones(scene.frames, np.bool_) if view.panorama else is_onscreen(azimuth, elevation)
        if config.visible == "sounding":
            drawn = drawn & sounding
        seed = event.recording.look
        actors.append(Actor(event.recording.class_index, seed, azimuth, elevation, distance, drawn, sounding))
    rng = np.random.default_rng([scene.noise_seed, 6])
    for _ in range(int(rng.integers(config.silent_people[0], config.silent_people[1] + 1))):
        place = sample_source(scene.room, rooms, rng, EYES_M)
        azimuth, elevation, distance = (np.full(scene.frames, v) for v in direction(scene.room, place))
        drawn = np.ones(scene.frames, np.bool_) if view.panorama else is_onscreen(azimuth, elevation)
        silent = np.zeros(scene.frames, np.bool_)
        actors.append(Actor(None, int(rng.integers(10_000)), azimuth, elevation, distance, drawn, silent))
    return actors


def _track(actor: Actor, video_frames: int) -> np.ndarray:
    """Return azimuth, elevation (degrees), distance (metres) and label frame (V, 4) of an actor by video frame."""
    times = (np.arange(video_frames) + 0.5) / VIDEO_FPS * LABEL_RATE
    # Labels hold for the middle of a label frame; between two of them a walking source is interpolated.
    middles = np.arange(len(actor.drawn)) + 0.5
    azimuth = np.degrees(np.interp(times, middles, np.unwrap(np.radians(actor.azimuth_deg))))
    elevation, distance = (np.interp(times, middles, line) for line in (actor.elevation_deg, actor.distance_m))
    frames = np.minimum(times.astype(int), len(actor.drawn) - 1)
    return np.stack([(azimuth + 180.0) % 360.0 - 180.0, elevation, distance, frames], axis=1)


def _placement(
    actor: Actor, at: np.ndarray, number: int, pictures: PictureBank, split: str, view: View
) -> Placement | None:
    """Return where an actor is in a video frame, or None if it is not drawn there."""
    azimuth, elevation, distance, frame = at.tolist()
    if not actor.drawn[int(frame)]:
        return None
    where = view.place(azimuth, elevation, distance)
    if where is None:
        return None
    sprite = pictures.sprite(actor.class_index, split, actor.seed, bool(actor.sounding[int(frame)]))
    return Placement(sprite, sprite.image_at(number / VIDEO_FPS), *where, distance)


def paste(frame: Image, placement: Placement, view: View) -> None:
    """Paint a sprite into a frame in place; on the 360° canvas it goes on at the other edge."""
    height = placement.sprite.height_m * placement.pixels_per_m
    image, alpha = _scaled(placement.image, min(max(2, round(height)), LARGEST_PX))
    share_x, share_y = placement.sprite.sounding
    left = round(placement.column - share_x * image.shape[1])
    top = round(placement.row - share_y * image.shape[0])
    for shift in (0, view.width, -view.width) if view.panorama else (0,):
        _blend(frame, image, alpha, left + shift, top)


def _blend(frame: Image, image: np.ndarray, alpha: np.ndarray, left: int, top: int) -> None:
    first_row, first_column = max(0, -top), max(0, -left)
    rows = min(image.shape[0], frame.shape[0] - top) - first_row
    columns = min(image.shape[1], frame.shape[1] - left) - first_column
    if rows <= 0 or columns <= 0:
        return
    part = np.s_[first_row : first_row + rows, first_column : first_column + columns]
    target = frame[top + first_row : top + first_row + rows, left + first_column : left + first_column + columns]
    share = alpha[part]
    target[:] = (target * (256 - share) + image[part] * share) >> 8


def _scaled(image: Image, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a sprite's colours (H, W, 3) and transparency 0 … 256 (H, W, 1), uint16, at a height in pixels."""
    import cv2

    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=method)
    alpha = resized[:, :, 3:].astype(np.uint16)
    # 255 becomes 256, so that shifting by eight bits divides exactly.
    return resized[:, :, :3].astype(np.uint16), alpha + (alpha > 127).astype(np.uint16)
