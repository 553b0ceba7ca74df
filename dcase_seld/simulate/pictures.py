"""The pictures that audio-visual scenes are made of: drawn ones, or a user's folder divided like the sounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy, profile_of
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import visible_files
from dcase_seld.core.geometry import View
from dcase_seld.core.reading import read_table
from dcase_seld.core.work import say
from dcase_seld.simulate.rooms import AnyRoom
from dcase_seld.simulate.sprites import SPRITE_FPS, Image, Point, Sprite, draw


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


STILLS, VIDEOS = (".png", ".jpg", ".jpeg", ".webp", ".bmp"), (".mp4", ".mkv", ".mov", ".webm")
"""Files that are taken as pictures and as short videos."""

BACKGROUNDS, CROWD = "backgrounds", "people"
"""Sub-folders of a user's pictures beside those of the classes: what is behind, and people for any class of theirs."""

TABLE = "pictures.csv"
"""Optional table of a user's pictures: file,height_m,x,y with the sounding point as shares of width and height."""

KEPT_BYTES = 200_000_000
"""Memory for sprites in a process."""

KEPT_BACKGROUNDS = 40
"""Backgrounds that a process keeps; a room has the same one in all its clips."""

LONGEST_S, TALLEST_PX = 5.0, 240
"""Of a short video so many seconds are shown, at most so many pixels high."""

SHARES = {"test": 0.25, "val": 0.15}
"""Shares of a sub-folder's pictures that are for the test fold and for validation rooms."""


@dataclass
class PictureBank:
    """Backgrounds and sprites by split.

    Attributes:
        taxonomy: the classes.
        folder: a user's pictures, or None: everything is drawn.
        files: sub-folder → split → files, relative to `folder`.
        facts: file → height in metres and sounding point, where the user's table says them.
    """

    taxonomy: Taxonomy
    folder: Path | None = None
    files: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    facts: dict[Path, tuple[float, Point]] = field(default_factory=dict)
    _backgrounds: dict[tuple[str, int, View], Image] = field(default_factory=dict, repr=False)
    _kept: dict[tuple[str, str, int, bool], Sprite] = field(default_factory=dict, repr=False)
    _damaged: set[Path] = field(default_factory=set, repr=False)

    def sprite(self, class_index: int | None, split: str, seed: int, sounding: bool) -> Sprite:
        """Return a picture of a class's source, or of some person (`class_index` None), chosen by a seed."""
        folder = self.taxonomy.folders[class_index] if class_index is not None else "male_speech"
        if class_index is None and seed % 2:
            folder = "female_speech"
        key = (folder, split, seed, sounding)
        if key not in self._kept:
            sprite = self._find(folder, split, seed, sounding)
            while self._kept and sum(s.size_bytes for s in self._kept.values()) + sprite.size_bytes > KEPT_BYTES:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = sprite
        return self._kept[key]

    def background(self, room: AnyRoom, split: str, seed: int, view: View) -> Image:
        """Return the picture (H, W, 3), BGR, of an empty place; `seed` belongs to the room."""
        key = (split, seed, view)
        if key not in self._backgrounds:
            if len(self._backgrounds) >= KEPT_BACKGROUNDS:
                self._backgrounds.pop(next(iter(self._backgrounds)))
            images = self._user_images(BACKGROUNDS, split, seed)[1]
            picture = _fill(images[0], view)[:, :, :3] if images else draw_room(room, view, seed)
            self._backgrounds[key] = np.ascontiguousarray(picture)
        return self._backgrounds[key]

    def _find(self, folder: str, split: str, seed: int, sounding: bool) -> Sprite:
        profile = profile_of(folder)
        for name in [folder, CROWD] if profile.person else [folder]:
            file, images = self._user_images(name, split, seed)
            if images:
                height, point = self.facts.get(file, (profile.height_m, profile.sounds_at))
                return Sprite(images[0], height, point, tuple(images) if len(images) > 1 else ())
        return draw(folder, seed, sounding)

    def _user_images(self, name: str, split: str, seed: int) -> tuple[Path, list[Image]]:
        """Return a file of a user's sub-folder, chosen by a seed, and its images; none: something is drawn instead."""
        files = self.files.get(name, {}).get(split, [])
        if not files or self.folder is None:
            return Path(), []
        file = files[seed % len(files)]
        try:
            return file, _read(self.folder / file)
        except SeldError as error:
            if file not in self._damaged:
                say(f"note: {error.problem.rstrip('.')}: something is drawn in its place")
            self._damaged.add(file)
            return file, []


