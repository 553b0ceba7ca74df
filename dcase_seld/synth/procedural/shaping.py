"""Building blocks of procedural sounds: envelopes, resonances, noise, repetition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dcase_seld.task.facts import SAMPLE_RATE

Sound = npt.NDArray[np.float32]
Generator = np.random.Generator


def samples_of(seconds: float) -> int:
    """Return the number of samples (at least 1) in a duration in seconds."""
    return max(1, round(seconds * SAMPLE_RATE))


def noise(rng: Generator, samples: int) -> Sound:
    """Return white noise of unit variance, (samples,)."""
    return rng.standard_normal(samples, dtype=np.float32)


def decay(samples: int, t60_s: float, attack_s: float = 0.001) -> Sound:
    """Return an envelope that rises in `attack_s` and falls by 60 dB in `t60_s` seconds, (samples,)."""
    time = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
    return (np.minimum(time / max(attack_s, 1e-4), 1.0) * 10.0 ** (-3.0 * time / t60_s)).astype(np.float32)


def swell(samples: int, attack_s: float, release_s: float) -> Sound:
    """Return an envelope of 1 with raised-cosine ends of the given lengths in seconds, (samples,)."""
    envelope = np.ones(samples, np.float32)
    for seconds, at_end in ((attack_s, False), (release_s, True)):
        length = min(samples_of(seconds), samples)
        ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)
        if at_end:
            envelope[samples - length :] *= ramp[::-1]
        else:
            envelope[:length] *= ramp
    return envelope


def resonate(sound: Sound, frequency_hz: float, bandwidth_hz: float) -> Sound:
    """Return `sound` through a two-pole resonance of unit peak gain."""
    from scipy.signal import lfilter

    radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE)
    angle = 2.0 * np.pi * min(frequency_hz, 0.47 * SAMPLE_RATE) / SAMPLE_RATE
    gain = (1.0 - radius) * np.sqrt(1.0 - 2.0 * radius * np.cos(2.0 * angle) + radius**2)
    filtered = lfilter([gain], [1.0, -2.0 * radius * np.cos(angle), radius**2], sound)
    return np.asarray(filtered, dtype=np.float32)


def low_pass(sound: Sound, frequency_hz: float) -> Sound:
    """Return `sound` through a one-pole low-pass filter."""
    from scipy.signal import lfilter

    pole = float(np.exp(-2.0 * np.pi * frequency_hz / SAMPLE_RATE))
    return np.asarray(lfilter([1.0 - pole], [1.0, -pole], sound), dtype=np.float32)


def high_pass(sound: Sound, frequency_hz: float) -> Sound:
    """Return what `low_pass` takes away."""
    return sound - low_pass(sound, frequency_hz)


def partials(
    samples: int, frequencies_hz: Sequence[float], gains: Sequence[float], t60_s: Sequence[float], rng: Generator
) -> Sound:
    """Return a sum of decaying sines at random phases, (samples,); partials above 11 kHz are left out."""
    time = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
    total = np.zeros(samples, np.float32)
    for frequency, gain, t60 in zip(frequencies_hz, gains, t60_s, strict=True):
        phase = rng.uniform(0.0, 2.0 * np.pi)
        if frequency < 11_000.0:
            wave = np.sin(np.float32(2.0 * np.pi * frequency) * time + np.float32(phase))
            total += np.float32(gain) * wave * np.exp(np.float32(-6.9078 / t60) * time)
    return total * swell(samples, 0.001, 0.01)


def phase_of(frequency_hz: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the running phase in cycles of a frequency contour, (samples,)."""
    return np.cumsum(np.asarray(frequency_hz, dtype=np.float64)) / SAMPLE_RATE


def pulses(frequency_hz: npt.NDArray[np.floating]) -> Sound:
    """Return a bright periodic wave (a rounded sawtooth) along a frequency contour, (samples,)."""
    cycle = phase_of(frequency_hz) % 1.0
    opening = np.where(cycle < 0.6, 0.5 - 0.5 * np.cos(np.pi * cycle / 0.6), 0.0)
    closing = np.where((cycle >= 0.6) & (cycle < 0.75), np.cos(0.5 * np.pi * (cycle - 0.6) / 0.15), 0.0)
    flow = opening + closing
    return np.diff(flow, prepend=flow[:1]).astype(np.float32) * np.float32(SAMPLE_RATE / 4000.0)


def place(parts: Sequence[tuple[float, Sound]], seconds: float | None = None) -> Sound:
    """Return sounds added at their onsets (seconds), as long as the last one's end or as `seconds`."""
    if not parts:
        return np.zeros(samples_of(seconds or 0.1), np.float32)
    starts = [round(onset * SAMPLE_RATE) for onset, _ in parts]
    needed = max(start + len(sound) for start, (_, sound) in zip(starts, parts, strict=True))
    total = np.zeros(needed if seconds is None else samples_of(seconds), np.float32)
    for start, (_, sound) in zip(starts, parts, strict=True):
        piece = sound[: max(0, len(total) - start)]
        total[start : start + len(piece)] += piece
    return total


def onsets(rng: Generator, count: int, rate_hz: float, jitter: float) -> list[float]:
    """Return `count` onset times in seconds from 0 on, at a mean rate with relative jitter."""
    gaps = (1.0 + jitter * rng.uniform(-1.0, 1.0, max(0, count - 1))) / rate_hz
    return [0.0, *np.cumsum(gaps).tolist()]
