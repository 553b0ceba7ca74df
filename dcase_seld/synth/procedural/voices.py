"""Procedural voices: speech-like syllables and laughter by formant synthesis."""

from __future__ import annotations

import numpy as np

from dcase_seld.synth.procedural.shaping import (
    Generator,
    Sound,
    high_pass,
    noise,
    place,
    pulses,
    resonate,
    samples_of,
    swell,
)

VOWELS_HZ = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (490, 1350, 1690),
    (660, 1720, 2410),
    (440, 1020, 2240),
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
