"""Speed of the converter: `python benchmarks/convert.py [--source DIR] [--workers 2]`.

Without --source two recordings of noise with a 1920x960 video are made first. Speed is seconds of clips per second; the
processor column divides by processor time instead of the clock, which on a machine that does other work too is the
fairer figure: seconds of clips per second of one core, times the number of workers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from dcase_seld.corpus.convert import Job, convert
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import VideoWriter


def make_source(root: Path, seconds: int, width: int) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("foa", "metadata", "video"):
        (root / f"{kind}_dev" / "dev-train-made").mkdir(parents=True)
    rows, columns = np.indices((width // 2, width))
    for number in range(2):
        name = f"fold3_room{number}_mix001"
        foa = (rng.normal(0, 0.05, (4, seconds * 24_000))).astype(np.float32)
        write_wav(root / "foa_dev" / "dev-train-made" / f"{name}.wav", foa)
        labels = [f"{frame},{frame // 20 % 13},0,{frame % 360 - 180},5,200" for frame in range(seconds * 10)]
        (root / "metadata_dev" / "dev-train-made" / f"{name}.csv").write_text("\n".join(labels))
        base = 110 + 60 * np.sin(columns / 97 + np.cos(rows / 61)) + rng.normal(0, 6, rows.shape)
        picture = np.stack([base, base[::-1], 255 - base], -1).clip(0, 255).astype(np.uint8)
        with VideoWriter(root / "video_dev" / "dev-train-made" / f"{name}.mp4", 30_000 / 1_001, threads=0) as writer:
            for frame in range(round(seconds * 30_000 / 1_001)):
                writer.write(np.roll(picture, 2 * frame, axis=1))
    return root


def measure(title: str, source: Path, workers: int, rows: list[str], video: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "clips.csv"
        listed.write_text("recording,angle_deg,start_frame\n" + "\n".join(rows))
        before, start = os.times(), time.perf_counter()
        facts = convert(Job(source, Path(folder) / "out", clips=listed, video=video), workers)
        clock = time.perf_counter() - start
        after = os.times()
    spent = sum(getattr(after, n) - getattr(before, n) for n in ("user", "system", "children_user", "children_system"))
    seconds = facts["clips"] * 5
    by_clock, by_processor = seconds / clock, seconds / spent * workers
    print(f"{title:44} {facts['clips']:5} clips  {by_clock:7.1f} x clock  {by_processor:7.1f} x processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=None, help="folder in STARSS23's layout")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=30, help="length of each recording, at least 5")
    parser.add_argument("--width", type=int, default=1920, help="of the video that is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source or make_source(Path(folder), arguments.seconds, arguments.width)
        names = sorted(path.stem for path in (source / "foa_dev").rglob("*.wav"))[:2]
        last = 10 * arguments.seconds - 50  # label frame
        apart = [f"{name},{37 * start % 360},{start}" for name in names for start in range(0, last + 1, 50)]
        twice = range(0, min(last, 100) + 1, 100)
        shared = [f"{name},{angle},{start}" for name in names for start in twice for angle in range(0, 360, 60)]
        sound = [f"{name},{angle},{start}" for name in names for start in range(last + 1) for angle in (0, 90)]
        measure("sound and video, each second once", source, arguments.workers, apart, True)
        measure("sound and video, six views of one decode", source, arguments.workers, shared, True)
        measure("sound alone", source, arguments.workers, sound, False)


if __name__ == "__main__":
    main()
