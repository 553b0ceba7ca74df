"""Objects detected in a clip's sampled frames: a second source of visual evidence, for every class.

The "detections" folder:
    detections.json          format, model, queries, class names, threshold; the last file written
    objects-00000.npz        a shard of clips, as `post/shards.py` writes them: name (n,), problem (n,),
                             frame_clip (F,), frame_time_s (F,), frame_seen (F,), box_frame (D,),
                             box (D, 4) left, top, right, bottom as fractions, class_index (D,), query (D,), score (D,)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import column_to_azimuth
from dcase_seld.core.task import CLIP_FRAMES, LABEL_RATE, label_times
from dcase_seld.vision.rules import VisualConfig
from dcase_seld.vision.seen import ShardedFolder, Sightings, watched_frames

if TYPE_CHECKING:
    from dcase_seld.pretrained.owlvit import OpenVocabularyDetector


@dataclass(frozen=True)
class ClipObjects:
    """Detected objects of one clip."""

    times_s: npt.NDArray[np.float64]  # (V,) times of the sampled frames in seconds
    seen: npt.NDArray[np.bool_]  # (V,) False where the video has no frame
    frame: npt.NDArray[np.int64]  # (D,) index into `times_s`
    box: npt.NDArray[np.float32]  # (D, 4) left, top, right, bottom as fractions of the picture
    class_index: npt.NDArray[np.int64]  # (D,) class that the object may sound as
    query: npt.NDArray[np.int64]  # (D,) index of the words that found it
    score: npt.NDArray[np.float32]  # (D,) in [0, 1]
    problem: str = ""  # what is wrong with the video, or ""


DETECTIONS = ShardedFolder(
    kind="detections",
    format=1,
    prefix="objects",
    row_frame="box_frame",
    clip_columns=(),
    row_columns=("box", "class_index", "query", "score"),
    make=ClipObjects,
)
"""The detections folder."""


def see_objects(objects: ClipObjects, class_index: int, frames: int, *, fov_deg: float, max_gap_s: float) -> Sightings:
    """Return where the objects of a class are at the label frames: those of the nearest sampled frame, as they were."""
    watched = watched_frames(objects.times_s, objects.seen, frames, max_gap_s)
    rows = objects.class_index == class_index
    most = max((int((objects.frame[rows] == f).sum()) for f in range(len(objects.times_s))), default=0)
    azimuth = np.full((len(objects.times_s) + 1, most), np.nan)
    spread = np.zeros((len(objects.times_s) + 1, most))
    for f in range(len(objects.times_s)):
        left, right = objects.box[rows & (objects.frame == f)][:, [0, 2]].astype(np.float64).T
        edges = column_to_azimuth(np.stack([left, right]) * 1000.0, 1000, fov_deg)
        azimuth[f, : len(left)] = edges.mean(axis=0)
        spread[f, : len(left)] = np.abs(edges[0] - edges[1]) / 2.0
    nearest = np.full(frames, len(objects.times_s))
    if objects.seen.any():
        there = np.flatnonzero(objects.seen)
        nearest = there[np.abs(label_times(frames)[:, None] - objects.times_s[there]).argmin(axis=1)]
    nearest = np.where(watched, nearest, len(objects.times_s))
    return Sightings(azimuth[nearest], spread[nearest], watched)


class Detections(Mapping[str, Mapping[int, Sightings]]):
    """Sightings of objects by clip name and class index, from detections folders, for the visual post-processing."""

    def __init__(self, folders: Sequence[Path], taxonomy: Taxonomy, rules: VisualConfig) -> None:
        self.clips = read_detections(folders, taxonomy)
        self._rules = rules

    def __getitem__(self, name: str) -> Mapping[int, Sightings]:
        clip = self.clips[name]
        frames = CLIP_FRAMES
        if len(clip.times_s):
            # Times are the middles of equal steps: the last one ends as far behind as the first begins before.
            frames = max(CLIP_FRAMES, int(np.ceil((clip.times_s[-1] + clip.times_s[0]) * LABEL_RATE)) + 1)
        return {
            int(index): see_objects(
                clip, int(index), frames, fov_deg=self._rules.fov_deg, max_gap_s=self._rules.max_gap_s
            )
            for index in np.unique(clip.class_index)
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self.clips)

    def __len__(self) -> int:
        return len(self.clips)


def read_detections(folders: Sequence[Path], taxonomy: Taxonomy) -> dict[str, ClipObjects]:
    """Return the objects of every clip in detections folders.

    Raises:
        SeldError: a folder is not finished, or was made for other classes.
    """
    clips: dict[str, ClipObjects] = {}
    for folder in folders:
        facts, places = DETECTIONS.read_index(folder)
        if tuple(facts.get("classes", ())) != taxonomy.classes:
            raise SeldError(
                f"{folder} was made for other classes than the taxonomy {taxonomy.name!r} has.",
                "Run the detections step on the same store.",
            )
        for path in dict.fromkeys(path for path, _ in places.values()):
            shard = DETECTIONS.read_shard(path)
            clips |= {name: shard[index] for name, (own, index) in places.items() if own == path}
    return clips


def detect_in_video(
    detector: OpenVocabularyDetector,
    path: Path | None,
    times: npt.NDArray[np.float64],
    classes: Sequence[int],
    limits: Sequence[float],
) -> ClipObjects:
    """Return the objects of a video at times in seconds; its frames go through the network in batches.

    `times`: (V,) seconds; `classes`, `limits`: class and least score of each of the detector's words.
    """
    from dcase_seld.media.frames import read_frames

    images: list[Any] = [None] * len(times)
    problem: str | None = "there is no video"
    if path is not None:
        frames = read_frames(path, times.tolist())
        images, problem = list(frames.images), frames.problem
    there = [k for k, image in enumerate(images) if image is not None]
    rows, of_class, of_query = np.array(classes, np.int64), [], []
    frame, box, score = [], [], []
    step = detector.owlvit.batch
    for start in range(0, len(there), step):
        part = there[start : start + step]
        found = detector.detect(detector.owlvit.see([images[k] for k in part]), min(limits))
        for k, boxes in zip(part, found, strict=True):
            sure = boxes.score >= np.array(limits, np.float32)[boxes.query]
            frame += [k] * int(sure.sum())
            box.append(boxes.box[sure])
            score.append(boxes.score[sure])
            of_query.append(boxes.query[sure])
            of_class.append(rows[boxes.query[sure]])
    seen = np.zeros(len(times), np.bool_)
    seen[there] = True
    return ClipObjects(
        times,
        seen,
        np.array(frame, np.int64),
        np.concatenate(box).astype(np.float32) if box else np.zeros((0, 4), np.float32),
        np.concatenate(of_class) if of_class else np.zeros(0, np.int64),
        np.concatenate(of_query) if of_query else np.zeros(0, np.int64),
        np.concatenate(score).astype(np.float32) if score else np.zeros(0, np.float32),
        problem or "",
    )
