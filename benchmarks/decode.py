"""Times decoding of network outputs to event columns, and to official CSV files.

Run: python benchmarks/decode.py [--clips 2000] [--threads 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from dcase_seld.core.event_files import write_folder
from dcase_seld.model.network import decode
from dcase_seld.model.types import SeldOutput

OFFICIAL_CSV_RATE = 46.0
"""Clips per second of the official program's decoding with CSV files, timed on 2 cores of such a machine."""
DENSITY = 0.08
"""Part of the tracks above the activity threshold: about as many events a frame as in busy recordings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.clips, 50, 13, 3)
    length = torch.rand(shape, generator=generator) * 0.5
    length = torch.where(torch.rand(shape, generator=generator) < DENSITY, length + 0.5, length)
    angle = torch.rand(shape, generator=generator) * 3.1416 - 1.5708
    xy = torch.stack((angle.cos(), angle.sin()), -1) * length[..., None]
    output = SeldOutput(xy, torch.rand(shape, generator=generator) * 4, torch.randn(shape, generator=generator))
    names = [f"fold4_room{index}_mix000_deg000_start0000" for index in range(arguments.clips)]
    columns, files = [], []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        events = decode(output, names)
        columns.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(events, Path(folder))
            files.append(time.perf_counter() - start)
    rates = [arguments.clips / min(taken) for taken in (columns, files)]
    print(
        f"{arguments.clips} clips, {len(events) / arguments.clips / 50:.1f} events a frame, {arguments.threads} threads"
    )
    print(f"to event columns {rates[0]:10.0f} clips/s")
    print(f"to CSV files     {rates[1]:10.0f} clips/s, {rates[1] / OFFICIAL_CSV_RATE:.0f} × the official program")


if __name__ == "__main__":
    main()
