"""Detected objects of a clip's sampled frames: a second source of visual evidence, for every class.

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

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError
from dcase_seld.post.shards import ShardedFolder
from dcase_seld.post.sightings import Sightings, frame_times, watched_frames
from dcase_seld.post.visual_config import VisualConfig
from dcase_seld.task.angles import column_to_azimuth
from dcase_seld.task.facts import CLIP_FRAMES, LABEL_RATE
from dcase_seld.task.taxonomy import Taxonomy

QUERIES: dict[str, tuple[str, ...]] = {
    "Female speech": ("a woman speaking", "a woman's face"),
    "Male speech": ("a man speaking", "a man's face"),
    "Clapping": ("clapping hands",),
    "Telephone": ("a telephone", "a mobile phone"),
    "Laughter": ("a person laughing",),
    "Domestic sounds": ("a vacuum cleaner", "a kitchen appliance", "a blender", "dishes"),
    "Walk, footsteps": ("a person walking", "feet", "shoes"),
    "Door, open or close": ("a door", "a drawer", "a cupboard"),
    "Music": ("a loudspeaker", "a radio", "a television"),
    "Musical instrument": ("a guitar", "a piano", "a musical instrument"),
    "Water tap, faucet": ("a water tap", "a sink"),
    "Bell": ("a bell", "a doorbell", "an alarm clock"),
    "Knock": ("a hand knocking on a door", "a door"),
}
"""Class name → what it looks like, in words that a config may replace."""


@dataclass(frozen=True)
class ClipObjects:
    """Detected objects of one clip.

    Attributes:
        times_s: (V,) times of the sampled frames in seconds.
        seen: (V,) False where the video has no frame.
        frame: (D,) index into `times_s`.
        box: (D, 4) left, top, right, bottom as fractions of the picture.
        class_index: (D,) class that the object may sound as.
        query: (D,) index of the words that found it.
        score: (D,) in [0, 1].
        problem: what is wrong with the video, or "".
    """

    times_s: npt.NDArray[np.float64]
    seen: npt.NDArray[np.bool_]
    frame: npt.NDArray[np.int64]
    box: npt.NDArray[np.float32]
    class_index: npt.NDArray[np.int64]
    query: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    problem: str = ""


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


def queries_of(taxonomy: Taxonomy, own: Mapping[str, Sequence[str]]) -> tuple[list[str], list[int]]:
    """Return the text queries and the class of each; `own` replaces the default words of the classes it names.

    Raises:
        SeldError: `own` names a class that the taxonomy does not have.
    """
    unknown = [name for name in own if name not in taxonomy.classes]
    if unknown:
        raise SeldError(
            f"The queries name the class {unknown[0]!r}, which the taxonomy {taxonomy.name!r} does not have.",
            "Use the taxonomy's class names.",
        )
    words: list[str] = []
    classes: list[int] = []
    for index, name in enumerate(taxonomy.classes):
        for query in own.get(name, QUERIES.get(name, (f"a {name.lower()}",))):
            words.append(query)
            classes.append(index)
    return words, classes


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
        nearest = there[np.abs(frame_times(frames)[:, None] - objects.times_s[there]).argmin(axis=1)]
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
