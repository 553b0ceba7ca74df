"""The 33 body landmarks, and a person found in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LANDMARKS = (
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)
"""Names of the landmarks in the order of MediaPipe's pose model; left and right are the person's own."""

INDEX = {name: index for index, name in enumerate(LANDMARKS)}
NOSE = INDEX["nose"]
HEAD = tuple(range(11))
SHOULDERS = (INDEX["left_shoulder"], INDEX["right_shoulder"])
HIPS = (INDEX["left_hip"], INDEX["right_hip"])
BONES = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    *(
        (f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for a, b in (
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
            ("shoulder", "hip"),
            ("hip", "knee"),
            ("knee", "ankle"),
            ("ankle", "foot_index"),
        )
    ),
    ("left_ear", "left_eye"),
    ("left_eye", "nose"),
    ("nose", "right_eye"),
    ("right_eye", "right_ear"),
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
