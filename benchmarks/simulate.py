"""Clips per second of the simulator with one and two processes, at polyphony 2, and processor time per clip.

On a machine that is busy otherwise the processor time says more: two free cores make 2,000 / (ms per clip) clips/s.

Run: python benchmarks/simulate.py [clips] [SOUNDS]

SOUNDS is a folder of recordings, one sub-folder per class; without it the sounds are made, which takes longer.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.config import parse_config
from dcase_seld.simulate.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.simulate.simulation import ClipMaker, SimulationPlan, simulate


def job(out: Path, clips: int, video: bool = False, sounds: Path | None = None) -> SimulationPlan:
    scene = parse_config(SceneConfig, {"polyphony": {"weights": [0, 0, 1]}}, "scene")
    counts = ClipCounts(train=clips, test=0)
    shown = PictureConfig() if video else None
    return SimulationPlan(
        out, DCASE2025, sounds, SoundsConfig(), scene, counts, 0, (1.0,) * len(DCASE2025), video=shown
    )


def processor_s() -> float:
    """Return the processor time of this process and of its finished children in seconds."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def main(clips: int, sounds: Path | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rates, processor_ms = {}, {}
        for video in (False, True):
            for workers in (1, 2):
                start, spent = time.perf_counter(), processor_s()
                simulate(job(Path(folder) / f"with{workers}{video}", clips, video, sounds), workers=workers)
                rates[workers, video] = clips / (time.perf_counter() - start)
                processor_ms[workers, video] = 1000 * (processor_s() - spent) / clips
        # What a process reaches once it has made its sounds and rooms: the rate of a large set.
        maker = ClipMaker(job(Path(folder) / "with1False", clips, sounds=sounds))
        chosen = range(min(clips, 60))
        for index in chosen:
            maker.make("train", index)
        start, spent = time.perf_counter(), processor_s()
        for index in chosen:
            maker.make("train", index)
        steady = len(chosen) / (time.perf_counter() - start)
        steady_ms = 1000 * (processor_s() - spent) / len(chosen)
    print(f"{clips} clips of 5 s from scratch, files written")
    print(f"{'':>22}  {'sound':^24}  {'with video':^24}")
    print(f"{'processes':>22}  " + 2 * f"{'clips/s':>8} {'processor ms':>14}   ")
    for workers in (1, 2):
        shown = [f"{rates[workers, v]:8.1f} {processor_ms[workers, v]:14.0f}   " for v in (False, True)]
        print(f"{workers:>22}  {''.join(shown)}")
    print(f"{'two over one':>22}  {rates[2, False] / rates[1, False]:8.2f} {rates[2, True] / rates[1, True]:26.2f}")
    print(f"{'one, sounds at hand':>22}  {steady:8.1f} {steady_ms:14.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=int, nargs="?", default=400)
    parser.add_argument("sounds", type=Path, nargs="?")
    arguments = parser.parse_args()
    main(arguments.clips, arguments.sounds)
