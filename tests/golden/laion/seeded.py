"""Weights and sound that two environments make alike from names and seeds. NumPy only, any version since 1.17."""

import hashlib

import numpy as np


def seeded_weight(name, shape):
    """Return float32 values that depend on `name` alone: scales near 1, variances positive, the rest small."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.random.default_rng(seed).standard_normal(shape)
    if name.endswith("running_var"):
        values = 400.0 + 50.0 * np.abs(values)  # of decibels
    elif name.endswith("running_mean"):
        values = -40.0 + 10.0 * values
    elif name.endswith("weight") and len(shape) == 1:
        values = 1.0 + 0.1 * values
    elif name.endswith("weight"):
        values = values / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.1 * values
    return values.astype(np.float32)


def seeded_sound(seed, samples, rate=48000):
    """Return (samples,) float32: three tones, one of them swelling, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    frequencies, phases = rng.uniform(100, 8000, 3), rng.uniform(0, 6, 3)
    tones = [np.sin(2 * np.pi * f * time + p) for f, p in zip(frequencies, phases)]  # noqa: B905 (old Pythons too)
    tones[0] = tones[0] * np.linspace(0, 1, samples)
    return (0.1 * sum(tones) + 0.01 * rng.standard_normal(samples)).astype(np.float32)
