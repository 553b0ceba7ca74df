"""Times 5 frames out of a 5-second 640×360 clip, against OpenCV's own seeking, and counts frames that are not exact.

Run: python benchmarks/video.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from dcase_seld.media.frames import Image, read_frames
from dcase_seld.media.writing import write_video

FPS = 30_000 / 1_001
TIMES_S = [0.51, 1.51, 2.51, 3.51, 4.51]


def moving(count: int = 150) -> list[Image]:
    """Return frames of a drifting texture that carry their number as eight bars."""
    rng = np.random.default_rng(0)
    field = np.asarray(cv2.resize(rng.integers(0, 255, (60, 200, 3), dtype=np.uint8), (2000, 600)), np.uint8)
    frames = []
    for number in range(count):
        frame = field[number : number + 360, 4 * number : 4 * number + 640].copy()
        for bit in range(8):
            frame[:40, bit * 80 : bit * 80 + 80] = 255 * ((number >> bit) & 1)
        frames.append(frame)
    return frames


def number_of(image: Image | None) -> int:
    if image is None:
        return -1
    bars = image[8:32].mean(axis=(0, 2)).reshape(8, 80)[:, 20:60].mean(axis=1) > 127
    return int(sum(1 << bit for bit, on in enumerate(bars) if on))


def write_long_gop(path: Path, frames: list[Image]) -> None:
    """Write one key frame for the whole clip, the hardest case for seeking."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001), options={"g": "250"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))


def write_mpeg4(path: Path, frames: list[Image]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (640, 360))
    for frame in frames:
        writer.write(frame)
    writer.release()


def by_opencv(path: Path) -> list[Image | None]:
    capture = cv2.VideoCapture(str(path))
    images: list[Image | None] = []
    for time_s in TIMES_S:
        capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * time_s)
        good, image = capture.read()
        images.append(np.asarray(image, np.uint8) if good else None)
    capture.release()
    return images


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    frames = moving()
    print(f"{'clip (5 s, 640×360)':34} {'ours':>8} {'OpenCV':>8} {'ratio':>6} {'inexact: ours':>13} {'OpenCV':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        ways: tuple[tuple[str, Callable[[Path], object]], ...] = (
            ("H.264, key frame a second", lambda p: write_video(p, frames, FPS)),
            ("H.264, one key frame", lambda p: write_long_gop(p, frames)),
            ("MPEG-4", lambda p: write_mpeg4(p, frames)),
        )
        for name, write in ways:
            path = Path(scratch) / f"{len(name)}.mp4"
            write(path)
            expected = [int(np.floor(t * FPS + 1e-6)) for t in TIMES_S]
            wrong = [
                sum(number_of(image) != n for image, n in zip(images, expected, strict=True))
                for images in (read_frames(path, TIMES_S).images, by_opencv(path))
            ]
            # In pairs, so that what else the machine does weighs on both.
            pairs = [
                (milliseconds(partial(read_frames, path, TIMES_S)), milliseconds(partial(by_opencv, path)))
                for _ in range(rounds)
            ]
            ours, theirs = (float(np.median([pair[k] for pair in pairs])) for k in (0, 1))
            print(f"{name:34} {ours:5.0f} ms {theirs:5.0f} ms {ours / theirs:6.2f} {wrong[0]:13} {wrong[1]:7}")


if __name__ == "__main__":
    main()
