"""Rendering a scene: sound at the microphone, and labels from the dry sounds' own activity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    direction,
    early_response,
    late_response,
    response,
)
from dcase_seld.simulate.scenes import EQUALISER_HZ, STEP_S, SWELL_S, Scene, SceneEvent
from dcase_seld.simulate.sound_bank import AmbienceBank, SoundBank

Sound = npt.NDArray[np.float32]

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

    Args:
        scene: the plan.
        bank: the dry sounds.
        heard: what `hear_scene` returns: the ambience is set against the power of these frames.
        floor_db: level of the ambience where nothing is labelled, dB below full scale.
        channels: 2 or 4.
        recorded: ambience to take in place of made noise.
    """
    mix = np.zeros((channels, scene.samples), np.float32)
    for event in scene.events:
        dry, start = _dry(event, bank), event.start
        # What is over before the clip begins, reverberation included, need not be computed; nor what comes after it.
        unheard = max(0, -start - round(LONGEST_TAIL_S * SAMPLE_RATE))
        event_end = max(1, scene.samples - start)
        wet = _convolve_path(dry, event, scene.room, channels, unheard, event_end)
        from_clip, from_wet = max(0, start), max(0, -start)
        count = min(scene.samples - from_clip, wet.shape[1] - from_wet)
        if count > 0:
            mix[:, from_clip : from_clip + count] += wet[:, from_wet : from_wet + count]
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
    """Every label frame of every event in which it is heard, with true directions; columns of one length.

    Attributes:
        frame: label frame.
        class_index: class.
        source: number of the event in the scene.
        azimuth_deg: not folded, positive left, ±180 behind.
        elevation_deg: positive up.
        distance_m: metres.
    """

    frame: npt.NDArray[np.int32]
    class_index: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    azimuth_deg: npt.NDArray[np.float64]
    elevation_deg: npt.NDArray[np.float64]
    distance_m: npt.NDArray[np.float64]


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
    lead = start % BLOCK
    sound = np.concatenate([np.zeros(lead, np.float32), _cut(event, bank)])
    sound = np.pad(sound, (0, -len(sound) % BLOCK))
    power = np.square(sound).reshape(-1, BLOCK).mean(axis=1)
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
    places = np.stack([np.interp(steps, np.arange(len(event.path_m)), axis) for axis in event.path_m.T], axis=1)
    found = np.asarray([direction(room, place) for place in places]).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2]


def ambience(seed: int, channels: int, samples: int) -> Sound:
    """Return a diffuse background of unit power in W and 1/3 in the other channels, (channels, S)."""
    from scipy import fft

    rng = np.random.default_rng(seed)
    frequency = fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    # From nearly white electronics to the brown rumble of ventilation, with a corner somewhere.
    slope, corner = float(rng.uniform(0.2, 1.1)), float(2.0 ** rng.uniform(np.log2(60.0), np.log2(1000.0)))
    shape = (1.0 / (1.0 + (frequency / corner) ** (2.0 * slope))).astype(np.float32)
    shape[frequency < 30.0] = 0.0
    # Channel by channel, so that W and Y are the same whether Z and X are asked for or not.
    halves = rng.standard_normal((channels, 2, len(frequency)), dtype=np.float32)
    spectrum = (halves[:, 0] + 1j * halves[:, 1]) * (shape * (0.5 * samples / np.sqrt(np.square(shape).sum())))
    noise = fft.irfft(spectrum.astype(np.complex64), samples)
    noise[1:] *= np.float32(np.sqrt(1.0 / 3.0))
    return np.asarray(noise, dtype=np.float32)


