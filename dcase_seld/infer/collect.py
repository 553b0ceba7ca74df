"""Outputs of networks and windows → events of clips: tracks aligned, mirrored, averaged, stitched, decoded.

Letters: B clips, T label frames, C classes, N tracks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.core.events import COLUMNS, EXTRA, Events, stack
from dcase_seld.core.geometry import GEOMETRIES, Rotation
from dcase_seld.model.network import decode
from dcase_seld.model.types import SeldOutput
from dcase_seld.store.batches import Batch
from dcase_seld.store.source import Source, StoreSource

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MINIMUM_ACTIVITY = 1e-3
"""Added to activities where they weigh distances, so that silent tracks have a distance too."""


def average_outputs(outputs: Sequence[SeldOutput], weights: Sequence[float] | None = None) -> SeldOutput:
    """Return the weighted mean of members' outputs, tracks aligned per frame and class, loudest track first.

    Directions are averaged as vectors; distances weighted by each member's activity, because an inactive track's
    distance means nothing; on-screen probabilities over the members that have them. The order of a member's tracks does
    not change the result. `weights`: one per member, at least 0; None: equal.
    """
    if not outputs:
        raise ValueError("no outputs to average")
    shares = [1.0] * len(outputs) if weights is None else list(weights)
    ordered = sorted_tracks(outputs[0])
    mean = _Sum(ordered, shares[0])
    for output, share in zip(outputs[1:], shares[1:], strict=True):
        mean.add(align(output, mean.result()), share)
    return sorted_tracks(mean.result())


def average_turns(outputs: Sequence[SeldOutput]) -> SeldOutput:
    """Return the mean of outputs of equal rank, whose order changes nothing: turns of one recording, turned back.

    A turned recording gives the same outputs in another order. So tracks are aligned, in each frame and class, to the
    output of most activity there, and once more to the mean that this gives.
    """
    loudest = torch.stack([output.activity().float().sum(-1) for output in outputs]).argmax(0)

    def chosen(name: str) -> Tensor | None:
        fields = [getattr(output, name) for output in outputs]
        if fields[0] is None:
            return None
        stacked = torch.stack(fields)
        index = loudest.view(1, *loudest.shape, *[1] * (stacked.ndim - 1 - loudest.ndim)).expand_as(stacked[:1])
        return stacked.gather(0, index)[0]

    direction, distance = chosen("direction"), chosen("distance")
    assert direction is not None and distance is not None
    mean = SeldOutput(direction, distance, chosen("onscreen"))
    for _ in range(2):
        aligned = [align(output, mean) for output in outputs]
        total = _Sum(aligned[0], 1.0)
        for output in aligned[1:]:
            total.add(output, 1.0)
        mean = total.result()
    return sorted_tracks(mean)


def align(output: SeldOutput, reference: SeldOutput) -> SeldOutput:
    """Return `output` with its tracks in the order that is nearest to the reference's, per frame and class.

    The distance between two tracks is that of their direction vectors; where both are active, that of the logarithms
    of their distances counts too.
    """
    orders, incidence = _orders(output.direction.shape[3], output.direction.device)
    own, other = output.direction.float()[..., :, None, :], reference.direction.float()[..., None, :, :]
    cost = (own - other).square().sum(-1)
    both = torch.minimum(output.activity().float()[..., :, None], reference.activity().float()[..., None, :])
    gap = torch.log1p(output.distance.float())[..., :, None] - torch.log1p(reference.distance.float())[..., None, :]
    cost = cost + 0.25 * both * gap.square()
    # orders[p][j] is the own track that takes the place of the reference's track j.
    best = (cost.flatten(-2) @ incidence).argmin(-1)
    return take_tracks(output, orders[best])


def sorted_tracks(output: SeldOutput) -> SeldOutput:
    """Return `output` with its tracks by falling activity (then by direction), per frame and class."""
    by_direction = torch.argsort(output.direction[..., 1], dim=-1, descending=True, stable=True)
    activity = output.activity().gather(-1, by_direction)
    order = torch.argsort(activity, dim=-1, descending=True, stable=True)
    return take_tracks(output, by_direction.gather(-1, order))


def take_tracks(output: SeldOutput, index: Tensor) -> SeldOutput:
    """Return the tracks that `index` (B, T, C, N) names, per frame and class."""
    return output.map(lambda field: field.gather(3, index if field.ndim == 4 else index[..., None].expand_as(field)))


NEAR = math.radians(15.0)
"""How near in angle a class's tracks must be to be taken for one source that sounds on, as a standard deviation."""


