"""Finding several people in a picture with MediaPipe's pose and face models.

The pose model sees a few large people in a whole picture and misses small, crowded or cropped ones; the face detector
is ten times faster but blind to people who turn away. Both look at the picture and at overlapping square tiles of it:

1. faces from tiles of several sizes, merged by the place of the nose;
2. bodies from the whole picture and large tiles; a body whose nose lies in a face belongs to it;
3. a face without a body is looked at again in a crop of its own surroundings;
4. a body without a face must be found again, at the same place, by a stricter detector in a wide crop of its
   surroundings and in a narrow mirrored one: what a pose model sees in tables, bottles or trees does not survive that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcase_seld.core.config import Config
from dcase_seld.pretrained.pose import open_face_detector, open_pose_model, quiet_native_log
from dcase_seld.vision.keypoints import HEAD, HIPS, INDEX, NOSE, SHOULDERS, Floats, Person, body_size, mirror_keypoints

Image = npt.NDArray[np.uint8]

_LARGE_JOINTS = [NOSE] + [
    INDEX[f"{side}_{joint}"] for side in ("left", "right") for joint in ("shoulder", "elbow", "hip", "knee")
]


class PeopleConfig(Config):
    """How people are looked for."""

    mode: Literal["accurate", "fast"] = Field(
        default="accurate", description="accurate: more tiles and checks; fast: one look."
    )
    model: str = Field(default="pose", description="Known pose model (pose, pose-lite, pose-heavy) or its folder.")
    face_threshold: float = Field(default=0.8, ge=0, le=1, description="Score from which a face alone is a person.")
    face_support: float = Field(default=0.7, ge=0, le=1, description="Score from which a face on a found body counts.")
    pose_threshold: float = Field(default=0.4, ge=0, le=1, description="MediaPipe's detection threshold for bodies.")
    presence_threshold: float = Field(
        default=0.6, ge=0, le=1, description="Visibility a body needs at nose and shoulders."
    )
    face_tiles: tuple[float, ...] = Field(
        default=(1.0, 0.55, 0.3), description="Tile sizes for faces as fractions of the picture's short side."
    )
    body_tiles: tuple[float, ...] = Field(default=(1.0,), description="Tile sizes for bodies beside the whole picture.")
    check_threshold: float = Field(default=0.6, ge=0, le=1, description="Detection threshold of the check.")
    check_tolerance: float = Field(default=0.15, gt=0, description="Shift of joints allowed, in body sizes.")
    most: int = Field(default=6, ge=1, le=100, description="Most bodies looked for in the whole picture.")
    long_side: int = Field(default=1280, ge=64, description="Larger pictures are scaled down to this side (pixels).")

    def for_mode(self) -> PeopleConfig:
        """Return the settings that the mode stands for."""
        if self.mode == "accurate":
            return self
        return self.model_copy(update={"face_tiles": (1.0, 0.6), "body_tiles": (), "most": 1})


@dataclass(frozen=True)
class _Face:
    points: Floats  # (6, 2) right eye, left eye, nose, mouth, right ear, left ear
    width: float
    score: float

    @property
    def nose(self) -> Floats:
        return np.asarray(self.points[2])


SMALLEST = 16
"""In pictures with a side of fewer pixels nobody can be found; the models fail on the smallest ones."""


class PeopleFinder:
    """Finds people in pictures; a context manager that owns the loaded models."""

    def __init__(self, config: PeopleConfig | None = None) -> None:
        from dcase_seld.pretrained.catalogue import find_model

        self.config = (config or PeopleConfig()).for_mode()
        folder = Path(find_model(self.config.model, kind="pose"))

        def opened(model: Any) -> Any:
            models.callback(model.close)
            return model

        def pose(most: int, threshold: float) -> Any:
            return opened(open_pose_model(folder, most, threshold, self.config.pose_threshold))

        # Where the second cannot be opened, or at Ctrl-C, the first is closed: it cannot be when Python ends.
        with contextlib.ExitStack() as models, quiet_native_log():
            self._face = opened(open_face_detector(folder, 0.5))
            self._one = self._few = self._many = pose(1, self.config.pose_threshold)
            if self.config.most > 1:
                self._many = pose(self.config.most, self.config.pose_threshold)
                self._few = pose(min(2, self.config.most), self.config.pose_threshold)
            self._strict = pose(1, self.config.check_threshold)
            self._models = models.pop_all()
        self._warm = False

    def __enter__(self) -> PeopleFinder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._models.close()

    def find(self, image: Image) -> list[Person]:
        """Return the people in a (H, W, 3) uint8 BGR picture, surest first; keypoints in the picture's pixels."""
        import cv2

        height, width = image.shape[:2]
        if min(height, width) < SMALLEST:
            return []
        scale = min(1.0, self.config.long_side / max(height, width))
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if scale < 1.0:
            rgb = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        picture = np.asarray(rgb, dtype=np.uint8)
        # The native code writes a few lines about itself until it has seen its first body.
        with contextlib.nullcontext() if self._warm else quiet_native_log():
            bodies = self._bodies(picture)
            people = self._match(picture, self._faces(picture), bodies)
        self._warm = self._warm or bool(bodies)
        return [_finish(person, scale, width, height) for person in sorted(people, key=lambda p: -p.score)]

    def _view(self, picture: Image) -> Any:
        import mediapipe

        return mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(picture))

    def _faces(self, picture: Image) -> list[_Face]:
        found = []
        for x, y, size in _tiles(picture, self.config.face_tiles):
            for item in self._face.detect(self._view(picture[y : y + size, x : x + size])).detections:
                points = np.array([[k.x * size + x, k.y * size + y] for k in item.keypoints], np.float32)
                found.append(_Face(points, float(item.bounding_box.width), float(item.categories[0].score)))
        return _merge_faces(found)

    def _poses(self, model: Any, picture: Image, x: int, y: int, width: int, height: int) -> list[Floats]:
        view = self._view(picture[y : y + height, x : x + width])
        scale = np.array([width, height, 1.0], np.float32)
        offset = np.array([x, y, 0.0], np.float32)
        return [
            np.array([[p.x, p.y, min(p.visibility, p.presence)] for p in points], np.float32) * scale + offset
            for points in model.detect(view).pose_landmarks
        ]

    def _bodies(self, picture: Image) -> list[Floats]:
        height, width = picture.shape[:2]
        bodies = self._poses(self._many, picture, 0, 0, width, height)
        for x, y, size in _tiles(picture, self.config.body_tiles):
            if size < max(width, height):
                bodies += self._poses(self._few, picture, x, y, size, size)
        return bodies

    def _match(self, picture: Image, faces: list[_Face], bodies: list[Floats]) -> list[Person]:
        """Return people of faces with bodies, faces alone, and checked bodies alone."""
        accurate = self.config.mode == "accurate"
        people: list[Person] = []
        for face in faces:
            body = _body_of(face, bodies)
            if body is None and accurate:
                body = _body_of(face, self._around(picture, face))
            sure = face.score >= self.config.face_threshold or (
                face.score >= self.config.face_support and body is not None
            )
            if sure:
                people.append(_join(face, body))
        for body in sorted(bodies, key=lambda b: -_certainty(b)):
            if _certainty(body) < self.config.presence_threshold or any(_same(body, p.keypoints) for p in people):
                continue
            checked = self._check(picture, body, twice=accurate)
            if checked is not None and not any(_same(checked, p.keypoints) for p in people):
                people.append(Person(checked, _certainty(checked)))
        return people

    def _around(self, picture: Image, face: _Face) -> list[Floats]:
        """Return bodies found in the surroundings of a face: about four heads wide, the face in the upper third."""
        height, width = picture.shape[:2]
        size = 5.0 * face.width
        centre = face.points.mean(axis=0)
        x0, y0 = int(max(0, centre[0] - size / 2)), int(max(0, centre[1] - size * 0.35))
        x1, y1 = int(min(width, x0 + size)), int(min(height, y0 + size))
        return self._poses(self._one, picture, x0, y0, x1 - x0, y1 - y0)

    def _check(self, picture: Image, body: Floats, twice: bool) -> Floats | None:
        """Return a body as found again in a wide crop, or None unless it (and a narrow mirrored crop) agrees."""
        points = body[body[:, 2] > 0.5, :2]
        if len(points) < 6:
            return None
        box = _box(points, 0.6, picture)
        if min(box[2:]) < 32:
            return None
        again = self._agreeing(self._poses(self._strict, picture, *box), body)
        if again is None or not twice:
            return again
        x, y, width, height = _box(points, 0.25, picture)
        if min(width, height) < 32:
            return None
        whole = picture.shape[1]
        mirrored = self._poses(self._strict, picture[:, ::-1], whole - x - width, y, width, height)
        same = self._agreeing([mirror_keypoints(b, whole) for b in mirrored], again)
        return None if same is None else again

    def _agreeing(self, found: list[Floats], body: Floats) -> Floats | None:
        """Return the first of the found bodies that has its joints where the body has them."""
        size = body_size(body)
        for other in found:
            gap = float(np.median(np.linalg.norm(other[_LARGE_JOINTS, :2] - body[_LARGE_JOINTS, :2], axis=1)))
            if gap < self.config.check_tolerance * size and _certainty(other) >= self.config.presence_threshold:
                return other
        return None


