"""Validation in process: forward, decode, official scores; no CSV is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from dcase_seld.data.batches import Batch, Batches, ClipSource
from dcase_seld.metrics.official import score_events
from dcase_seld.model.adpit import LossParts
from dcase_seld.model.decode import decode
from dcase_seld.model.outputs import SeldOutput
from dcase_seld.model.seld import SeldNetwork
from dcase_seld.task.events import COLUMNS, Events

EXTRA = ("activity", "onscreen_probability")


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


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: SeldNetwork,
    batches: Batches,
    collector: EventCollector,
    loss: Any,
    threshold: float,
) -> dict[str, Any]:
    """Return the official macro scores (NaN as None), class-wise scores and the mean loss of the validation clips.

    Args:
        fabric: devices, precision and processes; each validates its share of the clips.
        network: in evaluation mode.
        batches: the validation clips, each window once.
        collector: an empty collector over their sources.
        loss: (SeldOutput, SeldTarget) → LossParts.
        threshold: activity threshold.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in batches.epoch(0):
        inputs = batch.input.to(fabric.device)
        if inputs.features is None:
            assert inputs.wave is not None
            inputs = inputs._replace(features=network.frontend.extract(inputs.wave))
        with fabric.autocast():
            output = network(inputs)
        assert batch.target is not None
        parts: LossParts = loss(output, type(batch.target)(*(t.to(fabric.device) for t in batch.target)))
        sums += torch.tensor([float(parts.total) * len(batch.index), len(batch.index)])
        collector.add(output, batch, thresholds=threshold)
    events = collector.events(fabric)
    if fabric.world_size > 1:
        sums = fabric.all_reduce(sums.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
    scores = score_events(events, collector.reference(), n_classes=len(network.taxonomy)).to_json()
    kept = {key: value for key, value in scores.items() if key not in ("jackknife", "track", "average", "protocol")}
    return {**kept, "val_loss": float(sums[0] / sums[1])}


def _stack(tables: Sequence[Events], clips: tuple[str, ...]) -> Events:
    """Return tables over the same clips as one."""
    if not tables:
        return Events.empty(clips)
    columns: dict[str, Any] = {name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS}
    for name in EXTRA:
        parts = [getattr(table, name) for table in tables]
        columns[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    return Events(clips=clips, **columns)


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
