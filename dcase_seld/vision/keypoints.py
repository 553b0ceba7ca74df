"""People in a clip's sampled frames: the 33 body landmarks, persons followed from frame to frame, the folder kept.

keypoints.json      format, model, mode, frames per second, landmark names; the last file written
people-00000.npz    a shard of clips, as `vision/seen.py` writes them:
name (n,) text, problem (n,) text, width (n,), height (n,)
frame_clip (F,), frame_time_s (F,), frame_seen (F,)            every sampled frame, seen or not
person_frame (P,), track (P,), score (P,), face_score (P,), keypoints (P, 33, 3) float32 in pixels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import column_to_azimuth
from dcase_seld.core.task import label_times
from dcase_seld.vision.seen import ShardedFolder, Sightings, no_advance, watched_frames

Floats = npt.NDArray[np.float32]

LANDMARKS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""Names of the landmarks in the order of MediaPipe's pose model; left and right are the person's own."""

INDEX = {name: index for index, name in enumerate(LANDMARKS)}

NOSE = INDEX["nose"]

HEAD = tuple(range(11))

SHOULDERS = (INDEX["left_shoulder"], INDEX["right_shoulder"])

HIPS = (INDEX["left_hip"], INDEX["right_hip"])

_LIMBS = ["shoulder-elbow", "elbow-wrist", "shoulder-hip", "hip-knee", "knee-ankle", "ankle-foot_index"]

BONES = (
    *(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_ear", "left_eye")),
    *(("left_eye", "nose"), ("nose", "right_eye"), ("right_eye", "right_ear")),
    *((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (limb.split("-") for limb in _LIMBS)),
)
"""Pairs of landmarks that a drawing joins by a line."""


@dataclass(frozen=True)
class Person:
    """A person in a picture.

    Attributes:
        keypoints: (33, 3) x and y in pixels and visibility in [0, 1]; a landmark that was not found, or that lies
            outside the picture, has visibility 0.
        score: how sure it is that there is a person, in [0, 1].
        face_score: score of the face detector, 0 where no face was seen (turned away, too small).
    """

    keypoints: Floats
    score: float
    face_score: float = 0.0

    @property
    def nose(self) -> Floats:
        """(2,) x and y of the nose in pixels; of the head's middle where the face is turned away."""
        nose: Floats = self.keypoints[NOSE, :2]
        return nose


def body_size(keypoints: Floats) -> float:
    """Return a body's size in pixels: the largest of shoulder width, torso length and three head widths."""
    shoulders, hips = keypoints[list(SHOULDERS)], keypoints[list(HIPS)]
    ears = keypoints[[INDEX["left_ear"], INDEX["right_ear"]], :2]
    sizes = [1.0, 3.0 * float(np.linalg.norm(ears[0] - ears[1]))]
    if shoulders[:, 2].min() > 0.3:
        sizes.append(float(np.linalg.norm(shoulders[0, :2] - shoulders[1, :2])))
        if hips[:, 2].min() > 0.3:
            sizes.append(float(np.linalg.norm(shoulders[:, :2].mean(0) - hips[:, :2].mean(0))))
    return max(sizes)


def mirror_keypoints(keypoints: Floats, width: float) -> Floats:
    """Return the keypoints (..., 33, 3) of the mirrored picture: left and right landmarks change names."""
    swapped = [INDEX[_other_side(name)] for name in LANDMARKS]
    mirrored = keypoints[..., swapped, :].copy()
    mirrored[..., 0] = width - mirrored[..., 0]
    return mirrored


def _other_side(name: str) -> str:
    if "left" in name:
        return name.replace("left", "right")
    return name.replace("right", "left")


REACH_SIZES_PER_S = 2.5
"""A person moves at most this many own sizes (torso lengths) a second in the picture."""

MEMORY_S = 1.5
"""A person who was not seen for longer than this gets a new number."""


def track(frames: Sequence[Sequence[Floats]], times_s: npt.NDArray[np.float64]) -> list[list[int]]:
    """Return a track number for every person of every frame; the same number is the same person.

    People of one frame are matched with the known tracks by the smallest sum of distances, so that their order within a
    frame does not matter. `frames`: of each sampled frame the (33, 3) keypoints of its people; `times_s`: (V,) rising
    seconds.
    """
    numbers: list[list[int]] = []
    last: dict[int, tuple[float, Floats]] = {}
    following = 0
    for people, time_s in zip(frames, times_s, strict=True):
        known = [(number, seen) for number, seen in last.items() if time_s - seen[0] <= MEMORY_S]
        here: list[int] = [-1] * len(people)
        for person, position in _pair(people, [seen for _, seen in known], float(time_s)):
            here[person] = known[position][0]
        # New people are numbered from left to right, whatever order they are listed in.
        for person in sorted((i for i, n in enumerate(here) if n < 0), key=lambda i: float(people[i][NOSE, 0])):
            here[person] = following
            following += 1
        for number, keypoints in zip(here, people, strict=True):
            last[number] = (float(time_s), keypoints)
        numbers.append(here)
    return numbers


def _pair(people: Sequence[Floats], known: list[tuple[float, Floats]], time_s: float) -> list[tuple[int, int]]:
    """Return (person, known) index pairs within reach."""
    if not people or not known:
        return []
    from scipy.optimize import linear_sum_assignment

    cost = np.array([[_distance(p, seen) / _reach(time_s - at) for at, seen in known] for p in people])
    rows, columns = linear_sum_assignment(np.minimum(cost, 1.0))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] < 1.0]


