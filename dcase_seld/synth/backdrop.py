"""The empty room as the camera sees it: every pixel's ray meets a wall, floor or ceiling of the simulated shoebox."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcase_seld.synth.camera import View
from dcase_seld.synth.rooms import AnyRoom

Image = npt.NDArray[np.uint8]


def draw_room(room: AnyRoom, view: View, seed: int) -> Image:
    """Return a picture (H, W, 3), BGR, of a room with painted walls, a floor of boards or tiles, windows and frames.

    Corners, floor and ceiling are where the sound's room has them, so that sizes and distances can be seen.
    """
    rng = np.random.default_rng(seed)
    rays = view.rays().reshape(-1, 3)
    size, eye = np.asarray(room.size_m), np.asarray(room.microphone_m)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(rays > 0, (size - eye) / rays, np.where(rays < 0, -eye / rays, np.inf))
    axis = reach.argmin(axis=1)
    hit = eye + rays * reach.min(axis=1)[:, None]
    upward = np.take_along_axis(rays, axis[:, None], axis=1)[:, 0] > 0
    colours = np.zeros((len(rays), 3))
    paint = rng.uniform(110, 225, 3)
    for surface in range(6):
        chosen = (axis == surface // 2) & (upward == bool(surface % 2))
        if not chosen.any():
            continue
        # Every surface has its own numbers: it looks the same in a view that shows less of the room.
        rng = np.random.default_rng([seed, surface])
        across, height = hit[chosen][:, 1 - min(surface // 2, 1)], hit[chosen][:, 2]
        if surface == 4:
            colours[chosen] = _floor(hit[chosen], rng)
        elif surface == 5:
            colours[chosen] = rng.uniform(200, 245)
        else:
            colours[chosen] = _wall(across, height, size[1 - surface // 2], size[2], paint, rng)
    # Far surfaces and edges get less light; a little grain, so that encoders and detectors meet no perfect flatness.
    away = np.linalg.norm(hit - eye, axis=1)
    shade = 1.0 / (1.0 + 0.04 * away) * np.asarray([0.92, 1.0, 0.85])[axis]
    colours = colours * shade[:, None] + rng.normal(0.0, 2.0, (len(rays), 1))
    picture = np.clip(colours, 0, 255).astype(np.uint8)
    return np.asarray(picture.reshape(view.height, view.width, 3))


def _floor(hit: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the colours of boards or tiles at places on the floor (P, 3)."""
    tone = rng.uniform(60, 170) * np.asarray([rng.uniform(0.5, 0.9), 0.85, 1.0])
    width, length = (rng.uniform(0.12, 0.25), 3.0) if rng.random() < 0.6 else (rng.uniform(0.3, 0.6),) * 2
    column, row = np.floor(hit[:, 1] / width), np.floor(hit[:, 0] / length)
    vary = 0.9 + 0.2 * ((np.sin(column * 12.9898 + row * 78.233) * 43758.5453) % 1.0)
    gap = np.minimum(hit[:, 1] / width % 1.0, hit[:, 0] / length % 1.0) < 0.04
    return np.asarray(tone * (vary * np.where(gap, 0.75, 1.0))[:, None])


def _wall(
    across: npt.NDArray[np.float64],
    height: npt.NDArray[np.float64],
    span_m: float,
    ceiling_m: float,
    paint: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return the colours (P, 3) of places on one wall: paint, skirting board, windows, hung pictures."""
    colour = np.tile(paint * rng.uniform(0.85, 1.05), (len(across), 1))
    colour[height < 0.1] = paint * 0.55
    for _ in range(int(rng.integers(0, 4))):
        wide, tall = rng.uniform(0.4, 1.6), rng.uniform(0.4, 1.3)
        left, low = rng.uniform(0.1, max(0.2, span_m - wide)), rng.uniform(0.9, max(1.0, ceiling_m - tall - 0.3))
        inside = (across > left) & (across < left + wide) & (height > low) & (height < low + tall)
        frame = inside & (
            (across < left + 0.05)
            | (across > left + wide - 0.05)
            | (height < low + 0.05)
            | (height > low + tall - 0.05)
        )
        if rng.random() < 0.4:
            colour[inside] = np.asarray([245, 235, 215]) - 60 * ((height[inside] - low) / tall)[:, None]
        else:
            colour[inside] = rng.uniform(40, 230, 3)
        colour[frame] = rng.uniform(30, 240)
    return colour
