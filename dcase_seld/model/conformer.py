"""The Conformer layer, and the Cross-Modal Conformer, whose attention looks at tokens of a frozen encoder.

Letters: B clips, T label frames, M memory tokens, E width of the embedding, D width of a memory token.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcase_seld.model.config import CrossModalConfig


class FeedForward(nn.Sequential):
    """Maps (…, E) to (…, E): LayerNorm, Linear, SiLU, Linear, with dropout."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )


class Attention(nn.Module):
    """Multi-head attention of queries to a memory; the key projection has no bias, which softmax would cancel."""

    def __init__(self, width: int, memory_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(memory_width, width, bias=False)
        self.value = nn.Linear(memory_width, width)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
        for biased in (self.query, self.value, self.out):
            nn.init.zeros_(biased.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, T, E) for query (B, T, E), key and value (B, M, D) and mask (B, M), False = not to be seen."""

        def split(tensor: Tensor) -> Tensor:
            return tensor.view(*tensor.shape[:2], self.heads, -1).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split(self.query(query)),
            split(self.key(key)),
            split(self.value(value)),
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class Convolution(nn.Module):
    """Maps (B, T, E) to (B, T, E): pointwise with GLU, depthwise over time, BatchNorm, SiLU, pointwise."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # Pointwise convolutions are linear layers over the last axis, which need no transposed copies.
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, E) for x (B, T, E)."""
        x = functional.glu(self.expand(self.norm(x)), dim=-1)
        x = functional.silu(self.batch_norm(self.depthwise(x.transpose(1, 2)))).transpose(1, 2)
        out: Tensor = self.dropout(self.project(x))
        return out


class ConformerLayer(nn.Module):
    """One Conformer layer; with `memory_width` its attention looks at a memory instead of at itself.

    Source: A. Gulati et al., "Conformer", Interspeech 2020, in the variant of torchaudio.models.Conformer; the
    attention to a memory as in D. Berghi, P. J. B. Jackson, arXiv 2507.04845.
    """

    def __init__(
        self, width: int, heads: int, feed_forward: int, kernel: int, dropout: float, memory_width: int | None = None
    ) -> None:
        super().__init__()
        self.before = FeedForward(width, feed_forward, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.memory_norm = None if memory_width is None else nn.LayerNorm(memory_width)
        self.attention = Attention(width, width if memory_width is None else memory_width, heads, dropout)
        self.attention_dropout = nn.Dropout(dropout)
        self.convolution = Convolution(width, kernel, dropout)
        self.after = FeedForward(width, feed_forward, dropout)
        self.final_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, attend: Attend | None = None) -> Tensor:
        """Return (B, T, E) for x (B, T, E).

        Args:
            x: the embedding.
            attend: how a cross-attention layer sees its memory (see cross_modal); None: attention to x itself.
        """
        x = x + 0.5 * self.before(x)
        query = self.attention_norm(x)
        attended = self.attention(query, query, query) if attend is None else attend(self, query)
        x = x + self.attention_dropout(attended)
        x = x + self.convolution(x)
        x = x + 0.5 * self.after(x)
        out: Tensor = self.final_norm(x)
        return out


Attend = Callable[[ConformerLayer, Tensor], Tensor]
"""attend(layer, query (B, T, E)) → (B, T, E): the layer's attention, applied to some memory."""


def time_embedding(times: Tensor, width: int) -> Tensor:
    """Return (len(times), width): sines and cosines of times in label frames, periods from 6 to 60,000 frames."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=times.device) * (-math.log(10_000.0) / half))
    phases = times[:, None] * rates
    return torch.cat((phases.sin(), phases.cos()), 1)[:, :width]


def frames_of_tokens(tokens: int, frames: int, device: torch.device) -> Tensor:
    """Return (tokens,) the centre of each token's stretch of the clip, in label frames."""
    return (torch.arange(tokens, device=device) + 0.5) * (frames / tokens)


class CrossModalConformer(nn.Module):
    """Maps (B, T, E) to (B, T, E) with a look at tokens; `modality` says how time is told apart."""

    def __init__(self, width: int, token_width: int, config: CrossModalConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            ConformerLayer(width, config.heads, config.feed_forward, config.kernel, config.dropout, token_width)
            for _ in range(config.layers)
        )

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """Return (B, T, E) for x (B, T, E), seeing the tokens as `attend` says."""
        for layer in self.layers:
            x = layer(x, attend)
        return x


def to_all_tokens(tokens: Tensor, mask: Tensor | None = None) -> Attend:
    """Return an attention in which every label frame sees all tokens, told apart by a time embedding.

    Args:
        tokens: (B, V, P, D): V moments spread evenly over the clip, P tokens each; CLAP tokens are (B, K, 1, D).
        mask: (B, V), False where a moment is missing; a clip without any attends to nothing.
    """
    moments, per_moment = tokens.shape[1:3]
    memory = tokens.flatten(1, 2)
    keep = None if mask is None else mask.repeat_interleave(per_moment, 1)

    def attend(layer: ConformerLayer, query: Tensor) -> Tensor:
        assert layer.memory_norm is not None
        value = key = layer.memory_norm(memory)
        # One moment needs no time: its softmax is 1 and every label frame receives the same vector.
        if moments > 1:
            frames = query.shape[1]
            times = frames_of_tokens(moments, frames, query.device).repeat_interleave(per_moment)
            key = key + time_embedding(times, key.shape[-1]).to(key.dtype)
            centres = frames_of_tokens(frames, frames, query.device)
            query = query + time_embedding(centres, query.shape[-1]).to(query.dtype)
        if keep is None:
            attended: Tensor = layer.attention(query, key, value)
            return attended
        present = keep.any(1)
        # A row without any key would be NaN: let it see all, then take nothing of it.
        attended = layer.attention(query, key, value, keep | ~present[:, None])
        return attended * present[:, None, None]

    return attend


def to_own_moment(tokens: Tensor, mask: Tensor | None = None) -> Attend:
    """Return an attention in which a label frame sees the tokens of the video frame of its own time only.

    Args:
        tokens: (B, V, P, D): V video frames spread evenly over the clip, P tokens each.
        mask: (B, V), False where a video frame is missing: its label frames attend to nothing.
    """
    clips, moments = tokens.shape[:2]
    memory = tokens.flatten(0, 1)

    def attend(layer: ConformerLayer, query: Tensor) -> Tensor:
        assert layer.memory_norm is not None
        frames = query.shape[1]
        value = layer.memory_norm(memory)
        # Label frames are grouped by video frame, so that each group is one row of a plain attention.
        of_frame = torch.arange(frames, device=query.device) * moments // frames
        if frames % moments == 0:
            grouped = query.reshape(clips * moments, frames // moments, -1)
            attended: Tensor = layer.attention(grouped, value, value).reshape(clips, frames, -1)
        else:
            size = -(-frames // moments)
            first = -(torch.arange(moments, device=query.device) * frames // -moments)
            slots = (first[:, None] + torch.arange(size, device=query.device)).clamp(max=frames - 1)
            grouped = query[:, slots].flatten(0, 1)
            attended = layer.attention(grouped, value, value).unflatten(0, (clips, moments))
            attended = attended[:, of_frame, torch.arange(frames, device=query.device) - first[of_frame]]
        return attended if mask is None else attended * mask[:, of_frame, None]

    return attend
