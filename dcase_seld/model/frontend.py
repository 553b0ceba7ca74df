"""The front end: channels that the network hears, made from the stereo waveform on the training device.

Letters: B clips, S samples, A channels, T' front-end frames, F mel bands.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcase_seld.core.task import LABEL_RATE
from dcase_seld.model.config import FrontEndConfig
from dcase_seld.model.features import (
    CHANNELS,
    FLOOR,
    SHARED_SCALER,
    SIGNED_CHANNELS,
    StpAcc,
    frame_signal,
    mel_filterbank,
    swap_features,
)

CODE_VERSION = 1
"""Raise it when the same configuration gives other numbers: caches of features depend on it."""


class FrontEnd(nn.Module):
    """Maps stereo waveforms (B, 2, S) to standardised channels (B, A, T', F).

    Attributes:
        channels: names of the A channels, see CHANNELS.
        mean, std: (A, F), statistics of the training set.
    """

    mean: Tensor
    std: Tensor
    window: Tensor
    bank: Tensor

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = tuple(name for feature in config.features for name in CHANNELS[feature])
        window = np.zeros(config.n_fft)
        start = (config.n_fft - config.window) // 2
        window[start : start + config.window] = np.hanning(config.window + 1)[:-1]
        bank = mel_filterbank(config.sample_rate, config.n_fft, config.mels)
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("bank", torch.from_numpy(bank), persistent=False)
        self.stpacc = StpAcc(config.hop, config.mels) if "stpacc" in config.features else None
        self.register_buffer("mean", torch.zeros(len(self.channels), config.mels))
        self.register_buffer("std", torch.ones(len(self.channels), config.mels))

    def fingerprint(self) -> str:
        """Return a short hash of everything that `extract` depends on (not the statistics)."""
        facts = {"config": self.config.model_dump(mode="json"), "code": CODE_VERSION}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def frames(self, samples: int) -> int:
        """Return T' of a waveform of `samples`: whole label frames only."""
        label = self.config.sample_rate // LABEL_RATE
        return samples // label * self.config.frames_per_label

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take the training set's mean and standard deviation (A, F) of `extract`'s channels.

        Left and right get one common scaler; signed channels keep mean 0 and are scaled by their root mean square.
        """
        mean, std = mean.double().clone(), std.double().clone()
        pair = [self.channels.index(name) for name in SHARED_SCALER if name in self.channels]
        if pair:
            both = mean[pair].mean(0)
            std[pair] = ((std[pair].square() + mean[pair].square()).mean(0) - both.square()).clamp(min=0).sqrt()
            mean[pair] = both
        for name in SIGNED_CHANNELS:
            if name in self.channels:
                index = self.channels.index(name)
                std[index] = (std[index].square() + mean[index].square()).sqrt()
                mean[index] = 0.0
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def standardise(self, features: Tensor) -> Tensor:
        """Return features (B, A, T', F) of `extract`, or a cache of them, with the training set's mean 0 and std 1."""
        return (features.to(self.mean.dtype) - self.mean[:, None]) / self.std[:, None]

    def forward(self, wave: Tensor) -> Tensor:
        """Return standardised channels (B, A, T', F) of waveforms (B, 2, S)."""
        return self.standardise(self.extract(wave))

    # Fourier transforms gain nothing from torch.compile, which would unroll their loops for minutes.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def extract(self, wave: Tensor) -> Tensor:
        """Return channels (B, A, T', F), not standardised, of waveforms (B, 2, S) in [-1, 1]; whole label frames only.

        Levels are in dB. Works in the precision of `wave`, float32 or float64.
        """
        samples = wave.shape[-1]
        frames = self.frames(samples)
        made: dict[str, Tensor] = {}
        if set(self.channels) - {"stpacc"}:
            self._spectral(wave, frames, made)
        if self.stpacc is not None:
            made["stpacc"] = self.stpacc(wave.mean(1))[:, :frames]
        return torch.stack([made[name] for name in self.channels], 1)

    def _spectral(self, wave: Tensor, frames: int, made: dict[str, Tensor]) -> None:
        """Put the channels made from mel spectra into `made`, each (B, T', F)."""
        config = self.config
        views = frame_signal(wave.flatten(0, 1), config.n_fft, config.hop, "constant")
        spectrum = torch.fft.rfft(views * self.window.to(wave.dtype)).unflatten(0, (-1, 2))
        bank = self.bank.to(wave.dtype)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power @ bank
        level = self._decibel(mel)[:, :, :frames]
        made["left"], made["right"] = level.unbind(1)
        made["ild"] = made["left"] - made["right"]
        if {"mid", "side", "coherence", "intensity"} & set(self.channels):
            left, right = spectrum.unbind(1)
            cross = left * right.conj()
            self._cross_channels(mel, torch.stack((cross.real, cross.imag), 1) @ bank, frames, made)

    def _cross_channels(self, mel: Tensor, cross: Tensor, frames: int, made: dict[str, Tensor]) -> None:
        """Put channels of the cross-spectrum into `made`, each (B, T', F); mel and cross are (B, 2, frames, F)."""
        total, difference = mel.sum(1), mel[:, 0] - mel[:, 1]
        # |L ± R|² / 4 = (|L|² + |R|² ± 2 Re L R*) / 4: the mid and side powers need no further transform.
        pair = torch.stack((total + 2 * cross[:, 0], total - 2 * cross[:, 0]), 1).clamp(min=0.0) / 4
        level = self._decibel(pair)[:, :, :frames]
        made["mid"], made["side"] = level.unbind(1)
        # Re(M S*) = (|L|² - |R|²) / 4, against (|M|² + |S|²) / 2 = (|L|² + |R|²) / 4: in [-1, 1], positive left.
        made["intensity"] = (difference / (total + FLOOR))[:, :frames]
        smooth = [functional.avg_pool2d(t, (9, 1), 1, (4, 0)) for t in (mel, cross)]
        coherence = smooth[1].square().sum(1).sqrt() / (smooth[0].prod(1).sqrt() + FLOOR)
        made["coherence"] = coherence[:, :frames]

    def _decibel(self, mel: Tensor) -> Tensor:
        """Return mel powers (B, 2, frames, F) in dB, ended below as the configuration says."""
        level = 10.0 * torch.log10(mel.clamp(min=FLOOR))
        if self.config.range_db is not None:
            level = torch.maximum(level, level.amax((-3, -2, -1), keepdim=True) - self.config.range_db)
        return level

    def swap(self, features: Tensor) -> Tensor:
        """Return features (B, A, T', F) as they are when left and right are swapped; standardised or not."""
        return swap_features(features, self.channels)
