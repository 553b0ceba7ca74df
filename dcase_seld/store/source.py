"""In which order an epoch visits the windows of its sources: shuffled, mixed by weight, balanced by class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcase_seld.core.config import Config
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader

if TYPE_CHECKING:
    from dcase_seld.store.store import Store
    from dcase_seld.store.tokens import TokenReader


def tokens_of(store: Store, names: Collection[str], readers: Sequence[TokenReader]) -> dict[str, TokenReader]:
    """Return for each kind the reader that has tokens of all `names`; one that was made of this very store wins."""
    having = [reader for reader in readers if set(names) <= reader.position.keys()]
    having.sort(key=lambda reader: reader.spec.store == store.identity)
    return {reader.spec.kind: reader for reader in having}


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


SLACK_FRAMES = 1
"""Label frames by which a clip may be longer than its tokens' window: recorders round lengths."""


def refuse_unlike(sources: Sequence[ClipSource], mirror: bool) -> None:
    """Refuse to mix stores of different classes or sample rates, or tokens that were not made alike.

    Args:
        sources: what is mixed.
        mirror: the tokens of mirrored input are read too.

    Raises:
        SeldError: names the two folders that differ.
    """
    first = sources[0]
    for other in sources[1:]:
        if other.store.taxonomy.classes != first.store.taxonomy.classes:
            raise SeldError(
                f"{first.store.folder} and {other.store.folder} have different classes.",
                "Mix stores of one taxonomy.",
            )
        if other.store.sample_rate != first.store.sample_rate:
            raise SeldError(
                f"{first.store.folder} has {first.store.sample_rate} Hz, {other.store.folder} "
                f"{other.store.sample_rate} Hz.",
                "Mix stores of one sample rate.",
            )
        if [r.spec.kind for r in other.tokens] != [r.spec.kind for r in first.tokens]:
            raise SeldError("Mixed stores need the same kinds of tokens.", "Embed each store in the same way.")
        for own, others in zip(first.tokens, other.tokens, strict=True):
            if _made_by(own, mirror) != _made_by(others, mirror):
                raise SeldError(
                    f"{own.folder} and {others.folder} hold {own.spec.kind} tokens of different weights, shapes or "
                    "mirroring; they cannot be mixed.",
                    "Embed each store in the same way.",
                )


def refuse_tokens_of_long_clips(source: ClipSource, frames: int) -> None:
    """Refuse tokens of clips that are cut into windows: a clip has one row of tokens, which says nothing of a window's.

    Raises:
        SeldError: names the longest clip.
    """
    longest = source.indices[source.store.frames[source.indices].argmax()]
    length = int(source.store.frames[longest])
    if source.tokens and length > frames + SLACK_FRAMES:
        raise SeldError(
            f"{source.store.names[longest]} has {length} label frames, more than a window's {frames}, and tokens belong"
            " to whole clips.",
            "Cut recordings into 5-second clips before `prepare`; `dcase-seld predict FILE` makes tokens by windows.",
        )


def _made_by(reader: TokenReader, mirror: bool) -> tuple[Any, ...]:
    """Return what must be equal for tokens of two stores to stand in one batch."""
    return reader.spec.fingerprint, reader.spec.shape, mirror and reader.spec.mirror


@dataclass
class ClipSource:
    """Clips of one store that a training draws from.

    Attributes:
        store: the store.
        indices: clips of it.
        tokens: folders of frozen tokens, each filling the ModelInput field of its kind.
        weight: share of an epoch's clips relative to the other sources; None: proportional to its clips.
    """

    store: Store
    indices: Ints
    tokens: Sequence[TokenReader] = ()
    weight: float | None = None
    windows: Ints = field(init=False)
    """(W, 2) clip and first label frame of every window."""
    rows: list[Ints] = field(init=False)
    """For each token folder the position of every clip of the store, -1 where it has none."""

    def __post_init__(self) -> None:
        self.rows = []
        for reader in self.tokens:
            table = np.full(len(self.store), -1, np.int64)
            table[self.indices] = reader.rows([self.store.names[index] for index in self.indices])
            self.rows.append(table)


def _windows(store: Store, indices: Ints, frames: int, hop: int) -> Ints:
    """Return (W, 2) clip and first frame of windows that cover every clip; the last one may reach beyond its end."""
    count = np.maximum(-(-(store.frames[indices] - frames) // hop), 0) + 1
    clip = np.repeat(indices, count)
    number = np.arange(len(clip)) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([clip, number * hop], axis=1)


def open_sources(
    stores: Sequence[Path],
    tokens: Sequence[Path],
    splits: Sequence[str],
    kinds: frozenset[str],
    weights: Sequence[float] | None = None,
) -> list[ClipSource]:
    """Return the labelled clips of the stores' splits, each store with the token folders that hold its clips.

    Args:
        stores: folders of prepare steps.
        tokens: folders of embed steps, in any order.
        splits: splits that are wanted.
        kinds: kinds of tokens that the network reads.
        weights: one per store, or None.

    Raises:
        SeldError: no clip is left, or tokens that the network needs are missing.
    """
    if weights is not None and len(weights) != len(stores):
        raise SeldError(
            f"weights has {len(weights)} numbers, but data names {len(stores)} stores.", "Give one per store."
        )
    readers = [TokenReader.open(folder) for folder in tokens]
    sources = []
    for number, folder in enumerate(stores):
        store = Store.open(folder)
        chosen = store.indices(list(splits))
        chosen = chosen[store.labelled[chosen]]
        if not len(chosen):
            continue
        fitting = tokens_of(store, {store.names[index] for index in chosen}, readers)
        found = {kind: reader for kind, reader in fitting.items() if kind in kinds}
        missing = sorted(kinds - found.keys())
        if missing:
            raise SeldError(
                f"The network reads {listing(missing)} tokens; no tokens folder has those of all clips of {folder}.",
                "Add an embed step on the same store, and name it in tokens.",
            )
        weight = None if weights is None else weights[number]
        if weight != 0:
            sources.append(ClipSource(store, chosen, [found[kind] for kind in sorted(found)], weight))
    return sources
