"""Tokens of a store's clips by a frozen encoder: estimated first, then shard by shard, each shard by one process."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.task import LABEL_RATE
from dcase_seld.core.work import say
from dcase_seld.infer.recording_source import heard
from dcase_seld.media.frames import Image, read_frames
from dcase_seld.pretrained.encoder import SemanticEncoder
from dcase_seld.store.source import StoreSource
from dcase_seld.store.tokens import TokenSpec, TokenWriter

SOUND_CLIPS_PER_SHARD = 256
"""Sound tokens are small: a shard by size alone would hold hours of work, all lost to a kill."""

SOUND_CLIPS_AT_ONCE = 16

Item = TypeVar("Item")

Result = TypeVar("Result")


def say_estimate(spec: TokenSpec, clips: int, folder: Path, poolable: bool) -> int:
    """Say how much the tokens will take, and return it in bytes.

    Raises:
        SeldError: the disk has less room than what is still to be written.
    """
    clip_bytes = 2 * int(np.prod(spec.shape))
    copies = 2 if spec.mirror and spec.mirror_by == "stored" else 1
    total = clips * clip_bytes * copies
    there = sum(file.stat().st_size for file in folder.glob("*.npy"))
    free = shutil.disk_usage(folder).free
    shape = " x ".join(map(str, spec.shape)) + (" x 2 (mirrored)" if copies == 2 else "")
    line = f"embed: {clips:,} clips x {shape} in half precision = {_gigabytes(total)}; free: {_gigabytes(free)}"
    advice = ""
    if poolable and spec.shape[-2] == 577:
        pooled = total * 145 // 577
        advice = f"`pool: 2` (145 tokens a frame) would take {_gigabytes(pooled)}"
        if copies == 2:
            advice += f", `mirror: grid_flip` {_gigabytes(total // 2)}"
    say(f"{line}. {advice}." if advice else f"{line}.")
    if total - there > 0.98 * free:
        raise SeldError(
            f"The tokens need {_gigabytes(total - there)} more in {folder}, but only {_gigabytes(free)} are free.",
            f"Free some space, choose another work folder, or embed one split only. {advice}".strip(),
        )
    return total


def embed_sound(
    source: StoreSource,
    encoder: SemanticEncoder,
    writer: TokenWriter,
    shards: Iterable[tuple[int, Sequence[int]]],
    advance: Callable[..., None],
    workers: int = 1,
    at_once: int = SOUND_CLIPS_AT_ONCE,
) -> None:
    """Write the given shards (numbers of windows) of a sound encoder's tokens.

    Workers are threads with windows of their own: little of what an encoder does for a clip can be shared between
    cores. What they write does not depend on their number.
    """
    todo = [(shard, [rows[k : k + at_once] for k in range(0, len(rows), at_once)]) for shard, rows in shards]

    def hear(rows: Sequence[int]) -> npt.NDArray[Any]:
        wave = torch.from_numpy(source.sound(np.asarray(rows, np.int64))).transpose(1, 2).float() / 32768.0
        return encoder.encode(heard(wave)).float().cpu().numpy()

    with ThreadPoolExecutor(workers) as pool:
        tokens = _ahead(pool, hear, (few for _, pieces in todo for few in pieces), depth=2 * workers)
        for shard, pieces in todo:
            parts = []
            for few in pieces:
                parts.append(next(tokens))
                advance(len(few))
            writer.write(shard, _checked(np.concatenate(parts), [source.name_of(row) for few in pieces for row in few]))


def embed_video(
    source: StoreSource,
    encoder: SemanticEncoder,
    writer: TokenWriter,
    shards: Iterable[tuple[int, Sequence[int]]],
    times_s: npt.NDArray[np.float64],
    advance: Callable[..., None],
    workers: int = 1,
) -> None:
    """Write the given shards (numbers of windows) of a picture encoder's tokens, with a mask of the frames there are.

    Videos are decoded by threads ahead of the encoder. A missing frame has zeros as tokens.
    """
    stored_mirror = writer.spec.mirror and writer.spec.mirror_by == "stored"
    todo = [(shard, tuple(rows)) for shard, rows in shards]

    def look(row: int) -> list[Image | None]:
        clip, start = source.windows[row].tolist()
        video, times = source.store.videos[clip], (start / LABEL_RATE + times_s).tolist()
        return [None] * len(times) if video is None else list(read_frames(video, times).images)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        frames = _ahead(pool, look, (row for _, rows in todo for row in rows), depth=4 * max(1, workers))
        for shard, rows in todo:
            tokens = np.zeros((len(rows), *writer.spec.shape), np.float32)
            mirror = np.zeros_like(tokens) if stored_mirror else None
            mask = np.zeros((len(rows), len(times_s)), np.bool_)
            for at, row in enumerate(rows):
                images = next(frames)
                mask[at] = [image is not None for image in images]
                seen = [image for image in images if image is not None]
                if seen:
                    name = [source.name_of(row)]
                    tokens[at, mask[at]] = _checked(encoder.encode(seen).cpu().numpy(), name)
                    if mirror is not None:
                        flipped = [np.ascontiguousarray(image[:, ::-1]) for image in seen]
                        mirror[at, mask[at]] = _checked(encoder.encode(flipped).cpu().numpy(), name)
                advance()
            writer.write(shard, tokens, mirror, mask)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Yield function(item) in order, at most `depth` results computed ahead."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _checked(tokens: npt.NDArray[Any], names: Sequence[str]) -> npt.NDArray[Any]:
    """Return the tokens, refusing what half precision cannot hold."""
    if not np.isfinite(tokens).all() or np.abs(tokens).max(initial=0.0) > np.finfo(np.float16).max:
        raise SeldError(
            f"The encoder gave numbers beyond half precision, or none, for clips around {listing(names, 3)}.",
            "Set the encoder's `dtype: float32`; if it stays, check the recordings.",
        )
    return tokens


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
