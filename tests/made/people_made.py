"""Synthetic people: keypoints at known azimuths, as a detector would give them."""

import numpy as np

from dcase_seld.core.geometry import azimuth_to_column
from dcase_seld.core.task import sample_times
from dcase_seld.vision.keypoints import INDEX, LANDMARKS, ClipPeople

WIDTH, HEIGHT = 640, 360
ROWS = {"nose": 60, "mouth": 66, "ear": 60, "eye": 56, "shoulder": 95, "elbow": 130, "wrist": 160, "hip": 165}
LOWER = {"knee": 220, "ankle": 275, "heel": 282, "foot": 285}


def body(azimuth_deg, visible=1.0, hidden=()):
    """Return (33, 3) keypoints of a slim person whose middle is at an azimuth; parts named in `hidden` are unseen."""
    column = float(azimuth_to_column(azimuth_deg, WIDTH))
    keypoints = np.zeros((len(LANDMARKS), 3), np.float32)
    for name, index in INDEX.items():
        side = 1 if "left" in name else -1 if "right" in name else 0
        kind = next((k for k in (*ROWS, *LOWER) if k in name), "wrist")
        width = {"mouth": 3, "ear": 9, "eye": 5, "nose": 0}.get(kind, 16)
        seen = 0.0 if kind in hidden else visible
        keypoints[index] = (column + side * width, {**ROWS, **LOWER}[kind], seen)
    return keypoints


def clip_people(azimuths_by_time, seconds=5.0, fps=2.0, **options):
    """Return the people of a clip: one list of azimuths per sampled frame, or one list for all; track = position."""
    times = sample_times(seconds, fps)
    if not azimuths_by_time or not isinstance(azimuths_by_time[0], (list, tuple)):
        azimuths_by_time = [azimuths_by_time] * len(times)
    rows = [(f, k, body(a, **options)) for f, group in enumerate(azimuths_by_time) for k, a in enumerate(group)]
    count = len(rows)
    return ClipPeople(
        WIDTH,
        HEIGHT,
        times,
        np.ones(len(times), bool),
        np.array([f for f, _, _ in rows], np.int64),
        np.array([k for _, k, _ in rows], np.int64),
        np.ones(count, np.float32),
        np.ones(count, np.float32),
        np.array([b for _, _, b in rows], np.float32).reshape(-1, 33, 3),
    )
