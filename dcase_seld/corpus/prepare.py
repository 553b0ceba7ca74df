"""Building a store: parallel, resumable after a kill, atomic (store.json is written last)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, first_lines
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.events import Events, concatenate
from dcase_seld.core.files import whole_file, write_json
from dcase_seld.core.task import Task, frames_of
from dcase_seld.core.work import run_threads
from dcase_seld.corpus.ambisonic import FARTHEST_CM, events_of_metadata, read_metadata
from dcase_seld.corpus.audio_pack import AudioOptions, pack_audio
from dcase_seld.corpus.check import raw_rows
from dcase_seld.corpus.layout import Clip
from dcase_seld.media.audio import CONTAINERS, audio_info
from dcase_seld.store.store import FORMAT, TargetTable

CHALLENGE = Task()

CHALLENGE_AUDIO = AudioOptions()
"""24 kHz stereo, and nothing else."""


def build_store(
    clips: Sequence[Clip],
    out: Path,
    *,
    root: Path,
    splits: Sequence[str],
    task: Task = CHALLENGE,
    audio: AudioOptions = CHALLENGE_AUDIO,
    skip_broken: bool = False,
    workers: int = 1,
    quiet: bool = True,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a store of clips into the folder `out` and return its facts (counts, seconds, problems).

    An interrupted attempt in `out` is continued if clips, files and options are the same.

    Args:
        clips: clips with audio; their order is the store's.
        out: the folder, made if missing.
        root: the corpus' folder, to which video paths are kept relative.
        splits: each clip's split.
        task: classes that label files refer to, window, channels and directions.
        audio: sample rate (the task's), and what to do with other rates and mono sound.
        skip_broken: leave out clips whose sound or labels cannot be read, and list them in the facts, instead of
            refusing them all.
        workers: files that are read at the same time.
        quiet: draw no live progress.
        facts: further entries of store.json.

    Raises:
        SeldError: lists the clips that cannot be read; or the disk has too little room.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "store.json").unlink(missing_ok=True)
    loaded = run_threads(lambda clip: _inspect(clip, audio, task), clips, workers, "reading labels", quiet)
    problems = [item for item in loaded if isinstance(item, str)]
    if problems and not skip_broken:
        raise SeldError(
            "\n  ".join([f"{len(problems)} of {len(clips)} clips cannot be used:", *first_lines(problems, 20)]),
            "Mend or remove these files, or leave the clips out with `broken: skip`.",
        )
    good = [index for index, item in enumerate(loaded) if not isinstance(item, str)]
    if not good:
        raise SeldError(f"No clip of {root} has sound to prepare.", "Check the folder with `dcase-seld data check`.")
    kept = [clips[index] for index in good]
    lengths, tables = zip(*(item for item in loaded if not isinstance(item, str)), strict=True)
    samples = np.array(lengths, np.int64)
    late = pack_audio(kept, samples, out, audio, skip_broken, workers, quiet)
    if late:
        # The sound of these clips broke off while it was read; the others are packed again without them.
        lost = {name for name, _ in late}
        rest = [index for index, clip in enumerate(clips) if clip.name not in lost]
        return build_store(
            [clips[index] for index in rest],
            out,
            root=root,
            splits=[splits[index] for index in rest],
            task=task,
            audio=audio,
            skip_broken=True,
            workers=workers,
            quiet=quiet,
            facts={**(facts or {}), "problems": [*(facts or {}).get("problems", []), *(text for _, text in late)]},
        )
    events = concatenate(tables)
    split = np.array([splits[index] for index in good])
    _save_table(
        out / "clips.npz",
        name=np.array([clip.name for clip in kept]),
        part=np.array([clip.part for clip in kept]),
        split=split,
        samples=samples,
        frames=frames_of(samples, audio.rate),
        labelled=np.array([clip.labels is not None for clip in kept]),
        video=np.array(["" if clip.video is None else os.path.relpath(clip.video, root) for clip in kept]),
    )
    events.save(out / "events.npz")
    names, counts = np.unique(split, return_counts=True)
    described: dict[str, Any] = {
        **(facts or {}),
        "format": FORMAT,
        "task": task.to_json(),
        "corpus": str(root.resolve()),
        "clips": len(kept),
        "hours": round(float(samples.sum()) / audio.rate / 3600, 3),
        "labelled": sum(clip.labels is not None for clip in kept),
        "videos": sum(clip.video is not None for clip in kept),
        "events": len(events),
        "dropped_sources": TargetTable(events, task).dropped,
        "splits": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "problems": [*(facts or {}).get("problems", []), *problems],
    }
    write_json(out / "store.json", described)
    for left in ("pack.json", "pack.done"):
        (out / left).unlink(missing_ok=True)
    return described


def _inspect(clip: Clip, audio: AudioOptions, task: Task) -> tuple[int, Events] | str:
    """Return (samples at the store's rate, labels) of one clip, or what is wrong with it."""
    try:
        if clip.audio is None:
            raise SeldError(f"{clip.name} has no sound file.")
        info = audio_info(clip.audio)
        if info.rate != audio.rate and not audio.resample:
            raise SeldError(
                f"{clip.audio} has a sample rate of {info.rate} Hz; {audio.rate} Hz is needed "
                "(`resample: true` converts it)."
            )
        if info.channels == 1 and audio.channels > 2:
            raise SeldError(f"{clip.audio} is mono; {audio.channels} channels are needed.")
        if info.channels == 1 and audio.mono == "refuse" and audio.channels > 1:
            raise SeldError(f"{clip.audio} is mono (`mono: duplicate` copies it to both channels).")
        if info.channels not in (1, audio.channels):
            raise SeldError(f"{clip.audio} has {info.channels} channels; {audio.channels} are needed.")
        if clip.audio.suffix.lower() in CONTAINERS:
            # The header of a compressed sound track only estimates its length.
            samples = audio.read(clip.audio).shape[1]
        else:
            common = gcd(info.rate, audio.rate)
            samples = -(-info.samples * (audio.rate // common) // (info.rate // common))
        if not samples:
            raise SeldError(f"{clip.audio} holds no sound.")
        frames, n_classes = int(frames_of(samples, audio.rate)), len(task.classes)
        if task.geometry == "sphere":
            return samples, _all_around(clip, task, frames)
        if clip.labels is None:
            return samples, Events.empty([clip.name])
        events = read_csv(clip.labels, n_classes=n_classes, frames=frames)
        rows = raw_rows(clip.labels)
        azimuth, distance = np.abs(rows[:, 3]).max(initial=0), rows[:, 4].max(initial=0)
        if azimuth > 360 or distance > FARTHEST_CM:
            raise SeldError(
                f"{clip.labels} has azimuths up to {azimuth:,}° and distances up to {distance:,} cm, which cannot be "
                "(`dcase-seld data check` lists such clips)."
            )
        return samples, Events.empty([clip.name]) if not len(events) else _named(events, clip.name)
    except SeldError as error:
        return error.problem


def _all_around(clip: Clip, task: Task, frames: int) -> Events:
    """Return the labels of a recording in STARSS23's form, with elevations; rows beyond the sound's end are left out.

    Raises:
        SeldError: a row is not as it must be.
    """
    nominal = NOMINAL_CM if task.name == "dcase2023" else None
    none = np.zeros((0, 6), np.int64)
    rows = none if clip.labels is None else read_metadata(clip.labels, len(task.classes), nominal)
    return events_of_metadata(clip.name, rows[rows[:, 0] < frames])


NOMINAL_CM = 100
"""Distance of labels that have none, in 2023, which does not score it: the same everywhere, so that it costs nothing
to learn and its error keeps no source from counting as found while a network is validated."""


def _named(events: Events, name: str) -> Events:
    """Return a one-clip table whose clip has the clip's name."""
    return events if events.clips == (name,) else replace(events, clips=(name,))


def _save_table(path: Path, **columns: npt.NDArray[Any]) -> None:
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **columns)
