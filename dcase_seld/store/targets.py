"""Event tables as training targets: per clip, label frame and class the number of sources and where they are.

Of more than `tracks` sources of one class in one frame the first ones in the order of the label file count; the others
are dropped, and their number is reported. Source: the challenge's multi-ACCDOA label encoding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.events import Events
from dcase_seld.core.geometry import GEOMETRIES
from dcase_seld.core.task import CLIP_FRAMES, Task

Ints = npt.NDArray[np.int64]

Float32 = npt.NDArray[np.float32]


class TargetTable:
    """All events of a store, ordered by clip, ready to be gathered for any batch of clips.

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
        self._source = np.column_stack([direction, events.distance_m[order], events.onscreen[order]]).astype(np.float32)
        self._bounds = np.searchsorted(clip, np.arange(len(events.clips) + 1))

    def encode(
        self, clips: npt.NDArray[np.integer[Any]], frames: int = CLIP_FRAMES, start_frames: Ints | None = None
    ) -> tuple[Ints, Float32]:
        """Return (count (B, T, C) int64, source (B, T, C, N, D + 2) float32) of clips (B,), which may repeat.

        A source is its direction, its distance in metres and whether it is on screen.

        Args:
            clips: indices into the events' clips.
            frames: label frames T of the target.
            start_frames: (B,) label frame of each clip at which its target begins; None: 0.
        """
        count = np.zeros((len(clips), frames, self.n_classes), np.int64)
        source = np.zeros((*count.shape, self.tracks, self._source.shape[1]), np.float32)
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
        source[item, frame, sound, track] = self._source[rows]
        # Tracks are filled from 0 without gaps, so the highest track written says how many sources there are.
        np.maximum.at(count, (item, frame, sound), track + 1)
        return count, source


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
