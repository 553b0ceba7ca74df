"""Features of the front end: log-mel, levels between channels, intensity, stpACC, and how a swap changes each.

Source: D. Berghi, P. J. B. Jackson, arXiv 2504.08644, and the numbers of its authors' program: STFT of 1024 samples
with a symmetric Hann window, power spectrum, inverse FFT, first 512 lags (21 ms at 24 kHz), clipped below at 1e-100,
divided by the largest, squared, smoothed by a Hann window of 8 lags, divided by the largest, resampled to `bins`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcase_seld.core.geometry import Channels
from dcase_seld.core.registry import FEATURES, FeatureEntry
from dcase_seld.model.config import FrontEndConfig
from dcase_seld.model.types import require_shape

N_FFT = 1024
"""Samples of one frame."""

LAGS = 512
"""Lags of the autocorrelation that are kept."""

SMOOTHING = 8
"""Lags of the smoothing window; its two ends are zero, so six lags count."""

CPU_FRAMES = 100
"""Frames worked on at a time on a CPU: their spectra stay in its cache, which halves the time."""


def frame_signal(wave: Tensor, length: int, hop: int, mode: str) -> Tensor:
    """Return (R, frames, length): views of frames centred at multiples of `hop`, samples beyond the ends by `mode`.

    `mode`: reflect or constant (zeros).
    """
    return functional.pad(wave, (length // 2, length // 2), mode=mode).unfold(-1, length, hop)


def smoothing_matrix() -> np.ndarray:
    """Return (512 lags, 512), the linear map of a 'same' convolution with a Hann window of 8 lags."""
    return np.stack([np.convolve(unit, np.hanning(SMOOTHING), "same") for unit in np.eye(LAGS)])


def resampling_matrix(bins: int) -> np.ndarray:
    """Return (512 lags, bins), the linear map of Fourier resampling: keep the lowest `bins` / 2 harmonics.

    As in scipy.signal.resample, the harmonic at the new Nyquist frequency takes both of its halves.
    """
    spectrum = np.fft.rfft(np.eye(LAGS), axis=1)[:, : bins // 2 + 1].copy()
    if bins % 2 == 0:
        spectrum[:, -1] *= 2.0
    return np.asarray(np.fft.irfft(spectrum, bins, axis=1) * (bins / LAGS))


def smooth(lags: Tensor) -> Tensor:
    """Return lags (…, 512) convolved ('same') with the Hann window of 8: three sums of mirrored pairs."""
    padded = functional.pad(lags, (3, 2))
    pairs = [padded[..., k : k + LAGS] + padded[..., 5 - k : 5 - k + LAGS] for k in range(3)]
    outer, middle, inner = (float(tap) for tap in np.hanning(SMOOTHING)[1:4])
    return pairs[0].mul_(outer).add_(pairs[1], alpha=middle).add_(pairs[2], alpha=inner)


class StpAcc(nn.Module):
    """Maps signals (R, S) to stpACC (R, frames, bins), one frame per `hop` samples, the last centred one dropped.

    A frame of silence gives zeros, where the authors' program gives NaN. Smoothing and resampling are linear, so that
    one matrix does both; the smoothed lags themselves are needed for their maximum only.
    """

    window: Tensor
    resample: Tensor

    def __init__(self, hop: int, bins: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.from_numpy(np.hanning(N_FFT)), persistent=False)
        self.register_buffer(
            "resample", torch.from_numpy(smoothing_matrix() @ resampling_matrix(bins)), persistent=False
        )

    @torch.no_grad()
    def forward(self, wave: Tensor) -> Tensor:
        """Return (R, S // hop, bins) in the precision of `wave` (float64 is the reference path)."""
        window, resample = self.window.to(wave.dtype), self.resample.to(wave.dtype)
        # stpACC does not depend on the level; at full scale the fourth powers of quiet frames stay within float32.
        peak = wave.abs().amax(-1, keepdim=True)
        frames = frame_signal(wave / torch.where(peak > 0, peak, 1.0), N_FFT, self.hop, "reflect")
        rows, count = len(wave), wave.shape[1] // self.hop
        out = wave.new_empty(rows, count, resample.shape[1])
        on_cpu = wave.device.type == "cpu"
        row_step, step = (1, CPU_FRAMES) if on_cpu else (rows, count)
        with _one_thread(on_cpu):
            for row in range(0, rows, row_step):
                for start in range(0, count, step):
                    part = slice(row, row + row_step), slice(start, min(start + step, count))
                    out[part] = _stpacc_of_frames(frames[part] * window, resample)
        return out


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """Keep torch to one thread: pieces this small cost more waiting for a second one than they gain by it.

    On a busy machine that waiting makes the front end slower by a factor of ten.
    """
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stpacc_of_frames(frames: Tensor, resample: Tensor) -> Tensor:
    """Return stpACC (R, frames, bins) of windowed frames (R, frames, 1024)."""
    spectrum = torch.fft.rfft(frames)
    # The product with the conjugate is the power spectrum, already in the complex form that the inverse FFT takes.
    lags = torch.fft.irfft(spectrum * spectrum.conj(), N_FFT)[..., :LAGS].clamp(min=0.0)
    # The largest autocorrelation is the one at lag 0.
    energy = lags[..., :1]
    lags = lags.div(torch.where(energy > 0, energy, 1.0)).square_()
    largest = smooth(lags).amax(-1, keepdim=True)
    bins: Tensor = (lags @ resample).div_(torch.where(largest > 0, largest, 1.0))
    return bins


FLOOR = 1e-10
"""Smallest mel power, -100 dB."""


def mel_filterbank(sample_rate: int, n_fft: int, mels: int) -> np.ndarray:
    """Return (n_fft // 2 + 1, mels): triangular bands of equal area, spaced on Slaney's mel scale from 0 Hz.

    Linear below 1 kHz (200/3 Hz per mel), logarithmic above (27 mels per factor of 6.4); the same numbers as librosa's
    default. Source: M. Slaney, Auditory Toolbox, 1998.
    """
    step, knee, ratio = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0
    top_hz = sample_rate / 2.0
    top = knee / step + np.log(top_hz / knee) / ratio if top_hz > knee else top_hz / step
    points = np.linspace(0.0, top, mels + 2)
    edges = np.where(points < knee / step, points * step, knee * np.exp(ratio * (points - knee / step)))
    frequencies = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)[:, None]
    rising = (frequencies - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2])))


