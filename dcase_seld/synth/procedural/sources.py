"""The table of procedural sources: a class's folder name → the function that makes one recording of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from dcase_seld.synth.procedural import impacts, noises, tones, voices
from dcase_seld.synth.procedural.shaping import Generator, Sound

SOURCES: dict[str, Callable[[Generator], Sound]] = {
    "female_speech": voices.female_speech,
    "male_speech": voices.male_speech,
    "clapping": impacts.clapping,
    "telephone": tones.telephone,
    "laughter": voices.laughter,
    "domestic_sounds": noises.domestic_sounds,
    "walk_footsteps": impacts.walk_footsteps,
    "door_open_close": impacts.door_open_close,
    "music": tones.music,
    "musical_instrument": tones.musical_instrument,
    "water_tap": noises.water_tap,
    "bell": tones.bell,
    "knock": impacts.knock,
}


def make(folder: str, seed: int, number: int) -> Sound:
    """Return recording `number` of a class, mono at 24 kHz, (S,), peak 1; the same for the same arguments.

    A recording has its own voice, instrument, room of parameters: two numbers differ as two recordings do. Folder
    names without a source get a stand-in timbre.
    """
    rng = np.random.default_rng([seed, zlib.crc32(folder.encode("utf-8")), number])
    source = SOURCES.get(folder)
    sound = source(rng) if source else noises.stand_in(folder, rng)
    return np.asarray(sound / max(float(np.abs(sound).max()), 1e-9), dtype=np.float32)
