"""The 33 body landmarks, a person found in a picture, and persons followed from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

    People of one frame are matched with the known tracks by the smallest sum of distances, so that their order within
    a frame does not matter.

    Args:
        frames: per sampled frame, the (33, 3) keypoints of its people.
        times_s: (V,) rising times of the frames in seconds.
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
