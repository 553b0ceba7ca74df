"""Drawing events, people, boxes and a ruler of azimuths into video frames."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.core.events import Events
from dcase_seld.core.geometry import azimuth_to_column
from dcase_seld.core.task import LABEL_RATE
from dcase_seld.vision.bodies import BONES, INDEX
from dcase_seld.vision.keypoints import ClipPeople
from dcase_seld.vision.objects import ClipObjects

Image = npt.NDArray[np.uint8]

RULER_HEIGHT = 64

_FONT_SCALE = 0.42


@dataclass(frozen=True)
class Scene:
    """What is known about one clip.

    Attributes:
        name: the clip.
        classes: names of the classes.
        prediction: predicted events of this clip alone, or None.
        reference: reference events of this clip alone, or None.
        people: people of sampled frames, or None.
        objects: detected objects of sampled frames, or None.
        fov_deg: horizontal field of view.
    """

    name: str
    classes: Sequence[str]
    prediction: Events | None
    reference: Events | None
    people: ClipPeople | None
    objects: ClipObjects | None
    fov_deg: float


def class_colour(index: int, count: int) -> tuple[int, int, int]:
    """Return a class's colour, red, green, blue in 0..255; neighbours in the list differ clearly."""
    step = index * 5 % count if count % 5 else index * 3 % count if count % 3 else index
    rgb = colorsys.hsv_to_rgb(step / max(count, 1), 0.75, 0.95 if index % 2 else 0.8)
    return tuple(round(255 * part) for part in rgb)  # type: ignore[return-value]


def rows_at(events: Events | None, time_s: float) -> list[int]:
    """Return the rows of events that sound at a time."""
    if events is None:
        return []
    return np.flatnonzero(events.frame == int(time_s * LABEL_RATE)).tolist()


def draw_frame(image: Image, scene: Scene, time_s: float) -> Image:
    """Return a copy of a video frame with people, boxes and the directions of what sounds at that time.

    A full line is a prediction, a dashed one a reference; a line that the model believes off screen is thin.
    """
    canvas = image.copy()
    if scene.people is not None and len(scene.people.times_s):
        for keypoints in bodies_at(scene.people, time_s):
            draw_body(canvas, keypoints)
    if scene.objects is not None:
        _draw_boxes(canvas, scene, scene.objects, time_s)
    _draw_directions(canvas, scene, time_s)
    return canvas


def bodies_at(people: ClipPeople, time_s: float, max_gap_s: float = 0.6) -> list[npt.NDArray[np.floating]]:
    """Return the (33, 3) keypoints of every person at a time, interpolated between the frames that were looked at."""
    bodies = []
    for number in np.unique(people.track):
        rows = np.flatnonzero(people.track == number)
        times = people.times_s[people.frame[rows]]
        after = int(np.clip(np.searchsorted(times, time_s), 0, len(rows) - 1))
        before = max(after - 1, 0) if times[after] > time_s else after
        first, second = times[before], times[after]
        if min(abs(first - time_s), abs(second - time_s)) > max_gap_s:
            continue
        share = 0.0 if second <= first else float(np.clip((time_s - first) / (second - first), 0, 1))
        bodies.append((1 - share) * people.keypoints[rows[before]] + share * people.keypoints[rows[after]])
    return bodies


