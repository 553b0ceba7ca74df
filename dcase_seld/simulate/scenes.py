"""Planning a scene: which sounds, when, how loud, from where. Nothing is rendered here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy, profile_of
from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import visible_files
from dcase_seld.core.reading import LARGEST_TABLE, read_text
from dcase_seld.core.task import CLIP_FRAMES, CLIP_SECONDS, LABEL_RATE, MAX_TRACKS, SAMPLE_RATE, VIDEO_FPS
from dcase_seld.simulate.config import SceneConfig, VariationConfig
from dcase_seld.simulate.measured_rooms import MeasuredRoom
from dcase_seld.simulate.rooms import TAILS, AnyRoom, sample_source
from dcase_seld.simulate.sound_bank import Recording, SoundBank

Floats = npt.NDArray[np.float64]

STEP_S = 0.3
"""A moving source is heard from a new place every so many seconds, cross-faded between."""

PACE_M_S = (0.3, 1.3)
"""Speeds of moving sources in metres per second."""

EQUALISER_HZ = (60.0, 180.0, 500.0, 1400.0, 4000.0, 11000.0)
"""Where a random equaliser's gains are drawn; between them they run straight over log frequency."""

SWELL_S = 0.5
"""A swell's level is drawn anew so often, and runs straight in dB between."""

CHANNELS_ALIKE = 0.1
"""Microphones of one clip differ from one another by so much of what they differ from other clips'."""

MOST_CHANNELS = 4
"""Channels of a microphone, at most."""

SHORTEST_VISIBLE_S = 0.2
"""No event is planned that has less of itself inside the clip, in seconds."""


@dataclass(frozen=True)
class SceneEvent:
    """One sound of a scene."""

    recording: Recording  # what sounds
    skip: int  # samples left out at the recording's start
    samples: int  # samples played
    start: int  # sample of the clip at which playing begins; negative where the event began before the clip
    level_db: float  # level at 1 m, dB below full scale
    path_m: Floats  # (P, 3) positions, one every STEP_S seconds; a single one where the source rests
    tail: int  # which of the room's late fields follows
    # the recording is played so many times as fast; `skip` and `samples` count samples as they are heard
    speed: float = 1.0
    equaliser_db: tuple[float, ...] = ()  # gains at EQUALISER_HZ, or nothing
    swell_db: tuple[float, ...] = ()  # levels every SWELL_S seconds, or nothing
    # (3,) the way that the source faces, its length how strongly it radiates there; or nothing
    facing: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One clip to be rendered."""

    name: str  # the clip's name, as the official layout wants it
    split: str  # "train", "val" or "test"
    room: AnyRoom  # where it is
    events: tuple[SceneEvent, ...]  # what sounds
    snr_db: float  # mean event power over ambience, in dB
    noise_seed: int  # of the ambience
    seconds: int = CLIP_SECONDS  # its length
    microphone_db: tuple[tuple[float, ...], ...] = ()  # of each channel the gains at EQUALISER_HZ, or nothing

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
    """Return a random scene. `prior`: (C,) weight of every class; those without a sound in this split are left out."""
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
    seed = int(rng.integers(2**31))
    spread = config.vary.microphone_db if split == "train" else 0.0
    spectra = rng.normal(0.0, spread, (1 + MOST_CHANNELS, len(EQUALISER_HZ))) if spread else np.zeros((0, 0))
    microphone = tuple(map(tuple, (spectra[:1] + CHANNELS_ALIKE * spectra[1:]).tolist()))
    return Scene(name, split, room, tuple(events), snr_db, seed, config.seconds, microphone)


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
        speed, equaliser = _vary(config.vary, rng) if split == "train" else (1.0, ())
        available = int(bank.samples(recording) / speed)
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
        height = profile_of(taxonomy.folders[class_index]).source_m or config.rooms.source_height_m
        path = _path(room, samples / SAMPLE_RATE, height, config, rng)
        level = float(rng.uniform(*config.levels.source_db))
        tail = int(rng.integers(TAILS))
        swell, facing = _perform(config.vary, samples, rng) if split == "train" else ((), ())
        events.append(SceneEvent(recording, skip, samples, start, level, path, tail, speed, equaliser, swell, facing))


def _vary(config: VariationConfig, rng: np.random.Generator) -> tuple[float, tuple[float, ...]]:
    """Return a playing speed and equaliser gains; where nothing varies, no number is drawn."""
    low, high = np.log(config.speed)
    speed = float(np.exp(rng.uniform(low, high))) if low < high else config.speed[0]
    spread = config.equaliser_db
    return speed, tuple(rng.normal(0.0, spread, len(EQUALISER_HZ)).tolist()) if spread else ()


def _perform(
    config: VariationConfig, samples: int, rng: np.random.Generator
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return an event's swell and the way its source faces; where nothing varies, no number is drawn."""
    swell: list[float] = []
    facing: list[float] = []
    if config.dynamics_db:
        swell = rng.normal(0.0, config.dynamics_db, 2 + int(samples / SAMPLE_RATE / SWELL_S)).tolist()
    if config.directivity:
        way = rng.standard_normal(3) * np.asarray([1.0, 1.0, 0.3])  # seldom to the floor or the ceiling
        facing = (way * (rng.uniform(0.0, config.directivity) / np.linalg.norm(way))).tolist()
    return tuple(swell), tuple(facing)


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


