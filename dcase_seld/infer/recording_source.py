"""Predictions for any sound or video file: read, cut into windows, computed in batches, stitched, decoded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from dcase_seld.core.events import Events
from dcase_seld.core.task import CLIP_FRAMES, LABEL_RATE, window_starts
from dcase_seld.infer.embed import LiveTokens
from dcase_seld.infer.predictor import Predictor
from dcase_seld.infer.tracks import cut_output, stitch
from dcase_seld.media.recordings import Recording
from dcase_seld.model.heads import decode
from dcase_seld.model.types import ModelInput, SeldOutput


@dataclass
class Spent:
    """Seconds of computing time by part, summed over recordings."""

    network: float = 0.0
    tokens: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Return the sum of all parts."""
        return self.network + sum(self.tokens.values())


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
