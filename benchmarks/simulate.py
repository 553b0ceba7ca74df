"""Clips per second of the simulator with one and two processes, at polyphony 2, and of its parts.

Run: python benchmarks/simulate.py [clips]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from dcase_seld.config import parse_config
from dcase_seld.synth.config import ClipCounts, SceneConfig, SoundsConfig
from dcase_seld.synth.job import Job
from dcase_seld.synth.maker import Maker
from dcase_seld.synth.simulate import simulate
from dcase_seld.task.taxonomy import DCASE2025


def job(out: Path, clips: int) -> Job:
    scene = parse_config(SceneConfig, {"polyphony": {"weights": [0, 0, 1]}}, "scene")
    counts = ClipCounts(train=clips, test=0)
    return Job(out, DCASE2025, None, SoundsConfig(), scene, counts, 0, (1.0,) * len(DCASE2025))


def main(clips: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rates = {}
        for workers in (1, 2):
            start = time.perf_counter()
            simulate(job(Path(folder) / f"with{workers}", clips), workers=workers)
            rates[workers] = clips / (time.perf_counter() - start)
        # What a process reaches once it has made its sounds and rooms: the rate of a large set.
        maker = Maker(job(Path(folder) / "with1", clips))
        chosen = range(min(clips, 60))
        for index in chosen:
            maker.make("train", index)
        start = time.perf_counter()
        for index in chosen:
            maker.make("train", index)
        steady = len(chosen) / (time.perf_counter() - start)
    print(f"{'processes':>22}  clips/s, {clips} clips of 5 s from scratch, wav and csv written")
    for workers, rate in rates.items():
        print(f"{workers:>22}  {rate:6.1f}")
    print(f"{'two over one':>22}  {rates[2] / rates[1]:6.2f}")
    print(f"{'one, sounds at hand':>22}  {steady:6.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
