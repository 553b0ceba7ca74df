"""Stores made of noise (or of silence that takes no room on disk), for measuring speed and memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dcase_seld.data.store import FORMAT, SAMPLE_BYTES
from dcase_seld.task.events import Events
from dcase_seld.task.facts import CLIP_FRAMES, CLIP_SAMPLES, SAMPLE_RATE
from dcase_seld.task.taxonomy import DCASE2025, Taxonomy


def make_store(
    folder: Path, clips: int, *, sparse: bool = False, taxonomy: Taxonomy = DCASE2025, rows: int = 60, seed: int = 0
) -> Path:
    """Write a store of challenge clips with random labels and return its folder.

    Args:
        folder: made if missing.
        clips: number of clips; one in ten is for validation.
        sparse: silence in a file of holes, instead of noise.
        taxonomy: the classes.
        rows: label rows of each clip.
        seed: of sound and labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = [f"fold3_room{i % 20}_mix{i // 100:03d}_deg{i % 360:03d}_start{i % 10000:04d}x{i}" for i in range(clips)]
    with (folder / "audio.i16").open("wb") as stream:
        if sparse:
            stream.truncate(clips * CLIP_SAMPLES * SAMPLE_BYTES)
        else:
            noise = rng.integers(-3000, 3000, CLIP_SAMPLES * 2 + clips).astype(np.int16)
            for index in range(clips):
                stream.write(noise[index : index + CLIP_SAMPLES * 2].tobytes())
    np.savez(
        folder / "clips.npz",
        name=np.array(names),
        part=np.full(clips, "dev-train-made"),
        split=np.where(np.arange(clips) % 10 == 0, "val", "train"),
        samples=np.full(clips, CLIP_SAMPLES),
        frames=np.full(clips, CLIP_FRAMES),
        labelled=np.ones(clips, np.bool_),
        video=np.full(clips, ""),
    )
    count = clips * rows
    Events(
        tuple(names),
        np.repeat(np.arange(clips, dtype=np.int32), rows),
        rng.integers(0, CLIP_FRAMES, count).astype(np.int32),
        rng.integers(0, len(taxonomy), count).astype(np.int32),
        np.zeros(count, np.int32),
        rng.uniform(-90, 90, count),
        rng.uniform(0.5, 6, count),
        rng.random(count) < 0.25,
    ).save(folder / "events.npz")
    facts = {"format": FORMAT, "taxonomy": taxonomy.to_json(), "sample_rate": SAMPLE_RATE, "corpus": "", "clips": clips}
    (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder
