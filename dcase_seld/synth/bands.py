"""Octave bands: what surfaces absorb and how rooms decay depends on frequency."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from dcase_seld.task.facts import SAMPLE_RATE

BANDS_HZ = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)
"""Centres of the octave bands that surfaces and decays are given in; the outer ones reach to 0 and to 12 kHz."""
Response = npt.NDArray[np.float32]


def decay_in_bands(white: Response, decays: npt.NDArray[np.float32]) -> Response:
    """Return white noise (channels, S) split into bands, each under its decay (bands, S), and summed."""
    from scipy import fft

    size = 1 << (white.shape[1] - 1).bit_length()
    spectrum = fft.rfft(white, size)
    total = np.zeros_like(white)
    for mask, fall in zip(_masks(size), decays, strict=True):
        total += fft.irfft(spectrum * mask, size)[:, : white.shape[1]] * fall
    return np.asarray(total)


def join_bands(trains: Response) -> Response:
    """Return impulse trains (bands, channels, S), each limited to its band, and summed."""
    from scipy import fft

    # Zeros beyond the end keep the band filters' ringing from wrapping to the start.
    size = 1 << (trains.shape[-1] + 512 - 1).bit_length()
    spectrum = fft.rfft(trains, size)
    joined = np.einsum("bcf,bf->cf", spectrum, _masks(size))
    return np.asarray(fft.irfft(joined, size)[:, : trains.shape[-1]], dtype=np.float32)


@functools.lru_cache(maxsize=16)
def _masks(size: int) -> npt.NDArray[np.float32]:
    """Return (bands, size // 2 + 1) zero-phase octave filters that add up to 1, with raised-cosine borders."""
    octave = np.log2(np.maximum(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 1.0))
    place = np.clip(octave - np.log2(BANDS_HZ[0]), 0.0, len(BANDS_HZ) - 1.0)
    distance = np.clip(np.abs(place[None] - np.arange(len(BANDS_HZ))[:, None]), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * distance), dtype=np.float32)