def _cut(event: SceneEvent, bank: SoundBank) -> Sound:
    """Return the part of the recording that is played, faded where it was cut."""
    sound = bank.sound(event.recording)
    end = event.skip + event.samples
    if event.speed != 1.0 or event.equaliser_db:
        played = sound[int(event.skip * event.speed) : int(np.ceil(end * event.speed)) + 1]
        piece = _varied(played, event.speed, event.equaliser_db)[: event.samples]
    else:
        piece = sound[event.skip : end].copy()
    if event.swell_db:
        seconds = np.arange(len(piece), dtype=np.float32) / SAMPLE_RATE
        swell = np.interp(seconds, SWELL_S * np.arange(len(event.swell_db)), event.swell_db)
        piece *= (10.0 ** (swell / 20.0)).astype(np.float32)
    fade = min(240, len(piece) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    if event.skip > 0:
        piece[:fade] *= ramp
    if end < int(len(sound) / event.speed):
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


def _convolve_path(dry: Sound, event: SceneEvent, room: AnyRoom, channels: int, first: int, last: int) -> Sound:
    """Return the event as heard, (channels, S + tail), of its dry samples `first` to `last` alone.

    A moving source is cross-faded from place to place.
    """
    if len(event.path_m) == 1 or isinstance(room, MeasuredRoom):
        return _convolve(dry, response(room, event.path_m[0], channels, event.tail, event.facing), first, last)
    hop = round(STEP_S * SAMPLE_RATE)
    begins, parts, mixing_s = [], [], 0.0
    for index, place in enumerate(event.path_m):
        begin, end = max(first, (index - 1) * hop), min(last, len(dry), (index + 1) * hop)
        if begin < end:
            share = 1.0 - np.abs(np.arange(begin, end, dtype=np.float32) - index * hop) / hop
            early, mixing_s = early_response(room, place, channels, event.facing)
            begins.append(begin)
            parts.append((dry[begin:end] * share.astype(np.float32), early))
    pieces = list(zip(begins, _convolve_all(parts), strict=True))
    # The late field is the same wherever in the room the source is: one for the whole walk, and no flutter.
    pieces.append((0, _convolve(dry, late_response(room, mixing_s, channels, event.tail), first, last)))
    total = np.zeros((channels, max(begin + piece.shape[1] for begin, piece in pieces)), np.float32)
    for begin, piece in pieces:
        total[:, begin : begin + piece.shape[1]] += piece
    return total


def _convolve(dry: Sound, impulse: Sound, first: int, last: int) -> Sound:
    """Return dry samples `first` to `last` through an impulse response; what comes before them is zero."""
    wet = _convolve_all([(dry[first:last], impulse)])[0]
    return np.pad(wet, ((0, 0), (first, 0))) if first else wet


LANES = 4
"""Single-precision transforms of one length that SciPy makes at a time, in little more time than one."""


def _convolve_all(pairs: Sequence[tuple[Sound, Sound]]) -> list[Sound]:
    """Return each dry sound (S,) through its impulse response (channels, L), (channels, S + L - 1).

    Those of one length are transformed together; the result is the same to the bit.
    """
    from scipy import fft

    by_size: dict[int, list[int]] = {}
    for index, (part, impulse) in enumerate(pairs):
        size = fft.next_fast_len(len(part) + impulse.shape[1] - 1, real=True)
        by_size.setdefault(size, []).append(index)
    wet: dict[int, Sound] = {}
    for size, chosen in by_size.items():
        rows = 1 + pairs[chosen[0]][1].shape[0]
        block = np.zeros((-(-len(chosen) * rows // LANES) * LANES, size), np.float32)
        for place, index in enumerate(chosen):
            part, impulse = pairs[index]
            block[place * rows, : len(part)] = part
            block[place * rows + 1 : (place + 1) * rows, : impulse.shape[1]] = impulse
        spectra = fft.rfft(block, size)[: len(chosen) * rows].reshape(len(chosen), rows, -1)
        heard = fft.irfft((spectra[:, :1] * spectra[:, 1:]).reshape(-1, spectra.shape[2]), size)
        for index, waves in zip(chosen, heard.reshape(len(chosen), rows - 1, size), strict=True):
            part, impulse = pairs[index]
            wet[index] = np.asarray(waves[:, : len(part) + impulse.shape[1] - 1], dtype=np.float32)
    return [wet[index] for index in range(len(pairs))]