PAUSE_FRAMES = 10
"""A source that is silent longer (label frames) has begun another event."""

ASKED = 8
"""Recordings of a class whose length is looked at."""

MOST_LAYERS = 6
"""Windows with more overlapping sources count as this many."""


@dataclass(frozen=True)
class Prior:
    """How a set of labels is made up."""

    classes: tuple[float, ...]  # (C,) share of each class among the events
    layers: tuple[float, ...]  # (0 … at most 6) share of 5-second windows whose largest overlap is 0, 1, 2, …


def read_prior(folder: Path, taxonomy: Taxonomy) -> Prior:
    """Return the prior of all label files below a folder: official CSVs, or STARSS22/23's without a header.

    Raises:
        SeldError: no label file, a line that is no label, or a class outside the taxonomy.
    """
    files = visible_files(folder, (".csv",)) if folder.is_dir() else []
    if not files:
        raise SeldError(f"{folder} holds no label file (.csv).", "Give a folder of label files to imitate.")
    events: Counter[int] = Counter()
    layers: Counter[int] = Counter()
    for path in files:
        rows = _read(path)
        strange = rows[(rows[:, 1] < 0) | (rows[:, 1] >= len(taxonomy)), 1]
        if len(strange):
            raise SeldError(
                f"{path} has class {strange[0]}; {taxonomy.name} has classes 0 to {len(taxonomy) - 1}.",
                "Give labels of the same taxonomy.",
            )
        order = np.lexsort((rows[:, 0], rows[:, 2], rows[:, 1]))
        rows = rows[order]
        new = np.ones(len(rows), np.bool_)
        new[1:] = np.any(rows[1:, 1:] != rows[:-1, 1:], axis=1) | (np.diff(rows[:, 0]) > PAUSE_FRAMES)
        events.update(rows[new, 1].tolist())
        last = int(rows[:, 0].max(initial=0))
        overlap = np.bincount(rows[:, 0], minlength=(last // CLIP_FRAMES + 1) * CLIP_FRAMES)
        layers.update(np.minimum(overlap.reshape(-1, CLIP_FRAMES).max(axis=1), MOST_LAYERS).tolist())
    total = max(1, sum(events.values()))
    windows = sum(layers.values())
    return Prior(
        tuple(events[c] / total for c in range(len(taxonomy))),
        tuple(layers[k] / windows for k in range(max(layers) + 1)),
    )


def balanced(bank: SoundBank, n_classes: int, longest_s: float) -> tuple[float, ...]:
    """Return the class shares (C,) of events with which all classes sound for equally long.

    A few recordings of every class tell how long its events are; longer ones are cut to `longest_s` seconds.
    """
    lengths: dict[int, list[float]] = {}
    for recording in bank.recordings:
        heard = lengths.setdefault(recording.class_index, [])
        if len(heard) < ASKED:
            heard.append(min(bank.samples(recording) / SAMPLE_RATE, longest_s))
    weights = [1.0 / max(float(np.mean(lengths[c])), 0.3) if c in lengths else 0.0 for c in range(n_classes)]
    total = sum(weights) or 1.0
    return tuple(weight / total for weight in weights)


def _read(path: Path) -> npt.NDArray[np.int64]:
    """Return frame, class and source (E, 3) of a label file with or without a header."""
    rows = []
    lines = read_text(path, LARGEST_TABLE, "Give readable label files.").splitlines()
    for number, line in enumerate(lines, start=1):
        cells = line.split(",")
        if not line.strip() or (number == 1 and cells[0].strip() == "frame"):
            continue
        try:
            frame, kind, source = (int(cell) for cell in cells[:3])
        except ValueError:
            raise SeldError(
                f"{path}, line {number}: expected frame,class,source,… as integers, got {line[:60]!r}.",
                "Give label files of the challenge.",
            ) from None
        rows.append((max(frame, 0), kind, source))
    return np.asarray(rows, dtype=np.int64).reshape(-1, 3)