def _reach(seconds: float) -> float:
    return 0.5 + REACH_SIZES_PER_S * max(seconds, 0.0)


def _distance(a: Floats, b: Floats) -> float:
    """Return how far two bodies are apart, in sizes of the larger one; different sizes count as distance too."""
    core = [NOSE, *SHOULDERS, *HIPS]
    both = [j for j in core if a[j, 2] > 0.3 and b[j, 2] > 0.3] or [NOSE]
    sizes = body_size(a), body_size(b)
    gap = float(np.median(np.linalg.norm(a[both, :2] - b[both, :2], axis=1)))
    return gap / max(sizes) + 0.5 * abs(float(np.log(sizes[0] / sizes[1])))


class Finder(Protocol):
    """What finds people in a picture (`vision.people.PeopleFinder`)."""

    def find(self, image: npt.NDArray[np.uint8]) -> list[Person]:
        """Return the people in a picture (H, W, 3), blue, green, red."""
        ...


@dataclass(frozen=True)
class ClipPeople:
    """People of one clip."""

    width: int  # columns of the video's frames
    height: int  # rows of the video's frames
    times_s: npt.NDArray[np.float64]  # (V,) times of the sampled frames in seconds
    seen: npt.NDArray[np.bool_]  # (V,) False where the video has no frame
    frame: npt.NDArray[np.int64]  # (P,) index into `times_s` of each found person
    track: npt.NDArray[np.int64]  # (P,) number of the person within the clip
    score: Floats  # (P,) how sure it is that there is a person
    face_score: Floats  # (P,) score of the face, 0 where none was seen
    keypoints: Floats  # (P, 33, 3) x and y in pixels, visibility
    problem: str = ""  # what is wrong with the video, or ""

    @staticmethod
    def nothing(problem: str, times_s: Sequence[float] = ()) -> ClipPeople:
        """Return the people of a clip without a readable video."""
        count = len(times_s)
        none, ints = np.zeros(0, np.float32), np.zeros(0, np.int64)
        times = np.asarray(times_s, np.float64)
        return ClipPeople(
            0, 0, times, np.zeros(count, bool), ints, ints, none, none, np.zeros((0, 33, 3), np.float32), problem
        )


def find_in_video(
    finder: Finder,
    path: Path | None,
    times_s: npt.NDArray[np.float64],
    advance: Callable[[int], None] = no_advance,
) -> ClipPeople:
    """Return the people of a video at times in seconds; a missing or damaged video gives its problem, no error."""
    from dcase_seld.media.frames import iterate_frames

    if path is None:
        return ClipPeople.nothing("there is no video", times_s.tolist())
    found, seen, size = [], np.zeros(len(times_s), bool), (0, 0)
    problem = ""
    try:
        for index, (image, _) in enumerate(iterate_frames(path, times_s.tolist())):
            found.append(finder.find(image) if image is not None else [])
            advance(1)
            if image is not None:
                seen[index], size = True, (image.shape[1], image.shape[0])
    except SeldError as error:
        problem = error.problem.rstrip(".")
    if not seen.any():
        return ClipPeople.nothing(problem or f"{path} has no readable frame", times_s.tolist())
    if not seen.all():
        problem = f"{path} has no readable frame at {int((~seen).sum())} of {len(seen)} times"
    numbers = track([[p.keypoints for p in people] for people in found], times_s)
    people = [
        (index, number, p) for index, ps in enumerate(found) for number, p in zip(numbers[index], ps, strict=True)
    ]
    return ClipPeople(
        *size,
        times_s,
        seen,
        np.array([i for i, _, _ in people], np.int64),
        np.array([n for _, n, _ in people], np.int64),
        np.array([p.score for _, _, p in people], np.float32),
        np.array([p.face_score for _, _, p in people], np.float32),
        np.array([p.keypoints for _, _, p in people], np.float32).reshape(-1, len(LANDMARKS), 3),
        problem,
    )


