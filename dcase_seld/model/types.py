"""What a SELD network says and what it should have said, with named fields.

Letters: B clips, T label frames (50), C classes, N tracks (3).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SeldOutput(NamedTuple):
    """Multi-ACCDOA output with distance and on-screen logit.

    Attributes:
        xy: (B, T, C, N, 2), activity-coupled direction: length = activity, x to the front, y to the left.
        distance: (B, T, C, N), metres.
        onscreen: (B, T, C, N), logits. A model without an on-screen head gives None.
    """

    xy: Tensor
    distance: Tensor
    onscreen: Tensor | None

    def activity(self) -> Tensor:
        """Return (B, T, C, N), the length of the direction vector."""
        length: Tensor = torch.linalg.vector_norm(self.xy, dim=-1)
        return length


class SeldTarget(NamedTuple):
    """Reference of a batch.

    Attributes:
        number: (B, T, C) int, sources of this class in this frame, at most N.
        source: (B, T, C, N, 4): x, y (unit vector), distance in metres, on-screen 0/1; zeros beyond `number`.
    """

    number: Tensor
    source: Tensor


class ModelInput(NamedTuple):
    """What a SELD network may look at; fields that a model does not use may be None.

    Attributes:
        wave: (B, 2, S) float in [-1, 1], stereo at the sample rate of the front end, or None when `features` is given.
        features: (B, A, T', F), the front end's UNstandardised output (a cache of it), or None.
        clap: (B, K, 512) frozen CLAP tokens, or None.
        vision: (B, V, P, 512) frozen OWL-ViT tokens of V sampled frames with P tokens each, or None.
        vision_mask: (B, V) bool, False where a frame is missing, or None when all are there.
    """

    wave: Tensor | None = None
    features: Tensor | None = None
    clap: Tensor | None = None
    vision: Tensor | None = None
    vision_mask: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ModelInput:
        """Return the same input on another device."""
        return ModelInput(*(None if t is None else t.to(device, non_blocking=non_blocking) for t in self))