def _box(points: Floats, margin: float, picture: Image) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) around points with a margin in units of their extent, within the picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    edge = margin * float(max(high - low)) + 4.0
    x0, y0 = (int(max(0, v)) for v in low - edge)
    x1, y1 = int(min(picture.shape[1], high[0] + edge)), int(min(picture.shape[0], high[1] + edge))
    return x0, y0, x1 - x0, y1 - y0


def _tiles(picture: Image, fractions: Sequence[float]) -> list[tuple[int, int, int]]:
    """Return (x, y, size) of square tiles that overlap by at least a quarter."""
    height, width = picture.shape[:2]
    tiles = []
    for fraction in fractions:
        size = int(min(height, width) * fraction)
        columns = np.linspace(0, width - size, int(np.ceil((width - size) / (0.75 * size))) + 1)
        rows = np.linspace(0, height - size, int(np.ceil((height - size) / (0.75 * size))) + 1)
        tiles += [(int(x), int(y), size) for y in rows for x in columns]
    return tiles


def _merge_faces(found: list[_Face]) -> list[_Face]:
    """Return the surest face of every place."""
    merged: list[_Face] = []
    for face in sorted(found, key=lambda f: -f.score):
        if all(np.linalg.norm(face.nose - kept.nose) >= 0.6 * max(kept.width, face.width) for kept in merged):
            merged.append(face)
    return merged


