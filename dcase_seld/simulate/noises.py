"""Procedural noisy sources: household sounds, a tap, claps, steps, doors, knocks, stand-ins for other classes."""

from __future__ import annotations

import zlib

import numpy as np

from dcase_seld.core.task import SAMPLE_RATE
from dcase_seld.simulate.synthesis import (
    Generator,
    Sound,
    decay,
    high_pass,
    low_pass,
    noise,
    onsets,
    partials,
    phase_of,
    place,
    pulses,
    resonate,
    samples_of,
    swell,
)


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


def clapping(rng: Generator) -> Sound:
    """Return hand claps of one to five people: noise bursts through a hollow-hand resonance."""
    parts: list[tuple[float, Sound]] = []
    people = int(rng.choice([1, 1, 1, 2, 5]))
    count = int(rng.integers(4, 16))
    for _ in range(people):
        hollow = float(rng.uniform(700.0, 1900.0))
        start = 0.0 if people == 1 else float(rng.uniform(0.0, 0.3))
        for onset in onsets(rng, count, float(rng.uniform(2.2, 5.0)), 0.12):
            samples = samples_of(0.12)
            burst = noise(rng, samples) * decay(samples, float(rng.uniform(0.03, 0.06)), 0.0008)
            clap = resonate(burst, hollow * float(rng.uniform(0.9, 1.1)), 500.0) + 0.25 * high_pass(burst, 2500.0)
            parts.append((start + onset, clap * np.float32(rng.uniform(0.6, 1.0))))
    return place(parts)


def walk_footsteps(rng: Generator) -> Sound:
    """Return a walk: heel and toe of every step on one floor, in one pair of shoes."""
    body = float(rng.uniform(60.0, 170.0))
    crunch = float(rng.uniform(0.02, 0.3))
    bright = float(rng.uniform(700.0, 3500.0))
    length = float(rng.uniform(0.05, 0.16))
    parts: list[tuple[float, Sound]] = []
    for onset in onsets(rng, int(rng.integers(5, 10)), float(rng.uniform(1.5, 2.3)), 0.06):
        strength = float(rng.uniform(0.7, 1.0))
        for delay, share in ((0.0, 1.0), (float(rng.uniform(0.07, 0.12)), 0.45)):
            samples = samples_of(0.25)
            thud = partials(samples, [body, body * 2.3], [1.0, 0.4], [length, length * 0.6], rng)
            grit = resonate(noise(rng, samples), bright, bright * 0.8) * decay(samples, length * 1.5, 0.004)
            parts.append((onset + delay, (thud + crunch * 12.0 * grit) * np.float32(share * strength)))
    return place(parts)


def door_open_close(rng: Generator) -> Sound:
    """Return a door: latch, squeaking hinge, slam, in one order or the other."""
    parts: list[tuple[float, Sound]] = []
    time = 0.0
    if rng.random() < 0.75:
        parts += [(time, _latch(rng)), (time + 0.09, _latch(rng))]
        time += 0.2
    squeaks = rng.random() < 0.75
    if squeaks:
        squeak = _squeak(rng)
        parts.append((time, squeak))
        time += len(squeak) / 24_000 + float(rng.uniform(0.0, 0.2))
    if rng.random() < 0.8 or not squeaks:
        parts.append((time, _slam(rng)))
        parts.append((time + 0.04, _latch(rng)))
    return place(parts)


def knock(rng: Generator) -> Sound:
    """Return groups of two to five knocks on one wooden or metal panel."""
    panel = float(rng.uniform(140.0, 420.0))
    modes = [panel * r for r in (1.0, 1.59, 2.14, 2.65, 3.5)]
    t60 = float(rng.uniform(0.06, 0.14))
    parts: list[tuple[float, Sound]] = []
    time = 0.0
    for _ in range(int(rng.integers(1, 4))):
        for onset in onsets(rng, int(rng.integers(2, 6)), float(rng.uniform(4.0, 7.5)), 0.1):
            samples = samples_of(0.2)
            body = partials(samples, modes, [1.0, 0.7, 0.5, 0.35, 0.2], [t60 / (1 + 0.25 * i) for i in range(5)], rng)
            tick = low_pass(noise(rng, samples), 2500.0) * decay(samples, 0.012, 0.0005)
            parts.append((time + onset, (body + tick) * np.float32(rng.uniform(0.7, 1.0))))
            last = time + onset
        time = last + float(rng.uniform(0.45, 0.8))
    return place(parts)


def _latch(rng: Generator) -> Sound:
    samples = samples_of(0.08)
    metal = [float(f) for f in rng.uniform(1200.0, 5500.0, 4)]
    click = partials(samples, metal, [0.3, 0.25, 0.2, 0.15], [0.03, 0.03, 0.02, 0.02], rng)
    return click + 0.3 * high_pass(noise(rng, samples), 1500.0) * decay(samples, 0.015, 0.0005)


def _squeak(rng: Generator) -> Sound:
    """Return a stick-slip tone whose pitch wanders."""
    samples = samples_of(float(rng.uniform(0.4, 1.3)))
    base = float(rng.uniform(250.0, 800.0))
    bends = np.cumsum(rng.uniform(-0.18, 0.18, 8))
    contour = base * 2.0 ** np.interp(np.linspace(0, 7, samples), np.arange(8), bends)
    cycle = phase_of(contour) % 1.0
    wave = (cycle - 0.5).astype(np.float32) * (1.0 + 0.5 * low_pass(noise(rng, samples), 60.0))
    body = resonate(wave, float(rng.uniform(900.0, 2200.0)), 300.0) + resonate(
        wave, float(rng.uniform(2400, 4000)), 500
    )
    return np.asarray(body * swell(samples, 0.08, 0.1) * 1.2, dtype=np.float32)


def _slam(rng: Generator) -> Sound:
    samples = samples_of(0.7)
    panel = float(rng.uniform(45.0, 110.0))
    boom = partials(
        samples, [panel, panel * 1.7, panel * 2.6, panel * 3.9], [1.2, 0.8, 0.5, 0.3], [0.4, 0.3, 0.2, 0.15], rng
    )
    crack = low_pass(noise(rng, samples), float(rng.uniform(900.0, 2500.0))) * decay(samples, 0.15, 0.001)
    return boom + 1.5 * crack
