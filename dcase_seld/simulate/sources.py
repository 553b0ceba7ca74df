"""Procedural sources: telephones, bells, instruments, music; household sounds, taps, claps, steps, doors, knocks."""

from __future__ import annotations

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

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
"""Semitones of major, minor and pentatonic scales."""


def telephone(rng: Generator) -> Sound:
    """Return rings with pauses: a two-tone warble, a struck double bell, or a short melody of beeps."""
    style = int(rng.integers(3))
    length = float(rng.uniform(0.6, 1.4))
    ring = (_warble, _double_bell, _beeps)[style](rng, length)
    pause = float(rng.uniform(0.3, 1.0))
    return place([(index * (length + pause), ring) for index in range(int(rng.integers(2, 4)))])


def bell(rng: Generator) -> Sound:
    """Return one to four strokes of a bell with slowly decaying inharmonic partials."""
    base = float(2.0 ** rng.uniform(np.log2(220.0), np.log2(1400.0)))
    ratios = np.asarray([0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.01, 4.17, 5.43]) * rng.uniform(0.98, 1.02, 9)
    gains = np.asarray([0.4, 1.0, 0.7, 0.4, 0.8, 0.5, 0.4, 0.3, 0.2]) * rng.uniform(0.5, 1.2, 9)
    longest = float(rng.uniform(1.5, 5.0))
    t60 = longest / (0.5 + 0.5 * ratios)
    samples = samples_of(min(longest, 3.0))
    gap = float(rng.uniform(0.4, 1.4))
    tone = partials(samples, (base * ratios).tolist(), gains.tolist(), t60.tolist(), rng)
    strokes = [(index * gap, tone * np.float32(rng.uniform(0.6, 1.0))) for index in range(int(rng.integers(1, 5)))]
    return place(strokes + [(onset, _strike(rng, 1200)) for onset, _ in strokes])


