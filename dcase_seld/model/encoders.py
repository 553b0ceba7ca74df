"""The audio branch: convolution blocks over (time, mel), then Conformer layers over label frames; the baseline's CRNN.

Letters: B clips, A front-end channels, T' front-end frames, F mel bands, T label frames, E width of the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcase_seld.model.config import CrnnConfig, EncoderConfig
from dcase_seld.model.conformer import ConformerLayer
from dcase_seld.model.types import NO_TOKENS, Tokens


def time_strides(frames_per_label: int, blocks: int) -> list[int]:
    """Return each block's stride in time: 2 while the front-end frames of a label frame divide, then 1."""
    strides = []
    for _ in range(blocks):
        strides.append(2 if frames_per_label % 2 == 0 else 1)
        frames_per_label //= strides[-1]
    return strides


def average_pool(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Return (B, c, T' // a, F // b) means of windows (a, b) side by side of x (B, c, T', F)."""
    # CPUs have a fast kernel; on GPUs its backward pass alone takes a sixth of an update, unlike a plain mean's.
    return functional.avg_pool2d(x, window) if x.device.type == "cpu" else mean_pool(x, window)


def mean_pool(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Return what `average_pool` does, as the mean of a view."""
    high, wide = (size // step for size, step in zip(x.shape[2:], window, strict=True))
    whole = x[:, :, : high * window[0], : wide * window[1]]
    return whole.reshape(*x.shape[:2], high, window[0], wide, window[1]).mean((3, 5))


class ConvBlock(nn.Module):
    """Maps (B, c, T', F) to (B, c2, T' / stride, F / 2): (conv 3×3, BN, ReLU) twice, average pool, plus a shortcut.

    The shortcut is a strided 1×1 convolution with BN, added after the pooling. Source: D. Berghi et al., "Fusion of
    audio and visual embeddings for SELD", arXiv 2312.09034.
    """

    always = True
    """The shortcut is there also where the number of channels stays."""

    def __init__(self, inputs: int, outputs: int, time_stride: int) -> None:
        super().__init__()
        self.stride = (time_stride, 2)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        direct = inputs == outputs and not self.always
        self.shortcut = nn.Identity() if direct else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut_norm = nn.Identity() if direct else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = functional.relu(self.first_norm(self.first(x)), inplace=True)
        y = functional.relu(self.second_norm(self.second(y)), inplace=True)
        # The stride is a slice: torch 2.13's strided 1×1 convolution corrupts memory on CPUs in channels-last layout.
        kept = x[:, :, :: self.stride[0], :: self.stride[1]].contiguous(memory_format=torch.channels_last)
        out: Tensor = average_pool(y, self.stride) + self.shortcut_norm(self.shortcut(kept))
        return out


class ResidualBlock(ConvBlock):
    """Maps (B, c, T', F) to (B, c2, T' / stride, F / 2): a ResNet basic block whose stride is average pooling.

    Source: S. Niu et al., "An experimental study on sound event localization and detection under realistic testing
    conditions", ICASSP 2023 (ResNet-Conformer).
    """

    always = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        # Pooling first costs a quarter of the convolutions and keeps every sample, unlike a strided convolution.
        x = average_pool(x, self.stride)
        y = functional.relu(self.first_norm(self.first(x)), inplace=True)
        y = self.second_norm(self.second(y))
        return functional.relu(y + self.shortcut_norm(self.shortcut(x)), inplace=True)


class EncoderShape(NamedTuple):
    """What an encoder is given: A channels of F bands, so many front-end frames in a label frame."""

    channels: int
    bands: int
    frames_per_label: int


class SeldEncoder(nn.Module):
    """Maps features (B, A, T', F) to embeddings (B, T'/stride, E).

    The channels-last layout makes convolutions markedly faster on CPUs and on GPUs with tensor cores.
    """

    def __init__(self, config: EncoderConfig, shape: EncoderShape) -> None:
        super().__init__()
        inputs, frames_per_label, mels = shape.channels, shape.frames_per_label, shape.bands
        self.width = config.d_model
        self.pool_first = config.pool_first
        self.keep_bands = config.frequency == "flatten"
        block = ConvBlock if config.kind == "conformer" else ResidualBlock
        widths = (inputs, *config.channels)
        self.blocks = nn.Sequential()
        if config.kind == "resnet_conformer":
            stem = config.channels[0]
            self.blocks.append(
                nn.Sequential(nn.Conv2d(inputs, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
            )
            widths = (stem, *config.channels)
        strides = time_strides(frames_per_label, len(config.channels))
        for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            self.blocks.append(block(before, after, stride))
        last = config.channels[-1]
        if self.keep_bands:
            last *= mels // config.pool_first // 2 ** len(config.channels)
        self.shortcut = (math.prod(strides), mels // config.shortcut_bands) if config.shortcut_bands else None
        last += inputs * config.shortcut_bands
        # The paper's embedding has the width of the last block; other widths take a linear layer between.
        self.widen = nn.Identity() if last == config.d_model else nn.Linear(last, config.d_model)
        self.layers = nn.ModuleList(
            ConformerLayer(config.d_model, config.heads, config.feed_forward, config.kernel, config.dropout)
            for _ in range(config.layers)
        )
        for module in self.blocks.modules():
            # Without numbers (device meta) there is nothing to draw, and drawing there loads PyTorch's compiler.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, features: Tensor, tokens: Mapping[str, Tokens] = NO_TOKENS) -> Tensor:
        """Return (B, T'/stride, E) for standardised features (B, A, T', F); it reads no tokens."""
        x = average_pool(features, (1, self.pool_first)) if self.pool_first > 1 else features
        x = self.blocks(x.contiguous(memory_format=torch.channels_last))
        x = x.permute(0, 2, 1, 3).flatten(2) if self.keep_bands else x.mean(3).transpose(1, 2)
        if self.shortcut is not None:
            levels = average_pool(features, self.shortcut).transpose(1, 2).flatten(2)
            x = torch.cat((x, levels), 2)
        x = self.widen(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = x
        return out


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
        for one in config.fusion.values():  # one at most
            assert one.width is not None
            self.vision_in = nn.Linear(one.width, width)
            layer = nn.TransformerDecoderLayer(width, config.heads, batch_first=True)
            self.vision = nn.TransformerDecoder(layer, 2)

    def forward(self, features: Tensor, tokens: Mapping[str, Tokens] = NO_TOKENS) -> Tensor:
        """Return (B, T, gru_units) for standardised features and, where the network has eyes, tokens of one encoder.

        The P tokens of a video frame are averaged.
        """
        x: Tensor = self.convolutions(features.contiguous(memory_format=torch.channels_last)).transpose(1, 2).flatten(2)
        x = torch.tanh(self.gru(x)[0])
        half = x.shape[-1] // 2
        x = x[..., half:] * x[..., :half]
        for attention, norm in zip(self.attention, self.norms, strict=True):
            x = norm(x + attention(x, x, x, need_weights=False)[0])
        if self.vision is None:
            return x
        values, mask = next(iter(tokens.values()))
        memory = self.vision_in(values.mean(2))
        if mask is None:
            seen: Tensor = self.vision(x, memory)
            return seen
        # A clip without any video frame would be NaN: let it see all, then keep what the audio said.
        present = mask.any(1)
        seen = self.vision(x, memory, memory_key_padding_mask=~(mask | ~present[:, None]))
        return torch.where(present[:, None, None], seen, x)
