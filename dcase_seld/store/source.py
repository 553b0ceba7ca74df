"""Where windows come from: a `Source` gives their sound, tokens and targets; `StoreSource` is clips of a store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.task import Task
from dcase_seld.model.types import SeldTarget, Tokens
from dcase_seld.store.store import Store, TargetTable
from dcase_seld.store.tokens import TokenReader

Int16 = npt.NDArray[np.int16]

Ints = npt.NDArray[np.int64]


class Source(Protocol):
    """Windows that batches are made of."""

    task: Task  # classes, window length, channels and directions
    clips: Ints  # (n,) numbers of its clips
    names: Sequence[str]  # (n,) names of its clips
    frames: Ints  # (n,) label frames of its clips
    windows: Ints  # (W, 2) number of the clip and first label frame of every window, clip by clip
    window_frames: int  # label frames T of a window
    weight: float | None  # share of an epoch's windows relative to other sources; None: proportional to its windows

    @property
    def cached(self) -> bool:
        """Return whether windows come as cached features, without sound."""
        ...

    def sound(self, rows: Ints) -> Int16:
        """Return (B, S, channels) of windows, zeros beyond a clip's end."""
        ...

    def features(self, rows: Ints) -> npt.NDArray[np.float16]:
        """Return (B, A, T', F), the cached features of windows."""
        ...

    def tokens(self, rows: Ints, mirror: bool = False) -> dict[str, Tokens]:
        """Return the tokens of windows by encoder; `mirror`: of the mirrored input, where those are others."""
        ...

    def target(self, rows: Ints) -> SeldTarget | None:
        """Return what networks should say about windows; None where there are no labels."""
        ...


