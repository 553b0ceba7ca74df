"""Predictions for any sound or video file: read, cut into windows, computed in batches, stitched, decoded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dcase_seld.errors import SeldError, listing
from dcase_seld.media.audio import CONTAINERS, SOUNDS, VIDEOS, Mono, read_audio
from dcase_seld.model.decode import decode
from dcase_seld.model.outputs import ModelInput, SeldOutput
from dcase_seld.post.live_tokens import LiveTokens
from dcase_seld.post.predict import Predictor
from dcase_seld.post.windows import cut_output, stitch, window_starts
from dcase_seld.task.events import Events
from dcase_seld.task.facts import CLIP_FRAMES, LABEL_RATE
from dcase_seld.task.foa import foa_to_stereo


@dataclass(frozen=True)
class Recording:
    """A file that was read.

    Attributes:
        name: the file's stem.
        path: the file.
        sound: (2, S) float32 at the networks' sample rate.
        rate: that sample rate.
        video: the file with its pictures, or None.
    """

    name: str
    path: Path
    sound: npt.NDArray[np.float32]
    rate: int
    video: Path | None

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return float(self.sound.shape[1] / self.rate)

    @property
    def frames(self) -> int:
        """Return the label frames that the recording touches, at least 1."""
        return max(1, -(-int(self.sound.shape[1]) * LABEL_RATE // self.rate))


@dataclass
class Spent:
    """Seconds of computing time by part, summed over recordings."""

    network: float = 0.0
    tokens: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Return the sum of all parts."""
        return self.network + sum(self.tokens.values())


def find_recordings(inputs: Sequence[Path], videos: Path | None = None) -> list[tuple[Path, Path | None]]:
    """Return (file with the sound, file with the pictures or None) of every recording among the inputs, by name.

    A folder stands for the files in it. Where sound and video files of one name are given (as the challenge's data
    are), they are one recording.

    Args:
        inputs: sound or video files, or folders of them.
        videos: a further folder to look for videos of the same names in.

    Raises:
        SeldError: an input is missing or of another kind, nothing is found, or two sound files have one name.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SOUNDS | CONTAINERS and p.is_file())
        elif not path.exists():
            raise SeldError(f"{path} does not exist.", "Give sound or video files, or folders of them.")
        elif path.suffix.lower() not in SOUNDS | CONTAINERS:
            raise SeldError(
                f"{path} is no sound or video file that is known here ({listing(sorted(SOUNDS | CONTAINERS), 20)}).",
                "Convert it to one of these.",
            )
        else:
            found.append(path)
    if not found:
        raise SeldError(f"There is no sound or video file in {listing(inputs)}.", "Give other files or folders.")
    beside = sorted(p for p in videos.rglob("*") if p.suffix.lower() in VIDEOS) if videos else []
    pictures = {p.stem: p for p in [*beside, *found] if p.suffix.lower() in VIDEOS}
    sounds: dict[str, Path] = {}
    for path in sorted(found, key=lambda p: p.suffix.lower() in CONTAINERS):
        first = sounds.setdefault(path.stem, path)
        if first != path and not (first.suffix.lower() in SOUNDS and path.suffix.lower() in CONTAINERS):
            raise SeldError(
                f"{first} and {path} have one name, and so would their predictions.",
                "Predict them into different folders.",
            )
    return [(sound, pictures.get(name)) for name, sound in sorted(sounds.items())]


def read_recording(
    path: Path, video: Path | None, rate: int, *, mono: Mono = "refuse", foa_angle_deg: float | None = None
) -> Recording:
    """Return a recording as stereo at the networks' rate; first-order Ambisonics is turned to a viewing angle first.

    Args:
        path: sound or video file of any length and sample rate.
        video: the file with its pictures, or None.
        rate: samples per second of the networks.
        mono: what to do with one channel.
        foa_angle_deg: the file is first-order Ambisonics (W, Y, Z, X); view it at this angle in degrees.

    Raises:
        SeldError: the file is broken, mono, or has another number of channels.
    """
    if foa_angle_deg is None:
        sound = read_audio(path, rate=rate, channels=2, resample=True, mono=mono)
    else:
        sound = foa_to_stereo(read_audio(path, rate=rate, channels=None, resample=True), foa_angle_deg)
    if not sound.shape[1]:
        raise SeldError(f"{path} holds no sound (0 samples).", "Give a longer recording.")
    return Recording(path.stem, path, sound, rate, video)


def predict_recording(
    predictor: Predictor,
    recording: Recording,
    tokens: Mapping[str, LiveTokens],
    *,
    hop_frames: int = CLIP_FRAMES,
    batch_size: int = 8,
    spent: Spent | None = None,
) -> SeldOutput:
    """Return the output (1, T, C, N, …) for a whole recording.

    Args:
        predictor: the networks.
        recording: what they hear.
        tokens: makers of the tokens that the networks read, by ModelInput field.
        hop_frames: label frames from one 5-second window to the next; fewer than 50 overlap.
        batch_size: windows computed at once.
        spent: receives the computing time by part.
    """
    spent = Spent() if spent is None else spent
    starts = window_starts(recording.frames, CLIP_FRAMES, hop_frames)
    outputs: list[SeldOutput] = []
    for chunk in _chunks(starts, batch_size):
        wave = torch.from_numpy(np.stack([_window(recording, start) for start in chunk]))
        made: dict[str, torch.Tensor] = {}
        mirrored: dict[str, torch.Tensor] = {}
        for kind, maker in tokens.items():
            began = time.perf_counter()
            seconds = [start / LABEL_RATE for start in chunk]
            made |= maker.make(wave, recording.video, seconds)
            if predictor.settings.tta == "swap":
                mirrored |= maker.make(wave, recording.video, seconds, mirror=True)
            spent.tokens[kind] = spent.tokens.get(kind, 0.0) + time.perf_counter() - began
        began = time.perf_counter()
        inputs = ModelInput(wave=wave, **made)
        output = predictor.output(inputs, ModelInput(**mirrored) if mirrored else None)
        spent.network += time.perf_counter() - began
        outputs += [cut_output(output, clips=slice(i, i + 1)) for i in range(len(chunk))]
    return stitch(outputs, starts, recording.frames)


def events_of(predictor: Predictor, recording: Recording, output: SeldOutput) -> Events:
    """Return the events of a recording's output, decoded with the predictor's thresholds."""
    settings, classes = predictor.settings, len(predictor.networks[0].taxonomy)
    return decode(
        output,
        [recording.name],
        thresholds=settings.class_thresholds(classes),
        unify_deg=settings.unify_deg,
        onscreen_threshold=settings.onscreen_threshold,
    )


def _chunks(starts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def _window(recording: Recording, start: int) -> npt.NDArray[np.float32]:
    """Return (2, S) of one window, silence after the recording's end."""
    per_frame = recording.rate // LABEL_RATE
    window = np.zeros((2, CLIP_FRAMES * per_frame), np.float32)
    sound = recording.sound[:, start * per_frame : (start + CLIP_FRAMES) * per_frame]
    window[:, : sound.shape[1]] = sound
    return window
