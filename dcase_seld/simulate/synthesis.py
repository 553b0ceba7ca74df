"""Building blocks of procedural sounds, the voices made of them, and stand-ins for classes without a source."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dcase_seld.core.task import SAMPLE_RATE

Sound = npt.NDArray[np.float32]

Spectra = npt.NDArray[np.complex64]

Generator = np.random.Generator


BANDS_HZ = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)
"""Centres of the octave bands that surfaces and decays are given in; the outer ones reach to 0 and to 12 kHz."""


def decay_in_bands(white: Sound, decays: npt.NDArray[np.float32]) -> Sound:
    """Return white noise (channels, S) split into bands, each under its decay (bands, S), and summed."""
    from scipy import fft

    size = 1 << (white.shape[1] - 1).bit_length()
    spectrum = fft.rfft(white, size)
    bands = fft.irfft(spectrum * _masks(size)[:, None], size)[..., : white.shape[1]]
    bands *= decays[:, None]
    return np.asarray(bands.sum(axis=0))


def join_bands(trains: Sound) -> Sound:
    """Return impulse trains (bands, channels, S), each limited to its band, and summed."""
    from scipy import fft

    # Zeros beyond the end keep the band filters' ringing from wrapping to the start.
    size = 1 << (trains.shape[-1] + 512 - 1).bit_length()
    joined = (fft.rfft(trains, size) * _masks(size)[:, None]).sum(axis=0)
    return np.asarray(fft.irfft(joined, size)[:, : trains.shape[-1]], dtype=np.float32)


@functools.lru_cache(maxsize=16)
def _masks(size: int) -> npt.NDArray[np.float32]:
    """Return (bands, size // 2 + 1) zero-phase octave filters that add up to 1, with raised-cosine borders."""
    octave = np.log2(np.maximum(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 1.0))
    place = np.clip(octave - np.log2(BANDS_HZ[0]), 0.0, len(BANDS_HZ) - 1.0)
    distance = np.clip(np.abs(place[None] - np.arange(len(BANDS_HZ))[:, None]), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * distance), dtype=np.float32)


PART = 10_000
"""Samples of the blocks in which sounds and responses are transformed: so few stay in a processor's cache."""


LANES = 4
"""Single-precision transforms of one length that SciPy makes at a time, in little more time than one."""