class Spectra:
    """What features are made of, each part worked out when it is first asked for.

    Attributes:
        wave: (B, channels, S) in [-1, 1].
        channels: what the channels are.
        spectrum: (B, channels, frames, bins), complex short-time spectra; the features' T' frames are the first ones.
        bank: (bins, F), the mel filterbank.
    """

    def __init__(
        self,
        wave: Tensor,
        config: FrontEndConfig,
        channels: Channels,
        window: Tensor,
        bank: Tensor,
        stpacc: StpAcc | None,
    ) -> None:
        self.wave, self.config, self.channels, self.bank = wave, config, channels, bank.to(wave.dtype)
        self._window, self._stpacc = window, stpacc

    @cached_property
    def spectrum(self) -> Tensor:
        """Return the spectra of all channels."""
        views = frame_signal(self.wave.flatten(0, 1), self.config.n_fft, self.config.hop, "constant")
        spectrum: Tensor = torch.fft.rfft(views * self._window.to(self.wave.dtype)).unflatten(
            0, (-1, self.channels.count)
        )
        return spectrum

    @cached_property
    def mel(self) -> Tensor:
        """Return (B, channels, frames, F), mel powers."""
        return (self.spectrum.real.square() + self.spectrum.imag.square()) @ self.bank

    @cached_property
    def level(self) -> Tensor:
        """Return (B, channels, frames, F), mel powers in dB."""
        return self.decibel(self.mel)

    @cached_property
    def cross(self) -> Tensor:
        """Return (B, 2, frames, F), real and imaginary part of the cross-spectrum of left and right."""
        left, right = self.spectrum.unbind(1)
        cross = left * right.conj()
        return torch.stack((cross.real, cross.imag), 1) @ self.bank

    def autocorrelation(self) -> Tensor:
        """Return (B, 1, frames, F), stpACC of the sound without direction."""
        assert self._stpacc is not None
        mono = self.wave.mean(1) if self.channels.name == "stereo" else self.wave[:, 0]
        made: Tensor = self._stpacc(mono)
        return made[:, None]

    def decibel(self, mel: Tensor) -> Tensor:
        """Return mel powers (B, channels, frames, F) in dB, ended below as the configuration says."""
        level = 10.0 * torch.log10(mel.clamp(min=FLOOR))
        if self.config.range_db is not None:
            level = torch.maximum(level, level.amax((-3, -2, -1), keepdim=True) - self.config.range_db)
        return level


def _difference(s: Spectra) -> Tensor:
    return s.level[:, :1] - s.level[:, 1:]


def _mid_side(s: Spectra) -> Tensor:
    # |L ± R|² / 4 = (|L|² + |R|² ± 2 Re L R*) / 4: the mid and side powers need no further transform.
    total = s.mel.sum(1)
    pair = torch.stack((total + 2 * s.cross[:, 0], total - 2 * s.cross[:, 0]), 1).clamp(min=0.0) / 4
    return s.decibel(pair)


def _intensity(s: Spectra) -> Tensor:
    # Re(M S*) = (|L|² - |R|²) / 4, against (|M|² + |S|²) / 2 = (|L|² + |R|²) / 4: in [-1, 1], positive left.
    return ((s.mel[:, 0] - s.mel[:, 1]) / (s.mel.sum(1) + FLOOR))[:, None]


