"""Drawing events, people, boxes and a ruler of azimuths into video frames."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.core.events import Events
from dcase_seld.core.geometry import View, azimuth_to_column
from dcase_seld.core.task import LABEL_RATE
from dcase_seld.vision.keypoints import BONES, INDEX, ClipPeople
from dcase_seld.vision.objects import ClipObjects

Image = npt.NDArray[np.uint8]

RULER_HEIGHT = 92
"""Height of the ruler below a picture whose shorter side has 360 pixels; it grows with the picture."""

TEXT_SIZE = 13
"""Height of type in such a picture, in pixels."""

COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
    *((150, 150, 150), (255, 80, 220), (136, 34, 85), (153, 153, 51), (110, 90, 230), (250, 190, 212), (101, 67, 33)),
)
"""Colours that colour-blind eyes tell apart too: seven of Okabe and Ito (2008), others of different brightness."""

BONE, JOINT = (90, 230, 90), (40, 40, 250)
"""Blue, green, red of people's bones and landmarks."""

Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Scene:
    """What is known about one clip."""

    name: str  # the clip
    classes: Sequence[str]  # names of the classes
    prediction: Events | None  # predicted events of this clip alone, or None
    reference: Events | None  # reference events of this clip alone, or None
    people: ClipPeople | None  # people of sampled frames, or None
    objects: ClipObjects | None  # detected objects of sampled frames, or None
    fov_deg: float  # horizontal field of view

    @property
    def all_around(self) -> bool:
        """Return whether directions are on the whole sphere, and pictures show all of it."""
        return any(
            events is not None and events.elevation_deg is not None for events in (self.prediction, self.reference)
        )

    @property
    def on_and_off(self) -> bool:
        """Return whether anything says what is on screen: networks of sound alone do not."""
        known = (self.prediction, self.reference)
        return any(e is not None and (e.onscreen_probability is not None or bool(e.onscreen.any())) for e in known)


def class_colour(index: int, count: int) -> tuple[int, int, int]:
    """Return a class's colour, red, green, blue in 0..255."""
    if count <= len(COLOURS):
        return COLOURS[index]
    rgb = colorsys.hsv_to_rgb(index * 0.618 % 1.0, 0.75, (0.95, 0.6, 0.8)[index % 3])
    return tuple(round(255 * part) for part in rgb)  # type: ignore[return-value]


def scale_of(height: int, width: int) -> float:
    """Return by how much type and lines are larger than in a picture whose shorter side has 360 pixels."""
    return max(0.6, min(height, width) / 360)


def rows_at(events: Events | None, time_s: float) -> list[int]:
    """Return the rows of events that sound at a time, as many as a picture can hold."""
    if events is None:
        return []
    rows: list[int] = np.flatnonzero(events.frame == int(time_s * LABEL_RATE)).tolist()
    return rows[:MOST_DRAWN]


MOST_DRAWN = 100
"""Events of one side that are drawn at a time; only a broken table has more."""


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
    (_draw_places if scene.all_around else _draw_directions)(canvas, scene, time_s)
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

    thick = max(1, round(1.5 * scale_of(*canvas.shape[:2])))
    for first, second in BONES:
        a, b = keypoints[INDEX[first]], keypoints[INDEX[second]]
        if min(a[2], b[2]) >= min_visibility:
            cv2.line(canvas, _point(a), _point(b), BONE, thick, cv2.LINE_AA)
    for point in keypoints[keypoints[:, 2] >= min_visibility]:
        cv2.circle(canvas, _point(point), thick + 1, JOINT, -1, cv2.LINE_AA)


