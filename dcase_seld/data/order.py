"""In which order an epoch visits the windows of its sources: shuffled, mixed by weight, balanced by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcase_seld.config import Config

if TYPE_CHECKING:
    from dcase_seld.data.batches import ClipSource

Ints = npt.NDArray[np.int64]


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


def epoch_order(sources: Sequence[ClipSource], sampling: Sampling, seed: int | None, epoch: int) -> Ints:
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
            rng = np.random.default_rng([seed, epoch, number])
            rows = rng.choice(sizes[number], count, p=clip_weights(source, sampling.class_balance))
        else:
            rows = _passes(sizes[number], count, seed, epoch, number)
        chosen.append(_pairs(number, rows))
    order = np.concatenate(chosen)
    if len(sources) > 1 or sampling.class_balance > 0:
        order = order[np.random.default_rng([seed, epoch, len(sources)]).permutation(len(order))]
    return order


def clip_weights(source: ClipSource, balance: float) -> npt.NDArray[np.float64]:
    """Return the probability (W,) of each window: mean over the classes that its clip holds of frames^-balance.

    Clips in which nothing sounds get the mean weight of the others.
    """
    store = source.store
    chosen = np.isin(store.events.clip, source.indices)
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
