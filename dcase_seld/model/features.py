"""stpACC, short-term power of the autocorrelation: how a room answers a source, hence how far away it is.

Source: D. Berghi, P. J. B. Jackson, arXiv 2504.08644, and the numbers of its authors' program: STFT of 1024 samples
with a symmetric Hann window, power spectrum, inverse FFT, first 512 lags (21 ms at 24 kHz), clipped below at 1e-100,
divided by the largest, squared, smoothed by a Hann window of 8 lags, divided by the largest, resampled to `bins`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

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

    Args:
        wave: (R, S).
        length: samples of a frame.
        hop: samples between frames.
        mode: "reflect" or "constant" (zeros).
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


CHANNELS = {
    "log_mel": ("left", "right"),
    "ild": ("ild",),
    "stpacc": ("stpacc",),
    "mid_side": ("mid", "side"),
    "coherence": ("coherence",),
    "intensity": ("intensity",),
}
"""Feature → names of its channels."""

LEVEL_CHANNELS = ("left", "right", "mid", "side")
"""Channels that hold levels in dB."""

SIGNED_CHANNELS = ("ild", "intensity")
"""Channels that change sign when left and right are swapped; their mean is fixed at 0."""

SHARED_SCALER = ("left", "right")
"""Channels that share one scaler, so that level differences survive standardisation."""

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


def swap_features(features: Tensor, channels: tuple[str, ...]) -> Tensor:
    """Return features (B, A, T', F) with left and right swapped: levels exchanged, signed channels negated."""
    order = list(range(len(channels)))
    if "left" in channels:
        left, right = channels.index("left"), channels.index("right")
        order[left], order[right] = right, left
    parts = features.unbind(1)
    signed = [-parts[row] if name in SIGNED_CHANNELS else parts[row] for row, name in zip(order, channels, strict=True)]
    return torch.stack(signed, 1)
