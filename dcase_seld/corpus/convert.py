"""FOA recordings with 360° video → the challenge's stereo clips with perspective video, in the official layout.

A clip's CSV is its last file written: clips whose CSV is there are done, and an interrupted conversion goes on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dcase_seld.core.classes import load_taxonomy
from dcase_seld.core.event_files import write_csv
from dcase_seld.core.files import refuse_folder, remove_unfinished, write_bytes, write_text
from dcase_seld.core.geometry import PEAK_LIMIT, foa_to_stereo, perspective_view
from dcase_seld.core.reading import LARGEST_TABLE, read_json, read_text
from dcase_seld.core.task import CLIP_FRAMES, CLIP_SAMPLES, LABEL_RATE, SAMPLES_PER_FRAME
from dcase_seld.core.work import progress, say, share_work
from dcase_seld.corpus.ambisonic import (
    COLUMNS,
    NEAR_CM,
    Cut,
    Recording,
    clip_labels,
    find_recordings,
    read_cuts,
    read_metadata,
    sample_cuts,
)
from dcase_seld.media.audio import read_audio, write_wav

PLAN = "clips.csv"
"""The list of clips that a conversion makes, in its folder; it has the form of --clips."""

CHUNK = 40
"""Most clips of one recording that a process makes with one decode of its video."""

DENSITY = 6.0
"""Clips per 5 seconds of recordings where no count is given: about that of the official set."""


@dataclass(frozen=True)
class Job:
    """A conversion."""

    source: Path  # folder in STARSS23's layout
    out: Path  # folder of the corpus
    count: int | None = None  # number of clips; None: about as densely as the official set
    seed: int = 0  # which clips
    clips: Path | None = None  # CSV of exactly the clips to make, instead of random ones
    video: bool = True  # make perspective video too
    quality: int = 23  # constant rate factor of the video


def convert(job: Job, workers: int = 1, quiet: bool = True) -> dict[str, Any]:
    """Write the clips of a job that are not there yet, and return counts and notes.

    Raises:
        SeldError: the source or the list of clips is not as it must be, or the disk is full.
    """
    there = job.out.iterdir() if job.out.is_dir() and not (job.out / "convert.json").is_file() else ()
    refuse_folder(job.out, all(path.name == PLAN or path.name[0] == "." for path in there))
    recordings = {recording.name: recording for recording in find_recordings(job.source, job.video)}
    # All labels are read before anything is made: one that cannot be must not be found hours later.
    classes = _class_count(job)
    labels = [read_metadata(recording.metadata, classes) for recording in recordings.values()]
    farthest = [int(rows[:, 5].max(initial=0)) for rows in labels]
    if 0 < max(farthest, default=0) < NEAR_CM:
        say(f"warning: no distance in {job.source} reaches {NEAR_CM} cm: are these metres or decimetres?")
    job.out.mkdir(parents=True, exist_ok=True)
    cuts, discarded = _plan(job, recordings, workers)
    pending = [cut for cut in cuts if not _csv_of(job, recordings[cut.recording], cut).exists()]
    chunks = _chunks(pending, recordings, workers)
    notes: list[str] = []
    with progress("converting", len(cuts), "clips", quiet) as advance:
        advance(len(cuts) - len(pending))
        for count, more in _run(job, chunks, workers):
            advance(count)
            notes += more
    _carry_over(job)
    remove_unfinished(job.out)
    for note in notes:
        say(f"note: {note}")
    seconds = len(cuts) * CLIP_FRAMES / LABEL_RATE
    return {
        "clips": len(cuts),
        "made_now": len(pending),
        "hours": round(seconds / 3600, 3),
        "recordings": len({cut.recording for cut in cuts}),
        "discarded_for_peak": discarded,
        "notes": notes,
    }


def _plan(job: Job, recordings: dict[str, Recording], workers: int) -> tuple[list[Cut], int]:
    """Return the clips to make and how many were discarded; the plan is kept, so that a resumed job makes the same."""
    settings = {
        "count": job.count,
        "seed": job.seed,
        "listed": None if job.clips is None else read_text(job.clips, LARGEST_TABLE),
        "video": job.video,
        "recordings": {name: recording.frames for name, recording in recordings.items()},
    }
    kept = job.out / "convert.json"
    if kept.is_file() and (job.out / PLAN).is_file():
        known = read_json(kept)
        discarded = known.pop("discarded", None)
        refuse_folder(job.out, isinstance(discarded, int) and known == settings, "clips of other options or recordings")
        return read_cuts(job.out / PLAN, recordings), discarded
    if job.clips is not None:
        cuts, discarded = read_cuts(job.clips, recordings), 0
    else:
        total = sum(recording.frames for recording in recordings.values())
        count = job.count or max(1, round(DENSITY * total / CLIP_FRAMES))
        cuts, discarded = sample_cuts(
            list(recordings.values()),
            count,
            job.seed,
            lambda cut: _peak(recordings[cut.recording], cut) <= PEAK_LIMIT,
            workers,
        )
    lines = [",".join(COLUMNS), *(f"{cut.recording},{cut.angle_deg},{cut.start_frame}" for cut in cuts)]
    for path, text in (
        (job.out / PLAN, "\n".join(lines) + "\n"),
        (kept, json.dumps({**settings, "discarded": discarded})),
    ):
        write_text(path, text)
    return cuts, discarded


def _class_count(job: Job) -> int:
    """Return the number of classes of the source's own list, or of the challenge's."""
    own = job.source / "taxonomy.yaml"
    return len(load_taxonomy(own if own.is_file() else None))


def _carry_over(job: Job) -> None:
    """Copy what a simulated source says of itself: which rooms are for validation, and its classes."""
    for name in ("splits.csv", "taxonomy.yaml"):
        if (job.source / name).is_file():
            write_bytes(job.out / name, (job.source / name).read_bytes())


def _stereo(recording: Recording, cut: Cut) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the clip's sound, (2, S)."""
    foa = read_audio(
        recording.foa, channels=None, start_sample=cut.start_frame * SAMPLES_PER_FRAME, samples=CLIP_SAMPLES
    )
    return foa_to_stereo(foa, cut.angle_deg)


