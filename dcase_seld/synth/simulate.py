"""Making a corpus of simulated clips: rooms and sounds divided, clips spread over processes, resumable.

Clip `i` of a fold depends on the seed, the fold and `i` alone, so neither the number of processes nor an interruption
changes the result. A clip's label file is written last: where it exists, the clip is finished.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcase_seld.synth.bank import SoundBank, procedural_bank
from dcase_seld.synth.config import ClipCounts, SceneConfig, SoundsConfig
from dcase_seld.synth.render import label_scene, render_scene, to_stereo
from dcase_seld.synth.rooms import Room, sample_room
from dcase_seld.synth.scenes import Scene, plan_scene
from dcase_seld.task.taxonomy import Taxonomy

PARTS = {"train": "dev-train-synth", "test": "dev-test-synth"}
FOLDS = {"train": 1, "test": 4}
BATCH = 8
"""Clips that a process makes before it reports."""
ALONE = 12
"""So few clips are made without starting processes."""


@dataclass(frozen=True)
class Job:
    """All that a process needs to make any clip of a corpus.

    Attributes:
        out: the corpus folder.
        taxonomy: the classes.
        sounds: folder of the sound bank, or None for made sounds.
        sound_config: how the bank is divided.
        scene: how scenes are made.
        clips: how many.
        seed: decides everything.
        prior: (C,) class weights.
    """

    out: Path
    taxonomy: Taxonomy
    sounds: Path | None
    sound_config: SoundsConfig
    scene: SceneConfig
    clips: ClipCounts
    seed: int
    prior: tuple[float, ...]


class Maker:
    """Makes clips of one job in one process: keeps the sound bank and the rooms."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.bank = open_bank(job.sounds, job.taxonomy, job.sound_config, job.seed)
        self._rooms: dict[tuple[str, int], Room] = {}

    def scene(self, fold: str, index: int) -> Scene:
        """Return the plan of clip `index` of the fold "train" or "test"."""
        job = self.job
        number = index % room_count(job.scene, fold)
        room = self._rooms.get((fold, number))
        if room is None:
            rng = np.random.default_rng([job.seed, FOLDS[fold], number, 1])
            room = self._rooms[fold, number] = sample_room(job.scene.rooms, rng)
        split = room_split(job.scene, fold, number, job.seed)
        rng = np.random.default_rng([job.seed, FOLDS[fold], index, 2])
        return plan_scene(clip_name(job.scene, fold, index), split, room, self.bank, job.prior, job.scene, rng)

    def make(self, fold: str, index: int) -> None:
        """Write one clip: sound first, labels last."""
        from dcase_seld.media.audio import write_wav
        from dcase_seld.task.dcase_csv import write_csv

        scene, part = self.scene(fold, index), PARTS[fold]
        labels = label_scene(scene, self.bank)
        mix = render_scene(scene, self.bank, labels, self.job.scene.levels.floor_db)
        write_wav(self.job.out / "stereo_dev" / part / f"{scene.name}.wav", to_stereo(mix))
        write_csv(self.job.out / "metadata_dev" / part / f"{scene.name}.csv", labels)


def open_bank(sounds: Path | None, taxonomy: Taxonomy, config: SoundsConfig, seed: int) -> SoundBank:
    """Return the bank of a folder of recordings, or of made sounds (`sounds` None; `seed` makes them)."""
    if sounds is None:
        return procedural_bank(taxonomy, config, seed)
    from dcase_seld.synth.folder_bank import folder_bank

    return folder_bank(sounds, taxonomy, config)


def simulate(job: Job, workers: int = 1, quiet: bool = True) -> None:
    """Write the clips of a job that are not there yet, in the official layout, and `splits.csv`.

    Args:
        job: what to make.
        workers: processes.
        quiet: no live progress.
    """
    for fold, part in PARTS.items():
        if getattr(job.clips, fold):
            for kind in ("stereo_dev", "metadata_dev"):
                (job.out / kind / part).mkdir(parents=True, exist_ok=True)
    _write_splits(job)
    _make_missing(job, workers, quiet)


def _make_missing(job: Job, workers: int, quiet: bool) -> None:
    """Make the clips without a label file."""
    from dcase_seld.progress import progress

    missing = list(missing_clips(job))
    done = job.clips.train + job.clips.test - len(missing)
    with progress("Simulating", job.clips.train + job.clips.test, "clips", quiet) as advance:
        advance(done)
        if workers <= 1 or len(missing) <= ALONE:
            maker = Maker(job)
            for fold, index in missing:
                maker.make(fold, index)
                advance()
            return
        batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
        # Fresh processes: forking one that has run a model would copy its threads' locks.
        pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(job,)
        )
        try:
            for future in as_completed([pool.submit(_make_batch, batch) for batch in batches]):
                advance(future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def missing_clips(job: Job) -> Iterator[tuple[str, int]]:
    """Yield fold and index of every clip whose label file is not there yet."""
    for fold, part in PARTS.items():
        for index in range(getattr(job.clips, fold)):
            if not (job.out / "metadata_dev" / part / f"{clip_name(job.scene, fold, index)}.csv").exists():
                yield fold, index


def clip_name(config: SceneConfig, fold: str, index: int) -> str:
    """Return the official name of a clip: rooms take turns; the mix counts the clips of a room."""
    rooms = room_count(config, fold)
    number = index % rooms + 1 + (config.rooms.train if fold == "test" else 0)
    return f"fold{FOLDS[fold]}_room{number}_mix{index // rooms + 1:03d}_deg000_start0000"


def room_count(config: SceneConfig, fold: str) -> int:
    """Return the number of rooms of a fold."""
    return config.rooms.train if fold == "train" else config.rooms.test


def room_split(config: SceneConfig, fold: str, number: int, seed: int) -> str:
    """Return "train", "val" or "test": whose sounds are heard in a room."""
    if fold == "test":
        return "test"
    rooms = config.rooms.train
    held = round(config.rooms.validation_fraction * rooms)
    if config.rooms.validation_fraction > 0 and rooms > 1:
        held = min(max(held, 1), rooms - 1)
    order = np.random.default_rng([seed, 3]).permutation(rooms)
    return "val" if number in order[:held] else "train"


def room_splits(job: Job) -> dict[str, str]:
    """Return every room that has clips, as clip names spell it, and its split."""
    return {
        "_".join(clip_name(job.scene, fold, number).split("_")[:2]): room_split(job.scene, fold, number, job.seed)
        for fold in PARTS
        for number in range(min(room_count(job.scene, fold), getattr(job.clips, fold)))
    }


def _write_splits(job: Job) -> None:
    """Write splits.csv: which rooms, and so which sounds, are for training, validation and test."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "split"])
    rows.writerows(room_splits(job).items())
    temporary = job.out / "splits.csv.part"
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(job.out / "splits.csv")


_maker: Maker | None = None


def _start(job: Job) -> None:
    """Prepare a worker process."""
    global _maker
    _maker = Maker(job)


def _make_batch(clips: list[tuple[str, int]]) -> int:
    """Make clips in a worker process; return how many."""
    assert _maker is not None
    for fold, index in clips:
        _maker.make(fold, index)
    return len(clips)
