"""Reads the official program's model numbers from tests/golden/model as the package's own types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from dcase_seld.model.types import SeldOutput, SeldTarget

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
DUMMY_TRACKS = {1: 0, 2: 1, 3: 3}
"""Sources of one class in a frame → first of the official target's six dummy tracks (A0, B0, B1, C0, C1, C2)."""


def official_output(flat: np.ndarray) -> SeldOutput:
    """Return a flat (B, T, 3 tracks × fields × 13 classes) output with named fields; probabilities become logits."""
    fields = torch.tensor(flat).unflatten(-1, (3, -1, 13))
    onscreen = torch.logit(fields[:, :, :, 3]).transpose(2, 3) if fields.shape[3] == 4 else None
    return SeldOutput(fields[:, :, :, :2].permute(0, 1, 4, 2, 3), fields[:, :, :, 2].transpose(2, 3), onscreen)


def official_target() -> SeldTarget:
    """Return the target of adpit.npz as number and sources."""
    target = torch.tensor(np.load(GOLDEN / "adpit.npz")["target"])
    clips, frames, _, _, classes = target.shape
    number = torch.zeros(clips, frames, classes, dtype=torch.int64)
    source = torch.zeros(clips, frames, classes, 3, 4)
    for count, first in DUMMY_TRACKS.items():
        here = target[:, :, first, 0] > 0
        number[here] = count
        for index in range(count):
            source[:, :, :, index][here] = target[:, :, first + index, 1:].transpose(2, 3)[here]
    return SeldTarget(number, source[..., :2], source[..., 2], source[..., 3])


def stereo() -> torch.Tensor:
    """Return the golden recording (1, 2, 120000) in float64; 1.7 s of it are digital silence."""
    wave, _ = soundfile.read(GOLDEN / "stereo.wav", dtype="float64")
    return torch.from_numpy(wave.T.copy())[None]