def _peak(recording: Recording, cut: Cut) -> float:
    return float(np.abs(_stereo(recording, cut)).max())


def _csv_of(job: Job, recording: Recording, cut: Cut) -> Path:
    return job.out / "metadata_dev" / recording.part / f"{cut.name}.csv"


def _chunks(cuts: Sequence[Cut], recordings: dict[str, Recording], workers: int) -> list[tuple[Recording, list[Cut]]]:
    """Return clips of one recording that follow one another in time, so that one decode serves them all."""
    groups: dict[str, list[Cut]] = defaultdict(list)
    size = max(4, min(CHUNK, -(-len(cuts) // workers)))
    for cut in cuts:
        groups[cut.recording].append(cut)
    return [
        (recordings[name], ordered[first : first + size])
        for name in sorted(groups)
        for ordered in [sorted(groups[name], key=lambda cut: (cut.start_frame, cut.angle_deg))]
        for first in range(0, len(ordered), size)
    ]


def _run(job: Job, chunks: Sequence[tuple[Recording, list[Cut]]], workers: int) -> Iterable[tuple[int, list[str]]]:
    """Yield (clips, notes) of every finished chunk; an interruption ends the processes at once."""
    make = partial(convert_chunk, job)
    if workers <= 1 or len(chunks) <= 1:
        yield from map(make, chunks)
        return
    yield from share_work(make, chunks, min(workers, len(chunks)), "converts recordings", _one_thread)


def _one_thread() -> None:
    """Let each of several processes use one core."""
    import cv2

    cv2.setNumThreads(1)


def convert_chunk(job: Job, chunk: tuple[Recording, list[Cut]]) -> tuple[int, list[str]]:
    """Write clips of one recording, sorted by start: sound, then video with one decode for all, then labels."""
    recording, cuts = chunk
    notes = []
    metadata = read_metadata(recording.metadata, _class_count(job))
    for kind in ("stereo_dev", "metadata_dev", *(["video_dev"] if job.video else [])):
        (job.out / kind / recording.part).mkdir(parents=True, exist_ok=True)
    for cut in cuts:
        sound = _stereo(recording, cut)
        peak = float(np.abs(sound).max())
        if peak > PEAK_LIMIT:
            notes.append(f"{cut.name} exceeds full scale (peak {peak:.3f}); it was asked for, and is clipped.")
        write_wav(job.out / "stereo_dev" / recording.part / f"{cut.name}.wav", sound)
    if job.video:
        notes += _convert_video(job, recording, cuts)
    for cut in cuts:
        write_csv(_csv_of(job, recording, cut), clip_labels(cut.name, metadata, cut.angle_deg, cut.start_frame))
    return len(cuts), notes


def _convert_video(job: Job, recording: Recording, cuts: Sequence[Cut]) -> list[str]:
    """Write the perspective videos of clips; each frame of the source is decoded once."""
    from dcase_seld.media.frames import iterate_frames, video_info
    from dcase_seld.media.writing import VideoWriter

    assert recording.video is not None
    fps = video_info(recording.video).fps
    length = round(CLIP_FRAMES / LABEL_RATE * fps)
    first = {cut: round(cut.start_frame / LABEL_RATE * fps) for cut in cuts}
    needed = sorted({index for start in first.values() for index in range(start, start + length)})
    missing: dict[str, int] = defaultdict(int)
    waiting, active = sorted(cuts, key=lambda cut: first[cut]), dict[Cut, VideoWriter]()
    image = np.zeros((960, 1920, 3), np.uint8)
    try:
        # Half a frame later than it begins: rounding cannot pick the frame before.
        times = [(index + 0.5) / fps for index in needed]
        for index, (decoded, _) in zip(needed, iterate_frames(recording.video, times), strict=True):
            image = image if decoded is None else decoded
            while waiting and first[waiting[0]] == index:
                cut = waiting.pop(0)
                path = job.out / "video_dev" / recording.part / f"{cut.name}.mp4"
                active[cut] = VideoWriter(path, fps, quality=job.quality)
            for cut, writer in list(active.items()):
                missing[cut.name] += decoded is None
                writer.write(perspective_view(image, cut.angle_deg))
                if index == first[cut] + length - 1:
                    active.pop(cut).close()
    finally:
        for writer in active.values():
            writer.discard()
    return [
        f"{name}: {count} of {length} frames are missing in {recording.video.name}; the last one before is shown."
        for name, count in missing.items()
        if count
    ]
