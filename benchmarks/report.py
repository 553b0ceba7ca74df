"""Seconds for a report on 600 clips with sound: reading, statistics with paired jackknife, charts, clips, page.

Two runs of the same clips; labels and sound are random, so only the time means something.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from dcase_seld.core.event_files import write_folder
from dcase_seld.core.events import Events
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import write_wav
from dcase_seld.report.page import write_report
from dcase_seld.report.run import Run, StoreClips
from dcase_seld.store.store import Store


def random_events(names: list[str], seed: int) -> Events:
    """Return about two sources per frame of random class and direction."""
    rng = np.random.default_rng(seed)
    rows = len(names) * 100
    clip = np.repeat(np.arange(len(names), dtype=np.int32), 100)
    frame = np.tile(np.repeat(np.arange(50, dtype=np.int32), 2), len(names))
    classes = rng.integers(0, 13, rows).astype(np.int32)
    azimuth, distance = rng.uniform(-90, 90, rows), rng.uniform(0.5, 6, rows)
    activity = rng.uniform(0.5, 1, rows).astype(np.float32)
    return Events(tuple(names), clip, frame, classes, np.tile([0, 1], rows // 2).astype(np.int32), azimuth, distance,
                  azimuth > 0, activity)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600)
    count = parser.parse_args().clips
    rng = np.random.default_rng(0)
    names = [f"fold4_room{n % 9}_mix{n % 60:03d}_deg{n % 360:03d}_start{n:04d}" for n in range(count)]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_folder(random_events(names, 0), folder / "labels")
        (folder / "sound").mkdir()
        for name in names:
            write_wav(folder / "sound" / f"{name}.wav", rng.normal(0, 0.1, (2, 120_000)).astype(np.float32))
        clips = [
            Clip(n, "dev-test", folder / "sound" / f"{n}.wav", folder / "labels" / f"{n}.csv", None) for n in names
        ]
        build_store(clips, folder / "store", root=folder, splits=["test"] * count, workers=2)
        store = Store.open(folder / "store")
        runs = [
            Run(f"run {s}", random_events(names, s), store.events, clips=StoreClips(store), split="test")
            for s in (1, 2)
        ]
        began = time.perf_counter()
        write_report(runs, folder / "report.html")
        spent = time.perf_counter() - began
        size = (folder / "report.html").stat().st_size / 1e6
        print(f"report on 2 runs of {count} clips: {spent:.1f} s, {size:.1f} MB")


if __name__ == "__main__":
    main()
