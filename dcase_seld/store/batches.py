"""Batches of a store or of several mixed by weight: seeded, resumable at any batch, sharded, read ahead.

The order of an epoch is a pure function of seed and epoch number, so a killed run goes on at the batch where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import CLIP_FRAMES, MAX_TRACKS
from dcase_seld.core.work import read_ahead
from dcase_seld.model.types import ModelInput, SeldTarget
from dcase_seld.store.source import (
    ClipSource,
    Sampling,
    _windows,
    epoch_order,
    refuse_tokens_of_long_clips,
    refuse_unlike,
)
from dcase_seld.store.store import Store
from dcase_seld.store.targets import TargetTable
from dcase_seld.store.tokens import TokenReader

Ints = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """One batch.

    Attributes:
        input: what the model may look at.
        target: what it should have said; None where clips are unlabelled or no targets were asked for.
        index: (B,) int64, clip index within its store.
        start: (B,) int64, label frame of the clip at which the window begins (0 for challenge clips).
        source: (B,) int64, which of the mixed stores a clip is of (0 where there is one).
        mirror: tokens of the left-right mirrored input, for augmentation by swap; None unless asked for.
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
        store: a store, or several sources that are mixed (then `indices` and `tokens` stay empty).
        indices: clips of the store.
        batch_size: windows per batch and process.
        tokens: folders of frozen tokens.
        features: a token folder of kind "features": a front end's cached output, read instead of the waveform.
        shuffle_seed: seed of the order; None: ascending order, each window once.
        sampling: how shuffled epochs choose clips (class balance, epoch length).
        targets: encode labels too.
        mirror: read the tokens of mirrored input too (for augmentation by swap).
        frames: label frames T of a window.
        hop_frames: label frames between the windows of a longer clip; None: `frames`.
        tracks: sources per class and frame of a target, N.
        rank: this process' number.
        world_size: processes that share an epoch.
        drop_last: leave out the last batch where it is not full (always so for several processes that shuffle).
        ahead: batches that a thread reads while the model works; 0: none.
        pin: return page-locked tensors, which travel to a CUDA device without waiting.
    """

    def __init__(
        self,
        store: Store | Sequence[ClipSource],
        indices: npt.NDArray[np.integer[Any]] | Sequence[int] = (),
        batch_size: int = 32,
        *,
        tokens: Sequence[TokenReader] = (),
        features: TokenReader | None = None,
        shuffle_seed: int | None = None,
        sampling: Sampling | None = None,
        targets: bool = True,
        mirror: bool = False,
        frames: int = CLIP_FRAMES,
        hop_frames: int | None = None,
        tracks: int = MAX_TRACKS,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        ahead: int = 2,
        pin: bool = False,
    ) -> None:
        if isinstance(store, Store):
            readers = [*tokens, *([features] if features is not None else [])]
            self.sources = [ClipSource(store, np.asarray(indices, np.int64), readers)]
        else:
            self.sources = list(store)
        if not self.sources or not all(len(source.indices) for source in self.sources):
            raise SeldError("There is no clip to make batches of.", "Check the split and the store's counts.")
        self.batch_size, self.frames, self.tracks = batch_size, frames, tracks
        self.shuffle_seed, self.sampling = shuffle_seed, sampling or Sampling()
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.mirror, self.ahead, self.pin = mirror, ahead, pin
        refuse_unlike(self.sources, mirror)
        for source in self.sources:
            source.windows = _windows(source.store, source.indices, frames, hop_frames or frames)
            refuse_tokens_of_long_clips(source, frames)
        self._targets = (
            [TargetTable(source.store.events, len(source.store.taxonomy), tracks) for source in self.sources]
            if targets
            else None
        )
        self._last: tuple[int, Ints] | None = None

    @property
    def dropped_sources(self) -> int:
        """Return how many label rows lie beyond `tracks` sources of one class in one frame, in all stores together."""
        return sum(table.dropped for table in self._targets or [])

    def __len__(self) -> int:
        """Return the number of batches of this process in an epoch."""
        count = len(self._order(0))
        if self.world_size > 1 and self.shuffle_seed is not None:
            return count // (self.batch_size * self.world_size)
        mine = len(range(self.rank, count, self.world_size))
        return mine // self.batch_size if self.drop_last else -(-mine // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of epoch 0."""
        return self.epoch(0)

    def epoch(self, number: int = 0, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_batch` on."""
        order = self._order(number)[self.rank :: self.world_size]
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

    def _read(self, chosen: Ints) -> Batch:
        """Return the batch of windows given as (B, 2): source and row."""
        size = len(chosen)
        clip, start = np.empty(size, np.int64), np.empty(size, np.int64)
        parts: list[tuple[npt.NDArray[np.bool_], int]] = [
            (here, number) for number in range(len(self.sources)) if (here := chosen[:, 0] == number).any()
        ]
        for here, number in parts:
            clip[here], start[here] = self.sources[number].windows[chosen[here, 1]].T
        fields: dict[str, Tensor] = {}
        mirrored: dict[str, Tensor] = {}
        cached = any(reader.spec.kind == "features" for reader in self.sources[0].tokens)
        if not cached:
            fields["wave"] = self._wave(parts, clip, start)
        for position, reader in enumerate(self.sources[0].tokens):
            self._tokens(position, reader.spec.kind, parts, clip, fields, mirrored)
        target = self._target(parts, clip, start) if self._targets is not None else None
        batch = Batch(
            ModelInput(**fields),
            target,
            torch.from_numpy(clip),
            torch.from_numpy(start),
            torch.from_numpy(chosen[:, 0].copy()),
            ModelInput(**mirrored) if mirrored else None,
        )
        return _pinned(batch) if self.pin else batch

    def _wave(self, parts: Sequence[tuple[npt.NDArray[np.bool_], int]], clip: Ints, start: Ints) -> Tensor:
        """Return (B, 2, S) float32 in [-1, 1]."""
        per_frame = self.sources[0].store.samples_per_frame
        samples = self.frames * per_frame
        pcm = np.empty((len(clip), samples, 2), np.int16)
        for here, number in parts:
            rows = np.flatnonzero(here)
            # One source fills the batch in place; rows of several are not adjacent and are copied into it.
            whole = len(rows) == len(clip)
            read = self.sources[number].store.read_many(
                clip[rows], start[rows] * per_frame, samples, out=pcm if whole else None
            )
            if not whole:
                pcm[rows] = read
        wave = torch.empty((len(clip), 2, samples), dtype=torch.float32)
        wave.copy_(torch.from_numpy(pcm).transpose(1, 2))
        return wave.mul_(1.0 / 32768.0)

    def _tokens(
        self,
        position: int,
        kind: str,
        parts: Sequence[tuple[npt.NDArray[np.bool_], int]],
        clip: Ints,
        fields: dict[str, Tensor],
        mirrored: dict[str, Tensor],
    ) -> None:
        """Add the tokens of one folder of each source to the fields of the input."""
        gathered: dict[str, npt.NDArray[Any]] = {}
        for here, number in parts:
            source = self.sources[number]
            reader, rows = source.tokens[position], source.rows[position][clip[here]]
            arrays: dict[str, npt.NDArray[Any]] = {"plain": reader.read(rows)}
            if self.mirror and reader.spec.mirror:
                arrays["mirror"] = reader.read(rows, mirror=True)
            if reader.spec.mask:
                arrays["mask"] = reader.read_mask(rows)
            for name, array in arrays.items():
                if name not in gathered:
                    gathered[name] = np.ones((len(clip), *array.shape[1:]), array.dtype)
                gathered[name][here] = array
        fields[kind] = torch.from_numpy(gathered["plain"]).float()
        if "mirror" in gathered:
            mirrored[kind] = torch.from_numpy(gathered["mirror"]).float()
        if "mask" in gathered and kind == "vision":
            fields["vision_mask"] = torch.from_numpy(gathered["mask"])

    def _target(self, parts: Sequence[tuple[npt.NDArray[np.bool_], int]], clip: Ints, start: Ints) -> SeldTarget:
        """Return the target of a batch."""
        assert self._targets is not None
        numbers, sources = [], []
        rows = np.concatenate([np.flatnonzero(here) for here, _ in parts])
        for here, number in parts:
            counted, placed = self._targets[number].encode(clip[here], self.frames, start[here])
            numbers.append(counted)
            sources.append(placed)
        back = np.argsort(rows)
        count, place = (np.concatenate(blocks) if len(blocks) > 1 else blocks[0] for blocks in (numbers, sources))
        if len(parts) > 1:
            count, place = count[back], place[back]
        return SeldTarget(torch.from_numpy(count), torch.from_numpy(place))


def _pinned(batch: Batch) -> Batch:
    """Return the batch in page-locked memory."""

    def pin(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.pin_memory()
        return None if value is None else type(value)(*(pin(part) for part in value))

    result: Batch = pin(batch)
    return result
