"""Making a corpus of simulated clips: plan, sound, video and labels of each; spread over processes, resumable.

Clip `i` of a fold depends on the seed, the fold and `i` alone, so neither the number of processes nor an interruption
changes the result. A clip's label file is written last: where it exists, the clip is finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.event_files import read_folder
from dcase_seld.core.files import remove_unfinished, write_csv_table, write_text
from dcase_seld.core.work import progress, share_work
from dcase_seld.simulate.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.simulate.measured_rooms import divide_rooms, load_rooms, measured_room
from dcase_seld.simulate.pictures import PictureBank, open_pictures
from dcase_seld.simulate.render import Heard, hear_scene, label_scene, microphones, render_scene, to_stereo
from dcase_seld.simulate.rooms import AnyRoom, sample_room
from dcase_seld.simulate.scenes import Scene, plan_scene
from dcase_seld.simulate.sound_bank import AmbienceBank, SoundBank, ambience_bank, procedural_bank

PARTS = {"train": "dev-train-synth", "test": "dev-test-synth"}

FOLDS = {"train": 1, "test": 4}

Output = Literal["stereo", "foa"]


@dataclass(frozen=True)
class SimulationPlan:
    """All that a process needs to make any clip of a corpus."""

    out: Path  # the corpus folder
    taxonomy: Taxonomy  # the classes
    sounds: Path | None  # folder of the sound bank, or None for made sounds
    sound_config: SoundsConfig  # how the bank is divided
    scene: SceneConfig  # how scenes are made
    clips: ClipCounts  # how many
    seed: int  # decides everything
    prior: tuple[float, ...]  # (C,) class weights
    # "stereo" clips in the challenge's layout, or "foa" recordings in STARSS23's, for the converter
    output: Output = "stereo"
    responses: Path | None = None  # folder of measured rooms, or None
    ambience: Path | None = None  # folder of recordings of ambience, or None
    video: PictureConfig | None = None  # what the video shows, or None for sound alone
    pictures: Path | None = None  # folder of pictures for the video, or None for drawn ones

    @property
    def folds(self) -> list[str]:
        """Return the folds ("train", "test") that have clips."""
        return [fold for fold in PARTS if getattr(self.clips, fold)]

    def audio_file(self, fold: str, name: str) -> Path:
        """Return where a clip's sound goes."""
        return self.out / ("stereo_dev" if self.output == "stereo" else "foa_dev") / PARTS[fold] / f"{name}.wav"

    def label_file(self, fold: str, name: str) -> Path:
        """Return where a clip's labels go; it is written last, so where it exists the clip is finished."""
        return self.out / "metadata_dev" / PARTS[fold] / f"{name}.csv"

    def video_file(self, fold: str, name: str) -> Path:
        """Return where a clip's video goes."""
        return self.out / "video_dev" / PARTS[fold] / f"{name}.mp4"

    def room_count(self, fold: str) -> int:
        """Return the number of rooms of a fold."""
        return self.scene.rooms.train if fold == "train" else self.scene.rooms.test

    def room_name(self, fold: str, number: int) -> str:
        """Return a room as clip names spell it; numbers of the test fold go on after those of the training fold."""
        return f"fold{FOLDS[fold]}_room{number + 1 + (self.scene.rooms.train if fold == 'test' else 0)}"

    def clip_name(self, fold: str, index: int) -> str:
        """Return the official name of a clip: rooms take turns; the mix counts the clips of a room."""
        rooms = self.room_count(fold)
        recording = f"{self.room_name(fold, index % rooms)}_mix{index // rooms + 1:03d}"
        return f"{recording}_deg000_start0000" if self.output == "stereo" else recording

    def room_split(self, fold: str, number: int) -> str:
        """Return "train", "val" or "test": whose sounds are heard in a room."""
        if fold == "test":
            return "test"
        rooms, fraction = self.scene.rooms.train, self.scene.rooms.validation_fraction
        held = round(fraction * rooms)
        if fraction > 0 and rooms > 1:
            held = min(max(held, 1), rooms - 1)
        order = np.random.default_rng([self.seed, 3]).permutation(rooms)
        return "val" if number in order[:held] else "train"

    def room_splits(self) -> dict[str, str]:
        """Return every room that has clips, as clip names spell it, and its split."""
        return {
            self.room_name(fold, number): self.room_split(fold, number)
            for fold in self.folds
            for number in range(min(self.room_count(fold), getattr(self.clips, fold)))
        }


QUALITY, PRESET = 26, "ultrafast"
"""How the videos are coded: most of their frames repeat, so that time matters more than size."""