def smoothed_tracks(output: SeldOutput, frames: float) -> SeldOutput:
    """Return `output` with directions and distances averaged over the class's tracks near in time and angle.

    Sources move little in `frames` (a standard deviation), the azimuths that a network says wander. Activities stay.
    """
    direction, length = output.direction.float(), output.distance.shape[1]
    unit, activity = functional.normalize(direction, dim=-1), direction.norm(dim=-1, keepdim=True)
    said = torch.cat([unit, torch.log1p(output.distance.float())[..., None], torch.ones_like(activity)], -1)
    total, reach = torch.zeros_like(said), min(math.ceil(2.0 * frames), length - 1)
    for offset in range(-reach, reach + 1):
        here = slice(max(0, -offset), length - max(0, offset))
        there = slice(max(0, offset), length - max(0, -offset))
        apart = 1.0 - unit[:, here] @ unit[:, there].transpose(-1, -2)
        share = torch.exp(-apart / NEAR**2 - 0.5 * (offset / frames) ** 2)
        total[:, here] += share @ (said[:, there] * (activity[:, there] + MINIMUM_ACTIVITY))
    total[..., :-2] = functional.normalize(total[..., :-2], dim=-1) * activity
    return output._replace(direction=total[..., :-2], distance=torch.expm1(total[..., -2] / total[..., -1]))


def swap_output(output: SeldOutput) -> SeldOutput:
    """Return what left-right mirrored sources look like: y changes its sign."""
    direction = output.direction.clone()
    direction[..., 1] *= -1.0
    return output._replace(direction=direction)


def turn_back(output: SeldOutput, rotation: Rotation) -> SeldOutput:
    """Return what sources look like whose sphere was turned by `rotation`, turned back."""
    back = rotation.inverse
    parts = [output.direction[..., place] * sign for place, sign in zip(back.order, back.sign, strict=True)]
    return output._replace(direction=torch.stack(parts, -1))


class _Sum:
    """Running weighted mean of aligned outputs."""

    def __init__(self, first: SeldOutput, share: float) -> None:
        self._direction = torch.zeros_like(first.direction, dtype=torch.float32)
        self._distance = torch.zeros_like(first.distance, dtype=torch.float32)
        self._trust = torch.zeros_like(self._distance)
        self._onscreen = torch.zeros_like(self._distance)
        self._share = self._onscreen_share = 0.0
        self.add(first, share)

    def add(self, output: SeldOutput, share: float) -> None:
        trust = share * (output.activity().float() + MINIMUM_ACTIVITY)
        self._direction += share * output.direction.float()
        self._distance += trust * output.distance.float()
        self._trust += trust
        self._share += share
        if output.onscreen is not None:
            self._onscreen += share * torch.sigmoid(output.onscreen.float())
            self._onscreen_share += share

    def result(self) -> SeldOutput:
        onscreen = None
        if self._onscreen_share > 0:
            onscreen = torch.logit(self._onscreen / self._onscreen_share, eps=1e-6)
        share = self._share or 1.0
        return SeldOutput(self._direction / share, self._distance / self._trust.clamp(min=1e-9), onscreen)


