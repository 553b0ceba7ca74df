"""Folders of what is seen in clips' sampled frames: tables in shards, then an index that makes the folder complete.

A shard is one .npz of 64 clips, without pickled objects, whose tables are joined by position:
    name (n,) text, problem (n,) text, and further columns of clips
    frame_clip (F,), frame_time_s (F,), frame_seen (F,)     every sampled frame, seen or not
    the frame of each row (R,), and further columns of rows   people or objects
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import whole_file, write_json
from dcase_seld.core.reading import Facts, read_arrays, read_json
from dcase_seld.core.task import label_times


class SeenJson(Facts):
    """The schema of an index."""

    format: int
    clips: int = Field(ge=0, le=2**31)
    clips_per_shard: int = Field(ge=1, le=2**31)


@dataclass(frozen=True)
class Sightings:
    """What is seen at the label frames of one clip."""

    azimuth_deg: npt.NDArray[np.float64]  # (T, K) azimuth of thing k in degrees, NaN where it is not seen
    spread_deg: npt.NDArray[np.float64]  # (T, K) half the width of the thing in degrees, 0 for a point
    watched: npt.NDArray[np.bool_]  # (T,) whether the video shows the label frame at all


def nearest_sighting(
    frame: npt.NDArray[np.int32], azimuth_deg: npt.NDArray[np.float64], sightings: Sightings
) -> npt.NDArray[np.float64]:
    """Return (R,) the signed angle from each row to its sighting; two rows of one frame never share a sighting."""
    frame = frame.astype(np.int64)
    offset = sightings.azimuth_deg[frame] - azimuth_deg[:, None]
    # Within an object's width the angle is 0, beyond it the angle to its edge.
    distance = np.maximum(np.abs(offset) - sightings.spread_deg[frame], 0.0)
    distance[np.isnan(distance)] = np.inf
    result = np.full(len(frame), np.nan)
    if not distance.size:
        return result
    open_rows = np.isfinite(distance.min(axis=1))
    while open_rows.any():
        # The closest pair of every frame is settled first; its sighting is then taken for that frame.
        best = np.where(open_rows, distance.min(axis=1), np.inf)
        order = np.lexsort((np.arange(len(frame)), best, frame))
        order = order[np.isfinite(best[order])]
        first = order[np.unique(frame[order], return_index=True)[1]]
        thing = distance[first].argmin(axis=1)
        signed = offset[first, thing]
        result[first] = np.sign(signed) * distance[first, thing]
        for row, k in zip(first, thing, strict=True):
            distance[frame == frame[row], k] = np.inf
        open_rows[first] = False
        open_rows &= np.isfinite(distance.min(axis=1))
    return result


def watched_frames(
    times_s: npt.NDArray[np.float64], seen: npt.NDArray[np.bool_], frames: int, max_gap_s: float
) -> npt.NDArray[np.bool_]:
    """Return (T,) whether a readable sampled frame is within `max_gap_s` of each label frame."""
    times = times_s[seen]
    if not len(times):
        return np.zeros(frames, np.bool_)
    nearest = np.abs(label_times(frames)[:, None] - times).min(axis=1)
    return np.asarray(nearest <= max_gap_s)


CLIPS_PER_SHARD = 64


class SeenClip(Protocol):
    """What every kind of folder keeps of a clip."""

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """(V,) times of the sampled frames in seconds."""

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """(V,) False where the video has no frame."""

    @property
    def frame(self) -> npt.NDArray[np.int64]:
        """(R,) index into `times_s` of each row."""

    @property
    def problem(self) -> str:
        """What is wrong with the video, or ""."""


Seen = TypeVar("Seen", bound=SeenClip)


def no_advance(count: int) -> None:
    """Do nothing: where nobody watches the progress."""


@dataclass(frozen=True)
class ShardedFolder(Generic[Seen]):
    """How a kind of folder is laid out; a column has the name of the clip's attribute that it holds."""

    kind: str  # what the folder holds and its step is called, as "keypoints"
    format: int  # version of the layout
    prefix: str  # beginning of the shards' file names
    row_frame: str  # column with the frame of each row
    clip_columns: tuple[str, ...]  # whole numbers, one per clip
    row_columns: tuple[str, ...]  # arrays, one entry per row
    make: Callable[..., Seen]  # builds the clip that was written from its attributes
    about: Mapping[str, Any] = field(default_factory=dict)  # what the index of every such folder says

    @property
    def index_file(self) -> str:
        """Return the name of the file that is written last."""
        return f"{self.kind}.json"

    def shard(self, folder: Path, number: int) -> Path:
        """Return the file of a shard."""
        return folder / f"{self.prefix}-{number:05d}.npz"

    def pending(self, folder: Path, clips: int) -> list[int]:
        """Return the numbers of the shards that are still to be made."""
        return [number for number in range(-(-clips // CLIPS_PER_SHARD)) if not self.shard(folder, number).is_file()]

    def write(
        self,
        folder: Path,
        names: Sequence[str],
        look: Callable[[int], Seen],
        facts: Mapping[str, Any],
        advance: Callable[..., None] = no_advance,
    ) -> None:
        """Write the folder of clips, a shard at a time; shards that are there are not made again.

        `folder` may hold the shards of an interrupted attempt for the same names; `look` sees the clip at an index.
        """
        pending = self.pending(folder, len(names))
        advance(done_clips(len(names), pending))
        for number in pending:
            self.write_shard(folder, names, number, look, advance)
        self.finish(folder, len(names), facts)

    def write_shard(
        self,
        folder: Path,
        names: Sequence[str],
        number: int,
        look: Callable[[int], Seen],
        advance: Callable[..., None] = no_advance,
    ) -> None:
        """Look at the clips of one shard and write it."""
        indices = _indices(len(names), number)
        clips = []
        for index in indices:
            clips.append(look(index))
            advance(1)
        first = np.cumsum([0] + [len(c.times_s) for c in clips])
        arrays: dict[str, npt.NDArray[Any]] = {
            "name": np.asarray([names[index] for index in indices], np.str_),
            "problem": np.asarray([c.problem for c in clips], np.str_),
        }
        arrays |= {name: np.asarray([getattr(c, name) for c in clips], np.int64) for name in self.clip_columns}
        arrays |= {
            "frame_clip": np.concatenate([np.full(len(c.times_s), i, np.int64) for i, c in enumerate(clips)]),
            "frame_time_s": np.concatenate([c.times_s for c in clips]),
            "frame_seen": np.concatenate([c.seen for c in clips]),
            self.row_frame: np.concatenate([c.frame + first[i] for i, c in enumerate(clips)]),
        }
        arrays |= {name: np.concatenate([getattr(c, name) for c in clips]) for name in self.row_columns}

        with whole_file(self.shard(folder, number)) as part, part.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    def finish(self, folder: Path, clips: int, facts: Mapping[str, Any]) -> None:
        """Write the index, which makes the folder complete."""
        index: dict[str, Any] = {"format": self.format, "clips": clips, "clips_per_shard": CLIPS_PER_SHARD}
        index |= {**self.about, **facts}
        write_json(folder / self.index_file, index)

    def read_index(self, folder: Path) -> tuple[Mapping[str, Any], dict[str, tuple[Path, int]]]:
        """Return the facts of a finished folder, and of each clip name its shard and its place there.

        Raises:
            SeldError: the folder is not finished, of another format, or damaged.
        """
        places: dict[str, tuple[Path, int]] = {}
        try:
            facts = read_json(folder / self.index_file, SeenJson)
            if facts["format"] != self.format:
                raise ValueError(f"format {facts['format']}, expected {self.format}")
            for number in range(-(-facts["clips"] // facts["clips_per_shard"])):
                path = self.shard(folder, number)
                names = read_arrays(path, {"name": "U"}, {}, "")["name"].tolist()
                places |= {name: (path, index) for index, name in enumerate(names)}
        except (SeldError, OSError, ValueError, KeyError) as error:
            raise SeldError(
                f"{folder} is no finished {self.kind} folder ({error}).", f"Give the folder of a {self.kind} step."
            ) from error
        return facts, places

    def read_shard(self, path: Path) -> list[Seen]:
        """Return the clips of one shard."""
        clip_wide = ("name", "problem", *self.clip_columns)
        frame_wide, row_wide = ("frame_clip", "frame_time_s", "frame_seen"), (self.row_frame, *self.row_columns)
        remedy = f"Run the {self.kind} step again."
        table = read_arrays(path, dict.fromkeys((*clip_wide, *frame_wide, *row_wide), ""), {}, remedy)
        for columns in (clip_wide, frame_wide, row_wide):
            if len({len(table[name]) for name in columns}) != 1:
                raise SeldError(f"{path} is damaged: {listing(columns)} differ in length.", remedy)
        clips = []
        for index in range(len(table["name"])):
            frames = np.flatnonzero(table["frame_clip"] == index)
            first = int(frames[0]) if len(frames) else 0
            row_frame = table[self.row_frame]
            rows = np.flatnonzero((row_frame >= first) & (row_frame < first + len(frames)))
            clips.append(
                self.make(
                    times_s=table["frame_time_s"][frames],
                    seen=table["frame_seen"][frames],
                    frame=row_frame[rows] - first,
                    problem=str(table["problem"][index]),
                    **{name: int(table[name][index]) for name in self.clip_columns},
                    **{name: table[name][rows] for name in self.row_columns},
                )
            )
        return clips


def done_clips(clips: int, pending: Iterable[int]) -> int:
    """Return how many of the clips lie in shards that are not pending."""
    return clips - sum(len(_indices(clips, number)) for number in pending)


def _indices(clips: int, number: int) -> range:
    return range(number * CLIPS_PER_SHARD, min((number + 1) * CLIPS_PER_SHARD, clips))
