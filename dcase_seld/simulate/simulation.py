"""Making a corpus of simulated clips: spread over processes, resumable.

Clip `i` of a fold depends on the seed, the fold and `i` alone, so neither the number of processes nor an interruption
changes the result. A clip's label file is written last: where it exists, the clip is finished.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.event_files import read_folder
from dcase_seld.core.files import remove_unfinished, write_text
from dcase_seld.core.work import share_work
from dcase_seld.simulate.clip_maker import Job, Maker

FEWEST, MOST = 4, 32
"""Clips that a process makes before it reports: the more there are to make, the more."""

SOUNDS = ".sounds"
"""Folder in the corpus that holds dry sounds, mapped by all processes, while clips are made."""

ALONE = 12
"""So few clips are made without starting processes."""


def simulate(job: Job, workers: int = 1, quiet: bool = True) -> None:
    """Write the clips of a job that are not there yet, in the official layout, and `splits.csv`.

    Args:
        job: what to make.
        workers: processes.
        quiet: no live progress.
    """
    for fold in job.folds:
        for path in (job.audio_file, job.label_file, *([job.video_file] if job.video is not None else [])):
            path(fold, "any").parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path(fold, "any").parent)
    _write_splits(job)
    sounds = job.out / SOUNDS
    shutil.rmtree(sounds, ignore_errors=True)  # of a run that was killed
    sounds.mkdir()
    try:
        _make_missing(job, sounds, workers, quiet)
    finally:
        shutil.rmtree(sounds, ignore_errors=True)


def missing_clips(job: Job) -> Iterator[tuple[str, int]]:
    """Yield fold and index of every clip whose label file is not there yet."""
    for fold in job.folds:
        for index in range(getattr(job.clips, fold)):
            if not job.label_file(fold, job.clip_name(fold, index)).exists():
                yield fold, index


def split_by_room(job: Job, clips: Sequence[tuple[str, int]], most: int) -> list[list[tuple[str, int]]]:
    """Return the clips (fold, index) in batches of at most `most`, each of one room, room after room.

    The late field of a room costs as much as a clip, and is made once where its clips are made one after the other.
    """
    of_room: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for fold, index in clips:
        of_room.setdefault((fold, index % job.room_count(fold)), []).append((fold, index))
    return [room[i : i + most] for room in of_room.values() for i in range(0, len(room), most)]


def _make_missing(job: Job, sounds: Path, workers: int, quiet: bool) -> None:
    """Make the clips without a label file; `sounds` is the folder of dry sounds that have been loaded."""
    from dcase_seld.core.work import progress

    missing = list(missing_clips(job))
    total = job.clips.train + job.clips.test
    with progress("Simulating", total, "clips", quiet) as advance:
        advance(total - len(missing))
        if workers <= 1 or len(missing) <= ALONE:
            if missing:
                maker = Maker(job, sounds)
            for fold, index in (clip for batch in split_by_room(job, missing, len(missing)) for clip in batch):
                maker.make(fold, index)
                advance()
            return
        batches = split_by_room(job, missing, min(max(FEWEST, len(missing) // (8 * workers)), MOST))
        for count in share_work(_make_batch, batches, workers, "simulates", _start, (job, sounds)):
            advance(count)


def _write_splits(job: Job) -> None:
    """Write splits.csv: which rooms, and so which sounds, are for training, validation and test."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "split"])
    rows.writerows(job.room_splits().items())
    write_text(job.out / "splits.csv", text.getvalue())


_maker: Maker | None = None


def _start(job: Job, sounds: Path) -> None:
    global _maker
    _maker = Maker(job, sounds)


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

    Args:
        root: the corpus.
        parts: its parts, such as "dev-train-synth".
        split_of: room, as clip names spell it → split.
        taxonomy: the classes.
    """
    frames = np.zeros((len(taxonomy),), np.int64)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["split", "class", "clips", "frames", "onscreen_share"])
    for part in parts:
        events = read_folder(root / "metadata_dev" / part, n_classes=len(taxonomy), frames=None)
        split_of_clip = np.asarray([split_of["_".join(name.split("_")[:2])] for name in events.clips])
        for split in sorted(set(split_of_clip)):
            for index, name in enumerate(taxonomy.classes):
                chosen = (split_of_clip[events.clip] == split) & (events.class_index == index)
                count = int(chosen.sum())
                share = f"{events.onscreen[chosen].mean():.3f}" if count else ""
                rows.writerow([split, name, len(np.unique(events.clip[chosen])), count, share])
                frames[index] += count
    write_text(root / REPORT, text.getvalue())
    return dict(zip(taxonomy.classes, frames.tolist(), strict=True))