def open_pictures(folder: Path | None, taxonomy: Taxonomy, seed: int) -> PictureBank:
    """Return the bank of a folder of pictures (backgrounds/, people/, one sub-folder per class), or a drawn one.

    A sub-folder's pictures are divided among training, validation and test; one with fewer than three serves all.
    Raises SeldError: the folder does not exist, holds no picture in a known sub-folder, or its table is wrong.
    """
    if folder is None:
        return PictureBank(taxonomy)
    if not folder.is_dir():
        raise SeldError(f"The pictures folder {folder} does not exist.", "Give a folder of pictures, or none.")
    files: dict[str, dict[str, list[Path]]] = {}
    for sub in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        index = taxonomy.class_of_folder(sub.name)
        name = taxonomy.folders[index] if index is not None else sub.name.lower()
        found = [p.relative_to(folder) for p in visible_files(sub, STILLS + VIDEOS)]
        if found and (index is not None or name in (BACKGROUNDS, CROWD)):
            files[name] = _divide(found, seed)
    if not files:
        raise SeldError(
            f"{folder} holds no picture: expected sub-folders {BACKGROUNDS}, {CROWD} or those of classes "
            f"({listing(taxonomy.folders)}) with {', '.join(STILLS + VIDEOS)} files.",
            "Name the sub-folders after the classes.",
        )
    return PictureBank(taxonomy, folder, files, _read_table(folder / TABLE) if (folder / TABLE).is_file() else {})


def _divide(found: list[Path], seed: int) -> dict[str, list[Path]]:
    if len(found) < 3:
        return {split: found for split in ("train", "val", "test")}
    order = [found[i] for i in np.random.default_rng([seed, 5]).permutation(len(found))]
    tests, validations = (max(1, round(SHARES[split] * len(found))) for split in ("test", "val"))
    return {"test": order[:tests], "val": order[tests : tests + validations], "train": order[tests + validations :]}


def _read_table(path: Path) -> dict[Path, tuple[float, Point]]:
    rows = read_table(path, "Write a CSV file.")[1]
    facts = {}
    for line, row in rows:
        try:
            height, x, y = (float(row[name]) for name in ("height_m", "x", "y"))
            if not (0.0 < height < 20.0 and 0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
                raise ValueError("a height above 0 and shares of 0 to 1 are needed")
            facts[Path(row["file"])] = (height, (x, y))
        except (KeyError, TypeError, ValueError) as error:
            raise SeldError(f"{path}, line {line}: {error}.", "Write the columns file,height_m,x,y.") from error
    return facts


def _read(path: Path) -> list[Image]:
    """Return a picture (H, W, 4), BGR and alpha, without its transparent border; of a video, its images in turn."""
    if path.suffix.lower() in VIDEOS:
        return _read_video(path)
    from dcase_seld.media.frames import read_picture

    image = read_picture(path, alpha=True)
    rows, columns = (np.flatnonzero((image[:, :, 3] > 8).any(axis=axis)) for axis in (1, 0))
    if len(rows) and len(columns):
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [image]


def _read_video(path: Path) -> list[Image]:
    import cv2

    from dcase_seld.media.frames import read_frames, video_info

    info = video_info(path)
    scale = min(1.0, TALLEST_PX / info.height)
    times = np.arange(0.0, min(info.duration_s, LONGEST_S), 1.0 / SPRITE_FPS).tolist()
    found = read_frames(path, times, size=(max(2, round(info.width * scale)), max(2, round(info.height * scale))))
    images = [np.asarray(cv2.cvtColor(i, cv2.COLOR_BGR2BGRA), dtype=np.uint8) for i in found.images if i is not None]
    if not images:
        raise SeldError(f"{path} holds no readable frame.", "Give another video.")
    return images


def _fill(image: Image, view: View) -> Image:
    """Return a picture scaled and cropped to fill the view."""
    import cv2

    scale = max(view.width / image.shape[1], view.height / image.shape[0])
    size = (max(view.width, round(image.shape[1] * scale)), max(view.height, round(image.shape[0] * scale)))
    large = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - view.width) // 2, (size[1] - view.height) // 2
    return np.ascontiguousarray(large[top : top + view.height, left : left + view.width])
