"""The event table: who sounds when, where, how far and whether on screen, as NumPy columns.

One row is one source in one label frame (100 ms). Inside the package directions are degrees (positive left; of
a half circle folded to [-90, 90]) and distances METRES; centimetres and integers exist only in `event_files`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import whole_file
from dcase_seld.core.task import LABEL_RATE

if TYPE_CHECKING:
    import pandas

COLUMNS = ("clip", "frame", "class_index", "source", "azimuth_deg", "distance_m", "onscreen")
"""Columns that every table has."""

EXTRA = ("activity", "onscreen_probability", "elevation_deg")
"""Columns that a table may have."""

_KINDS = {"azimuth_deg": "f", "distance_m": "f", "onscreen": "b"}

LAST_FRAME = 10_000_000
"""No recording is longer, in label frames (eleven days)."""


@dataclass(frozen=True)
class Events:
    """Events of a list of clips.

    Attributes:
        clips: names (file stems) of ALL clips, also of those without events, in the order that `clip` indexes.
        clip: (E,) int32, index into `clips`.
        frame: (E,) int32, label frame, 0 = first 100 ms.
        class_index: (E,) int32, index into the taxonomy.
        source: (E,) int32, source (track) number within class and clip.
        azimuth_deg: (E,) float64, folded azimuth in degrees, positive left.
        distance_m: (E,) float64, metres.
        onscreen: (E,) bool.
        activity: (E,) float32 in [0, 1], the model's activity of this row, or None (references).
        onscreen_probability: (E,) float32 in [0, 1], before any threshold, or None.
        elevation_deg: (E,) float64, degrees, positive up, or None where the task has no heights (stereo).
        taxonomy: the classes that `class_index` counts, where they are known; a file of events does not keep them.
    """

    clips: tuple[str, ...]
    clip: npt.NDArray[np.int32]
    frame: npt.NDArray[np.int32]
    class_index: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    azimuth_deg: npt.NDArray[np.float64]
    distance_m: npt.NDArray[np.float64]
    onscreen: npt.NDArray[np.bool_]
    activity: npt.NDArray[np.float32] | None = None
    onscreen_probability: npt.NDArray[np.float32] | None = None
    elevation_deg: npt.NDArray[np.float64] | None = None
    taxonomy: Taxonomy | None = None

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns().values()}
        if len(lengths) != 1:
            raise ValueError(f"event columns differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.clip)

    def __repr__(self) -> str:
        what = f"{len(self.clips):,} clip(s), {len(self):,} rows"
        if len(self):
            what += f", {len(np.unique(self.class_index))} class(es), up to {(self.frame.max() + 1) / LABEL_RATE:g} s"
        return f"Events({what})"

    @staticmethod
    def empty(clips: Sequence[str] = ()) -> Events:
        """Return a table of clips in which nothing sounds."""
        ints = np.zeros(0, np.int32)
        floats = np.zeros(0, np.float64)
        return Events(tuple(clips), ints, ints, ints, ints, floats, floats, np.zeros(0, np.bool_))

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> Events:
        """Return the chosen rows (mask or indices); the list of clips stays."""
        return replace(self, **{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, Any]:
        """Return the columns that the table has, by name."""
        return {name: column for name in (*COLUMNS, *EXTRA) if (column := getattr(self, name)) is not None}

    def select_clips(self, names: Sequence[str]) -> Events:
        """Return the events of the named clips, `clips` in the order of `names`.

        Raises:
            KeyError: a name is not among `clips`.
        """
        new_index = np.full(len(self.clips), -1, np.int32)
        position = {name: index for index, name in enumerate(self.clips)}
        new_index[[position[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        kept = self.take(new_index[self.clip] >= 0)
        return replace(kept, clips=tuple(names), clip=new_index[kept.clip])

    def sorted(self) -> Events:
        """Return the rows ordered by clip, frame, class and source (stable)."""
        return self.take(np.lexsort((self.source, self.class_index, self.frame, self.clip)))

    def to_pandas(self, taxonomy: Taxonomy | None = None) -> pandas.DataFrame:
        """Return a data frame with one row per source and label frame; `clip` holds the clip's name.

        Beside the table's own columns: `class_name`, and `onset_s` and `offset_s`, where the frame begins and ends in
        seconds (`segments.link` makes events of frames).

        Args:
            taxonomy: the classes; None: the table's own, or the challenge's 13 where it does not know them.

        Raises:
            SeldError: a class is none of theirs.
        """
        import pandas as pd

        names = np.asarray((taxonomy or self.taxonomy or DCASE2025).classes, dtype=object)
        if len(self) and int(self.class_index.max()) >= len(names):
            raise SeldError(
                f"Class {self.class_index.max()} is none of the {len(names)} classes, which are counted from 0.",
                "Give the classes of these events: to_pandas(load_taxonomy(FILE)).",
            )

        frame = pd.DataFrame(self.columns())
        frame["clip"] = np.asarray(self.clips, dtype=object)[self.clip] if self.clips else []
        frame["class_name"] = names[self.class_index]
        frame["onset_s"], frame["offset_s"] = self.frame / LABEL_RATE, (self.frame + 1) / LABEL_RATE
        return frame

    def save(self, path: Path) -> None:
        """Write the table to one .npz file (no pickle), atomically."""
        with whole_file(path) as part, part.open("wb") as stream:
            np.savez_compressed(stream, clips=np.asarray(self.clips, dtype=np.str_), **self.columns())

    @staticmethod
    def load(path: Path) -> Events:
        """Return the table that `save` wrote. Raises SeldError: the file is missing or is no event table."""
        from dcase_seld.core.reading import read_arrays

        remedy = "Give the events.npz that a predict or visual step wrote."
        kinds = {name: _KINDS.get(name, "iu") for name in COLUMNS}
        arrays = read_arrays(path, {"clips": "U", **kinds}, dict.fromkeys(EXTRA, "f"), remedy)
        clips = tuple(arrays.pop("clips").tolist())
        lengths = {len(column) for column in arrays.values()}
        ranges = {"clip": len(clips) - 1, "frame": LAST_FRAME, "class_index": 2**15, "source": 2**31 - 1}
        for name, column in arrays.items():
            low, high = (0, ranges[name]) if name in ranges else (0.0, 1e7) if name == "distance_m" else (-360, 360)
            if len(lengths) != 1 or not bool(((column >= low) & (column <= high)).all()):
                said = f"its columns have lengths {sorted(lengths)}" if len(lengths) != 1 else f"{name} beyond {high}"
                raise SeldError(f"{path} is damaged: {said}.", remedy)
        if len(set(clips)) != len(clips):
            raise SeldError(f"{path} is damaged: a clip is named twice.", remedy)
        return Events(clips=clips, **arrays)


def concatenate(tables: Sequence[Events]) -> Events:
    """Return one table of the tables' clips one after the other (names must not repeat)."""
    clips = tuple(name for table in tables for name in table.clips)
    if len(set(clips)) != len(clips):
        raise ValueError("a clip occurs in two event tables")
    starts = np.cumsum([0] + [len(table.clips) for table in tables])
    moved = [replace(table, clip=table.clip + start) for table, start in zip(tables, starts.tolist(), strict=False)]
    return stack(moved, clips)


