"""The challenge's baseline network, for comparison: CNN, bidirectional GRU, self-attention.

Source: the official DCASE 2025 Task 3 baseline program; 734,261 parameters on its audio track with 13 classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcase_seld.model.config import CrnnConfig


class Crnn(nn.Module):
    """Maps features (B, A, T', F) to embeddings (B, T, gru_units), with vision tokens as a decoder's memory."""

    def __init__(self, config: CrnnConfig, inputs: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        mels = config.frontend.mels
        for pool in config.pooling:
            self.convolutions.append(
                nn.Sequential(
                    nn.Conv2d(inputs, config.filters, 3, padding=1),
                    nn.BatchNorm2d(config.filters),
                    # The same numbers as ReLU before pooling, on a fraction of the values.
                    nn.MaxPool2d(pool),
                    nn.ReLU(),
                    nn.Dropout2d(config.dropout),
                )
            )
            inputs = config.filters
            mels //= pool[1]
        # Channels last: convolution, norm and pooling are nearly twice as fast on CPUs, and no slower on GPUs.
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.gru = nn.GRU(
            config.filters * mels,
            config.gru_units,
            config.gru_layers,
            batch_first=True,
            dropout=config.dropout,
            bidirectional=True,
        )
        width = config.gru_units
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(width, config.heads, config.dropout, batch_first=True)
            for _ in range(config.attention_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.attention_layers))
        self.vision = None
        if "vision" in config.fusion:
            self.vision_in = nn.Linear(config.vision_width, width)
            layer = nn.TransformerDecoderLayer(width, config.heads, batch_first=True)
            self.vision = nn.TransformerDecoder(layer, 2)

    def forward(self, features: Tensor, vision: Tensor | None = None, vision_mask: Tensor | None = None) -> Tensor:
        """Return (B, T, gru_units) for standardised features and, where the network has eyes, vision (B, V, P, D).

        The P tokens of a video frame are averaged; `vision_mask` (B, V) is False where a frame is missing.
        """
        x: Tensor = self.convolutions(features.contiguous(memory_format=torch.channels_last)).transpose(1, 2).flatten(2)
        x = torch.tanh(self.gru(x)[0])
        half = x.shape[-1] // 2
        x = x[..., half:] * x[..., :half]
        for attention, norm in zip(self.attention, self.norms, strict=True):
            x = norm(x + attention(x, x, x, need_weights=False)[0])
        if self.vision is None or vision is None:
            return x
        memory = self.vision_in(vision.mean(2))
        if vision_mask is None:
            seen: Tensor = self.vision(x, memory)
            return seen
        # A clip without any video frame would be NaN: let it see all, then keep what the audio said.
        present = vision_mask.any(1)
        seen = self.vision(x, memory, memory_key_padding_mask=~(vision_mask | ~present[:, None]))
        return torch.where(present[:, None, None], seen, x)