def draw_body(canvas: Image, keypoints: npt.NDArray[np.floating], min_visibility: float = 0.5) -> None:
    """Draw the visible bones and landmarks of a person into a picture."""
    import cv2

    thick = max(1, canvas.shape[1] // 400)
    for first, second in BONES:
        a, b = keypoints[INDEX[first]], keypoints[INDEX[second]]
        if min(a[2], b[2]) >= min_visibility:
            cv2.line(canvas, _point(a), _point(b), (90, 230, 90), thick, cv2.LINE_AA)
    for point in keypoints[keypoints[:, 2] >= min_visibility]:
        cv2.circle(canvas, _point(point), thick + 1, (40, 40, 250), -1, cv2.LINE_AA)


def draw_ruler(width: int, scene: Scene, time_s: float) -> Image:
    """Return a (RULER_HEIGHT, width, 3) strip: azimuth from 90° (left) to -90° with what sounds, on and off screen."""
    import cv2

    strip = np.full((RULER_HEIGHT, width, 3), 28, np.uint8)
    edge = scene.fov_deg / 2
    cv2.rectangle(strip, (_along(edge, width), 0), (_along(-edge, width), RULER_HEIGHT), (58, 58, 58), -1)
    for azimuth in range(-90, 91, 30):
        x = _along(azimuth, width)
        cv2.line(strip, (x, RULER_HEIGHT - 14), (x, RULER_HEIGHT - 9), (150, 150, 150), 1)
        _text(strip, f"{azimuth}", (min(max(x - 9, 1), width - 26), RULER_HEIGHT - 1), (150, 150, 150), 0.33)
    for events, row_y, label in ((scene.reference, 14, "ref"), (scene.prediction, 36, "pred")):
        if events is None:
            continue
        _text(strip, label, (2, row_y + 4), (170, 170, 170), 0.33)
        for row in rows_at(events, time_s):
            colour = _bgr(int(events.class_index[row]), len(scene.classes))
            centre = (_along(float(events.azimuth_deg[row]), width), row_y)
            cv2.circle(strip, centre, 8, colour, -1 if events.onscreen[row] else 2, cv2.LINE_AA)
    _text(strip, f"{time_s:.1f} s", (width - 48, 14), (220, 220, 220), 0.42)
    return strip


def _draw_directions(canvas: Image, scene: Scene, time_s: float) -> None:
    import cv2

    height, width = canvas.shape[:2]
    line = 0
    for events, dashed in ((scene.reference, True), (scene.prediction, False)):
        for row in rows_at(events, time_s):
            assert events is not None
            index, azimuth = int(events.class_index[row]), float(events.azimuth_deg[row])
            colour = _bgr(index, len(scene.classes))
            thick = (3 if events.onscreen[row] else 1) * max(1, width // 640)
            inside = abs(azimuth) < scene.fov_deg / 2
            if inside:
                x = round(float(azimuth_to_column(azimuth, width, scene.fov_deg)))
                step = 14 if dashed else height
                for y in range(0, height, step):
                    end = (x, min(y + (step // 2 if dashed else step), height))
                    cv2.line(canvas, (x, y), end, colour, thick, cv2.LINE_AA)
            else:
                x = 0 if azimuth > 0 else width
            label = f"{scene.classes[index]}{' (ref)' if dashed else ''}{'' if inside else f' {azimuth:.0f} deg'}"
            wide = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, 1)[0][0]
            _text(canvas, label, (min(max(x + 4, 2), width - wide - 2), 14 + 15 * line), colour, _FONT_SCALE)
            line += 1


def _draw_boxes(canvas: Image, scene: Scene, objects: ClipObjects, time_s: float) -> None:
    import cv2

    if not len(objects.times_s):
        return
    height, width = canvas.shape[:2]
    nearest = int(np.abs(objects.times_s - time_s).argmin())
    for row in np.flatnonzero(objects.frame == nearest).tolist():
        left, top, right, bottom = (objects.box[row] * [width, height, width, height]).round().astype(int).tolist()
        index = int(objects.class_index[row])
        colour = _bgr(index, len(scene.classes))
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 1, cv2.LINE_AA)
        _text(canvas, f"{scene.classes[index]} {objects.score[row]:.2f}", (left + 2, bottom - 3), colour, 0.35)


def _text(canvas: Image, text: str, place: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    import cv2

    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _bgr(index: int, count: int) -> tuple[int, int, int]:
    red, green, blue = class_colour(index, count)
    return blue, green, red


def _point(keypoint: npt.NDArray[np.floating]) -> tuple[int, int]:
    return round(float(keypoint[0])), round(float(keypoint[1]))


def _along(azimuth_deg: float, width: int) -> int:
    return round((90.0 - azimuth_deg) / 180.0 * (width - 1))
