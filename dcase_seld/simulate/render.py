"""Rendering a scene: sound at the microphone, and labels from the dry sounds' own activity."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.events import Events
from dcase_seld.core.geometry import fold, is_onscreen
from dcase_seld.core.task import SAMPLE_RATE, SAMPLES_PER_FRAME
from dcase_seld.simulate.measured_rooms import MeasuredRoom
from dcase_seld.simulate.rooms import (
    LONGEST_TAIL_S,
    SPEED_OF_SOUND,
    AnyRoom,
    Room,
    diffuse_field,
    direction,
    directions,
    early_responses,
    unrisen_field,
)
from dcase_seld.simulate.scenes import EQUALISER_HZ, STEP_S, SWELL_S, Scene, SceneEvent
from dcase_seld.simulate.sound_bank import AmbienceBank, SoundBank
from dcase_seld.simulate.synthesis import LANES, PART, Sound, Spectra, spectra_of

BLOCK = SAMPLES_PER_FRAME // 5
"""Samples of the 20-ms blocks in which activity is looked for."""

QUIET_DB = -40.0
"""A block this far below the event's loudest block is silence, dB."""

LONGEST_GAP_FRAMES = 5
"""Pauses inside an event of at most so many label frames stay labelled: STARSS22's labels hold no shorter ones."""

PEAK = 0.95
"""A louder clip is scaled down to this peak."""


def render_scene(
    scene: Scene,
    bank: SoundBank,
    heard: Heard,
    floor_db: float,
    channels: int = 2,
    recorded: AmbienceBank | None = None,
) -> Sound:
    """Return the microphone's signals of a scene, (channels, S): W, Y (2) or W, Y, Z, X (4).

    The ambience, `recorded` or made, is set against the power of the `heard` frames; where nothing is labelled it has
    `floor_db` (below full scale).
    """
    mix = add_parts(list(_parts(scene, bank, channels)), channels, scene.samples)
    level_db = floor_db
    if len(heard.frame):
        loud = mix[0].reshape(scene.frames, -1)[np.unique(heard.frame)]
        level_db = 10.0 * np.log10(float(np.square(loud).mean()) + 1e-12) - scene.snr_db
    made = None if recorded is None else recorded.stretch(scene.split, scene.noise_seed, channels, scene.samples)
    made = ambience(scene.noise_seed, channels, scene.samples) if made is None else made
    mix += made * np.float32(10.0 ** (level_db / 20.0))
    peak = float((np.abs(mix[0]) + np.linalg.norm(mix[1:], axis=0)).max())
    return mix if peak <= PEAK else mix * np.float32(PEAK / peak)


def microphones(sound: Sound, gains_db: Sequence[tuple[float, ...]]) -> Sound:
    """Return channels (C, S) as microphones with these gains at EQUALISER_HZ hear them, one after the other."""
    heard = np.stack([_varied(one, 1.0, gains) for one, gains in zip(sound, gains_db, strict=False)])
    peak = float(np.abs(heard).max(initial=0.0))
    return heard if peak <= PEAK else heard * np.float32(PEAK / peak)


def to_stereo(mix: Sound) -> Sound:
    """Return left and right (2, S) of W and Y (further channels are ignored): L = W + Y, R = W - Y."""
    return np.stack([mix[0] + mix[1], mix[0] - mix[1]])


@dataclass(frozen=True)
class Heard:
    """Every label frame of every event in which it is heard, with true directions; columns of one length."""

    frame: npt.NDArray[np.int32]  # label frame
    class_index: npt.NDArray[np.int32]  # class
    source: npt.NDArray[np.int32]  # number of the event in the scene
    azimuth_deg: npt.NDArray[np.float64]  # not folded, positive left, ±180 behind
    elevation_deg: npt.NDArray[np.float64]  # positive up
    distance_m: npt.NDArray[np.float64]  # metres


def hear_scene(scene: Scene, bank: SoundBank) -> Heard:
    """Return when and from where the scene's events are heard: while their dry sound is active when it arrives."""
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in range(6)]
    for source, event in enumerate(scene.events):
        frames = np.flatnonzero(active_frames(event, bank, scene.room, scene.frames))
        numbers = np.full((2, len(frames)), [[event.recording.class_index], [source]])
        for column, values in zip(columns, (frames, *numbers, *directions_at(event, scene.room, frames)), strict=True):
            column.append(values)
    whole, real = (np.zeros(0, kind) for kind in (np.int32, np.float64))
    integers = [np.concatenate([whole, *column]).astype(np.int32) for column in columns[:3]]
    floats = [np.concatenate([real, *column]) for column in columns[3:]]
    return Heard(integers[0], integers[1], integers[2], floats[0], floats[1], floats[2])


def label_scene(scene: Scene, heard: Heard) -> Events:
    """Return the scene's labels: folded azimuths, on screen by the true direction."""
    return Events(
        clips=(scene.name,),
        clip=np.zeros(len(heard.frame), np.int32),
        frame=heard.frame,
        class_index=heard.class_index,
        source=heard.source,
        azimuth_deg=fold(heard.azimuth_deg),
        distance_m=heard.distance_m,
        onscreen=is_onscreen(heard.azimuth_deg, heard.elevation_deg),
    ).sorted()


