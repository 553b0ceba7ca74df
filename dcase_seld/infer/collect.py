"""Outputs of windows, batch by batch, become events of clips: stitched where windows overlap, then decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from dcase_seld.core.events import COLUMNS, EXTRA, Events, stack
from dcase_seld.core.geometry import GEOMETRIES
from dcase_seld.infer.tracks import cut_output, stitch
from dcase_seld.model.heads import decode
from dcase_seld.model.types import SeldOutput
from dcase_seld.store.batches import Batch
from dcase_seld.store.source import Source, StoreSource


class EventCollector:
    """Puts the events of windows, batch by batch, into one table over the clips of its sources.

    The windows of a clip come one after the other, in time order. A clip of several sources keeps its name where that
    is unique, else it gets the source's number in front.

    Args:
        sources: whose windows come.
        options: how outputs are decoded, as for `decode`.
    """

    def __init__(self, sources: Sequence[Source], **options: Any) -> None:
        self.sources = list(sources)
        self.options = {"geometry": self.sources[0].task.geometry, **options}
        names = [list(source.names) for source in self.sources]
        flat = [name for part in names for name in part]
        if len(set(flat)) != len(flat):
            names = [[f"{number}/{name}" for name in part] for number, part in enumerate(names)]
        self.clips = tuple(name for part in names for name in part)
        self.frames = np.concatenate([source.frames for source in self.sources])
        self._place: list[npt.NDArray[np.int32]] = []
        first = 0
        for source in self.sources:
            place = np.full(int(source.clips.max(initial=-1)) + 1, -1, np.int32)
            place[source.clips] = np.arange(first, first + len(source.clips), dtype=np.int32)
            self._place.append(place)
            first += len(source.clips)
        windows = [place[source.windows[:, 0]] for place, source in zip(self._place, self.sources, strict=True)]
        self._windows = np.bincount(np.concatenate(windows), minlength=len(self.clips))
        self._waiting: dict[int, list[tuple[int, SeldOutput]]] = {}
        self._parts: list[Events] = []

    def reference(self) -> Events:
        """Return the labels of all clips of stores."""
        parts: list[Events] = []
        for source, place in zip(self.sources, self._place, strict=True):
            assert isinstance(source, StoreSource)
            events = source.labels
            known = events.take(events.clip < len(place))
            kept = known.take(place[known.clip] >= 0)
            parts.append(replace(kept, clips=self.clips, clip=place[kept.clip]))
        return stack(parts, self.clips)

    def add(self, output: SeldOutput, batch: Batch) -> None:
        """Take the output of a batch of windows."""
        clip = np.array(
            [self._place[s][i] for s, i in zip(batch.source.tolist(), batch.index.tolist(), strict=True)], np.int32
        )
        alone = self._windows[clip] == 1
        if alone.all():
            self._keep(output, clip)
            return
        if alone.any():
            rows = torch.from_numpy(np.flatnonzero(alone))
            self._keep(output.map(lambda field: field[rows.to(field.device)]), clip[alone])
        for row in np.flatnonzero(~alone).tolist():
            windows = self._waiting.setdefault(int(clip[row]), [])
            windows.append((int(batch.start[row]), cut_output(output, clips=slice(row, row + 1))))
            if len(windows) == self._windows[clip[row]]:
                starts, outputs = zip(*self._waiting.pop(int(clip[row])), strict=True)
                self._keep(stitch(outputs, starts, int(self.frames[clip[row]])), clip[row : row + 1])

    def events(self, fabric: Fabric | None = None) -> Events:
        """Return all events of all processes, sorted."""
        table = stack(self._parts, self.clips)
        if fabric is not None and fabric.world_size > 1:
            table = _gather(fabric, table, GEOMETRIES[self.options["geometry"]].columns)
        return table.sorted()

    def _keep(self, output: SeldOutput, clip: npt.NDArray[np.int32]) -> None:
        """Decode outputs of whole clips."""
        events = decode(output, [str(number) for number in range(len(clip))], **self.options)
        moved = replace(events, clips=self.clips, clip=clip[events.clip])
        # What lies beyond a clip's end was padding.
        self._parts.append(moved.take(moved.frame < self.frames[moved.clip]))


def _gather(fabric: Fabric, table: Events, wanted: Sequence[str]) -> Events:
    """Return the events of all processes, with their directions; columns travel as exact float64."""
    names = [*COLUMNS, *(name for name in EXTRA if name in wanted)]
    if "elevation_deg" in wanted and table.elevation_deg is None:
        table = replace(table, elevation_deg=np.zeros(len(table)))
    rows = torch.from_numpy(np.stack([getattr(table, name).astype(np.float64) for name in names], axis=1))
    lengths = fabric.all_gather(torch.tensor([len(rows)], device=fabric.device)).flatten().tolist()  # type: ignore[union-attr]
    padded = rows.new_zeros((max(lengths), len(names)))
    padded[: len(rows)] = rows
    everyone = fabric.all_gather(padded.to(fabric.device)).cpu()  # type: ignore[union-attr]
    together = torch.cat([everyone[rank, :length] for rank, length in enumerate(lengths)]).numpy()
    columns = {name: together[:, i].astype(getattr(table, name).dtype) for i, name in enumerate(names)}
    return Events(clips=table.clips, **columns)