def _coherence(s: Spectra) -> Tensor:
    mel, cross = (functional.avg_pool2d(t, (9, 1), 1, (4, 0)) for t in (s.mel, s.cross))
    return (cross.square().sum(1).sqrt() / (mel.prod(1).sqrt() + FLOOR))[:, None]


def _direct(s: Spectra) -> Tensor:
    """Return (B, 2, frames, F): the sine of the azimuth of the direct sound, and the diffuse share of the power.

    A plane wave of power P from azimuth a, in a diffuse field of power x at the omnidirectional microphone, gives
    coincident microphones the mid power P + x, the side power P sin² a + x / 3 and the cross power P sin a. These three
    are averaged over 9 frames and solved for a and x: the level difference that is left without the reverberation.
    """
    mel, cross = (functional.avg_pool2d(t, (9, 1), 1, (4, 0)) for t in (s.mel, s.cross[:, :1]))
    left, right = mel.unbind(1)
    mid, side = (left + right + 2 * cross[:, 0]) / 4, (left + right - 2 * cross[:, 0]) / 4
    both = (left - right) / 4
    # x² - x (mid + 3 side) + 3 (mid side - both²) = 0; of its two roots the smaller one leaves a direct sound.
    root = ((mid - 3 * side).square() + 12 * both.square()).sqrt()
    diffuse = ((mid + 3 * side - root) / 2).clamp(min=0.0)
    diffuse = torch.minimum(diffuse, mid)
    sine = (both / (mid - diffuse + FLOOR)).clamp(-1.5, 1.5)
    return torch.stack((sine, diffuse / (mid + FLOOR)), 1)


def _intensity_vector(s: Spectra) -> Tensor:
    """Return (B, 3, frames, F): Re(W* Y), Re(W* Z), Re(W* X) over the energy, averaged by the mel bands.

    Source: the official FOA baseline programs of 2022 to 2024.
    """
    omni, figures = s.spectrum[:, :1], s.spectrum[:, 1:]
    energy = omni.abs().square() + figures.abs().square().sum(1, keepdim=True) / 3.0 + FLOOR
    return ((omni.conj() * figures).real / energy) @ s.bank


@dataclass(frozen=True)
class Feature:
    """One feature: what the front end makes of the spectra."""

    # channel format → names of the maps that it gives; a format that is missing has no such feature
    maps: Mapping[str, tuple[str, ...]]
    make: Callable[[Spectra], Tensor]  # Spectra → (B, maps, frames ≥ T', F)
    levels: bool = False  # the maps are levels in dB, which gains shift and masks hide
    signed: tuple[str, ...] = ()  # maps that change sign when left and right are swapped


LOG_MEL = Feature({"stereo": ("left", "right"), "foa": ("w", "y", "z", "x")}, lambda s: s.level, levels=True)
ILD = Feature({"stereo": ("ild",)}, _difference, signed=("ild",))
STPACC = Feature({"stereo": ("stpacc",), "foa": ("stpacc",)}, lambda s: s.autocorrelation())
MID_SIDE = Feature({"stereo": ("mid", "side")}, _mid_side, levels=True)
COHERENCE = Feature({"stereo": ("coherence",)}, _coherence)
INTENSITY = Feature({"stereo": ("intensity",)}, _intensity, signed=("intensity",))
DIRECT = Feature({"stereo": ("direct_side", "diffuse")}, _direct, signed=("direct_side",))
INTENSITY_VECTOR = Feature({"foa": ("iv_y", "iv_z", "iv_x")}, _intensity_vector, signed=("iv_y",))


def feature_of(name: str) -> Feature:
    """Return a feature by name, one of a plug-in too. Raises SeldError: there is none of this name."""
    entry = FEATURES[name]
    if isinstance(entry, FeatureEntry):

        def made(s: Spectra) -> Tensor:
            found = entry.function(s.spectrum, s.bank)
            shape = (len(s.wave), len(entry.maps), None, s.bank.shape[1])
            return require_shape(f"The feature {name}", found, shape, "clips, maps, frames, mel bands")

        return Feature({entry.channels: entry.maps}, made, entry.levels, entry.signed)
    assert isinstance(entry, Feature)
    return entry


SHARED_SCALER = ("left", "right")
"""Maps that share one scaler, so that level differences survive standardisation."""


def swap_features(features: Tensor, maps: tuple[str, ...], signed: Collection[str]) -> Tensor:
    """Return features (B, A, T', F) with left and right swapped: levels exchanged, signed maps negated."""
    order = list(range(len(maps)))
    if "left" in maps:
        left, right = maps.index("left"), maps.index("right")
        order[left], order[right] = right, left
    parts = features.unbind(1)
    return torch.stack(
        [-parts[row] if name in signed else parts[row] for row, name in zip(order, maps, strict=True)], 1
    )
