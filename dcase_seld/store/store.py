"""A corpus made ready for training: one packed audio file, tables of clips and events, and events as targets.

    store.json     format version, taxonomy, sample rate, counts; the last file written
    audio.i16      int16 samples of all clips one after the other, left and right interleaved
    clips.npz      one row per clip: name, part, split, place in audio.i16, label frames, video
    events.npz     the labels of all clips, clip index = store index

Audio is read with positioned reads into the caller's batch, not through touched memory maps: so the memory of a
training process does not grow with the store.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core import old_formats
from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import CHANNELS, GEOMETRIES
from dcase_seld.core.reading import Facts, read_arrays, read_json
from dcase_seld.core.task import CLIP_FRAMES, Task

SPLITS = ("train", "val", "test", "eval")
"""The splits that a clip can be in."""

FORMAT = 2

IDENTITY_SAMPLES = 4096
"""Samples that are read at each of 16 places to tell one store's sound from another's."""

Int16 = npt.NDArray[np.int16]

Ints = npt.NDArray[np.int64]


class StoreJson(Facts):
    """The schema of store.json; the task is checked by its class."""

    format: int
    corpus: str
    task: dict[str, Any] | None = None
    taxonomy: dict[str, Any] | None = None
    sample_rate: int | None = None


_COLUMNS = {"name": "U", "part": "U", "split": "U", "samples": "iu", "frames": "iu", "labelled": "b", "video": "U"}
"""The columns of clips.npz and their kinds."""


class Store:
    """A finished store, opened with `Store.open(folder)`.

    Attributes:
        folder: the folder.
        names: clip names (file stems); a clip's index is its position.
        parts: the corpus' folder of each clip, as "dev-train-tau".
        split: (clips,) "train", "val", "test" or "eval".
        task: classes, sample rate, window length, channels and directions.
        samples: (clips,) samples per channel.
        frames: (clips,) label frames.
        labelled: (clips,) bool, whether a label file was there.
        videos: path of each clip's video, or None.
        facts: what store.json says: counts, problems, how it was made.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], table: dict[str, npt.NDArray[Any]]) -> None:
        self.folder, self.facts = folder, facts
        self.task = Task.from_json(old_formats.task_of(facts))
        self.channels = CHANNELS[self.task.channels].count
        self.names: tuple[str, ...] = tuple(table["name"].tolist())
        self.parts: tuple[str, ...] = tuple(table["part"].tolist())
        self.split: npt.NDArray[np.str_] = table["split"]
        self.samples: Ints = table["samples"].astype(np.int64)
        self.frames: Ints = table["frames"].astype(np.int64)
        self.labelled: npt.NDArray[np.bool_] = table["labelled"].astype(bool)
        corpus = Path(facts["corpus"])
        self.videos: list[Path | None] = [corpus / video if video else None for video in table["video"].tolist()]
        self._first: Ints = np.concatenate([[0], np.cumsum(self.samples)])
        self._file = os.open(folder / "audio.i16", os.O_RDONLY)
        size = os.fstat(self._file).st_size
        expected = int(self._first[-1]) * self._sample_bytes
        if size != expected:
            raise SeldError(
                f"{folder / 'audio.i16'} has {size:,} bytes; {expected:,} are expected.",
                "Remove the store and prepare it again.",
            )
        self._pcm: Int16 = np.frombuffer(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ), np.int16).reshape(
            -1, self.channels
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        hours = self.samples.sum() / self.sample_rate / 3600
        what = f"{len(self.names):,} clips: {counts}; {hours:.2f} h, {len(self.taxonomy)} classes"
        return f"Store({str(self.folder)!r}, {what})"

    @property
    def taxonomy(self) -> Taxonomy:
        """Return the classes."""
        return self.task.classes

    @property
    def sample_rate(self) -> int:
        """Return the samples per second."""
        return self.task.sample_rate

    @property
    def pcm(self) -> Int16:
        """Return a read-only view (samples of all clips, channels) of the audio file."""
        return self._pcm

    @property
    def first_sample(self) -> Ints:
        """Return (clips + 1,) where each clip's sound begins in `pcm`, and its end."""
        return self._first

    @property
    def _sample_bytes(self) -> int:
        return 2 * self.channels

    @staticmethod
    def open(folder: Path) -> Store:
        """Return the store in a folder.

        Raises:
            SeldError: the folder holds no finished store, one of another format version, or a broken one.
        """
        remedy = "Give the folder of a prepare step."
        if not (folder / "store.json").is_file():
            raise SeldError(f"{folder} holds no finished store.", remedy)
        try:
            facts = read_json(folder / "store.json", StoreJson, remedy)
            if not 1 <= facts["format"] <= FORMAT:
                raise SeldError(
                    f"{folder} is a store of format {facts['format']}; at most {FORMAT} can be read.", remedy
                )
            table = read_arrays(folder / "clips.npz", _COLUMNS, {}, remedy)
            audio = (folder / "audio.i16").stat().st_size
            samples, frames = table["samples"], table["frames"]
            if len({len(column) for column in table.values()}) != 1 or not len(samples):
                raise ValueError("the columns of clips.npz differ in length, or are empty")
            if not ((samples >= 0) & (samples <= audio) & (frames >= 0) & (frames <= audio)).all():
                raise ValueError("clips.npz holds lengths that audio.i16 has not")
            if len(set(table["name"].tolist())) != len(samples):
                raise ValueError("clips.npz names a clip twice")
            return Store(folder, facts, table)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SeldError(f"{folder} holds no finished store ({error}).", remedy) from error

    def __len__(self) -> int:
        return len(self.names)

    def __del__(self) -> None:
        # Views of the map may outlive the store; the descriptor is not needed for them.
        if hasattr(self, "_file"):
            os.close(self._file)

    @cached_property
    def events(self) -> Events:
        """Return the labels of all clips; clip index = store index; clips without labels have no rows."""
        events = Events.load(self.folder / "events.npz")
        if events.clips != self.names or (len(events) and events.class_index.max() >= len(self.taxonomy)):
            raise SeldError(
                f"{self.folder / 'events.npz'} is of other clips or classes than clips.npz.", "Prepare the store again."
            )
        return events

    @cached_property
    def identity(self) -> str:
        """Return a short hash of the clips' names and of samples of their sound, by which tokens know their store."""
        digest = hashlib.sha256("\n".join(self.names).encode("utf-8", "surrogatepass"))
        last = len(self._pcm) - IDENTITY_SAMPLES
        for start in np.linspace(0, max(0, last), 16).astype(np.int64).tolist():
            digest.update(self._pcm[start : start + IDENTITY_SAMPLES].tobytes())
        return digest.hexdigest()[:16]

    def indices(self, split: str | Sequence[str] = "all") -> Ints:
        """Return the indices of the clips in a split, in several, or in "all", ascending.

        Raises:
            SeldError: there is no split of this name.
        """
        wanted = [split] if isinstance(split, str) else list(split)
        unknown = [name for name in wanted if name not in (*SPLITS, "all")]
        if unknown:
            raise SeldError(
                f"There is no split {unknown[0]!r}.", f"Choose of {', '.join(SPLITS)}, all (this store: {self.counts})."
            )
        if "all" in wanted:
            return np.arange(len(self), dtype=np.int64)
        return np.flatnonzero(np.isin(self.split, wanted)).astype(np.int64)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of clips of each split that occurs."""
        return dict(Counter(self.split.tolist()))

    def audio(self, index: int, start_sample: int = 0, samples: int | None = None) -> Int16:
        """Return a read-only view (S, channels) int16 of one clip or of a part of it, without copying.

        A part that reaches beyond the clip's end is shorter than asked for.
        """
        stop = self._first[index + 1]
        first = min(self._first[index] + start_sample, stop)
        return self._pcm[first : stop if samples is None else min(first + samples, stop)]

    def read_many(
        self,
        indices: npt.NDArray[np.integer[Any]] | Sequence[int],
        start_samples: npt.NDArray[np.integer[Any]] | None = None,
        samples: int | None = None,
        out: Int16 | None = None,
    ) -> Int16:
        """Return (B, S, channels) int16 of clips, copied; what lies beyond a clip's end is zero.

        The S samples (None: of the longest clip) begin at `start_samples` (B,) of clips `indices` (B,), which may
        repeat; `out` is filled.
        """
        rows = np.asarray(indices, np.int64)
        starts = np.zeros(len(rows), np.int64) if start_samples is None else np.asarray(start_samples, np.int64)
        left = np.maximum(self.samples[rows] - starts, 0)
        length = int(left.max(initial=0)) if samples is None else samples
        if out is None:
            out = np.empty((len(rows), length, self.channels), np.int16)
        offsets = ((self._first[rows] + starts) * self._sample_bytes).tolist()
        for item, offset, count in zip(out, offsets, np.minimum(left, length).tolist(), strict=True):
            if count:
                self._read_into(item[:count], offset)
            item[count:] = 0
        return out

    def position(self, names: Sequence[str]) -> Ints:
        """Return the indices of named clips. Raises SeldError: a name is not in the store."""
        table = {name: index for index, name in enumerate(self.names)}
        missing = [name for name in names if name not in table]
        if missing:
            raise SeldError(f"{self.folder} has no clip {listing(missing)}.", "Check the clip's name.")
        return np.array([table[name] for name in names], np.int64)

    def _read_into(self, target: Int16, offset: int) -> None:
        """Fill `target` from a byte offset of the audio file."""
        if not hasattr(os, "preadv"):  # Windows
            target[:] = self._pcm[offset // self._sample_bytes :][: len(target)]
            return
        view = memoryview(target.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        done = 0
        while done < len(view):
            got = os.preadv(self._file, [view[done:]], offset + done)
            if got <= 0:
                raise SeldError(f"{self.folder / 'audio.i16'} ends too early.", "Prepare the store again.")
            done += got


Float32 = npt.NDArray[np.float32]


class TargetTable:
    """All events of a store, ordered by clip, ready to be gathered as training targets of any batch of clips.

    Of more than `tracks` sources of one class in one frame the first ones in the order of the label file count. Source:
    the challenge's multi-ACCDOA label encoding.

    Attributes:
        n_classes: number of classes C.
        tracks: sources per class and frame that a target can hold, N.
        dropped: rows beyond `tracks` sources of one class in one frame, which no target will hold.
    """

    def __init__(self, events: Events, task: Task) -> None:
        self.n_classes, self.tracks = n_classes, tracks = len(task.classes), task.tracks
        geometry = GEOMETRIES[task.geometry]
        order = np.argsort(events.clip, kind="stable")
        clip, frame, sound = (
            np.asarray(column, np.int64)[order] for column in (events.clip, events.frame, events.class_index)
        )
        if len(sound) and not (sound.min() >= 0 and sound.max() < n_classes):
            raise ValueError(f"class {sound.max()} among events of {n_classes} classes")
        track = _rank_within_cell(clip, frame, sound, n_classes)
        kept = track < tracks
        self.dropped = int((~kept).sum())
        order, clip, frame, sound, track = order[kept], clip[kept], frame[kept], sound[kept], track[kept]
        elevation = None if events.elevation_deg is None else events.elevation_deg[order]
        direction = geometry.to_vector(events.azimuth_deg[order], elevation)
        self._frame, self._class, self._track = frame, sound, track
        fields = direction, events.distance_m[order], events.onscreen[order]
        self._fields = [np.asarray(field, np.float32) for field in fields]
        self._bounds = np.searchsorted(clip, np.arange(len(events.clips) + 1))

    def encode(
        self, clips: npt.NDArray[np.integer[Any]], frames: int = CLIP_FRAMES, start_frames: Ints | None = None
    ) -> tuple[Ints, Float32, Float32, Float32]:
        """Return count (B, T, C) int64, direction (B, T, C, N, D), metres and on screen (B, T, C, N) float32 of clips.

        Args:
            clips: (B,) indices into the events' clips, which may repeat.
            frames: label frames T of the target.
            start_frames: (B,) label frame of each clip at which its target begins; None: 0.
        """
        count = np.zeros((len(clips), frames, self.n_classes), np.int64)
        # Each lies by itself: what is cut out of one array travels to a GPU by way of a copy that is not page-locked.
        made = [np.zeros((*count.shape, self.tracks, *field.shape[1:]), np.float32) for field in self._fields]
        first, stop = self._bounds[clips], self._bounds[np.asarray(clips) + 1]
        counts = stop - first
        item = np.repeat(np.arange(len(clips)), counts)
        rows = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        frame = self._frame[rows]
        if start_frames is not None:
            frame = frame - start_frames[item]
        inside = (frame >= 0) & (frame < frames)
        item, frame, rows = item[inside], frame[inside], rows[inside]
        sound, track = self._class[rows], self._track[rows]
        for whole, field in zip(made, self._fields, strict=True):
            whole[item, frame, sound, track] = field[rows]
        # Tracks are filled from 0 without gaps, so the highest track written says how many sources there are.
        np.maximum.at(count, (item, frame, sound), track + 1)
        direction, distance, onscreen = made
        return count, direction, distance, onscreen


def _rank_within_cell(clip: Ints, frame: Ints, sound: Ints, n_classes: int) -> Ints:
    """Return how many earlier rows share a row's clip, frame and class: its track, in file order."""
    if not len(clip):
        return np.zeros(0, np.int64)
    cell = (clip * (int(frame.max()) + 1) + frame) * n_classes + sound
    order = np.argsort(cell, kind="stable")
    ordered = cell[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(len(cell)) - np.repeat(begins, np.diff(np.r_[begins, len(cell)]))
    out = np.empty(len(cell), np.int64)
    out[order] = rank
    return out