def spectra_of(sounds: Sequence[tuple[Sound, int]]) -> list[Spectra]:
    """Return the spectra (blocks, channels, F) of each sound (channels, S) in blocks of PART samples.

    A sound begins so many samples after its first block, and as much silence as sound is transformed with each block.
    """
    from scipy import fft

    shapes = [(-(-(lead + sound.shape[1]) // PART), len(sound)) for sound, lead in sounds]
    ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()
    padded = np.zeros((-(-ends[-1] // LANES) * LANES, 2 * PART), np.float32)
    rows = [slice(*pair) for pair in pairwise(ends)]
    for (sound, lead), (blocks, channels), row in zip(sounds, shapes, rows, strict=True):
        whole = np.zeros((channels, blocks * PART), np.float32)
        whole[:, lead : lead + sound.shape[1]] = sound
        padded[row, :PART] = whole.reshape(channels, blocks, PART).swapaxes(0, 1).reshape(-1, PART)
    spectra = fft.rfft(padded)
    return [spectra[row].reshape(*shape, -1) for row, shape in zip(rows, shapes, strict=True)]


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


VOWELS_HZ = (
    *((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410)),
    *((300, 870, 2240), (490, 1350, 1690), (660, 1720, 2410), (440, 1020, 2240)),
)
"""First three formants of vowels of adult men. Source: Peterson and Barney, 1952."""

BANDWIDTHS_HZ = (80.0, 110.0, 160.0, 250.0)


def female_speech(rng: Generator) -> Sound:
    """Return speech-like syllables of one higher voice with a shorter vocal tract."""
    return _speech(rng, pitch_hz=float(rng.uniform(170.0, 260.0)), tract=float(rng.uniform(1.12, 1.24)))


def male_speech(rng: Generator) -> Sound:
    """Return speech-like syllables of one lower voice with a longer vocal tract."""
    return _speech(rng, pitch_hz=float(rng.uniform(85.0, 145.0)), tract=float(rng.uniform(0.94, 1.05)))


def laughter(rng: Generator) -> Sound:
    """Return bouts of laughter: quick voiced bursts of one vowel with falling pitch, breath between them."""
    pitch = float(rng.choice([rng.uniform(150.0, 260.0), rng.uniform(260.0, 420.0)]))
    tract = 1.0 + 0.2 * min(1.0, pitch / 300.0)
    vowel = VOWELS_HZ[int(rng.integers(0, 3)) if rng.random() < 0.4 else 0]
    rate = float(rng.uniform(4.0, 6.5))
    parts: list[tuple[float, Sound]] = []
    time = 0.0
    for _ in range(int(rng.integers(1, 4))):
        count = int(rng.integers(4, 11))
        for index in range(count):
            seconds = float(rng.uniform(0.45, 0.65)) / rate
            height = pitch * (1.25 - 0.5 * index / count) * float(rng.uniform(0.95, 1.05))
            burst = _voiced(rng, seconds, height * 1.1, height * 0.85, vowel, tract, breath=0.35)
            parts.append((time, burst * np.float32(1.0 - 0.5 * index / count)))
            breath = resonate(noise(rng, samples_of(0.4 / rate)), vowel[1] * tract, 600.0)
            parts.append((time + seconds, breath * swell(len(breath), 0.02, 0.04) * np.float32(0.3)))
            time += float(rng.uniform(0.9, 1.1)) / rate
        time += float(rng.uniform(0.1, 0.5))
    return place(parts)


def stand_in(name: str, rng: Generator) -> Sound:
    """Return a sound whose timbre follows from a class's name, for classes that have no procedural source.

    The class fixes resonances, rate and the share of tone and noise; the generator varies pitch, timing and length.
    """
    timbre = np.random.default_rng(zlib.crc32(name.encode("utf-8")))
    formants = np.sort(2.0 ** timbre.uniform(np.log2(200.0), np.log2(7000.0), 3))
    pitch = float(2.0 ** timbre.uniform(np.log2(80.0), np.log2(900.0))) * float(rng.uniform(0.9, 1.1))
    tonal, rate = float(timbre.uniform()), float(2.0 ** timbre.uniform(-0.5, 3.0)) * float(rng.uniform(0.9, 1.1))
    length = float(timbre.uniform(0.3, 1.0)) / rate
    parts = []
    for index in range(max(1, round(float(rng.uniform(1.5, 4.0)) * rate))):
        samples = samples_of(length)
        contour = np.full(samples, pitch * float(rng.uniform(0.95, 1.05)))
        excitation = np.float32(tonal) * pulses(contour) + np.float32(1.0 - tonal) * noise(rng, samples)
        voice = sum(resonate(excitation, float(f) * float(rng.uniform(0.96, 1.04)), float(f) / 8) for f in formants)
        parts.append((index / rate, np.asarray(voice * swell(samples, length / 10, length / 2), dtype=np.float32)))
    return place(parts)


def _speech(rng: Generator, pitch_hz: float, tract: float) -> Sound:
    """Return phrases of syllables, each a vowel between consonants, under a falling pitch."""
    liveliness = float(rng.uniform(0.05, 0.2))
    pace = float(rng.uniform(3.8, 6.0))
    breath = float(rng.uniform(0.02, 0.12))
    parts: list[tuple[float, Sound]] = []
    time = 0.0
    while time < 4.0:
        count = int(rng.integers(3, 10))
        for index in range(count):
            seconds = float(rng.uniform(0.6, 1.4)) / pace
            height = pitch_hz * (1.15 - 0.3 * index / count) * (1.0 + liveliness * float(rng.uniform(-1.0, 1.0)))
            start = VOWELS_HZ[int(rng.integers(len(VOWELS_HZ)))]
            if rng.random() < 0.5:
                hiss = _consonant(rng, tract)
                parts.append((time, hiss))
                time += 0.7 * len(hiss) / 24_000
            glide = height * (1.0 + liveliness * float(rng.uniform(-1.0, 0.6)))
            parts.append((time, _voiced(rng, seconds, height, glide, start, tract, breath)))
            time += 0.92 * seconds
        time += float(rng.uniform(0.1, 0.5))
    return place(parts)


def _voiced(
    rng: Generator, seconds: float, pitch_hz: float, end_hz: float, vowel: tuple[int, ...], tract: float, breath: float
) -> Sound:
    """Return one vowel: glottal pulses and breath through four formants that glide a little."""
    samples = samples_of(seconds)
    wobble = 1.0 + 0.01 * np.sin(2.0 * np.pi * rng.uniform(4.0, 7.0) * np.arange(samples) / 24_000 + rng.uniform(0, 6))
    excitation = pulses(np.linspace(pitch_hz, end_hz, samples) * wobble)
    excitation = excitation + np.float32(breath) * noise(rng, samples)
    formants = [*(f * tract for f in vowel), 3500.0 * tract]
    total = np.zeros(samples, np.float32)
    for index, (frequency, bandwidth) in enumerate(zip(formants, BANDWIDTHS_HZ, strict=True)):
        shift = float(rng.uniform(0.95, 1.05))
        total += np.float32(0.75**index) * resonate(excitation, frequency * shift, bandwidth)
    return total * swell(samples, min(0.03, seconds / 3), min(0.06, seconds / 3)) * np.float32(rng.uniform(0.6, 1.0))


def _consonant(rng: Generator, tract: float) -> Sound:
    """Return a fricative or the burst of a plosive."""
    if rng.random() < 0.6:
        samples = samples_of(float(rng.uniform(0.05, 0.12)))
        hiss = resonate(noise(rng, samples), float(rng.uniform(2500.0, 7500.0)) * tract, float(rng.uniform(1200, 2500)))
        return hiss * swell(samples, 0.02, 0.03) * np.float32(0.07)
    samples = samples_of(0.03)
    burst = high_pass(noise(rng, samples), float(rng.uniform(500.0, 2500.0)))
    return burst * swell(samples, 0.001, 0.025) * np.float32(0.05)
