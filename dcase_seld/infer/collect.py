"""Overlapping windows of long clips: their outputs, which come batch by batch, become one output per clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from dcase_seld.core.events import COLUMNS, Events, _stack
from dcase_seld.infer.tracks import stitch
from dcase_seld.model.heads import decode
from dcase_seld.model.types import ModelInput, SeldOutput
from dcase_seld.store.batches import Batch
from dcase_seld.store.source import ClipSource
from dcase_seld.store.store import Store


class EventCollector:
    """Puts the events of windows, batch by batch, into one table over the clips of its sources.

    A clip of several stores keeps its name where that is unique, else it gets the store's number in front.
    """

    def __init__(self, sources: Sequence[ClipSource]) -> None:
        self.sources = list(sources)
        names = [[source.store.names[index] for index in source.indices] for source in self.sources]
        flat = [name for part in names for name in part]
        if len(set(flat)) != len(flat):
            names = [[f"{number}/{name}" for name in part] for number, part in enumerate(names)]
        self.clips = tuple(name for part in names for name in part)
        self._place = []
        self.frames = np.concatenate([source.store.frames[source.indices] for source in self.sources])
        first = 0
        for source in self.sources:
            place = np.full(len(source.store), -1, np.int32)
            place[source.indices] = np.arange(first, first + len(source.indices), dtype=np.int32)
            self._place.append(place)
            first += len(source.indices)
        self._parts: list[Events] = []

    def reference(self) -> Events:
        """Return the labels of all clips."""
        parts = []
        for source, place in zip(self.sources, self._place, strict=True):
            events = source.store.events
            kept = events.take(place[events.clip] >= 0)
            parts.append(replace(kept, clips=self.clips, clip=place[kept.clip]))
        return _stack(parts, self.clips)

    def add(self, output: SeldOutput, batch: Batch, **options: Any) -> None:
        """Decode the output of a batch (`options` as for `decode`) and keep its events."""
        events = decode(output, [str(number) for number in range(len(batch.index))], **options)
        index, start, source = (t.numpy() for t in (batch.index, batch.start, batch.source))
        window = np.array([self._place[s][i] for s, i in zip(source, index, strict=True)], np.int32)
        clip, frame = window[events.clip], (events.frame + start[events.clip]).astype(np.int32)
        moved = replace(events, clips=self.clips, clip=clip, frame=frame)
        # What lies beyond a clip's end was padding.
        self._parts.append(moved.take(frame < self.frames[clip]))

    def events(self, fabric: Fabric | None = None) -> Events:
        """Return all events of all processes, sorted."""
        table = _stack(self._parts, self.clips)
        if fabric is not None and fabric.world_size > 1:
            table = _gather(fabric, table)
        return table.sorted()


def _gather(fabric: Fabric, table: Events) -> Events:
    """Return the events of all processes; columns travel as float64, which holds every value exactly."""
    rows = torch.from_numpy(np.stack([getattr(table, name).astype(np.float64) for name in COLUMNS], axis=1))
    lengths = fabric.all_gather(torch.tensor([len(rows)], device=fabric.device)).flatten().tolist()  # type: ignore[union-attr]
    padded = rows.new_zeros((max(lengths), len(COLUMNS)))
    padded[: len(rows)] = rows
    everyone = fabric.all_gather(padded.to(fabric.device)).cpu()  # type: ignore[union-attr]
    together = torch.cat([everyone[rank, :length] for rank, length in enumerate(lengths)]).numpy()
    columns = {name: together[:, i].astype(getattr(table, name).dtype) for i, name in enumerate(COLUMNS)}
    return Events(clips=table.clips, **columns)


def stitched(found: Iterable[tuple[SeldOutput, Batch]], store: Store) -> Iterator[tuple[SeldOutput, Batch]]:
    """Yield (output (1, frames, C, N), its clip) as soon as the last window of a clip has come.

    Args:
        found: outputs of batches whose windows come clip by clip, in time order.
        store: the clips.
    """
    clip, starts, outputs = -1, list[int](), list[SeldOutput]()
    for output, batch in found:
        for row, (index, start) in enumerate(zip(batch.index.tolist(), batch.start.tolist(), strict=True)):
            if index != clip and outputs:
                yield _whole(clip, starts, outputs, store)
                starts, outputs = [], []
            clip = index
            starts.append(start)
            screen = None if output.onscreen is None else output.onscreen[row : row + 1]
            outputs.append(SeldOutput(output.xy[row : row + 1], output.distance[row : row + 1], screen))
    if outputs:
        yield _whole(clip, starts, outputs, store)


def _whole(clip: int, starts: list[int], outputs: list[SeldOutput], store: Store) -> tuple[SeldOutput, Batch]:
    zero = torch.zeros(1, dtype=torch.int64)
    return stitch(outputs, starts, int(store.frames[clip])), Batch(ModelInput(), None, zero + clip, zero, zero)
