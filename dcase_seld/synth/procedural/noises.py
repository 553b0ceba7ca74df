"""Procedural noisy sources: household sounds, a running tap, and stand-ins for classes of a user's own list."""

from __future__ import annotations

import zlib

import numpy as np

from dcase_seld.synth.procedural.shaping import (
    Generator,
    Sound,
    decay,
    high_pass,
    low_pass,
    noise,
    partials,
    place,
    pulses,
    resonate,
    samples_of,
    swell,
)
from dcase_seld.task.facts import SAMPLE_RATE


def domestic_sounds(rng: Generator) -> Sound:
    """Return a household sound: a motor with airflow, a drum that turns, or dishes and cutlery."""
    return (_motor, _turning_drum, _dishes)[int(rng.integers(3))](rng)


def water_tap(rng: Generator) -> Sound:
    """Return water from a tap into a basin: splashing noise, bubbles, the basin's resonance."""
    samples = samples_of(float(rng.uniform(2.5, 5.0)))
    splash = high_pass(noise(rng, samples), float(rng.uniform(1200.0, 3500.0)))
    flutter = 1.0 + 1.5 * np.abs(low_pass(noise(rng, samples), float(rng.uniform(20.0, 60.0)))) * 8.0
    basin = resonate(noise(rng, samples), float(rng.uniform(350.0, 1100.0)), 250.0)
    bubbles = []
    for onset in np.sort(rng.uniform(0.0, samples / SAMPLE_RATE - 0.1, int(rng.integers(20, 90)))):
        pitch, length = float(rng.uniform(500.0, 2600.0)), samples_of(0.05)
        time = np.arange(length) / SAMPLE_RATE
        drop = np.sin(2.0 * np.pi * (pitch * time + 0.5 * pitch * 4.0 * time**2)).astype(np.float32)
        bubbles.append((float(onset), drop * decay(length, 0.05, 0.002) * np.float32(rng.uniform(0.2, 0.9))))
    flow = 0.35 * splash * flutter + 0.8 * basin + 0.6 * place(bubbles, seconds=samples / SAMPLE_RATE)[:samples]
    return np.asarray(flow * swell(samples, 0.15, 0.25), dtype=np.float32)


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


def _motor(rng: Generator) -> Sound:
    samples = samples_of(float(rng.uniform(2.5, 5.0)))
    spin = float(rng.uniform(60.0, 330.0)) * (1.0 + 0.02 * low_pass(noise(rng, samples), 3.0) * 20.0)
    hum = low_pass(pulses(spin), float(rng.uniform(1000.0, 3500.0)))
    air = resonate(noise(rng, samples), float(rng.uniform(500.0, 2500.0)), float(rng.uniform(600.0, 2000.0)))
    share = float(rng.uniform(0.2, 0.7))
    return np.asarray((share * hum + 1.5 * (1 - share) * air) * swell(samples, 0.3, 0.3), dtype=np.float32)


def _turning_drum(rng: Generator) -> Sound:
    samples = samples_of(float(rng.uniform(2.5, 5.0)))
    turns = float(rng.uniform(0.7, 2.5))
    wave = 0.6 + 0.4 * np.sin(2.0 * np.pi * turns * np.arange(samples) / SAMPLE_RATE)
    rumble = low_pass(noise(rng, samples), float(rng.uniform(120.0, 500.0))) * 4.0
    hum = partials(samples, [50.0 * k for k in (1, 2, 3, 4, 6)], [0.5, 1.0, 0.3, 0.6, 0.3], [60.0] * 5, rng)
    return np.asarray((rumble * wave + 0.3 * hum) * swell(samples, 0.2, 0.3), dtype=np.float32)


def _dishes(rng: Generator) -> Sound:
    parts = []
    for onset in np.sort(rng.uniform(0.0, 3.5, int(rng.integers(6, 18)))):
        samples = samples_of(0.35)
        base = float(2.0 ** rng.uniform(np.log2(1100.0), np.log2(3800.0)))
        modes = [base * r for r in (1.0, 1.51, 2.27, 2.9)]
        ping = partials(samples, modes, [0.6, 0.5, 0.4, 0.2], rng.uniform(0.06, 0.3, 4).tolist(), rng)
        scrape = high_pass(noise(rng, samples), 3000.0) * decay(samples, 0.03)
        parts.append((float(onset), (ping + 0.3 * scrape) * np.float32(rng.uniform(0.3, 1.0))))
    return place(parts)
