"""Clips per second of the simulator with one and two processes, at polyphony 2, and of its parts.

Run: python benchmarks/simulate.py [clips]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from dcase_seld.config import parse_config
from dcase_seld.synth.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.synth.job import Job
from dcase_seld.synth.maker import Maker
from dcase_seld.synth.simulate import simulate
from dcase_seld.task.taxonomy import DCASE2025


def job(out: Path, clips: int, video: bool = False) -> Job:
    scene = parse_config(SceneConfig, {"polyphony": {"weights": [0, 0, 1]}}, "scene")
    counts = ClipCounts(train=clips, test=0)
    shown = PictureConfig() if video else None
    return Job(out, DCASE2025, None, SoundsConfig(), scene, counts, 0, (1.0,) * len(DCASE2025), video=shown)


def main(clips: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rates = {}
        for video in (False, True):
            for workers in (1, 2):
                start = time.perf_counter()
                simulate(job(Path(folder) / f"with{workers}{video}", clips, video), workers=workers)
                rates[workers, video] = clips / (time.perf_counter() - start)
        # What a process reaches once it has made its sounds and rooms: the rate of a large set.
        maker = Maker(job(Path(folder) / "with1False", clips))
        chosen = range(min(clips, 60))
        for index in chosen:
            maker.make("train", index)
        start = time.perf_counter()
        for index in chosen:
            maker.make("train", index)
        steady = len(chosen) / (time.perf_counter() - start)
    print(f"{clips} clips of 5 s from scratch, files written, clips/s")
    print(f"{'processes':>22}  {'sound':>6}  {'with video':>10}")
    for workers in (1, 2):
        print(f"{workers:>22}  {rates[workers, False]:6.1f}  {rates[workers, True]:10.1f}")
    print(f"{'two over one':>22}  {rates[2, False] / rates[1, False]:6.2f}  {rates[2, True] / rates[1, True]:10.2f}")
    print(f"{'one, sounds at hand':>22}  {steady:6.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