class Material(NamedTuple):
    """What clips are made of, found once for all processes.

    Each would look through the folders again, and plan other clips where it found other files than the first one did.
    """

    bank: SoundBank
    ambience: AmbienceBank | None  # None: noise alone
    pictures: PictureBank | None  # None: no video


def open_material(job: SimulationPlan) -> Material:
    """Return the opened sounds, recordings of ambience and pictures of a job. Raises SeldError: a folder is unfit."""
    config = job.sound_config
    return Material(
        open_bank(job.sounds, job.taxonomy, config, job.seed),
        ambience_bank(job.ambience, config) if job.ambience else None,
        open_pictures(job.pictures, job.taxonomy, config.split_seed) if job.video is not None else None,
    )


class ClipMaker:
    """Makes clips of one job in one process: keeps the sound bank, the rooms and the pictures."""

    def __init__(self, job: SimulationPlan, material: Material | None = None) -> None:
        """Take a job, and its opened material, where all its processes are to have the same."""
        np.empty(31 << 20, np.uint8)  # the C library keeps twice the largest block given back: arrays stay at hand
        self.job = job
        self.bank, self._ambience, self.pictures = material or open_material(job)
        self._measured = divide_rooms(load_rooms(job.responses) if job.responses else [], job.sound_config)
        self._rooms: dict[tuple[str, int], AnyRoom] = {}

    def scene(self, fold: str, index: int) -> Scene:
        """Return the plan of clip `index` of the fold "train" or "test"."""
        job = self.job
        number = index % job.room_count(fold)
        split = job.room_split(fold, number)
        rng = np.random.default_rng([job.seed, FOLDS[fold], index, 2])
        name = job.clip_name(fold, index)
        return plan_scene(name, split, self.room(fold, number), self.bank, job.prior, job.scene, job.taxonomy, rng)

    def room(self, fold: str, number: int) -> AnyRoom:
        """Return a room of a fold: measured rooms of its split first or in their share, else simulated ones."""
        job = self.job
        if (fold, number) not in self._rooms:
            split = job.room_split(fold, number)
            before = sum(job.room_split(fold, other) == split for other in range(number))
            measured = measured_room(self._measured[split], before, job.scene.rooms.measured_share)
            if measured is not None:
                self._rooms[fold, number] = measured
            else:
                rng = np.random.default_rng([job.seed, FOLDS[fold], number, 1])
                self._rooms[fold, number] = sample_room(job.scene.rooms, rng)
        return self._rooms[fold, number]

    def make(self, fold: str, index: int) -> None:
        """Write one clip: sound, video if asked for, labels last."""
        from dcase_seld.media.audio import write_wav

        job, scene = self.job, self.scene(fold, index)
        heard = hear_scene(scene, self.bank)
        channels = 2 if job.output == "stereo" else 4
        mix = render_scene(scene, self.bank, heard, job.scene.levels.floor_db, channels, self._ambience)
        sound = to_stereo(mix) if channels == 2 else mix
        if scene.microphone_db:
            sound = microphones(sound, scene.microphone_db)
        write_wav(job.audio_file(fold, scene.name), sound)
        if self.pictures is not None:
            self._film(fold, index, scene)
        self._label(job.label_file(fold, scene.name), scene, heard)

    def _film(self, fold: str, index: int, scene: Scene) -> None:
        from dcase_seld.core.geometry import PANORAMA, PERSPECTIVE
        from dcase_seld.core.task import VIDEO_FPS
        from dcase_seld.media.writing import write_video
        from dcase_seld.simulate.film import compose

        job = self.job
        assert self.pictures is not None and job.video is not None
        view = PERSPECTIVE if job.output == "stereo" else PANORAMA
        look = job.seed * 1000 + FOLDS[fold] * 100_003 + index % job.room_count(fold)
        frames = compose(scene, self.bank, self.pictures, job.video, job.scene.rooms, view, look)
        path = job.video_file(fold, scene.name)
        write_video(path, frames, VIDEO_FPS, quality=QUALITY, preset=PRESET)

    def _label(self, path: Path, scene: Scene, heard: Heard) -> None:
        from dcase_seld.core.event_files import write_csv

        if self.job.output == "stereo":
            write_csv(path, label_scene(scene, heard))
            return
        columns = (heard.frame, heard.class_index, heard.source, heard.azimuth_deg, heard.elevation_deg)
        rows = np.rint(np.stack([*columns, 100.0 * heard.distance_m], axis=1)).astype(np.int64)
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        write_text(path, "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()))


def open_bank(sounds: Path | None, taxonomy: Taxonomy, config: SoundsConfig, seed: int) -> SoundBank:
    """Return the bank of a folder of recordings, or of made sounds (`sounds` None; `seed` makes them)."""
    if sounds is None:
        return procedural_bank(taxonomy, config, seed)
    from dcase_seld.simulate.folder_bank import folder_bank

    return folder_bank(sounds, taxonomy, config)


FEWEST, MOST = 4, 32
"""Clips that a process makes before it reports: the more there are to make, the more."""

SOUNDS = ".sounds"
"""Folder in the corpus that holds dry sounds, mapped by all processes, while clips are made."""

ALONE = 12
"""So few clips are made without starting processes."""


def simulate(job: SimulationPlan, workers: int = 1, quiet: bool = True, material: Material | None = None) -> None:
    """Write the clips of a job that are not there yet, in the official layout, and `splits.csv`.

    `material`: what `open_material` found, where that has been done.
    """
    found = material or open_material(job)
    for fold in job.folds:
        for path in (job.audio_file, job.label_file, *([job.video_file] if job.video is not None else [])):
            path(fold, "any").parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path(fold, "any").parent)
    write_csv_table(job.out / "splits.csv", ("name", "split"), job.room_splits().items())
    sounds = job.out / SOUNDS
    shutil.rmtree(sounds, ignore_errors=True)  # of a run that was killed
    sounds.mkdir()
    try:
        bank = SoundBank(found.bank.recordings, found.bank.load, shared=sounds)
        _make_missing(job, found._replace(bank=bank), workers, quiet)
    finally:
        shutil.rmtree(sounds, ignore_errors=True)