def _body_of(face: _Face, bodies: list[Floats]) -> Floats | None:
    """Return the body whose nose lies nearest to the face's, if it lies in the face."""
    distances = [float(np.linalg.norm(b[NOSE, :2] - face.nose)) for b in bodies]
    if not distances or min(distances) > 0.5 * face.width:
        return None
    return bodies[int(np.argmin(distances))]


def _join(face: _Face, body: Floats | None) -> Person:
    """Return a person of a face and the body found under it; the face detector places the face."""
    keypoints = np.zeros((len(HEAD) + 22, 3), np.float32)
    if body is not None:
        keypoints[:] = body
    order = ("right_eye", "left_eye", "nose", "mouth_right", "right_ear", "left_ear")
    for name, point in zip(order, face.points, strict=True):
        keypoints[INDEX[name]] = (*point, face.score)
    keypoints[INDEX["mouth_left"]] = keypoints[INDEX["mouth_right"]]
    score = 1.0 - (1.0 - face.score) * (1.0 - (_certainty(body) if body is not None else 0.0))
    return Person(keypoints, float(score), face.score)


def _certainty(body: Floats) -> float:
    return float(body[[NOSE, *SHOULDERS], 2].mean())


def _same(a: Floats, b: Floats, tolerance: float = 0.35) -> bool:
    """Return whether two bodies are one person: joints seen in both lie within a fraction of the body's size."""
    core = [NOSE, *SHOULDERS, *HIPS]
    both = [j for j in core if a[j, 2] > 0.3 and b[j, 2] > 0.3]
    if not both:
        return False
    gap = float(np.median(np.linalg.norm(a[both, :2] - b[both, :2], axis=1)))
    return gap < tolerance * min(body_size(a), body_size(b))


def _finish(person: Person, scale: float, width: int, height: int) -> Person:
    """Return a person in the full picture's pixels, landmarks outside of it made invisible."""
    keypoints = person.keypoints.copy()
    keypoints[:, :2] /= scale
    x, y = keypoints[:, 0], keypoints[:, 1]
    keypoints[(x < 0) | (x >= width) | (y < 0) | (y >= height), 2] = 0.0
    return Person(keypoints, person.score, person.face_score)
