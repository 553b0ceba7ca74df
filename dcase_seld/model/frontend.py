"""The front end: channels that the network hears, made from the waveform on the training device.

Letters: B clips, S samples, A channels, T' front-end frames, F mel bands.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import CHANNELS, ROTATIONS
from dcase_seld.core.registry import FEATURES, used_plugins
from dcase_seld.core.task import LABEL_RATE
from dcase_seld.model.config import FrontEndConfig
from dcase_seld.model.features import SHARED_SCALER, Spectra, StpAcc, feature_of, mel_filterbank, swap_features

CODE_VERSION = 1
"""Raise it when the same configuration gives other numbers: caches of features depend on it."""


def permuted(values: Tensor, place: Tensor, sign: Tensor, axis: int = 1) -> Tensor:
    """Return values whose entries along `axis` change places and signs, each clip in its own way.

    Args:
        values: (B, …), n entries along `axis`.
        place: (B, n), counted on the CPU: which entry comes to stand in place of each.
        sign: (B, n), on the CPU.
        axis: which one.
    """
    device = values.device
    place, sign = (table.to(device, non_blocking=True) for table in (place, sign.to(values.dtype)))
    moved = values.movedim(axis, 1)
    row = torch.arange(len(values), device=device)[:, None]
    taken = moved[row, place] * sign.view(*sign.shape, *[1] * (values.ndim - 2))
    return taken.movedim(1, axis)


class FrontEnd(nn.Module):
    """Maps waveforms (B, channels, S) to standardised channels (B, A, T', F).

    Attributes:
        format: what the channels of the waveform are.
        channels: names of the A maps, see `model.features`.
        levels: those that hold levels in dB.
        signed: those that change sign when left and right are swapped; their mean is fixed at 0.
        mean, std: (A, F), statistics of the training set.
    """

    mean: Tensor
    std: Tensor
    window: Tensor
    bank: Tensor

    def __init__(self, config: FrontEndConfig, channels: str = "stereo") -> None:
        super().__init__()
        self.config, self.format = config, CHANNELS[channels]
        self.features = [feature_of(name) for name in config.features]
        wrong = [name for name, one in zip(config.features, self.features, strict=True) if channels not in one.maps]
        if wrong:
            fitting = [name for name in FEATURES.names if channels in feature_of(name).maps]
            raise SeldError(
                f"frontend.features: {wrong[0]} is not to be had of {channels} recordings.",
                f"Choose of {', '.join(fitting)}.",
            )
        self.channels = tuple(name for one in self.features for name in one.maps[channels])
        self.levels = tuple(name for one in self.features if one.levels for name in one.maps[channels])
        self.signed = tuple(name for one in self.features for name in one.signed)
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
        if self.format.name != "stereo":
            facts["channels"] = self.format.name
        if plugins := used_plugins(self.config.features):
            facts["plugins"] = plugins
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
        for name in self.signed:
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
        """Return standardised channels (B, A, T', F) of waveforms (B, channels, S)."""
        return self.standardise(self.extract(wave))

    @torch.no_grad()
    def extract(self, wave: Tensor) -> Tensor:
        """Return maps (B, A, T', F), not standardised, of waveforms (B, channels, S) in [-1, 1], of whole label frames.

        Levels are in dB. Works in the precision of `wave`, float32 or float64.
        """
        frames = self.frames(wave.shape[-1])
        spectra = Spectra(wave, self.config, self.format, self.window, self.bank, self.stpacc)
        return torch.cat([feature.make(spectra)[:, :, :frames] for feature in self.features], 1)

    def rotate(self, features: Tensor, pattern: Tensor) -> Tensor:
        """Return features (B, A, T', F) of `extract` as they are when the sphere is turned, by `pattern` (B,) each.

        A pattern, counted on the CPU, is the number of one of `geometry.ROTATIONS`. Levels have no sign.
        """
        tables = [rotation.of(self.channels) for rotation in ROTATIONS]
        levels = torch.tensor([name in self.levels for name in self.channels])
        signs = torch.where(levels, 1, torch.tensor([sign for _, sign in tables]))
        return permuted(features, torch.tensor([place for place, _ in tables])[pattern], signs[pattern])

    def swap(self, features: Tensor) -> Tensor:
        """Return features (B, A, T', F) as they are when left and right are swapped; standardised or not."""
        return swap_features(features, self.channels, self.signed)


@cache
def leave_uncompiled() -> None:
    """Keep `extract` out of torch.compile from here on, which would unroll the loops of its transforms for minutes.

    What compiles a network calls this. A decorator would load the compiler with every prediction, and importing that
    takes as long as the rest of PyTorch.
    """
    FrontEnd.extract = torch.compiler.disable(FrontEnd.extract)  # type: ignore[method-assign, no-untyped-call]
