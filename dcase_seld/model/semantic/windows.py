"""Overlapping windows over a clip, and padding a window to the length that an encoder was trained with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def window_starts(samples: int, windows: int) -> tuple[list[int], int]:
    """Return the first samples of `windows` equal windows that cover a clip, and their length in samples.

    One window is the whole clip; more overlap by half, so that each instant but the ends lies in two.
    """
    if windows == 1:
        return [0], samples
    hop = samples / (windows + 1)
    length = min(samples, round(2 * hop))
    return [min(round(k * hop), samples - length) for k in range(windows)], length


def cut_windows(wave: Tensor, windows: int) -> Tensor:
    """Return (B, windows, length), overlapping windows of mono sound (B, S)."""
    starts, length = window_starts(wave.shape[-1], windows)
    return torch.stack([wave[:, start : start + length] for start in starts], dim=1)


def centred_windows(wave: Tensor, windows: int, length: int) -> Tensor:
    """Return (B, windows, length), the sound around the middles of equal stretches of mono sound (B, S).

    Neighbours overlap where windows are longer than stretches; beyond the ends of the sound there are zeros.
    """
    middles = (torch.arange(windows, dtype=torch.float64) + 0.5) * wave.shape[-1] / windows
    margin = length // 2 + 1
    starts = (middles - length / 2).round().long() + margin
    places = starts[:, None] + torch.arange(length)
    return functional.pad(wave, (margin, margin))[:, places]


def pad_window(wave: Tensor, samples: int, padding: str) -> Tensor:
    """Return (B, samples): "repeatpad" repeats whole copies, then zeros; "repeat" repeats and cuts; "pad" zeros.

    Source: the three ways of LAION CLAP's feature extraction.
    """
    length = wave.shape[-1]
    if length < samples and padding == "repeatpad":
        wave = wave.repeat(1, samples // length)
    elif length < samples and padding == "repeat":
        wave = wave.repeat(1, samples // length + 1)[:, :samples]
    return functional.pad(wave, (0, samples - wave.shape[-1]))