def musical_instrument(rng: Generator) -> Sound:
    """Return a solo line of one instrument: plucked, bowed, blown, or struck."""
    play = (_plucked, _bowed, _blown, _struck)[int(rng.integers(4))]
    scale = SCALES[int(rng.integers(len(SCALES)))]
    base = float(2.0 ** rng.uniform(np.log2(110.0), np.log2(440.0)))
    beat = float(rng.uniform(0.3, 0.9))
    colour = float(rng.uniform())
    notes, time, step = [], 0.0, int(rng.integers(len(scale)))
    while time < 4.0:
        step = int(np.clip(step + rng.integers(-2, 3), 0, 2 * len(scale) - 1))
        seconds = beat * float(rng.choice([0.5, 1.0, 1.0, 2.0]))
        pitch = base * 2.0 ** (scale[step % len(scale)] / 12.0 + step // len(scale))
        notes.append((time, play(rng, pitch, seconds, colour)))
        time += seconds
    return place(notes)


def music(rng: Generator) -> Sound:
    """Return a bar or two of music: chords, bass, melody and drums together."""
    beat = 60.0 / float(rng.uniform(85.0, 140.0))
    base = float(2.0 ** rng.uniform(np.log2(130.0), np.log2(260.0)))
    scale = SCALES[int(rng.integers(2))]
    pad, lead = (_bowed, _struck, _blown)[int(rng.integers(3))], (_plucked, _blown, _struck)[int(rng.integers(3))]
    colour, drums = float(rng.uniform()), float(rng.uniform(0.0, 1.0))
    parts: list[tuple[float, Sound]] = []
    for bar, root in enumerate(rng.choice([0, 3, 4, 5, 0], 4)):
        start = bar * 4 * beat
        if start >= 5.0:
            break
        tones = [scale[(int(root) + k) % 7] + 12 * ((int(root) + k) // 7) for k in (0, 2, 4)]
        parts += [(start, 0.35 * pad(rng, base * 2 ** (t / 12), 4 * beat, colour)) for t in tones]
        parts += [(start + i * beat, 0.6 * _plucked(rng, base / 2 * 2 ** (tones[0] / 12), beat, 0.2)) for i in (0, 2)]
        for half in range(8):
            when = start + half * beat / 2
            if rng.random() < 0.6:
                degree = int(rng.integers(7))
                parts.append((when, 0.45 * lead(rng, base * 2 ** (1 + scale[degree] / 12), beat / 2, colour)))
            if drums > 0.3:
                parts.append((when, np.float32(0.5 * drums) * _drum(rng, half % 4)))
    return place(parts, seconds=min(5.0, 16 * beat))


def _warble(rng: Generator, seconds: float) -> Sound:
    samples = samples_of(seconds)
    low = float(rng.uniform(450.0, 1500.0))
    high = low * float(rng.uniform(1.12, 1.5))
    rate = float(rng.uniform(10.0, 24.0))
    switch = (np.arange(samples) * rate / SAMPLE_RATE) % 1.0 < 0.5
    wave = np.sin(2.0 * np.pi * phase_of(np.where(switch, low, high)))
    rich = wave + rng.uniform(0.05, 0.4) * wave**3
    return (rich * swell(samples, 0.01, 0.02)).astype(np.float32)


def _double_bell(rng: Generator, seconds: float) -> Sound:
    samples = samples_of(0.25)
    base = float(rng.uniform(900.0, 1900.0))
    rate = float(rng.uniform(18.0, 26.0))
    gongs = [
        partials(samples, [base * k * r for r in (1.0, 2.1, 2.9, 4.2)], [1.0, 0.6, 0.5, 0.2], [0.5, 0.4, 0.3, 0.2], rng)
        for k in (1.0, float(rng.uniform(1.1, 1.3)))
    ]
    return place([(i / rate, gongs[i % 2]) for i in range(int(seconds * rate))])


def _beeps(rng: Generator, seconds: float) -> Sound:
    base = float(rng.uniform(700.0, 1600.0))
    notes = base * 2.0 ** (rng.choice([0, 4, 7, 12, 5], 4) / 12.0)
    length = seconds / 8
    parts = []
    for index in range(8):
        samples = samples_of(length * 0.85)
        wave = np.sin(2.0 * np.pi * notes[index % 4] * np.arange(samples) / SAMPLE_RATE)
        parts.append((index * length, (np.tanh(3.0 * wave) * swell(samples, 0.004, 0.01)).astype(np.float32)))
    return place(parts)


def _strike(rng: Generator, samples: int) -> Sound:
    return 0.4 * high_pass(noise(rng, samples), 2000.0) * decay(samples, 0.02, 0.0005)


def _plucked(rng: Generator, pitch_hz: float, seconds: float, colour: float) -> Sound:
    """Return a plucked string: a burst in a lossy delay line. Source: Karplus and Strong, 1983."""
    samples, period = samples_of(max(seconds, 0.4)), max(2, round(SAMPLE_RATE / pitch_hz))
    loops = -(-samples // period)
    string = np.zeros((loops, period), np.float32)
    string[0] = low_pass(noise(rng, period), 1500.0 + 6000.0 * colour)
    for loop in range(1, loops):
        before = string[loop - 1]
        np.add(before[1:], before[:-1], out=string[loop, 1:])
        string[loop, 0] = before[0] + before[-1]
        string[loop] *= 0.498
    return np.asarray(string.ravel()[:samples] * swell(samples, 0.001, 0.05), dtype=np.float32)


def _bowed(rng: Generator, pitch_hz: float, seconds: float, colour: float) -> Sound:
    samples = samples_of(seconds)
    time = np.arange(samples) / SAMPLE_RATE
    vibrato = 1.0 + 0.006 * np.sin(2.0 * np.pi * rng.uniform(4.5, 6.5) * time) * np.minimum(time / 0.3, 1.0)
    string = ((phase_of(pitch_hz * vibrato) % 1.0) - 0.5).astype(np.float32)
    body = 0.5 * low_pass(string, 1500.0 + 2500.0 * colour) + resonate(string, 450.0 + 300.0 * colour, 200.0)
    return np.asarray(body * swell(samples, min(0.08, seconds / 3), 0.06) * 1.2, dtype=np.float32)


def _blown(rng: Generator, pitch_hz: float, seconds: float, colour: float) -> Sound:
    samples = samples_of(seconds)
    tube = pulses(np.full(samples, pitch_hz)) * np.float32(0.6) if colour > 0.5 else np.zeros(samples, np.float32)
    cycle = 2.0 * np.pi * pitch_hz * np.arange(samples) / SAMPLE_RATE
    odd = sum(np.sin(k * cycle) * g for k, g in ((1, 0.8), (3, 0.25 * colour), (5, 0.12 * colour)))
    air = resonate(noise(rng, samples), pitch_hz * 2.0, 400.0) * np.float32(0.3)
    tone = low_pass(tube, 3500.0) + np.asarray(odd, dtype=np.float32) + air
    return np.asarray(tone * swell(samples, min(0.05, seconds / 3), 0.05) * np.float32(0.6))


def _struck(rng: Generator, pitch_hz: float, seconds: float, colour: float) -> Sound:
    samples = samples_of(max(seconds, 0.5))
    ratios = (1.0, 2.0, 3.0, 4.0) if colour < 0.5 else (1.0, 3.98, 9.2, 2.01)
    tone = partials(samples, [pitch_hz * r for r in ratios], [0.8, 0.4, 0.2, 0.1], [1.5, 0.9, 0.5, 0.4], rng)
    tone[:1200] += 0.05 * _strike(rng, 1200)
    return tone


def _drum(rng: Generator, kind: int) -> Sound:
    samples = samples_of(0.15)
    if kind == 0:
        return partials(samples, [55.0, 90.0], [1.5, 0.8], [0.2, 0.12], rng)
    return high_pass(noise(rng, samples), 4000.0) * decay(samples, 0.06 if kind != 2 else 0.15) * np.float32(0.5)


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
