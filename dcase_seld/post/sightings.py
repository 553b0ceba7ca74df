"""Where things are seen at the label frames of a clip: body parts of people, and detected objects, as azimuths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.post.keypoints import ClipPeople
from dcase_seld.post.landmarks import INDEX
from dcase_seld.task.angles import column_to_azimuth
from dcase_seld.task.facts import LABEL_RATE

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


@dataclass(frozen=True)
class Sightings:
    """What is seen at the label frames of one clip.

    Attributes:
        azimuth_deg: (T, K) azimuth of thing k in degrees, NaN where it is not seen.
        spread_deg: (T, K) half the width of the thing in degrees, 0 for a point.
        watched: (T,) whether the video shows the label frame at all.
    """

    azimuth_deg: npt.NDArray[np.float64]
    spread_deg: npt.NDArray[np.float64]
    watched: npt.NDArray[np.bool_]


def frame_times(frames: int) -> npt.NDArray[np.float64]:
    """Return (T,) the middle of each label frame in seconds."""
    return np.asarray((np.arange(frames) + 0.5) / LABEL_RATE)


def watched_frames(
    times_s: npt.NDArray[np.float64], seen: npt.NDArray[np.bool_], frames: int, max_gap_s: float
) -> npt.NDArray[np.bool_]:
    """Return (T,) whether a readable sampled frame is within `max_gap_s` of each label frame."""
    times = times_s[seen]
    if not len(times):
        return np.zeros(frames, np.bool_)
    nearest = np.abs(frame_times(frames)[:, None] - times).min(axis=1)
    return np.asarray(nearest <= max_gap_s)


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
    wanted = frame_times(frames)
    inside = np.interp(wanted, times_s, values)
    after = np.clip(np.searchsorted(times_s, wanted), 0, len(times_s) - 1)
    before = np.clip(after - 1, 0, len(times_s) - 1)
    gap = np.minimum(np.abs(times_s[after] - wanted), np.abs(times_s[before] - wanted))
    return np.where(gap <= max_gap_s, inside, np.nan)
