"""Cross-Modal Conformers: Conformer layers whose attention looks at frozen semantic tokens.

Letters: B clips, T label frames, K CLAP tokens, V video frames, P tokens per video frame, D token width,
E width of the embedding. Source: D. Berghi, P. J. B. Jackson, arXiv 2507.04845 (Cross-Modal Conformer).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dcase_seld.model.config import CrossModalConfig
from dcase_seld.model.conformer import Attend, ConformerLayer


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
