"""Planning a scene: which sounds, when, how loud, from where. Nothing is rendered here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.synth.bank import Recording, SoundBank
from dcase_seld.synth.config import SceneConfig
from dcase_seld.synth.measured import MeasuredRoom
from dcase_seld.synth.rooms import TAILS, AnyRoom, sample_source
from dcase_seld.task.facts import CLIP_SECONDS, LABEL_RATE, MAX_TRACKS, SAMPLE_RATE, VIDEO_FPS
from dcase_seld.task.taxonomy import Taxonomy

Floats = npt.NDArray[np.float64]
HEIGHTS_M = {
    "female_speech": (1.1, 1.75),
    "male_speech": (1.1, 1.8),
    "laughter": (1.1, 1.75),
    "clapping": (0.9, 1.4),
    "telephone": (0.6, 1.2),
    "domestic_sounds": (0.3, 1.1),
    "walk_footsteps": (0.03, 0.1),
    "door_open_close": (0.8, 1.2),
    "music": (0.4, 1.6),
    "musical_instrument": (0.6, 1.3),
    "water_tap": (0.8, 1.1),
    "bell": (0.7, 2.0),
    "knock": (0.9, 1.5),
}
"""Typical heights of sources above the floor in metres, by the class's folder name."""
STEP_S = 0.3
"""A moving source is heard from a new place every so many seconds, cross-faded between."""
PACE_M_S = (0.3, 1.3)
"""Speeds of moving sources in metres per second."""
SHORTEST_VISIBLE_S = 0.2
"""No event is planned that has less of itself inside the clip, in seconds."""


@dataclass(frozen=True)
class SceneEvent:
    """One sound of a scene.

    Attributes:
        recording: what sounds.
        skip: samples left out at the recording's start.
        samples: samples played.
        start: sample of the clip at which playing begins; negative where the event began before the clip.
        level_db: level at 1 m, dB below full scale.
        path_m: (P, 3) positions, one every STEP_S seconds; a single one where the source rests.
        tail: which of the room's late fields follows.
    """

    recording: Recording
    skip: int
    samples: int
    start: int
    level_db: float
    path_m: Floats
    tail: int


@dataclass(frozen=True)
class Scene:
    """One clip to be rendered.

    Attributes:
        name: the clip's name, as the official layout wants it.
        split: "train", "val" or "test".
        room: where it is.
        events: what sounds.
        snr_db: mean event power over ambience, in dB.
        noise_seed: of the ambience.
        seconds: its length.
    """

    name: str
    split: str
    room: AnyRoom
    events: tuple[SceneEvent, ...]
    snr_db: float
    noise_seed: int
    seconds: int = CLIP_SECONDS

    @property
    def samples(self) -> int:
        """Return the length in samples."""
        return self.seconds * SAMPLE_RATE

    @property
    def frames(self) -> int:
        """Return the length in label frames."""
        return self.seconds * LABEL_RATE

    @property
    def video_frames(self) -> int:
        """Return the length in video frames."""
        return round(self.seconds * VIDEO_FPS)


def plan_scene(
    name: str,
    split: str,
    room: AnyRoom,
    bank: SoundBank,
    prior: Sequence[float],
    config: SceneConfig,
    taxonomy: Taxonomy,
    rng: np.random.Generator,
) -> Scene:
    """Return a random scene.

    Args:
        name: the clip's name.
        split: whose sounds may be used.
        room: where it takes place.
        bank: the dry sounds.
        prior: (C,) weight of every class; classes without a sound in this split are left out.
        config: polyphony, levels, movement.
        taxonomy: the classes; their folder names tell typical heights.
        rng: decides everything.
    """
    classes = bank.classes(split)
    weights = np.asarray([prior[c] for c in classes], dtype=np.float64)
    layer_weights = np.asarray(config.polyphony.weights)
    layers = int(rng.choice(len(layer_weights), p=layer_weights / layer_weights.sum()))
    events: list[SceneEvent] = []
    if weights.sum() > 0:
        for _ in range(layers):
            _fill_layer(events, classes, weights / weights.sum(), split, room, bank, config, taxonomy, rng)
    events.sort(key=lambda event: event.start)
    snr_db = float(rng.uniform(*config.levels.snr_db))
    return Scene(name, split, room, tuple(events), snr_db, int(rng.integers(2**31)), config.seconds)


def _fill_layer(
    events: list[SceneEvent],
    classes: list[int],
    weights: Floats,
    split: str,
    room: AnyRoom,
    bank: SoundBank,
    config: SceneConfig,
    taxonomy: Taxonomy,
    rng: np.random.Generator,
) -> None:
    """Add events one after the other, from before the clip's start to its end."""
    polyphony = config.polyphony
    # A layer may begin before the clip: real clips are windows that cut events at both ends.
    time = float(rng.uniform(-1.0, 0.4 * CLIP_SECONDS))
    while time < config.seconds - SHORTEST_VISIBLE_S:
        class_index = classes[int(rng.choice(len(classes), p=weights))]
        recording = bank.draw(class_index, split, rng)
        available = bank.samples(recording)
        samples = min(available, round(float(rng.uniform(*polyphony.event_s)) * SAMPLE_RATE))
        if samples < 0.7 * available and available <= polyphony.event_s[1] * SAMPLE_RATE and rng.random() < 0.7:
            # Cutting short what fits would lose the ends of rings, steps and words.
            samples = available
        start = round(time * SAMPLE_RATE)
        time += samples / SAMPLE_RATE + float(rng.uniform(*polyphony.pause_s))
        skip = int(rng.integers(available - samples + 1))
        end = start + samples
        together = [e for e in events if e.start < end and start < e.start + e.samples]
        crowd = sum(e.recording.class_index == class_index for e in together)
        twice = any(e.recording == recording for e in together)
        if end < SHORTEST_VISIBLE_S * SAMPLE_RATE or crowd >= MAX_TRACKS or twice:
            continue
        height = HEIGHTS_M.get(taxonomy.folders[class_index], config.rooms.source_height_m)
        path = _path(room, samples / SAMPLE_RATE, height, config, rng)
        level = float(rng.uniform(*config.levels.source_db))
        events.append(SceneEvent(recording, skip, samples, start, level, path, int(rng.integers(TAILS))))


def _path(
    room: AnyRoom, seconds: float, height_m: tuple[float, float], config: SceneConfig, rng: np.random.Generator
) -> Floats:
    """Return (P, 3) places of a source: one, or a straight walk at a steady pace and height."""
    first = sample_source(room, config.rooms, rng, height_m)
    if rng.random() >= config.moving or seconds < 3 * STEP_S or isinstance(room, MeasuredRoom):
        return first[None]
    other = sample_source(room, config.rooms, rng, height_m)
    other[2] = first[2]
    span = float(np.linalg.norm(other - first))
    reach = min(1.0, float(rng.uniform(*PACE_M_S)) * seconds / max(span, 1e-6))
    count = int(np.ceil(seconds / STEP_S)) + 1
    path = first + np.linspace(0.0, reach, count)[:, None] * (other - first)
    nearest = float(np.linalg.norm(path - np.asarray(room.microphone_m), axis=1).min())
    # Walking through the microphone would put the source nearer than the config allows.
    return path if nearest >= config.rooms.distance_m[0] else first[None]
