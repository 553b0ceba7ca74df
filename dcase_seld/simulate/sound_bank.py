"""The dry sounds that scenes are made of, divided so that no recording is in two splits."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError, listing, sift
from dcase_seld.core.files import visible_files, write_bytes
from dcase_seld.core.work import say
from dcase_seld.simulate.config import SoundsConfig
from dcase_seld.simulate.sources import (
    bell,
    clapping,
    domestic_sounds,
    door_open_close,
    knock,
    music,
    musical_instrument,
    telephone,
    walk_footsteps,
    water_tap,
)
from dcase_seld.simulate.synthesis import Generator, Sound, female_speech, laughter, male_speech, stand_in

SOURCES: dict[str, Callable[[Generator], Sound]] = {
    "female_speech": female_speech,
    "male_speech": male_speech,
    "clapping": clapping,
    "telephone": telephone,
    "laughter": laughter,
    "domestic_sounds": domestic_sounds,
    "walk_footsteps": walk_footsteps,
    "door_open_close": door_open_close,
    "music": music,
    "musical_instrument": musical_instrument,
    "water_tap": water_tap,
    "bell": bell,
    "knock": knock,
}


def make(folder: str, seed: int, number: int) -> Sound:
    """Return recording `number` of a class, mono at 24 kHz, (S,), peak 1; the same for the same arguments.

    A recording has its own voice, instrument, room of parameters: two numbers differ as two recordings do. Folder
    names without a source get a stand-in timbre.
    """
    rng = np.random.default_rng([seed, zlib.crc32(folder.encode("utf-8")), number])
    source = SOURCES.get(folder)
    sound = source(rng) if source else stand_in(folder, rng)
    return np.asarray(sound / max(float(np.abs(sound).max()), 1e-9), dtype=np.float32)


SPLITS = ("train", "val", "test")

KEPT_RECORDINGS = 400
"""Recordings that a process keeps in memory (at most 5 s each are typical: about 100 MB as int16)."""

KEPT_MAPPED = 20_000
"""Recordings that a process keeps open where they are mapped from files: the system allows some 65,000 in all."""

FREE_BYTES = 2 << 30
"""So much of a disk is left free by files of dry sounds."""

LONGEST_S = 30.0
"""Longer recordings are cut here, in seconds."""


@dataclass(frozen=True)
class Recording:
    """One dry recording.

    Attributes:
        class_index: its class in the taxonomy.
        split: "train", "val" or "test".
        group: speaker, collection or recording; a group is in one split only.
        source: a path relative to the bank's folder, or "made N".
    """

    class_index: int
    split: str
    group: str
    source: str

    @property
    def look(self) -> int:
        """Return a number that stands for whoever or whatever is heard: the same group looks the same."""
        return zlib.crc32(self.group.encode("utf-8")) % 10_000


@dataclass
class SoundBank:
    """Recordings by class and split, loaded when first used.

    Attributes:
        recordings: all of them.
        load: returns a recording's mono sound at 24 kHz, (S,); of a kind that other processes can import.
        notes: what a user should know about this bank (classes with few groups, unknown folders).
        shared: a folder of this work alone in which its processes find what another one loaded, mapped into memory:
            each sound is read and resampled, or made, once for all. None: this process keeps its own.
    """

    recordings: tuple[Recording, ...]
    load: Callable[[Recording], Sound]
    notes: tuple[str, ...] = ()
    shared: Path | None = None
    _kept: dict[Recording, npt.NDArray[np.int16]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._choices: dict[tuple[int, str], dict[str, list[Recording]]] = {}
        for recording in self.recordings:
            groups = self._choices.setdefault((recording.class_index, recording.split), {})
            groups.setdefault(recording.group, []).append(recording)

    def classes(self, split: str) -> list[int]:
        """Return the class indices that have a recording in a split, ascending."""
        return sorted(c for c, s in self._choices if s == split)

    def draw(self, class_index: int, split: str, rng: np.random.Generator) -> Recording:
        """Return a recording of a class: a random group first, then one of its recordings, so that none dominates."""
        groups = self._choices[class_index, split]
        # The square root of a group's size lets large collections show their variety without crowding out small ones.
        weights = np.sqrt([len(members) for members in groups.values()])
        members = list(groups.values())[int(rng.choice(len(groups), p=weights / weights.sum()))]
        return members[int(rng.integers(len(members)))]

    def sound(self, recording: Recording, begin: int = 0, end: int | None = None) -> Sound:
        """Return the mono sound of a recording at 24 kHz, (S,), peak 1, or its samples from `begin` to `end`."""
        return self._keep(recording)[begin:end].astype(np.float32) / np.float32(32767.0)

    def samples(self, recording: Recording) -> int:
        """Return the length of a recording at 24 kHz."""
        return len(self._keep(recording))

    def _keep(self, recording: Recording) -> npt.NDArray[np.int16]:
        kept = self._kept.get(recording)
        if kept is None:
            kept = self._loaded(recording) if self.shared is None else self._mapped(recording, self.shared)
            if len(self._kept) >= (KEPT_RECORDINGS if self.shared is None else KEPT_MAPPED):
                self._kept.pop(next(iter(self._kept)))
            self._kept[recording] = kept
        return kept

    def _loaded(self, recording: Recording) -> npt.NDArray[np.int16]:
        sound = self.load(recording)
        peak = float(np.abs(sound).max(initial=1e-9))
        return np.asarray(np.rint(sound * (32767.0 / peak)), np.int16)

    def _mapped(self, recording: Recording, folder: Path) -> npt.NDArray[np.int16]:
        """Return a recording mapped from its file, which is written first where no process has done so.

        Two that need it at the same moment may both write it, with one content; the later one replaces the file.
        """
        name = f"{recording.class_index} {recording.source}"
        file = folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.int16"
        if not file.exists():
            sound = self._loaded(recording)
            if not len(sound) or shutil.disk_usage(folder).free < FREE_BYTES:
                return sound
            write_bytes(file, sound.data)
        return np.asarray(np.memmap(file, np.int16, "r"))


SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Sound files that are taken."""