def active_frames(event: SceneEvent, bank: SoundBank, room: AnyRoom, count: int) -> npt.NDArray[np.bool_]:
    """Return (count,) whether the event's dry sound, delayed by its way through the air, is active in label frames."""
    delay = round(direction(room, event.path_m[0])[2] / SPEED_OF_SOUND * SAMPLE_RATE)
    start = event.start + delay
    # Frames are counted from the clip's start: pad the sound so that its blocks fall on the frames' borders.
    lead, cut = start % BLOCK, _cut(event, bank)
    power = np.zeros(-(-(lead + len(cut)) // BLOCK) * BLOCK, np.float32)
    np.square(cut, out=power[lead : lead + len(cut)])
    power = power.reshape(-1, BLOCK).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10.0 ** (QUIET_DB / 10.0))
    frames = np.unique(((start - lead) // BLOCK + loud) // 5)
    gaps = np.diff(frames)
    filled = [np.arange(a, a + g) for a, g in zip(frames[:-1], gaps, strict=True) if 1 < g <= LONGEST_GAP_FRAMES + 1]
    frames = np.unique(np.concatenate([frames, *filled]))
    active = np.zeros(count, np.bool_)
    active[frames[(frames >= 0) & (frames < count)]] = True
    return active


def directions_at(
    event: SceneEvent, room: AnyRoom, frames: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return true azimuth, elevation (degrees) and distance (metres) of a source in label frames (at their middle)."""
    seconds = (np.asarray(frames) + 0.5) * SAMPLES_PER_FRAME / SAMPLE_RATE - event.start / SAMPLE_RATE
    steps = np.clip(seconds / STEP_S, 0.0, len(event.path_m) - 1)
    return directions(room, np.stack([np.interp(steps, np.arange(len(event.path_m)), a) for a in event.path_m.T], 1))


def ambience(seed: int, channels: int, samples: int) -> Sound:
    """Return a diffuse background of unit power in W and 1/3 in the other channels, (channels, S)."""
    from scipy import fft

    rng = np.random.default_rng(seed)
    # From nearly white electronics to the brown rumble of ventilation, with a corner somewhere.
    slope, corner = float(rng.uniform(0.2, 1.1)), float(2.0 ** rng.uniform(np.log2(60.0), np.log2(1000.0)))
    octaves = _octaves(samples)
    shape = 1.0 / (1.0 + np.exp2(np.float32(2.0 * slope) * (octaves - np.float32(np.log2(corner)))))
    shape[: -(-30 * samples // SAMPLE_RATE)] = 0.0  # below 30 Hz
    shape *= 0.5 * samples / np.sqrt(np.square(shape).sum())
    # Channel by channel, so that W and Y are the same whether Z and X are asked for or not.
    spectrum = np.empty((channels, len(octaves)), np.complex64)
    for row in spectrum:
        row.real, row.imag = rng.standard_normal((2, len(octaves)), dtype=np.float32) * shape
    noise = fft.irfft(spectrum, samples)
    noise[1:] *= np.float32(np.sqrt(1.0 / 3.0))
    return np.asarray(noise, dtype=np.float32)


@functools.lru_cache(maxsize=2)
def _octaves(samples: int) -> Sound:
    """Return the logarithm to base 2 of the frequencies of a transform; -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log2(np.arange(samples // 2 + 1, dtype=np.float32) * np.float32(SAMPLE_RATE / samples)))


def _cut(event: SceneEvent, bank: SoundBank) -> Sound:
    """Return the part of the recording that is played, faded where it was cut."""
    end = event.skip + event.samples
    if event.speed != 1.0 or event.equaliser_db:
        played = bank.sound(event.recording, int(event.skip * event.speed), int(np.ceil(end * event.speed)) + 1)
        piece = _varied(played, event.speed, event.equaliser_db)[: event.samples]
    else:
        piece = bank.sound(event.recording, event.skip, end)
    if event.swell_db:
        seconds = np.arange(len(piece), dtype=np.float32) / SAMPLE_RATE
        swell = np.interp(seconds, SWELL_S * np.arange(len(event.swell_db)), event.swell_db)
        piece *= (10.0 ** (swell / 20.0)).astype(np.float32)
    fade = min(240, len(piece) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    if event.skip > 0:
        piece[:fade] *= ramp
    if end < int(bank.samples(event.recording) / event.speed):
        piece[len(piece) - fade :] *= ramp[::-1]
    return piece


def _varied(sound: Sound, speed: float, equaliser_db: tuple[float, ...]) -> Sound:
    """Return a sound played at another speed and through an equaliser; both at once, on its spectrum."""
    from scipy import fft

    # Some silence keeps the end from wrapping round to the start.
    size = fft.next_fast_len(len(sound) + SAMPLE_RATE // 10, real=True)
    spectrum = fft.rfft(sound, size)
    # The nearest length above that transforms fast: the speed drawn changes by less than a hundredth.
    heard = fft.next_fast_len(round(size / speed))
    if equaliser_db:
        frequency = np.maximum(np.arange(len(spectrum)) * (SAMPLE_RATE / size * speed), 1.0)
        gains = np.interp(np.log(frequency), np.log(EQUALISER_HZ), equaliser_db)
        spectrum *= (10.0 ** (gains / 20.0)).astype(np.float32)
    # As many bins as the new length can hold: what would lie above half the sample rate is dropped.
    wave = fft.irfft(spectrum[: heard // 2 + 1], heard) * np.float32(heard / size)
    return np.asarray(wave[: int(len(sound) / speed)], dtype=np.float32)


def _dry(event: SceneEvent, bank: SoundBank) -> Sound:
    """Return the played sound at the event's level: its power where it is active is the level at 1 m."""
    sound = _cut(event, bank)
    blocks = np.square(sound[: len(sound) // BLOCK * BLOCK]).reshape(-1, BLOCK).mean(axis=1)
    if not len(blocks):
        blocks = np.square(sound).mean(keepdims=True)
    power = float(blocks[blocks > blocks.max() * 0.01].mean()) if blocks.max() > 0 else 1.0
    return sound * np.float32(10.0 ** (event.level_db / 20.0) / np.sqrt(power))


Part = tuple[int, Sound, Sound, Spectra]
"""First sample in the clip of a dry sound (S,), the sound, its response (channels, L), and the spectra of a second."""


def _parts(scene: Scene, bank: SoundBank, channels: int) -> Iterator[Part]:
    """Yield what a scene is the sum of; a moving source is cross-faded from place to place."""
    room, hop, nothing = scene.room, round(STEP_S * SAMPLE_RATE), np.zeros((0, channels, 1 + PART), np.complex64)
    if scene.events and not isinstance(room, MeasuredRoom):
        places = np.concatenate([event.path_m for event in scene.events])
        facing = np.asarray([event.facing or (0.0, 0.0, 0.0) for event in scene.events for _ in event.path_m])
        responses = iter(early_responses(room, places, channels, facing if facing.any() else None))
    for event in scene.events:
        # What is over before the clip begins, reverberation included, need not be computed; nor what comes after it.
        first = max(0, -event.start - round(LONGEST_TAIL_S * SAMPLE_RATE))
        dry, start = _dry(event, bank)[first : scene.samples - event.start], event.start + first
        if isinstance(room, MeasuredRoom):
            yield start, dry, room.response_at(event.path_m[0], channels), nothing
            continue
        early = list(islice(responses, len(event.path_m)))
        near, mixing_s = early[0]
        for index, (response, mixes_s) in enumerate(early if len(early) > 1 else ()):
            begin, end = max(0, (index - 1) * hop - first), min(len(dry), (index + 1) * hop - first)
            if begin < end:
                share = 1.0 - np.abs(np.arange(first + begin, first + end, dtype=np.float32) - index * hop) / hop
                yield start + begin, dry[begin:end] * share.astype(np.float32), response, nothing
                near, mixing_s = np.zeros_like(response), mixes_s
        # The late field is the same wherever in the room the source is: one for a whole walk, and no flutter.
        unrisen = unrisen_field(room, mixing_s, channels, event.tail)
        near[:, : unrisen.shape[1]] += unrisen
        yield start, dry, near, _field_spectra(room, channels, event.tail)


def add_parts(parts: Sequence[Part], channels: int, samples: int) -> Sound:
    """Return the sum (channels, samples) of parts, by blocks: only the sum of their spectra is transformed back."""
    from scipy import fft

    # The first block lies before the clip: its second half is heard.
    total = np.zeros((1 - (-samples // PART), channels, PART + 1), np.complex64)
    for number in range(0, len(parts), LANES):
        some = parts[number : number + LANES]
        spectra = spectra_of([x for start, dry, near, _ in some for x in ((dry[None], start % PART), (near, 0))])
        for (start, *_, field), blocks, near in zip(some, spectra[::2], spectra[1::2], strict=True):
            both = min(len(near), len(field))
            responses = [*(near[:both] + field[:both]), *near[both:], *field[both:]]
            for begin, response in enumerate(responses, start=1 + start // PART):
                heard = blocks[max(0, -begin) : max(0, len(total) - begin)]
                total[max(0, begin) : max(0, begin) + len(heard)] += heard * response
    halves = fft.irfft(total, 2 * PART).reshape(-1, channels, 2, PART)
    mix: Sound = halves[1:, :, 0] + halves[:-1, :, 1]
    return mix.transpose(1, 0, 2).reshape(channels, -1)[:, :samples]


@functools.lru_cache(maxsize=64)
def _field_spectra(room: Room, channels: int, tail: int) -> Spectra:
    return spectra_of([(diffuse_field(room, channels, tail), 0)])[0]
