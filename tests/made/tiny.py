"""A small store of noise bursts that come from the left or the right, and a network that learns them in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.event_files import write_csv
from dcase_seld.core.events import Events
from dcase_seld.core.task import Task
from dcase_seld.corpus.layout import index_corpus
from dcase_seld.corpus.prepare import build_store
from dcase_seld.corpus.splits import SplitConfig, assign
from dcase_seld.media.audio import write_wav

TAXONOMY = Taxonomy("tiny", ("Low", "High"), ("low", "high"))
TASK = Task(classes=TAXONOMY)
MODEL = {
    "kind": "conformer",
    "frontend": {"features": ["log_mel", "ild"], "hop": 600, "mels": 16},
    "encoder": {"channels": [8, 16], "layers": 1, "d_model": 16, "heads": 2, "feed_forward": 16, "kernel": 5},
    "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 16, "kernel": 5},
    "head": {"hidden": 16},
}
"""A network of a few thousand parameters: 4 front-end frames per label frame."""


def make_store(folder: Path, train: int = 24, val: int = 8, test: int = 5, seed: int = 0) -> Path:
    """Write a corpus and its store below `folder`, and return the store's folder."""
    rng = np.random.default_rng(seed)
    corpus = folder / "corpus"
    groups = [("dev-train-synth", "fold1_room1", train), ("dev-train-synth", "fold1_room2", val)]
    for part, prefix, count in [*groups, ("dev-test-synth", "fold4_room3", test)]:
        for directory in ("stereo_dev", "metadata_dev"):
            (corpus / directory / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"{prefix}_mix{number:03d}_deg000_start0000"
            sound, events = _clip(rng, name)
            write_wav(corpus / "stereo_dev" / part / f"{name}.wav", sound, 24_000)
            write_csv(corpus / "metadata_dev" / part / f"{name}.csv", events)
    clips = index_corpus(corpus).clips
    splits = assign(clips, SplitConfig(by="room", fraction=val / (train + val), seed=0), corpus)
    build_store(clips, folder / "store", root=corpus, splits=splits, task=TASK)
    return folder / "store"


def _clip(rng: np.random.Generator, name: str) -> tuple[np.ndarray, Events]:
    """Return the sound (2, S) of one clip with up to two events of either class, and its labels."""
    sound = 1e-4 * rng.standard_normal((2, 120_000))
    rows = []
    for class_index in range(2):
        first, length = int(rng.integers(0, 30)), int(rng.integers(8, 20))
        azimuth, distance = float(rng.integers(-80, 81)), float(rng.integers(1, 5))
        samples = slice(first * 2400, (first + length) * 2400)
        tone = np.sin(2 * np.pi * (400 if class_index == 0 else 4000) * np.arange(length * 2400) / 24_000)
        tone = tone * 0.3 / distance
        side = np.sin(np.radians(azimuth))
        sound[:, samples] += np.stack([tone * (1 + side) / 2, tone * (1 - side) / 2])
        rows += [(frame, class_index, azimuth, distance, abs(azimuth) < 45) for frame in range(first, first + length)]
    frame, classes, azimuths, distances, onscreen = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), np.int32)
    events = Events(
        (name,), zeros, frame.astype(np.int32), classes.astype(np.int32), zeros, azimuths, distances, onscreen
    )
    return sound.astype(np.float32), events
