"""A store of clips of noise with random labels, of any size, for tests and benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dcase_seld.core.events import Events
from dcase_seld.core.geometry import CHANNELS
from dcase_seld.core.task import Task
from dcase_seld.store.store import FORMAT


def noise_store(
    folder: Path, clips: int, *, sparse: bool = False, task: Task | None = None, rows: int = 60, seed: int = 0
) -> Path:
    """Write a store of clips of one window each, noise with random labels, and return its folder.

    Args:
        folder: made if missing.
        clips: number of clips; one in ten is for validation.
        sparse: silence in a file of holes, instead of noise.
        task: classes, window, channels and directions; None: the challenge's.
        rows: label rows of each clip.
        seed: of sound and labels.
    """
    task = task or Task()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = [f"fold3_room{i % 20}_mix{i // 100:03d}_deg{i % 360:03d}_start{i % 10000:04d}x{i}" for i in range(clips)]
    numbers = task.window_samples * CHANNELS[task.channels].count
    with (folder / "audio.i16").open("wb") as stream:
        if sparse:
            stream.truncate(clips * numbers * 2)
        else:
            noise = rng.integers(-3000, 3000, numbers + clips).astype(np.int16)
            for index in range(clips):
                stream.write(noise[index : index + numbers].tobytes())
    np.savez(
        folder / "clips.npz",
        name=np.array(names),
        part=np.full(clips, "dev-train-made"),
        split=np.where(np.arange(clips) % 10 == 0, "val", "train"),
        samples=np.full(clips, task.window_samples),
        frames=np.full(clips, task.window_frames),
        labelled=np.ones(clips, np.bool_),
        video=np.full(clips, ""),
    )
    count = clips * rows
    frame = rng.integers(0, task.window_frames, count).astype(np.int32)
    classes = rng.integers(0, len(task.classes), count).astype(np.int32)
    whole = task.geometry == "sphere"
    azimuth = rng.uniform(-180 if whole else -90, 180 if whole else 90, count)
    events = Events(
        tuple(names),
        np.repeat(np.arange(clips, dtype=np.int32), rows),
        frame,
        classes,
        np.zeros(count, np.int32),
        azimuth,
        rng.uniform(0.5, 6, count),
        rng.random(count) < 0.25,
        elevation_deg=rng.uniform(-60, 60, count) if whole else None,
    )
    events.save(folder / "events.npz")
    facts = {"format": FORMAT, "task": task.to_json(), "corpus": "", "clips": clips}
    (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder
