"""The pictures that audio-visual scenes are made of: drawn ones, or a user's folder divided like the sounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dcase_seld.errors import SeldError, listing
from dcase_seld.synth.backdrop import draw_room
from dcase_seld.synth.camera import View
from dcase_seld.synth.figures import HEIGHTS_M, PEOPLE, SOUNDING_POINT, Image, Sprite, draw
from dcase_seld.synth.rooms import AnyRoom
from dcase_seld.task.taxonomy import Taxonomy

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Picture files that are taken."""
BACKGROUNDS, CROWD = "backgrounds", "people"
"""Sub-folders of a user's pictures beside those of the classes: what is behind, and people for any class of theirs."""
KEPT = 300
"""Sprites that a process keeps."""
KEPT_BACKGROUNDS = 40
"""Backgrounds that a process keeps; a room has the same one in all its clips."""
SHARES = {"test": 0.25, "val": 0.15}
"""Shares of a sub-folder's pictures that are for the test fold and for validation rooms."""


@dataclass
class PictureBank:
    """Backgrounds and sprites by split.

    Attributes:
        taxonomy: the classes.
        folder: a user's pictures, or None: everything is drawn.
        files: sub-folder → split → files, relative to `folder`.
    """

    taxonomy: Taxonomy
    folder: Path | None = None
    files: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    _backgrounds: dict[tuple[str, int, View], Image] = field(default_factory=dict, repr=False)
    _kept: dict[tuple[str, str, int, bool], Sprite] = field(default_factory=dict, repr=False)

    def sprite(self, class_index: int | None, split: str, seed: int, sounding: bool) -> Sprite:
        """Return a picture of a class's source, or of some person (`class_index` None), chosen by a seed."""
        folder = self.taxonomy.folders[class_index] if class_index is not None else "male_speech"
        if class_index is None and seed % 2:
            folder = "female_speech"
        key = (folder, split, seed, sounding)
        if key not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._find(folder, split, seed, sounding)
        return self._kept[key]

    def background(self, room: AnyRoom, split: str, seed: int, view: View) -> Image:
        """Return the picture (H, W, 3), BGR, of an empty place; `seed` belongs to the room."""
        key = (split, seed, view)
        if key not in self._backgrounds:
            if len(self._backgrounds) >= KEPT_BACKGROUNDS:
                self._backgrounds.pop(next(iter(self._backgrounds)))
            files = self.files.get(BACKGROUNDS, {}).get(split, [])
            if files and self.folder is not None:
                picture = _fill(_read(self.folder / files[seed % len(files)]), view)[:, :, :3]
            else:
                picture = draw_room(room, view, seed)
            self._backgrounds[key] = np.ascontiguousarray(picture)
        return self._backgrounds[key]

    def _find(self, folder: str, split: str, seed: int, sounding: bool) -> Sprite:
        names = [folder, CROWD] if folder in PEOPLE else [folder]
        for name in names:
            files = self.files.get(name, {}).get(split, [])
            if files and self.folder is not None:
                image = _read(self.folder / files[seed % len(files)])
                return Sprite(image, HEIGHTS_M.get(folder, 0.5), SOUNDING_POINT.get(folder, (0.5, 0.5)))
        return draw(folder, seed, sounding)


def open_pictures(folder: Path | None, taxonomy: Taxonomy, seed: int) -> PictureBank:
    """Return the bank of a folder of pictures (backgrounds/, people/, one sub-folder per class), or a drawn one.

    A sub-folder's pictures are divided among training, validation and test; one with fewer than three serves all.

    Raises:
        SeldError: the folder does not exist or holds no picture in a known sub-folder.
    """
    if folder is None:
        return PictureBank(taxonomy)
    if not folder.is_dir():
        raise SeldError(f"The pictures folder {folder} does not exist.", "Give a folder of pictures, or none.")
    files: dict[str, dict[str, list[Path]]] = {}
    for sub in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        index = taxonomy.class_of_folder(sub.name)
        name = taxonomy.folders[index] if index is not None else sub.name.lower()
        found = sorted(p.relative_to(folder) for p in sub.rglob("*") if p.suffix.lower() in SUFFIXES)
        if found and (index is not None or name in (BACKGROUNDS, CROWD)):
            files[name] = _divide(found, seed)
    if not files:
        raise SeldError(
            f"{folder} holds no picture: expected sub-folders {BACKGROUNDS}, {CROWD} or those of classes "
            f"({listing(taxonomy.folders)}) with {', '.join(SUFFIXES)} files.",
            "Name the sub-folders after the classes.",
        )
    return PictureBank(taxonomy, folder, files)


def _divide(found: list[Path], seed: int) -> dict[str, list[Path]]:
    if len(found) < 3:
        return {split: found for split in ("train", "val", "test")}
    order = [found[i] for i in np.random.default_rng([seed, 5]).permutation(len(found))]
    tests, validations = (max(1, round(SHARES[split] * len(found))) for split in ("test", "val"))
    return {"test": order[:tests], "val": order[tests : tests + validations], "train": order[tests + validations :]}


def _read(path: Path) -> Image:
    """Return a picture (H, W, 4), BGR and alpha, its transparent border cut off, at most 512 pixels high."""
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise SeldError(f"{path} cannot be read as a picture.", "Give png or jpg files.")
    if image.dtype != np.uint8:
        image = (image / 257).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    rows, columns = (np.flatnonzero((image[:, :, 3] > 8).any(axis=axis)) for axis in (1, 0))
    if len(rows) and len(columns):
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(image, dtype=np.uint8)


def _fill(image: Image, view: View) -> Image:
    """Return a picture scaled and cropped to fill the view."""
    import cv2

    scale = max(view.width / image.shape[1], view.height / image.shape[0])
    size = (max(view.width, round(image.shape[1] * scale)), max(view.height, round(image.shape[0] * scale)))
    large = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - view.width) // 2, (size[1] - view.height) // 2
    return np.ascontiguousarray(large[top : top + view.height, left : left + view.width])