def window_table(clips: Ints, frames: Ints, window: int, hop: int) -> Ints:
    """Return (W, 2) clip and first label frame of the windows that cover clips of so many label frames.

    As `task.window_starts` of each clip: the last window of a longer clip ends with it.
    """
    last = np.maximum(frames - window, 0)
    count = -(-last // hop) + 1
    clip = np.repeat(np.arange(len(clips)), count)
    number = np.arange(len(clip)) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([clips[clip], np.minimum(number * hop, last[clip])], axis=1).astype(np.int64)


class StoreSource:
    """Clips of one store, with the tokens of frozen encoders (a `Source`).

    Args:
        store: the store.
        clips: indices of its clips.
        readers: folders of frozen tokens, one an encoder.
        weight: share of an epoch's windows relative to the other sources; None: proportional to its windows.
        cache: a front end's cached output, read instead of the sound.
        hop_frames: label frames between the windows of a longer clip; None: a window.
        frames: label frames of a window; None: what the store's task says.
    """

    def __init__(
        self,
        store: Store,
        clips: npt.NDArray[np.integer[Any]] | Sequence[int],
        readers: Sequence[TokenReader] = (),
        weight: float | None = None,
        *,
        cache: TokenReader | None = None,
        hop_frames: int | None = None,
        frames: int | None = None,
    ) -> None:
        self.store, self.task, self.weight, self.cache = store, store.task, weight, cache
        self.clips = np.asarray(clips, np.int64)
        self.readers = list(readers)
        self.names: Sequence[str] = [store.names[index] for index in self.clips]
        self.frames = store.frames[self.clips]
        self.window_frames = frames or store.task.window_frames
        self.hop_frames = hop_frames or self.window_frames
        self.windows = window_table(self.clips, self.frames, self.window_frames, self.hop_frames)
        names, starts = [store.names[index] for index in self.windows[:, 0]], self.windows[:, 1].tolist()
        self._rows = {reader.spec.name: reader.rows(names, starts) for reader in self.readers}
        self._targets: TargetTable | None = None

    @property
    def cached(self) -> bool:
        """Return whether windows come as cached features, without sound."""
        return self.cache is not None

    def with_clips(self, clips: Ints) -> StoreSource:
        """Return a source of other clips of the same store, read alike."""
        return StoreSource(
            self.store, clips, self.readers, self.weight, cache=self.cache, hop_frames=self.hop_frames,
            frames=self.window_frames,
        )  # fmt: skip

    def name_of(self, row: int) -> str:
        """Return the name of a window's clip."""
        return self.store.names[int(self.windows[row, 0])]

    def sound(self, rows: Ints) -> Int16:
        """Return (B, S, channels) of windows, zeros beyond a clip's end."""
        clip, start = self.windows[rows].T
        per_frame = self.task.samples_per_frame
        return self.store.read_many(clip, start * per_frame, self.window_frames * per_frame)

    def features(self, rows: Ints) -> npt.NDArray[np.float16]:
        """Return (B, A, T', F), the cached features of windows."""
        assert self.cache is not None
        clip, start = self.windows[rows].T
        return self.cache.read(self.cache.rows([self.store.names[index] for index in clip], start.tolist()))

    def tokens(self, rows: Ints, mirror: bool = False) -> dict[str, Tokens]:
        """Return the tokens of windows by encoder; with `mirror` those of mirrored input, where they are others."""
        made = {}
        for reader in self.readers:
            if mirror and not reader.spec.mirror:
                continue
            at = self._rows[reader.spec.name][rows]
            mask = torch.from_numpy(reader.read_mask(at)) if reader.spec.mask else None
            made[reader.spec.name] = Tokens(torch.from_numpy(reader.read(at, mirror=mirror)), mask)
        return made

    def target(self, rows: Ints) -> SeldTarget:
        """Return what networks should say about windows."""
        clip, start = self.windows[rows].T
        return SeldTarget(*map(torch.from_numpy, self.targets.encode(clip, self.window_frames, start)))

    @property
    def targets(self) -> TargetTable:
        """Return the store's labels, ready to be gathered."""
        if self._targets is None:
            self._targets = TargetTable(self.store.events, self.task)
        return self._targets

    @property
    def labels(self) -> Any:
        """Return the labels of the store, clip number = index in the store."""
        return self.store.events


def refuse_unlike(sources: Sequence[Source], mirror: bool) -> None:
    """Refuse to mix sources of different tasks, or tokens that were not made alike.

    Raises:
        SeldError: says what differs.
    """
    first = sources[0]
    for other in sources[1:]:
        if different := first.task.differences(other.task):
            raise SeldError(
                f"{_place(first)} and {_place(other)} cannot be mixed: {'; '.join(different)}.",
                "Mix stores of one task.",
            )
        if not (isinstance(first, StoreSource) and isinstance(other, StoreSource)):
            continue
        if [r.spec.name for r in other.readers] != [r.spec.name for r in first.readers]:
            raise SeldError("Mixed stores need the tokens of the same encoders.", "Embed each store in the same way.")
        for own, others in zip(first.readers, other.readers, strict=True):
            if _made_by(own, mirror) != _made_by(others, mirror):
                raise SeldError(
                    f"{own.folder} and {others.folder} hold {own.spec.name} tokens of different weights, shapes or "
                    "mirroring; they cannot be mixed.",
                    "Embed each store in the same way.",
                )


def _place(source: Source) -> str:
    return str(source.store.folder) if isinstance(source, StoreSource) else ", ".join(source.names[:1])


def _made_by(reader: TokenReader, mirror: bool) -> tuple[Any, ...]:
    """Return what must be equal for tokens of two stores to stand in one batch."""
    return reader.spec.fingerprint, reader.spec.shape, mirror and reader.spec.mirror


def tokens_of(store: Store, names: Collection[str], readers: Sequence[TokenReader]) -> dict[str, TokenReader]:
    """Return for each encoder the reader that has tokens of all `names`; one that was made of this very store wins."""
    having = [reader for reader in readers if set(names) <= set(reader.names)]
    having.sort(key=lambda reader: reader.spec.store == store.identity)
    return {reader.spec.name: reader for reader in having}


def fitting_readers(
    store: Store, clips: Ints, readers: Sequence[TokenReader], needs: Collection[str], who: str
) -> list[TokenReader]:
    """Return the readers of the tokens that networks need, in the order of their names.

    Raises:
        SeldError: no folder has the tokens of all clips of an encoder that is needed.
    """
    found = tokens_of(store, {store.names[index] for index in clips}, readers)
    missing = sorted(set(needs) - found.keys())
    if missing:
        raise SeldError(
            f"{who} {listing(missing)} tokens; no tokens folder has those of all clips of {store.folder}.",
            "Add an embed step on the same store, and name it in tokens.",
        )
    return [found[name] for name in sorted(needs)]


def open_sources(
    stores: Sequence[Path],
    tokens: Sequence[Path],
    splits: Sequence[str],
    needs: Collection[str],
    weights: Sequence[float] | None = None,
) -> list[StoreSource]:
    """Return the labelled clips of the stores' splits, each store with the token folders that hold its clips.

    `needs`: encoders whose tokens the network reads; `weights`: one per store, or None. Raises SeldError: tokens that
    the network needs are missing.
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
        weight = None if weights is None else weights[number]
        if len(chosen) and weight != 0:
            fitting = fitting_readers(store, chosen, readers, needs, "The network reads")
            sources.append(StoreSource(store, chosen, fitting, weight))
    return sources


def said_of_tokens(tokens: Sequence[Path]) -> Mapping[str, tuple[Any, int]]:
    """Return encoder → what its tokens are of, and their width, of folders of embed steps."""
    specs = [TokenReader.open(folder).spec for folder in tokens]
    return {spec.name: (spec.gives, int(spec.shape[-1])) for spec in specs}