def draw_ruler(width: int, scene: Scene, time_s: float, scale: float = 1.0) -> Image:
    """Return a strip (rows, width, 3): azimuth from 90° (left) to -90° with what sounds, and what the marks mean.

    It has RULER_HEIGHT · scale rows, an even number.
    """
    import cv2

    rows = 2 * round(RULER_HEIGHT * scale / 2)
    strip = np.full((rows, width, 3), 28, np.uint8)
    edge, size = scene.fov_deg / 2, round(TEXT_SIZE * 0.85 * scale)
    axis, radius = round(52 * scale), round(7 * scale)
    reach = 180.0 if scene.all_around else 90.0
    if not scene.all_around:
        cv2.rectangle(strip, (_along(edge, width), 0), (_along(-edge, width), axis), (62, 62, 62), -1)
    taken: list[tuple[int, int]] = []
    for azimuth in (90, -90, 0, 180, -180, 135, -135, 45, -45) if scene.all_around else (90, -90, 0, 30, -30, 60, -60):
        x = _along(azimuth, width, reach)
        cv2.line(strip, (x, axis - round(4 * scale)), (x, axis), (170, 170, 170), max(1, round(scale)))
        words = f"{abs(azimuth)}°" + {90: " left", -90: " right"}.get(azimuth, "")
        wide = _mask(words, size).shape[1]
        left = min(max(x - wide // 2, 2), width - wide - 2)
        if all(left + wide < first or last < left for first, last in taken):
            taken.append((left - size // 2, left + wide + size // 2))
            _text(strip, words, (left, axis + round(3 * scale)), (190, 190, 190), size)
    for events, row_y, label in ((scene.reference, 14, "ref"), (scene.prediction, 36, "pred")):
        if events is None:
            continue
        middle = round(row_y * scale)
        _text(strip, label, (3, middle - size // 2), (150, 150, 150), size)
        for row in rows_at(events, time_s):
            colour = _bgr(int(events.class_index[row]), len(scene.classes))
            centre = (_along(float(events.azimuth_deg[row]), width, reach), middle)
            hollow = scene.on_and_off and not scene.all_around and not events.onscreen[row]
            filled = max(2, round(2 * scale)) if hollow else -1
            cv2.circle(strip, centre, radius, colour, filled, cv2.LINE_AA)
    clock = f"{time_s:.1f} s"
    _text(strip, clock, (width - _mask(clock, size).shape[1] - 4, round(3 * scale)), (235, 235, 235), size)
    legend = ["● on screen   ○ off screen" if scene.on_and_off else "● where it sounds"]
    legend = ["azimuth all around"] if scene.all_around else legend
    if scene.reference is not None:
        legend.append("dot: predicted, ring: reference" if scene.all_around else "line: predicted, dashed: reference")
    if scene.people is not None and len(scene.people.times_s):
        legend.append("green: people found")
    if not scene.all_around:
        legend.append("lighter: in the picture's view")
    _text(strip, _fitting(legend, width - 8, size), (4, axis + round(20 * scale)), (170, 170, 170), size)
    return strip


def _fitting(parts: list[str], width: int, size: int) -> str:
    """Return as many parts, joined, as fit into a width in pixels."""
    kept = parts[:1]
    for part in parts[1:]:
        if _mask("   ".join([*kept, part]), size).shape[1] > width:
            break
        kept.append(part)
    return "   ".join(kept)


def _draw_places(canvas: Image, scene: Scene, time_s: float) -> None:
    """Draw what sounds where it is in a picture of the whole sphere: a dot is a prediction, a ring a reference."""
    import cv2

    height, width = canvas.shape[:2]
    view, scale = View(width, height, panorama=True), scale_of(height, width)
    size, taken = round(TEXT_SIZE * scale), list[Rect]()
    for events, ring in ((scene.reference, True), (scene.prediction, False)):
        for row in rows_at(events, time_s):
            assert events is not None
            up = 0.0 if events.elevation_deg is None else float(events.elevation_deg[row])
            azimuth, index = float(events.azimuth_deg[row]), int(events.class_index[row])
            column, line, _ = view.place(azimuth, up, 1.0) or (0.0, 0.0, 0.0)
            centre, colour = (int(column), min(int(line), height - 1)), _bgr(index, len(scene.classes))
            radius, thick = round((14 if ring else 7) * scale), max(1, round(3 * scale)) if ring else -1
            cv2.circle(canvas, centre, radius, colour, thick, cv2.LINE_AA)
            words = (
                f"{scene.classes[index].split(',')[0]}  {azimuth:.0f}°, {up:.0f}° up{' (reference)' if ring else ''}"
            )
            _label(canvas, words, (centre[0] + radius, centre[1] - size), colour, size, taken)


def _draw_directions(canvas: Image, scene: Scene, time_s: float) -> None:
    import cv2

    height, width = canvas.shape[:2]
    scale = scale_of(height, width)
    size = round(TEXT_SIZE * scale)
    taken: list[Rect] = []
    labels: list[tuple[str, int, tuple[int, int, int]]] = []
    for events, dashed in ((scene.reference, True), (scene.prediction, False)):
        for row in rows_at(events, time_s):
            assert events is not None
            index, azimuth = int(events.class_index[row]), float(events.azimuth_deg[row])
            colour = _bgr(index, len(scene.classes))
            thick = max(1, round((3 if events.onscreen[row] else 1 if scene.on_and_off else 2) * scale))
            inside = abs(azimuth) < scene.fov_deg / 2
            x = (
                round(float(azimuth_to_column(azimuth, width, scene.fov_deg)))
                if inside
                else 0
                if azimuth > 0
                else width
            )
            if inside:
                step = round(14 * scale) if dashed else height
                for y in range(0, height, step):
                    end = (x, min(y + (step // 2 if dashed else step), height))
                    cv2.line(canvas, (x, y), end, (0, 0, 0), thick + max(1, round(scale)), cv2.LINE_AA)
                    cv2.line(canvas, (x, y), end, colour, thick, cv2.LINE_AA)
            name = scene.classes[index].split(",")[0]
            side = "" if round(azimuth) == 0 else " left" if azimuth > 0 else " right"
            words = (
                f"{name}  {abs(azimuth):.0f}°{side}  {events.distance_m[row]:.1f} m{' (reference)' if dashed else ''}"
            )
            labels.append((words, x, colour))
    # Labels last, so that no line crosses one.
    for words, x, colour in labels:
        _label(canvas, words, (x + round(5 * scale), round(4 * scale)), colour, size, taken)


def _draw_boxes(canvas: Image, scene: Scene, objects: ClipObjects, time_s: float) -> None:
    import cv2

    if not len(objects.times_s):
        return
    height, width = canvas.shape[:2]
    scale = scale_of(height, width)
    taken: list[Rect] = []
    nearest = int(np.abs(objects.times_s - time_s).argmin())
    for row in np.flatnonzero(objects.frame == nearest).tolist():
        left, top, right, bottom = (objects.box[row] * [width, height, width, height]).round().astype(int).tolist()
        index = int(objects.class_index[row])
        colour = _bgr(index, len(scene.classes))
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, max(1, round(scale)), cv2.LINE_AA)
        words = f"{scene.classes[index].split(',')[0]} {objects.score[row]:.2f}"
        size = round(0.85 * TEXT_SIZE * scale)
        _label(canvas, words, (left + 2, bottom - round(1.6 * size)), colour, size, taken)


def _label(
    canvas: Image, words: str, place: tuple[int, int], colour: tuple[int, int, int], size: int, taken: list[Rect]
) -> None:
    """Write words on a dark box with an edge of the colour, below others that are there already."""
    height, width = canvas.shape[:2]
    mask, pad = _mask(words, size), max(2, size // 4)
    wide, high = mask.shape[1] + 3 * pad, mask.shape[0] + 2 * pad
    left = min(max(place[0], 0), max(0, width - wide))
    top = min(max(place[1], 0), max(0, height - high))
    for _ in range(len(taken)):
        hit = [r for r in taken if left < r[2] and r[0] < left + wide and top < r[3] and r[1] < top + high]
        if not hit:
            break
        top = max(r[3] for r in hit) + 1
    taken.append((left, top, left + wide, top + high))
    box = canvas[top : top + high, left : left + wide]
    if not box.size:
        return
    box[:] = (box * 0.3).astype(np.uint8)
    box[:, :pad] = colour
    _text(canvas, words, (left + 2 * pad, top + pad), (255, 255, 255), size)


@lru_cache(maxsize=2048)
def _mask(words: str, size: int) -> npt.NDArray[np.float32]:
    """Return how much of each pixel (rows, columns) is covered by words in type of a height in pixels."""
    from matplotlib import get_data_path
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), max(6, size))
    picture = Pillow.new("L", (max(1, int(font.getlength(words)) + 2), int(1.25 * max(6, size)) + 1))
    ImageDraw.Draw(picture).text((0, 0), words, fill=255, font=font)
    return np.asarray(picture, np.float32) / 255.0


def _text(canvas: Image, words: str, place: tuple[int, int], colour: tuple[int, int, int], size: int) -> None:
    """Write words whose upper left corner is at a place (column, row); what does not fit is cut."""
    left, top = max(0, place[0]), max(0, place[1])
    mask = _mask(words, size)
    box = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    cover = mask[: box.shape[0], : box.shape[1], None]
    box[:] = (box * (1 - cover) + np.asarray(colour, np.float32) * cover).astype(np.uint8)


def _bgr(index: int, count: int) -> tuple[int, int, int]:
    red, green, blue = class_colour(index, count)
    return blue, green, red


def _point(keypoint: npt.NDArray[np.floating]) -> tuple[int, int]:
    return round(float(keypoint[0])), round(float(keypoint[1]))


def _along(azimuth_deg: float, width: int, reach_deg: float = 90.0) -> int:
    return round((reach_deg - azimuth_deg) / (2.0 * reach_deg) * (width - 1))
