"""stpACC, short-term power of the autocorrelation: how a room answers a source, hence how far away it is.

Source: D. Berghi, P. J. B. Jackson, arXiv 2504.08644, and the numbers of its authors' program: STFT of 1024 samples
with a symmetric Hann window, power spectrum, inverse FFT, first 512 lags (21 ms at 24 kHz), clipped below at 1e-100,
divided by the largest, squared, smoothed by a Hann window of 8 lags, divided by the largest, resampled to `bins`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

N_FFT = 1024
"""Samples of one frame."""
LAGS = 512
"""Lags of the autocorrelation that are kept."""
SMOOTHING = 8
"""Lags of the smoothing window."""


def frame_signal(wave: Tensor, length: int, hop: int, mode: str) -> Tensor:
    """Return (…, frames, length): views of frames centred at multiples of `hop`, samples beyond the ends by `mode`.

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


class StpAcc(nn.Module):
    """Maps signals (R, S) to stpACC (R, frames, bins), one frame per `hop` samples, the last centred one dropped.

    A frame of silence gives zeros, where the authors' program gives NaN.
    """

    window: Tensor
    smooth: Tensor
    resample: Tensor

    def __init__(self, hop: int, bins: int) -> None:
        super().__init__()
        self.hop = hop
        window, smooth = np.hanning(N_FFT), smoothing_matrix()
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("smooth", torch.from_numpy(smooth), persistent=False)
        self.register_buffer("resample", torch.from_numpy(smooth @ resampling_matrix(bins)), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return (R, S // hop, bins) in the precision of `wave` (float64 is the reference path)."""
        frames = frame_signal(wave, N_FFT, self.hop, "reflect")[:, : wave.shape[1] // self.hop]
        window, smooth, resample = (t.to(wave.dtype) for t in (self.window, self.smooth, self.resample))
        # Each frame is brought to unit peak first: powers of quiet frames would leave the range of float32.
        frames = frames * window
        peak = frames.abs().amax(-1, keepdim=True)
        spectrum = torch.fft.rfft(frames / torch.where(peak > 0, peak, 1.0))
        power = spectrum.real.square() + spectrum.imag.square()
        lags = torch.fft.irfft(power, N_FFT)[..., :LAGS].clamp(min=0.0)
        # The largest autocorrelation is the one at lag 0.
        lags = (lags / torch.where(peak > 0, lags[..., :1], 1.0)).square()
        largest = (lags @ smooth).amax(-1, keepdim=True)
        bins: Tensor = (lags @ resample) / torch.where(peak > 0, largest, 1.0)
        return bins
