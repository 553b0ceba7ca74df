"""Making a corpus of simulated clips: spread over processes, resumable.

Clip `i` of a fold depends on the seed, the fold and `i` alone, so neither the number of processes nor an interruption
changes the result. A clip's label file is written last: where it exists, the clip is finished.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from dcase_seld.processes import share_work
from dcase_seld.synth.job import Job
from dcase_seld.synth.maker import Maker

BATCH = 8
"""Clips that a process makes before it reports."""
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
            _remove_leftovers(path(fold, "any").parent)
    _write_splits(job)
    _make_missing(job, workers, quiet)


def missing_clips(job: Job) -> Iterator[tuple[str, int]]:
    """Yield fold and index of every clip whose label file is not there yet."""
    for fold in job.folds:
        for index in range(getattr(job.clips, fold)):
            if not job.label_file(fold, job.clip_name(fold, index)).exists():
                yield fold, index


def _make_missing(job: Job, workers: int, quiet: bool) -> None:
    """Make the clips without a label file."""
    from dcase_seld.progress import progress

    missing = list(missing_clips(job))
    total = job.clips.train + job.clips.test
    with progress("Simulating", total, "clips", quiet) as advance:
        advance(total - len(missing))
        if workers <= 1 or len(missing) <= ALONE:
            if missing:
                maker = Maker(job)
            for fold, index in missing:
                maker.make(fold, index)
                advance()
            return
        batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
        for count in share_work(_make_batch, batches, workers, "simulates", _start, (job,)):
            advance(count)


def _remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of an interrupted run."""
    for path in (*folder.glob("*.part"), *folder.glob(".*.part")):
        path.unlink(missing_ok=True)


def _write_splits(job: Job) -> None:
    """Write splits.csv: which rooms, and so which sounds, are for training, validation and test."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "split"])
    rows.writerows(job.room_splits().items())
    temporary = job.out / "splits.csv.part"
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(job.out / "splits.csv")


_maker: Maker | None = None


def _start(job: Job) -> None:
    global _maker
    _maker = Maker(job)


def _make_batch(clips: list[tuple[str, int]]) -> int:
    """Make clips in a worker process; return how many."""
    assert _maker is not None
    for fold, index in clips:
        _maker.make(fold, index)
    return len(clips)
