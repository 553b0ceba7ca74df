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

from dcase_seld.data.store import Store
from dcase_seld.data.tokens import TokenSpec, TokenWriter
from dcase_seld.errors import SeldError, listing
from dcase_seld.media.video import Image, read_frames
from dcase_seld.model.semantic.protocol import SemanticEncoder
from dcase_seld.progress import say
from dcase_seld.task.facts import LABEL_RATE

SOUND_CLIPS_PER_SHARD = 256
"""Sound tokens are small: a shard by size alone would hold hours of work, all lost to a kill."""
SOUND_CLIPS_AT_ONCE = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def clip_seconds(store: Store, indices: npt.NDArray[np.int64]) -> float:
    """Return the length in seconds that all clips share, to one label frame.

    Raises:
        SeldError: there is no clip, or their lengths differ; tokens of one folder have one shape.
    """
    if not len(indices):
        raise SeldError("There is no clip to embed.", f"Check the split; the store has {store.counts}.")
    frames = store.frames[indices]
    if frames.max() - frames.min() > 1:
        shortest, longest = (store.names[indices[at]] for at in (frames.argmin(), frames.argmax()))
        raise SeldError(
            f"Clips of one token folder must have one length, but {shortest} has {frames.min() / LABEL_RATE:g} s and"
            f" {longest} {frames.max() / LABEL_RATE:g} s.",
            "Cut the recordings into clips of equal length before `prepare`.",
        )
    return float(frames.max()) / LABEL_RATE


def frame_times(seconds: float, fps: float) -> list[float]:
    """Return the times in seconds at which a clip's frames are taken: the middle of each of its V intervals."""
    return [(position + 0.5) / fps for position in range(max(1, round(seconds * fps)))]


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
    store: Store,
    encoder: SemanticEncoder,
    writer: TokenWriter,
    shards: Iterable[tuple[int, Sequence[str]]],
    advance: Callable[..., None],
) -> None:
    """Write the given shards of a sound encoder's tokens."""
    for shard, names in shards:
        rows = store.position(names)
        longest = int(store.samples[rows].max())
        parts = []
        for start in range(0, len(rows), SOUND_CLIPS_AT_ONCE):
            pcm = store.read_many(rows[start : start + SOUND_CLIPS_AT_ONCE], samples=longest)
            wave = torch.from_numpy(pcm).transpose(1, 2).float() / 32768.0
            parts.append(encoder.encode(wave).float().cpu().numpy())
            advance(len(pcm))
        writer.write(shard, _checked(np.concatenate(parts), names))


def embed_video(
    store: Store,
    encoder: SemanticEncoder,
    writer: TokenWriter,
    shards: Iterable[tuple[int, Sequence[str]]],
    times_s: Sequence[float],
    advance: Callable[..., None],
    workers: int = 1,
) -> None:
    """Write the given shards of a picture encoder's tokens, with a mask of the frames that are there.

    Videos are decoded by threads ahead of the encoder. A missing frame has zeros as tokens.
    """
    stored_mirror = writer.spec.mirror and writer.spec.mirror_by == "stored"
    todo = [(shard, tuple(names)) for shard, names in shards]
    videos = dict(zip(store.names, store.videos, strict=True))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        frames = _ahead(
            pool,
            lambda name: _frames_of(videos[name], times_s),
            (name for _, names in todo for name in names),
            depth=4 * max(1, workers),
        )
        for shard, names in todo:
            tokens = np.zeros((len(names), *writer.spec.shape), np.float32)
            mirror = np.zeros_like(tokens) if stored_mirror else None
            mask = np.zeros((len(names), len(times_s)), np.bool_)
            for row, name in enumerate(names):
                images = next(frames)
                mask[row] = [image is not None for image in images]
                seen = [image for image in images if image is not None]
                if seen:
                    tokens[row, mask[row]] = _checked(encoder.encode(seen).cpu().numpy(), [name])
                    if mirror is not None:
                        flipped = [np.ascontiguousarray(image[:, ::-1]) for image in seen]
                        mirror[row, mask[row]] = _checked(encoder.encode(flipped).cpu().numpy(), [name])
                advance()
            writer.write(shard, tokens, mirror, mask)


def _frames_of(video: Path | None, times_s: Sequence[float]) -> list[Image | None]:
    """Return one picture per time, None where the clip has no video or the video no such frame."""
    return [None] * len(times_s) if video is None else list(read_frames(video, times_s).images)


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