def missing_clips(job: SimulationPlan) -> Iterator[tuple[str, int]]:
    """Yield fold and index of every clip whose label file is not there yet."""
    for fold in job.folds:
        for index in range(getattr(job.clips, fold)):
            if not job.label_file(fold, job.clip_name(fold, index)).exists():
                yield fold, index


def split_by_room(job: SimulationPlan, clips: Sequence[tuple[str, int]], most: int) -> list[list[tuple[str, int]]]:
    """Return the clips (fold, index) in batches of at most `most`, each of one room, room after room.

    The late field of a room costs as much as a clip, and is made once where its clips are made one after the other.
    """
    of_room: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for fold, index in clips:
        of_room.setdefault((fold, index % job.room_count(fold)), []).append((fold, index))
    return [room[i : i + most] for room in of_room.values() for i in range(0, len(room), most)]


def _make_missing(job: SimulationPlan, material: Material, workers: int, quiet: bool) -> None:
    """Make the clips without a label file."""
    missing = list(missing_clips(job))
    total = job.clips.train + job.clips.test
    with progress("Simulating", total, "clips", quiet) as advance:
        advance(total - len(missing))
        if workers <= 1 or len(missing) <= ALONE:
            if missing:
                maker = ClipMaker(job, material)
            for fold, index in (clip for batch in split_by_room(job, missing, len(missing)) for clip in batch):
                maker.make(fold, index)
                advance()
            return
        batches = split_by_room(job, missing, min(max(FEWEST, len(missing) // (8 * workers)), MOST))
        for count in share_work(_make_batch, batches, workers, "simulates", _start, (job, material), too=True):
            advance(count)


_maker: ClipMaker | None = None


def _start(job: SimulationPlan, material: Material) -> None:
    global _maker
    _maker = ClipMaker(job, material)


def _make_batch(clips: list[tuple[str, int]]) -> int:
    """Make clips in a worker process; return how many."""
    assert _maker is not None
    for fold, index in clips:
        _maker.make(fold, index)
    return len(clips)


REPORT = "balance.csv"
"""Name of the report in the corpus' folder."""


def write_balance(root: Path, parts: Sequence[str], split_of: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, int]:
    """Write balance.csv (split, class, clips, frames, onscreen share); return labelled frames per class over all.

    `split_of`: room, as clip names spell it → split.
    """
    frames = np.zeros((len(taxonomy),), np.int64)
    rows = []
    for part in parts:
        events = read_folder(root / "metadata_dev" / part, n_classes=len(taxonomy), frames=None)
        split_of_clip = np.asarray([split_of["_".join(name.split("_")[:2])] for name in events.clips])
        for split in sorted(set(split_of_clip)):
            for index, name in enumerate(taxonomy.classes):
                chosen = (split_of_clip[events.clip] == split) & (events.class_index == index)
                count = int(chosen.sum())
                share = f"{events.onscreen[chosen].mean():.3f}" if count else ""
                rows.append((split, name, len(np.unique(events.clip[chosen])), count, share))
                frames[index] += count
    write_csv_table(root / REPORT, ("split", "class", "clips", "frames", "onscreen_share"), rows)
    return dict(zip(taxonomy.classes, frames.tolist(), strict=True))
