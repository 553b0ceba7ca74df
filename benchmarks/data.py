"""Speed and memory of the store and the batches: run `python benchmarks/data.py [--folder DIR] [--clips N]`.

Figures are ratios within one run where that says more than a number of one machine. The store is made of noise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dcase_seld.core.task import CLIP_SAMPLES
from dcase_seld.store.batches import Batches
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "made"))
from noise import noise_store


def rate(work: Callable[[], object], count: int, repeat: int = 3) -> float:
    """Return items per second of the fastest of some runs."""
    best = 0.0
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def whole(store: Store) -> StoreSource:
    """Return all clips of a store as a source."""
    return StoreSource(store, store.indices("all"))


def resident_mb() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def access(store: Store, size: int = 64) -> None:
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(store))
    batches = [chosen[i : i + size] for i in range(0, len(store) - size + 1, size)]
    out = np.empty((size, CLIP_SAMPLES, 2), np.int16)
    source = np.zeros_like(out)
    store.read_many(chosen[:size], samples=CLIP_SAMPLES, out=out)
    for batch in batches:
        store.read_many(batch, samples=CLIP_SAMPLES, out=out)
    count = len(batches) * size
    views = rate(lambda: [store.audio(index) for index in chosen.tolist()], len(chosen))
    first = rate(lambda: [int(store.audio(index)[0, 0]) for index in chosen.tolist()], len(chosen))
    one = rate(lambda: [store.read_many(b, samples=CLIP_SAMPLES, out=out) for b in batches], count)
    outs = [np.empty_like(out) for _ in range(2)]

    def half(number: int) -> None:
        for batch in batches[number::2]:
            store.read_many(batch, samples=CLIP_SAMPLES, out=outs[number])

    with ThreadPoolExecutor(2) as pool:
        two = rate(lambda: list(pool.map(half, range(2))), count)
    copy = rate(lambda: [out.__setitem__(..., source) for _ in batches], count)
    print(f"clips/s, views of single clips (no copy)           {views:10,.0f}")
    print(f"clips/s, the same and one sample touched           {first:10,.0f}")
    print(
        f"clips/s, random batches of {size} copied, 1 thread     {one:10,.0f}   {one / copy:.2f} × a plain memory copy"
    )
    print(
        f"clips/s, random batches of {size} copied, 2 threads    {two:10,.0f}   {two / copy:.2f} × a plain memory copy"
    )
    print(f"         (plain memory copy of as many bytes: {copy * CLIP_SAMPLES * 4 / 1e9:.1f} GB/s)")


def waiting(store: Store, step_seconds: float, size: int = 32) -> float:
    """Return the share of time that a training step of `step_seconds` waits for its batch."""
    batches = Batches(whole(store), size, shuffle_seed=0)
    waited = total = 0.0
    reader = batches.epoch(0)
    next(reader)
    while True:
        start = time.perf_counter()
        batch = next(reader, None)
        ready = time.perf_counter()
        if batch is None or total > 10:
            return waited / total
        weight = torch.randn(600, 600)
        while time.perf_counter() - ready < step_seconds:
            weight = weight @ weight / 30
        waited += ready - start
        total += time.perf_counter() - start


def loading(store: Store) -> None:
    batches = Batches(whole(store), 32, shuffle_seed=0)
    speed = rate(lambda: [None for _ in batches.epoch(0)], len(store), 2)
    print(f"clips/s, whole batches (float waveforms, targets)  {speed:10,.0f}")
    for clips_per_second in (50, 500):
        share = waiting(store, 32 / clips_per_second)
        print(f"waiting for data at {clips_per_second} clips/s of training: {share:.2%} of a step")


def memory(store: Store) -> None:
    print(f"resident memory, {len(store):,} clips: opened {resident_mb():.0f} MB", end="")
    seen = 0
    for batch in Batches(whole(store), 32, shuffle_seed=0):
        seen += len(batch.index)
        if seen in (640, 3200, 6400):
            print(f", {seen:,} clips read {resident_mb():.0f} MB", end="")
        if seen >= 6400:
            break
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the stores; default: temporary")
    parser.add_argument("--clips", type=int, default=2000, help="clips of the store of noise (480 kB each)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        store = Store.open(noise_store(Path(folder) / "noise", arguments.clips))
        access(store)
        loading(store)
        del store
        memory(Store.open(noise_store(Path(folder) / "large", 15 * arguments.clips, sparse=True)))


if __name__ == "__main__":
    main()
