"""Clips per second of the simulator with one and two processes, at polyphony 2, and processor time per clip.

Of a small and a large set, and so what each further clip costs once processes have started and sounds are at hand.
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

import numpy as np

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.config import parse_config
from dcase_seld.simulate.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.simulate.simulation import SimulationPlan, simulate

MOST_FILMED = 120
"""Clips of the small sets, which have what a set costs once, and of those with video."""

MEASURED: dict[tuple[int, bool, int], np.ndarray] = {}
"""What each set took, by clips, video and processes."""


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


def timed(plan: SimulationPlan, workers: int) -> np.ndarray:
    """Return the seconds and the processor seconds that a set takes."""
    start, spent = time.perf_counter(), processor_s()
    simulate(plan, workers=workers)
    return np.asarray([time.perf_counter() - start, processor_s() - spent])


def main(clips: int, sounds: Path | None = None) -> None:
    few = max(1, min(clips // 4, MOST_FILMED))
    with tempfile.TemporaryDirectory() as folder:
        print(f"clips of 5 s{'':>20}{'processes':>12}{'clips/s':>10}{'ms of a core':>15}{'two over one':>14}")
        for row, video, sizes in (
            (f"{few} from scratch", False, (few,)),
            (f"{clips} from scratch", False, (clips,)),
            ("further ones of a large set", False, (clips, few)),
            (f"{few} with video", True, (few,)),
        ):
            rates = []
            for workers in (1, 2):
                for count in sizes:
                    key = count, video, workers
                    if key not in MEASURED:
                        MEASURED[key] = timed(
                            job(Path(folder) / "-".join(map(str, key)), count, video, sounds), workers
                        )
                total, *less = (MEASURED[count, video, workers] for count in sizes)
                seconds, processor = (total - sum(less)) / (sizes[0] - sum(sizes[1:]))
                rates.append(1.0 / seconds)
                ratio = f"{rates[1] / rates[0]:14.2f}" if workers == 2 else ""
                print(f"{row * (workers == 1):<32}{workers:>12}{1.0 / seconds:10.1f}{1000 * processor:15.0f}{ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=int, nargs="?", default=400)
    parser.add_argument("sounds", type=Path, nargs="?")
    arguments = parser.parse_args()
    main(arguments.clips, arguments.sounds)
