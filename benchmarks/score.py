"""Print how long `dcase-seld score` takes, as whole processes: python benchmarks/score.py [CLIPS ...]."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcase_seld.core.event_files import write_folder
from dcase_seld.core.events import Events


def scenes(clips: int, seed: int = 0) -> tuple[Events, Events]:
    """Return (reference, prediction) of clips with 0–4 moving sources, up to three of one class, and false alarms."""
    generator = np.random.default_rng(seed)
    rows, guesses = [], []
    for clip in range(clips):
        for source in range(int(generator.integers(0, 5))):
            start = int(generator.integers(0, 40))
            length = int(generator.integers(5, 50 - start))
            class_index = int(generator.choice([0, 1, int(generator.integers(13))]))
            azimuth, distance = generator.uniform(-90, 90), generator.uniform(0.5, 7)
            onscreen = bool(abs(azimuth) < 50 and generator.random() < 0.5)
            for frame in range(start, start + length):
                rows.append((clip, frame, class_index, source, azimuth, distance, onscreen))
                if generator.random() < 0.8:
                    error = azimuth + generator.normal(0, 15)
                    far = distance * generator.lognormal(0, 0.4)
                    guesses.append((clip, frame, class_index, source, error, far, generator.random() < 0.3))
                if generator.random() < 0.1:
                    other = int(generator.integers(13))
                    guesses.append((clip, frame, other, 5, generator.uniform(-90, 90), distance, False))
    names = tuple(f"fold4_room{n % 20}_mix{n % 97:03d}_deg{n % 360:03d}_start{n:04d}" for n in range(clips))
    return _table(names, rows), _table(names, guesses)


def _table(names: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Events:
    columns = np.array(rows, dtype=np.float64).T
    clip, frame, class_index, source = (columns[index].astype(np.int32) for index in range(4))
    return Events(names, clip, frame, class_index, source, columns[4], columns[5], columns[6] > 0)


def processor_seconds() -> float:
    """Return the processor time of all finished child processes: what counts where a machine is shared."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=int, nargs="*", default=[2000, 10000])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("clips   files    rows  jackknife  seconds (best, median)  processor seconds (best)")
    for clips in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            reference, prediction = scenes(clips)
            for name, events in (("ref", reference), ("pred", prediction)):
                write_folder(events, Path(folder) / name)
            command = [sys.executable, "-m", "dcase_seld.cli.main", "score"]
            command += ["--pred", f"{folder}/pred", "--ref", f"{folder}/ref"]
            for extra in ([], ["--jackknife"]):
                times, processor = [], []
                for _ in range(options.repeats):
                    start, before = time.perf_counter(), processor_seconds()
                    subprocess.run([*command, *extra], check=True, capture_output=True)
                    times.append(time.perf_counter() - start)
                    processor.append(processor_seconds() - before)
                rows, middle = len(reference) + len(prediction), sorted(times)[len(times) // 2]
                label = "yes" if extra else "no"
                seconds = f"{min(times):.2f}  {middle:.2f}  {min(processor):.2f}"
                print(f"{clips:6d} {2 * clips:7d} {rows:7d}  {label:9s}  {seconds}")


if __name__ == "__main__":
    main()
