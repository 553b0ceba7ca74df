"""Batches of a source or of several mixed by weight: seeded, resumable at any batch, sharded, read ahead.

The order of an epoch is a pure function of seed and epoch number, so a killed run goes on at the batch where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from dcase_seld.core.config import Config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import read_ahead
from dcase_seld.model.types import ModelInput, SeldTarget, Tokens
from dcase_seld.store.source import Source, StoreSource, refuse_unlike

Ints = npt.NDArray[np.int64]

FieldsType = TypeVar("FieldsType", SeldTarget, Tokens)


class Sampling(Config):
    """How a shuffled epoch chooses its clips."""

    class_balance: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="0: every clip once. Above: clips are drawn with replacement, weighted by the mean over their "
        "classes of (frames of the class)^-class_balance; 1 shows rare classes about as often as frequent ones.",
    )
    epoch_clips: int | None = Field(
        default=None, ge=1, description="Clips of one epoch; by default as many as the sources hold together."
    )


def epoch_order(sources: Sequence[Source], sampling: Sampling, seed: int | None, epoch: int) -> Ints:
    """Return (W, 2) source and row of its windows in an epoch's order: a pure function of seed and epoch.

    Without a seed: every window once, ascending.
    """
    sizes = [len(source.windows) for source in sources]
    if seed is None:
        return np.concatenate([_pairs(number, np.arange(size)) for number, size in enumerate(sizes)])
    total = sampling.epoch_clips or sum(sizes)
    weights = np.array(
        [s if source.weight is None else source.weight for s, source in zip(sizes, sources, strict=True)]
    )
    counts = np.floor(np.cumsum(weights) / weights.sum() * total + 0.5).astype(np.int64)
    counts = np.diff(np.r_[0, counts])
    chosen = []
    for number, (source, count) in enumerate(zip(sources, counts.tolist(), strict=True)):
        if sampling.class_balance > 0:
            assert isinstance(source, StoreSource)
            rng = np.random.default_rng([seed, epoch, number])
            rows: Ints = np.asarray(rng.choice(sizes[number], count, p=clip_weights(source, sampling.class_balance)))
        else:
            rows = _passes(sizes[number], count, seed, epoch, number)
        chosen.append(_pairs(number, rows))
    order = np.concatenate(chosen)
    if len(sources) > 1 or sampling.class_balance > 0:
        order = order[np.random.default_rng([seed, epoch, len(sources)]).permutation(len(order))]
    return order


def clip_weights(source: StoreSource, balance: float) -> npt.NDArray[np.float64]:
    """Return the probability (W,) of each window: mean over the classes that its clip holds of frames^-balance.

    Clips in which nothing sounds get the mean weight of the others.
    """
    store = source.store
    chosen = np.isin(store.events.clip, source.clips)
    clip, sound = store.events.clip[chosen], store.events.class_index[chosen]
    frames = np.bincount(sound, minlength=len(store.taxonomy)).astype(np.float64)
    worth = np.where(frames > 0, np.maximum(frames, 1.0) ** -balance, 0.0)
    present: npt.NDArray[Any] = np.zeros((len(store), len(store.taxonomy)), np.bool_)
    present[clip, sound] = True
    count = present.sum(axis=1)
    weight = (present * worth).sum(axis=1) / np.maximum(count, 1)
    rows = source.windows[:, 0]
    silent = count[rows] == 0
    out = weight[rows]
    out[silent] = out[~silent].mean() if (~silent).any() else 1.0
    return np.asarray(out / out.sum())


def _passes(size: int, count: int, seed: int, epoch: int, number: int) -> Ints:
    """Return `count` rows of an endless row of shuffled passes over all rows, from where the epochs before stopped."""
    first, stop = epoch * count, (epoch + 1) * count
    passes = [
        np.random.default_rng([seed, number, index]).permutation(size)
        for index in range(first // size, -(-stop // size))
    ]
    offset = first - (first // size) * size
    return np.concatenate(passes)[offset : offset + count] if passes else np.zeros(0, np.int64)


def _pairs(number: int, rows: npt.NDArray[np.integer[Any]]) -> Ints:
    return np.stack([np.full(len(rows), number), rows], axis=1).astype(np.int64)


class Batch(NamedTuple):
    """One batch of windows.

    Attributes:
        input: what the model may look at.
        target: what it should have said; None where clips are unlabelled or no targets were asked for.
        index: (B,) int64, number of the clip within its source (a store: its index there).
        start: (B,) int64, label frame of the clip at which the window begins (0 for challenge clips).
        source: (B,) int64, which of the mixed sources a clip is of (0 where there is one).
        mirror: tokens of the left-right mirrored input, for augmentation by swap; none unless asked for.
    """

    input: ModelInput
    target: SeldTarget | None
    index: Tensor  # type: ignore[assignment]
    start: Tensor
    source: Tensor
    mirror: ModelInput | None = None


class Batches:
    """Batches of windows of clips; iterate `epoch(number, start_batch)`.

    Args:
        sources: a source, or several that are mixed.
        batch_size: windows per batch and process.
        shuffle_seed: seed of the order; None: ascending order, each window once.
        sampling: how shuffled epochs choose clips (class balance, epoch length).
        targets: encode labels too.
        mirror: read the tokens of mirrored input too (for augmentation by swap).
        rank: this process' number.
        world_size: processes that share an epoch; in ascending order all windows of a clip are one process'.
        drop_last: leave out the last batch where it is not full (always so for several processes that shuffle).
        ahead: batches that a thread reads while the model works; 0: none.
        pin: return page-locked tensors, which travel to a CUDA device without waiting.
        raw: leave sound in int16 and tokens as they are stored: half the bytes to travel (`ModelInput.floats`).
        sound: False: read no sound, which is on the device already (`ResidentSound`).
    """

    def __init__(
        self,
        sources: Source | Sequence[Source],
        batch_size: int = 32,
        *,
        shuffle_seed: int | None = None,
        sampling: Sampling | None = None,
        targets: bool = True,
        mirror: bool = False,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        ahead: int = 2,
        pin: bool = False,
        raw: bool = False,
        sound: bool = True,
    ) -> None:
        self.sources: list[Source] = list(sources) if isinstance(sources, Sequence) else [sources]
        if not self.sources or not all(len(source.windows) for source in self.sources):
            raise SeldError("There is no clip to make batches of.", "Check the split and the store's counts.")
        self.batch_size, self.targets = batch_size, targets
        self.shuffle_seed, self.sampling = shuffle_seed, sampling or Sampling()
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.mirror, self.ahead, self.pin = mirror, ahead, pin
        self.raw, self.sound = raw, sound
        refuse_unlike(self.sources, mirror)
        self._last: tuple[int, Ints] | None = None

    def __len__(self) -> int:
        """Return the number of batches of this process in an epoch."""
        if self.world_size > 1 and self.shuffle_seed is not None:
            return len(self._order(0)) // (self.batch_size * self.world_size)
        mine = len(self._mine(0))
        return mine // self.batch_size if self.drop_last else -(-mine // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of epoch 0."""
        return self.epoch(0)

    def epoch(self, number: int = 0, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_batch` on."""
        order = self._mine(number)
        size = self.batch_size
        chunks = [order[size * batch : size * (batch + 1)] for batch in range(start_batch, len(self))]
        if self.ahead <= 0:
            return map(self._read, chunks)
        return read_ahead(self._read, chunks, self.ahead)

    def _order(self, epoch: int) -> Ints:
        """Return (windows, 2): source and row of its windows, in the order of an epoch."""
        if self._last is None or self._last[0] != epoch:
            self._last = (epoch, epoch_order(self.sources, self.sampling, self.shuffle_seed, epoch))
        return self._last[1]

    def _mine(self, epoch: int) -> Ints:
        """Return this process' part of the order of an epoch."""
        order = self._order(epoch)
        if self.world_size == 1:
            return order
        if self.shuffle_seed is not None:
            return order[self.rank :: self.world_size]
        # Outputs of windows are put together clip by clip, so a clip is not divided.
        clip = np.concatenate([source.windows[:, 0] for source in self.sources])
        begins = np.r_[True, (np.diff(clip) != 0) | (np.diff(order[:, 0]) != 0)]
        return np.asarray(order[(np.cumsum(begins) - 1) % self.world_size == self.rank])

    def _read(self, chosen: Ints) -> Batch:
        """Return the batch of windows given as (B, 2): source and row."""
        parts = [
            (here, number)
            for number in range(len(self.sources))
            if (here := np.flatnonzero(chosen[:, 0] == number)).size
        ]
        back = np.argsort(np.concatenate([here for here, _ in parts])) if len(parts) > 1 else None
        rows = [(self.sources[number], chosen[here, 1]) for here, number in parts]
        windows = _joined([source.windows[row] for source, row in rows], back)
        if not self.sound:
            made = ModelInput()
        elif self.sources[0].cached:
            made = ModelInput(features=torch.from_numpy(_joined([s.features(row) for s, row in rows], back)))
        else:
            pcm = torch.from_numpy(_joined([source.sound(row) for source, row in rows], back)).transpose(1, 2)
            made = ModelInput(wave=pcm)
        made = made.replace(tokens=self._tokens(rows, back, mirror=False))
        mirrored = ModelInput(tokens=self._tokens(rows, back, mirror=True) if self.mirror else {})
        if not self.raw:
            made, mirrored = made.floats(), mirrored.floats()
        targets = [source.target(row) for source, row in rows] if self.targets else []
        batch = Batch(
            made,
            _merged([target for target in targets if target is not None], back)
            if targets and None not in targets
            else None,
            torch.from_numpy(windows[:, 0].copy()),
            torch.from_numpy(windows[:, 1].copy()),
            torch.from_numpy(chosen[:, 0].copy()),
            mirrored if mirrored.tokens else None,
        )
        return _pinned(batch) if self.pin else batch

    def _tokens(self, rows: Sequence[tuple[Source, Ints]], back: Ints | None, mirror: bool) -> dict[str, Tokens]:
        """Return the tokens of a batch by encoder."""
        found = [source.tokens(row, mirror) for source, row in rows]
        return {name: _merged([part[name] for part in found], back) for name in found[0]}


class ResidentSound:
    """The sound of sources' stores on a device, from which the windows of batches are gathered there.

    Args:
        sources: as of the batches, which then need no `sound`.
        device: where the stores shall live, as int16.
    """

    def __init__(self, sources: Sequence[StoreSource], device: torch.device) -> None:
        stores = {source.store.folder: source.store for source in sources}
        lengths = [len(store.pcm) for store in stores.values()]
        base = dict(zip(stores, np.cumsum([0, *lengths]).tolist(), strict=False))
        self._pcm = torch.empty(sum(lengths), sources[0].store.channels, dtype=torch.int16, device=device)
        for folder, store in stores.items():
            for first in range(0, len(store.pcm), CHUNK_SAMPLES):
                part = torch.from_numpy(store.pcm[first : first + CHUNK_SAMPLES].copy())
                self._pcm[base[folder] + first :][: len(part)] = part.to(device)
        self._places = [
            (base[source.store.folder] + source.store.first_sample, source.store.samples, source.task.samples_per_frame)
            for source in sources
        ]
        self._length = sources[0].window_frames * sources[0].task.samples_per_frame

    @staticmethod
    def size(sources: Sequence[StoreSource]) -> int:
        """Return the bytes that the sound of the sources' stores takes."""
        return sum(store.pcm.nbytes for store in {source.store.folder: source.store for source in sources}.values())

    def wave(self, batch: Batch) -> Tensor:
        """Return (B, channels, S) int16 of a batch's windows, zeros beyond a clip's end."""
        rows = list(zip(batch.source.tolist(), batch.index.tolist(), batch.start.tolist(), strict=True))
        places = [
            (
                self._places[s][0][clip] + start * self._places[s][2],
                self._places[s][1][clip] - start * self._places[s][2],
            )
            for s, clip, start in rows
        ]
        first, left = torch.tensor(places).to(self._pcm.device, non_blocking=True)[:, :, None].unbind(1)
        step = torch.arange(self._length, device=self._pcm.device)
        sound = self._pcm[(first + step).clamp(max=len(self._pcm) - 1)]
        return torch.where((step < left)[..., None], sound, 0).to(torch.int16).transpose(1, 2)


CHUNK_SAMPLES = 2**22
"""Samples that travel to a device at once."""


def _joined(blocks: Sequence[npt.NDArray], back: Ints | None) -> npt.NDArray:  # type: ignore[type-arg]
    """Return the blocks of the sources as one array, in the batch's order."""
    return blocks[0] if back is None else np.concatenate(blocks)[back]


def _merged(blocks: Sequence[FieldsType], back: Ints | None) -> FieldsType:
    """Return the fields of the sources' tensors as one of each, in the batch's order."""
    if back is None:
        return blocks[0]
    order = torch.from_numpy(back)
    fields: list[Any] = [None if parts[0] is None else torch.cat(parts)[order] for parts in zip(*blocks, strict=True)]
    return type(blocks[0])(*fields)


def _pinned(batch: Batch) -> Batch:
    """Return the batch in page-locked memory."""
    pin: Callable[[Tensor], Tensor] = Tensor.pin_memory
    return Batch(
        batch.input.map(pin),
        None if batch.target is None else batch.target.map(pin),
        pin(batch.index),
        pin(batch.start),
        pin(batch.source),
        None if batch.mirror is None else batch.mirror.map(pin),
    )