_NAME = re.compile(r"(fold(\d+)_room(\d+)_mix(\d+))_deg(\d+)_start(\d+)")


@dataclass(frozen=True)
class ClipName:
    """What the name of a development clip says."""

    fold: int  # 1 synthetic, 3 train, 4 test
    room: int  # number of the room
    mix: int  # number of the recording within fold and room
    angle_deg: int  # viewing angle of the camera
    start: int  # where in the recording the clip begins (frames of 100 ms)
    recording: str  # the name of the recording, "fold4_room15_mix012", as the file name spells it


def name_parts(name: str) -> ClipName | None:
    """Return what a name such as fold4_room15_mix012_deg179_start2495 says, or None for other names."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    fold, room, mix, angle_deg, start = map(int, found.groups()[1:])
    return ClipName(fold, room, mix, angle_deg, start, found[1])


def recording(name: str) -> str:
    """Return the recording that a clip is a window of: fold, room and mix of an official name, else the name itself."""
    parts = name_parts(name)
    return name if parts is None else f"fold{parts.fold}_room{parts.room}_mix{parts.mix}"


def stack(tables: Sequence[Events], clips: tuple[str, ...]) -> Events:
    """Return tables over the same clips as one."""
    if not tables:
        return Events.empty(clips)
    columns: dict[str, Any] = {name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS}
    for name in EXTRA:
        parts = [getattr(table, name) for table in tables]
        columns[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    return Events(clips=clips, **columns)