RECORDED = 0.5
"""Share of the clips whose ambience is recorded, where there are recordings."""


@dataclass
class AmbienceBank:
    """Recordings of ambience, each in one split alone; of one recording all splits take what they need."""

    files: dict[str, list[Path]]  # the recordings of each split
    read: Callable[[Path], npt.NDArray[np.float32]]  # returns a file's sound at 24 kHz, (channels, S)
    notes: tuple[str, ...] = ()  # what a user should know of them
    _kept: dict[Path, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def stretch(self, split: str, seed: int, channels: int, samples: int) -> npt.NDArray[np.float32] | None:
        """Return a random stretch (channels, S) of W, Y(, Z, X) of unit power in W; None: this clip has none.

        Left and right become W and Y; channels that a recording lacks are other stretches of its first. What is too
        short is repeated.
        """
        rng = np.random.default_rng([seed, 8])
        if not self.files[split] or rng.random() >= RECORDED:
            return None
        path = self.files[split][int(rng.integers(len(self.files[split])))]
        if path not in self._kept:
            self._kept[path] = self.read(path)
        sound = self._kept[path]
        if not sound.any():
            return None
        if len(sound) == 2:
            sound = np.stack([sound[0] + sound[1], sound[0] - sound[1]]).astype(np.float32) / np.float32(2.0)
        begins = rng.integers(sound.shape[1], size=channels)
        rows = []
        for channel in range(channels):
            own = channel < len(sound)
            start = int(begins[0 if own else channel])
            part = np.take(sound[channel if own else 0], range(start, start + samples), mode="wrap")
            rows.append(part if own else part * np.float32(np.sqrt(1.0 / 3.0)))
        power = float(np.square(rows[0]).mean())
        return np.asarray(np.stack(rows) / np.sqrt(power), dtype=np.float32) if power > 0 else None


def ambience_bank(folder: Path, config: SoundsConfig) -> AmbienceBank:
    """Return the recordings of ambience below a folder, divided at random as sounds are.

    Raises:
        SeldError: there is no recording.
    """
    from dcase_seld.media.audio import audio_info

    paths, problems = sift(visible_files(folder, SUFFIXES) if folder.is_dir() else [], audio_info)
    if not paths:
        read = f"that can be read: {problems[0]}" if problems else "of ambience"
        raise SeldError(f"{folder} holds no recording {read}.", "Give a folder of wav, flac, ogg or mp3 files.")
    order = [paths[i] for i in np.random.default_rng([config.split_seed, 9]).permutation(len(paths))]
    tests, validations = (max(1, round(f * len(order))) for f in (config.test_fraction, config.validation_fraction))
    files = {"test": order[:tests], "val": order[tests : tests + validations], "train": order[tests + validations :]}
    if not files["train"]:
        files = dict.fromkeys(files, order)
    notes = [f"recordings of ambience that cannot be read were left out: {listing(problems)}"] if problems else []

    return AmbienceBank(files, _read, tuple(notes))


def _read(path: Path) -> npt.NDArray[np.float32]:
    from dcase_seld.media.audio import read_audio

    try:
        return read_audio(path, channels=None, resample=True)
    except SeldError as error:
        say(f"note: {error.problem.rstrip('.')}: clips that it was for have no recorded ambience")
        return np.zeros((1, 1), np.float32)


def procedural_bank(taxonomy: Taxonomy, config: SoundsConfig, seed: int) -> SoundBank:
    """Return a bank of made sounds; classes without a procedural source get a stand-in timbre, and a note says so."""
    count = config.procedural_recordings
    tests = max(1, round(config.test_fraction * count)) if config.test_fraction else 0
    validations = max(1, round(config.validation_fraction * count)) if config.validation_fraction else 0
    splits = ["test"] * tests + ["val"] * validations + ["train"] * (count - tests - validations)
    recordings = tuple(
        Recording(index, split, f"made {number}", f"made {number}")
        for index in range(len(taxonomy))
        for number, split in enumerate(splits)
    )
    unknown = [name for name in taxonomy.folders if name not in SOURCES]
    notes = (f"made stand-in sounds for classes without a procedural source: {', '.join(unknown)}",) if unknown else ()

    return SoundBank(recordings, partial(_made, taxonomy.folders, seed), notes)


def _made(folders: Sequence[str], seed: int, recording: Recording) -> Sound:
    return make(folders[recording.class_index], seed, int(recording.source.removeprefix("made ")))
