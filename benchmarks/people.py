"""Finds people: recall of noses, false people a picture and time a frame, in both modes.

Run: python benchmarks/people.py [FOLDER]      FOLDER holds pictures and people.csv
     (columns file, people, nose_x_as_fraction_of_width); without it scenes are composed of matplotlib's portrait.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from scipy.optimize import linear_sum_assignment

from dcase_seld.media.frames import read_picture
from dcase_seld.pretrained.pose import pull_pose
from dcase_seld.vision.people import Image, PeopleConfig, PeopleFinder

TOLERANCE = 0.05


def from_folder(folder: Path) -> list[tuple[str, Image, list[float]]]:
    with (folder / "people.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    noses = [[float(x) for x in row["nose_x_as_fraction_of_width"].split()] for row in rows]
    return [(row["file"], read_picture(folder / row["file"]), own) for row, own in zip(rows, noses, strict=True)]


def composed(count: int) -> list[tuple[str, Image, list[float]]]:
    """Return 640×360 scenes with 0 to 4 people of different sizes on a textured wall."""
    portrait = read_picture(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    rng = np.random.default_rng(0)
    scenes = []
    for number in range(count):
        wall = rng.integers(70, 150, (9, 16, 3), dtype=np.uint8)
        frame = np.asarray(cv2.resize(wall, (640, 360), interpolation=cv2.INTER_CUBIC), np.uint8)
        noses = []
        for place in rng.permutation(4)[: number % 5]:
            height = int(rng.integers(90, 180))
            width = round(portrait.shape[1] * height / portrait.shape[0])
            person = cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA)
            flip = rng.random() < 0.5
            left = int(place * 160 + (160 - width) // 2)
            frame[360 - height :, left : left + width] = person[:, ::-1] if flip else person
            noses.append((left + (1 - 0.521 if flip else 0.521) * width) / 640)
        scenes.append((f"scene {number}", frame, noses))
    return scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--scenes", type=int, default=16, help="scenes that are composed without a folder")
    given = parser.parse_args()
    pictures = from_folder(given.folder) if given.folder else composed(given.scenes)
    pull_pose("full")
    print(f"{'mode':10} {'people':>7} {'found':>6} {'recall':>7} {'false':>6} {'a picture':>10} {'in empty':>9} "
          f"{'ms median':>10} {'ms most':>8} {'CPU ms':>7} {'CPU most':>8}")  # fmt: skip
    for mode in ("accurate", "fast"):
        with PeopleFinder(PeopleConfig(mode=mode)) as finder:
            finder.find(pictures[0][1])
            total = hits = false = in_empty = 0
            times, spent = [], []
            for _, image, noses in pictures:
                start, cpu = time.perf_counter(), time.process_time()
                found = [float(p.nose[0]) / image.shape[1] for p in finder.find(image)]
                times.append(1000 * (time.perf_counter() - start))
                spent.append(1000 * (time.process_time() - cpu))
                hit = 0
                if noses and found:
                    cost = np.abs(np.subtract.outer(noses, found))
                    rows, columns = linear_sum_assignment(np.where(cost <= TOLERANCE, cost, 9.0))
                    hit = int((cost[rows, columns] <= TOLERANCE).sum())
                total, hits, false = total + len(noses), hits + hit, false + len(found) - hit
                in_empty += 0 if noses else len(found)
        recall, false_each = hits / max(total, 1), false / len(pictures)
        print(f"{mode:10} {total:7} {hits:6} {recall:7.2f} {false:6} {false_each:10.2f} "
              f"{in_empty:9} {np.median(times):10.0f} {max(times):8.0f} "
              f"{np.median(spent):7.0f} {max(spent):8.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