@lru_cache(maxsize=8)
def _orders(tracks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return all orders of the tracks (P, N), and which (own, reference) pairs each makes, (N·N, P) of 0 and 1."""
    orders = torch.tensor(list(permutations(range(tracks))), device=device)
    pairs = torch.zeros(len(orders), tracks, tracks, device=device)
    pairs.scatter_(1, orders[:, None, :], 1.0)
    return orders, pairs.flatten(1).T.contiguous()


def stitch(outputs: Sequence[SeldOutput], starts: Sequence[int], frames: int, first: int = 0) -> SeldOutput:
    """Return one output (1, frames - first, …), from frame `first` on, of windows' outputs (1, T, …) in time order.

    A stretch of frames that several windows cover is their average; a window counts less the closer the stretch is to
    the window's edge, where the network has heard less of what comes before or after.
    """
    length = outputs[0].distance.shape[1]
    inner = {*starts, *(start + length for start in starts)}
    edges = sorted({first, frames, *(edge for edge in inner if first < edge < frames)})
    parts = []
    for begin, end in pairwise(edges):
        over = [(s, o) for s, o in zip(starts, outputs, strict=True) if s <= begin and end <= s + length]
        middle = (begin + end) / 2
        weights = [min(middle - s, s + length - middle) for s, _ in over]
        parts.append(average_outputs([cut_output(o, frames=slice(begin - s, end - s)) for s, o in over], weights))
    return joined(parts, 1)


def joined(parts: Sequence[SeldOutput], axis: int = 0) -> SeldOutput:
    """Return outputs one after the other, along clips or label frames; on-screen logits where all have them."""
    screens = [part.onscreen for part in parts if part.onscreen is not None]
    direction, distance = torch.cat([p.direction for p in parts], axis), torch.cat([p.distance for p in parts], axis)
    return SeldOutput(direction, distance, torch.cat(screens, axis) if len(screens) == len(parts) else None)


def cut_output(output: SeldOutput, clips: slice = slice(None), frames: slice = slice(None)) -> SeldOutput:
    """Return some clips and label frames of an output, on the CPU."""
    return output.map(lambda field: field[clips, frames].cpu())


MOST_WAITING = 16
"""Windows of a clip that are kept before what they have settled is decoded: memory does not grow with a recording."""


@dataclass
class _Waiting:
    """The windows of a clip that later ones may still overlap."""

    windows: list[tuple[int, SeldOutput]]  # their first frames and outputs
    seen: int = 0  # windows that came so far
    done: int = 0  # frames that are decoded


class EventCollector:
    """Puts the events of windows, batch by batch, into one table over the clips of its sources.

    The windows of a clip come one after the other, in time order. A clip of several sources keeps its name where that
    is unique, else it gets the source's number in front.

    Args:
        sources: whose windows come.
        smooth_frames: how far in time directions and distances are averaged, see `smoothed_tracks`.
        options: how outputs are decoded, as for `decode`.
    """

    def __init__(self, sources: Sequence[Source], smooth_frames: float = 0.0, **options: Any) -> None:
        self.sources, self.smooth_frames = list(sources), smooth_frames
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
        self._waiting: dict[int, _Waiting] = {}
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
            number, start = int(clip[row]), int(batch.start[row])
            waiting = self._waiting.setdefault(number, _Waiting([]))
            waiting.windows.append((start, cut_output(output, clips=slice(row, row + 1))))
            waiting.seen += 1
            if waiting.seen == self._windows[number]:
                self._finish(number, int(self.frames[number]))
                del self._waiting[number]
            elif len(waiting.windows) >= MOST_WAITING:
                self._finish(number, start)

    def _finish(self, clip: int, end: int) -> None:
        """Decode the frames of a clip before `end`, which no further window covers."""
        waiting = self._waiting[clip]
        if end > waiting.done:
            starts, outputs = zip(*waiting.windows, strict=True)
            self._keep(stitch(outputs, starts, end, waiting.done), np.array([clip], np.int32), waiting.done)
            length = outputs[0].distance.shape[1]
            waiting.windows = [one for one in waiting.windows if one[0] + length > end]
            waiting.done = end

    def events(self, fabric: Fabric | None = None) -> Events:
        """Return all events of all processes, sorted."""
        table = stack(self._parts, self.clips)
        if fabric is not None and fabric.world_size > 1:
            table = _gather(fabric, table, GEOMETRIES[self.options["geometry"]].columns)
        return table.sorted()

    def _keep(self, output: SeldOutput, clip: npt.NDArray[np.int32], first: int = 0) -> None:
        """Decode outputs of whole clips, or of a clip from frame `first` on."""
        output = smoothed_tracks(output, self.smooth_frames) if self.smooth_frames else output
        events = decode(output, [str(number) for number in range(len(clip))], **self.options)
        moved = replace(events, clips=self.clips, clip=clip[events.clip], frame=events.frame + np.int32(first))
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
    columns: dict[str, Any] = {name: together[:, i].astype(getattr(table, name).dtype) for i, name in enumerate(names)}
    return Events(clips=table.clips, **columns)
