"""What a SELD network is given, what it says, and what it should have said: tensors with named fields.

Letters: B clips, S samples, T label frames (50 in 5 s), C classes, N tracks, D numbers of a direction (2: x to the
front, y to the left; 3: z up too), K tokens of sound, V video frames, P tokens of a video frame, W width of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError


def require_shape(who: str, given: object, shape: tuple[int | None, ...], words: str) -> Tensor:
    """Return what a plug-in gave, a tensor of this shape; None stands for any length, `words` name the dimensions.

    Raises:
        SeldError: it is something else.
    """
    got = tuple(given.shape) if isinstance(given, Tensor) else None
    if got is None or len(got) != len(shape) or any(b is not None and a != b for a, b in zip(got, shape, strict=True)):
        wanted = ", ".join("any" if one is None else str(one) for one in shape)
        raise SeldError(
            f"{who} gave {type(given).__name__ if got is None else f'a tensor of shape {got}'}.",
            f"Let it return a tensor of shape ({wanted}): {words}.",
        )
    assert isinstance(given, Tensor)
    return given


class SeldOutput(NamedTuple):
    """Multi-ACCDOA output with distance and on-screen logit.

    Attributes:
        direction: (B, T, C, N, D), activity-coupled direction: its length is the activity.
        distance: (B, T, C, N), metres.
        onscreen: (B, T, C, N), logits. A model without an on-screen head gives None.
    """

    direction: Tensor
    distance: Tensor
    onscreen: Tensor | None

    def activity(self) -> Tensor:
        """Return (B, T, C, N), the length of the direction vector."""
        length: Tensor = torch.linalg.vector_norm(self.direction, dim=-1)
        return length

    def map(self, change: Callable[[Tensor], Tensor]) -> SeldOutput:
        """Return the output with every field that is there changed alike."""
        return SeldOutput(*(None if field is None else change(field) for field in self))  # type: ignore[arg-type]


class SeldTarget(NamedTuple):
    """Reference of a batch; what lies beyond the sources of a class and frame is 0.

    Attributes:
        count: (B, T, C) int, sources of this class in this frame, at most N.
        direction: (B, T, C, N, D), unit vectors.
        distance: (B, T, C, N), metres.
        onscreen: (B, T, C, N), 0 or 1.
    """

    count: Tensor  # type: ignore[assignment]
    direction: Tensor
    distance: Tensor
    onscreen: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> SeldTarget:
        """Return the target with every field changed alike."""
        return SeldTarget(*map(change, self))

    def of_tracks(self, tracks: int) -> SeldTarget:
        """Return the target of a network with `tracks` tracks: the first sources of each class and frame."""
        if tracks >= self.distance.shape[3]:
            return self
        fields = [field[:, :, :, :tracks] for field in self[1:]]
        return SeldTarget(self.count.clamp(max=tracks), *fields)


class Tokens(NamedTuple):
    """What a frozen encoder said about the clips of a batch.

    Attributes:
        values: (B, K, W) of sound, K tokens evenly spread over the clip; or (B, V, P, W) of pictures.
        mask: (B, V) bool, False where a video frame is missing; None of sound: pictures always have one.
    """

    values: Tensor
    mask: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Tokens:
        """Return the tokens with every field that is there changed alike."""
        return Tokens(change(self.values), None if self.mask is None else change(self.mask))


NO_TOKENS: Mapping[str, Tokens] = {}


class ModelInput(NamedTuple):
    """What a SELD network may look at; what a model does not use may be missing.

    Attributes:
        wave: (B, channels, S) float in [-1, 1] at the sample rate of the front end, or None when `features` is given;
            int16 on its way to a device, see `floats`.
        features: (B, A, T', F), the front end's UNstandardised output (a cache of it), or None.
        tokens: what frozen encoders said, by the encoder's name ("yamnet", "clap", "owlvit", …).
    """

    wave: Tensor | None = None
    features: Tensor | None = None
    tokens: Mapping[str, Tokens] = NO_TOKENS

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelInput:
        """Return the input with every tensor that is there changed alike."""
        wave, features = (None if field is None else change(field) for field in (self.wave, self.features))
        return ModelInput(wave, features, {name: tokens.map(change) for name, tokens in self.tokens.items()})

    def replace(self, **fields: Any) -> Self:
        """Return the input with some fields replaced."""
        return self._replace(**fields)

    def floats(self) -> ModelInput:
        """Return the input with int16 sound, as files hold it, in [-1, 1], and with tokens in single precision."""
        wave = self.wave
        if wave is not None and wave.dtype == torch.int16:
            wave = wave.to(torch.float32, memory_format=torch.contiguous_format).mul_(1.0 / 32768.0)
        tokens = {name: one._replace(values=one.values.float()) for name, one in self.tokens.items()}
        return self._replace(wave=wave, tokens=tokens)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ModelInput:
        """Return the same input on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