KEYPOINTS = ShardedFolder(
    kind="keypoints",
    format=1,
    prefix="people",
    row_frame="person_frame",
    clip_columns=("width", "height"),
    row_columns=("track", "score", "face_score", "keypoints"),
    make=ClipPeople,
    about={"landmarks": list(LANDMARKS)},
)
"""The keypoints folder."""


class Keypoints(Mapping[str, ClipPeople]):
    """People of clips by clip name, read from one or several keypoints folders; shards are loaded when needed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._place: dict[str, tuple[Path, int]] = {}
        self._shard: tuple[Path, list[ClipPeople]] | None = None
        self.facts: list[Mapping[str, Any]] = []
        for folder in folders:
            facts, places = KEYPOINTS.read_index(folder)
            self._place |= places
            self.facts.append(facts)

    def __getitem__(self, name: str) -> ClipPeople:
        path, index = self._place[name]
        if self._shard is None or self._shard[0] != path:
            self._shard = (path, KEYPOINTS.read_shard(path))
        return self._shard[1][index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


Part = Literal["mouth", "wrists", "ankles", "head", "body"]

PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "mouth": (("mouth_left", "mouth_right"), ("nose",), ("left_ear", "right_ear")),
    "wrists": (("left_wrist", "right_wrist"),),
    "ankles": (("left_ankle", "right_ankle"),),
    "head": (("nose",), ("left_ear", "right_ear")),
    "body": (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), ("nose",)),
}
"""Body part → groups of landmarks; the part is at the mean of the visible landmarks of the first group with any.

Wrists and ankles have no substitute: hands or feet that the picture does not show cannot be on screen.
"""


def see_part(
    people: ClipPeople, part: str, frames: int, *, fov_deg: float, min_visibility: float, max_gap_s: float
) -> Sightings:
    """Return where a body part of every tracked person is at the label frames.

    Between two sampled frames in which the same person is seen the column is interpolated; before the first and after
    the last it is held for `max_gap_s`.
    """
    watched = watched_frames(people.times_s, people.seen, frames, max_gap_s)
    column, visible = _columns(people, part, min_visibility)
    tracks = np.unique(people.track)
    azimuth = np.full((frames, len(tracks)), np.nan)
    for k, number in enumerate(tracks):
        rows = np.flatnonzero((people.track == number) & visible)
        if len(rows):
            azimuth[:, k] = column_to_azimuth(
                _interpolate(people.times_s[people.frame[rows]], column[rows], frames, max_gap_s), people.width, fov_deg
            )
    azimuth[~watched] = np.nan
    return Sightings(azimuth, np.zeros_like(azimuth), watched)


def _columns(
    people: ClipPeople, part: str, min_visibility: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return (P,) the column of a part and (P,) whether it is visible."""
    column = np.full(len(people.frame), np.nan)
    for group in PARTS[part]:
        points = people.keypoints[:, [INDEX[name] for name in group]].astype(np.float64)
        shown = points[..., 2] >= min_visibility
        mean = (points[..., 0] * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
        column = np.where(np.isnan(column) & shown.any(axis=1), mean, column)
    return column, ~np.isnan(column)


def _interpolate(
    times_s: npt.NDArray[np.float64], values: npt.NDArray[np.float64], frames: int, max_gap_s: float
) -> npt.NDArray[np.float64]:
    """Return (T,) values at the label frames, NaN further than `max_gap_s` from both neighbours in time."""
    wanted = label_times(frames)
    inside = np.interp(wanted, times_s, values)
    after = np.clip(np.searchsorted(times_s, wanted), 0, len(times_s) - 1)
    before = np.clip(after - 1, 0, len(times_s) - 1)
    gap = np.minimum(np.abs(times_s[after] - wanted), np.abs(times_s[before] - wanted))
    return np.where(gap <= max_gap_s, inside, np.nan)
