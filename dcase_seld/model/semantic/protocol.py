"""What every frozen encoder of meaning offers: tokens of clips or frames, and an identity of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

EncoderKind = Literal["clap", "audio", "vision"]


class SemanticEncoder(Protocol):
    """A frozen network that turns sound or pictures into tokens.

    Attributes:
        kind: "clap" and "audio" take sound, "vision" takes pictures.
        dimension: D, numbers per token.
        tokens: tokens per clip (sound; 0 where it depends on the clip's length) or per frame (pictures).
        frozen: always True: no gradient reaches the weights.
        weights_fingerprint: equal exactly where the weights are equal.
        random_weights: the weights were made from a configuration, not trained.
    """

    kind: EncoderKind
    dimension: int
    tokens: int
    frozen: bool
    weights_fingerprint: str
    random_weights: bool

    def encode(self, batch: Any) -> Tensor:
        """Return (B, tokens, D) float32 of sound (B, 2, S) in [-1, 1], or of a list of B pictures (uint8 BGR)."""
        ...


def fingerprint_weights(weights: Mapping[str, Tensor]) -> str:
    """Return 16 hexadecimal digits that depend on every name, shape and value of `weights`."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()[:16]
