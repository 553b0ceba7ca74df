"""Tokens of a store's clips by a frozen encoder: estimated first, then shard by shard, each shard by one process."""

from __future__ import annotations

import shutil
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.task import CLIP_SECONDS, LABEL_RATE, frame_times
from dcase_seld.core.work import say
from dcase_seld.infer.predictor import Predictor
from dcase_seld.media.frames import Image, read_frames
from dcase_seld.model.weights import model_folder, read_facts
from dcase_seld.pretrained.encoder import SemanticEncoder, build_encoder, parse_tokens_config
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenSpec, TokenWriter

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


OPTIONS = {"vision": "owlvit"}
"""Option of the predict command for the weights of a kind of token, where it is not the kind's own name."""

KEPT_FRAMES = 64
"""Embedded frames kept, because overlapping windows look at the same ones."""


class LiveTokens:
    """Makes one kind of token for windows of a recording."""

    def __init__(self, kind: str, encoder: SemanticEncoder, fps: float = 1.0) -> None:
        """Take an encoder, and for pictures the frames per second that it looks at."""
        self.kind, self.encoder = kind, encoder
        self.offsets = frame_times(CLIP_SECONDS, fps)
        self.problems: dict[Path, str] = {}
        self._kept: OrderedDict[tuple[Path, float, bool], Tensor | None] = OrderedDict()

    def make(
        self, wave: Tensor, video: Path | None, starts_s: Sequence[float], *, mirror: bool = False
    ) -> dict[str, Tensor]:
        """Return ModelInput fields for windows that begin at `starts_s` (seconds) of a recording.

        Args:
            wave: (B, 2, S) sound of the windows.
            video: the recording's video, or None.
            starts_s: when the windows begin.
            mirror: for the left-right mirrored recording; sound tokens are the same, since they hear the sum.
        """
        if self.kind != "vision":
            return {} if mirror else {self.kind: self.encoder.encode(wave)}
        times = np.add.outer(np.asarray(starts_s), self.offsets)
        tokens = self._see(video, times.ravel().tolist(), mirror) if video is not None else [None] * times.size
        shape = (self.encoder.tokens, self.encoder.dimension)
        stacked = torch.stack([torch.zeros(shape) if token is None else token for token in tokens])
        mask = torch.tensor([token is not None for token in tokens]).reshape(times.shape)
        fields = {self.kind: stacked.reshape(*times.shape, *shape)}
        return fields if mirror else {**fields, "vision_mask": mask}

    def _see(self, video: Path, times_s: Sequence[float], mirror: bool) -> list[Tensor | None]:
        """Return (P, D) tokens of the frames at times, None where the video has none."""
        keys = [(video, round(time, 4), mirror) for time in times_s]
        missing = sorted({key[1] for key in keys if key not in self._kept})
        if missing:
            frames = read_frames(video, missing)
            if frames.problem:
                self.problems[video] = frames.problem
            there = {at: image for at, image in zip(missing, frames.images, strict=True) if image is not None}
            pictures = [image[:, ::-1] if mirror else image for image in there.values()]
            embedded = list(self.encoder.encode(pictures).cpu()) if pictures else []
            found = dict(zip(there, embedded, strict=True))
            for at in missing:
                self._kept[video, at, mirror] = found.get(at)
        result = [self._kept[key] for key in keys]
        while len(self._kept) > max(KEPT_FRAMES, len(keys)):
            self._kept.popitem(last=False)
        return result


def live_tokens(predictor: Predictor, weights: Mapping[str, str | None], device: str) -> dict[str, LiveTokens]:
    """Return makers of the tokens that the members read, by ModelInput field, as their trainings say.

    Args:
        predictor: the networks.
        weights: weights to use instead of the recorded ones, by field: a folder, file or known name; None: as recorded.
        device: where the encoders run.

    Raises:
        SeldError: weights are missing, or are not those of the training; members were trained with different ones.
    """
    rate = predictor.networks[0].config.frontend.sample_rate
    makers = {}
    for kind, spec in _specifications(predictor).items():
        settings = dict(spec.get("encoder") or {})
        given = weights.get(kind)
        if given is not None:
            settings["path" if Path(given).exists() else "name"] = given
            settings["name" if Path(given).exists() else "path"] = None
        config = parse_tokens_config(settings, f"{kind} encoder")
        encoder = build_encoder(config, rate, device)
        if encoder.weights_fingerprint != spec["fingerprint"]:
            raise SeldError(
                f"The {kind} encoder {config.source} has other weights ({encoder.weights_fingerprint}) than the one of "
                f"the training ({spec['fingerprint']}).",
                f"Give the weights of the training with --{OPTIONS.get(kind, kind)}.",
            )
        if encoder.random_weights:
            say(f"warning: the {kind} encoder has RANDOM weights (made for tests); its tokens mean nothing.")
        makers[kind] = LiveTokens(kind, encoder, getattr(config, "fps", 1.0))
    return makers


def _specifications(predictor: Predictor) -> dict[str, dict[str, Any]]:
    """Return the specification of each kind of token that the members read."""
    specs: dict[str, dict[str, Any]] = {}
    for member in predictor.settings.members:
        known = read_facts(model_folder(Path(member.folder))).get("facts", {}).get("tokens", {})
        for kind in predictor.needs & known.keys():
            if specs.setdefault(kind, known[kind])["fingerprint"] != known[kind]["fingerprint"]:
                raise SeldError(
                    f"The members were trained with {kind} tokens of different encoders.",
                    "Predict from a store with a recipe, where each step of tokens can be named.",
                )
    missing = sorted(kind for kind in predictor.needs if not specs.get(kind, {}).get("encoder"))
    if missing:
        raise SeldError(
            f"The checkpoint does not say which encoder made its {', '.join(missing)} tokens.",
            "Train it again with tokens of an embed step, or predict from a store with a recipe.",
        )
    return specs
