"""Events with an onset and an offset, linked from the frame table, and the two forms that people open: JSON, Audacity.

A frame table says what sounds in each 100 ms; a person wants "a knock from 3.2 s to 4.1 s, 30° to the left". Rows of
one class in neighbouring frames belong to one event if their azimuths are close; the network's track numbers are not
used, because a track may change its number from one frame to the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.task.events import Events
from dcase_seld.task.facts import LABEL_RATE
from dcase_seld.task.taxonomy import Taxonomy

MAX_GAP_FRAMES = 2
"""Longest silence within one event, in label frames."""
MAX_STEP_DEG = 30.0
"""Largest change of azimuth from one row of an event to the next, in degrees."""


@dataclass(frozen=True)
class Segment:
    """One event: times in seconds, the median direction in degrees (positive left) and distance in metres.

    `onscreen` is what most of its frames say; `activity` the mean activity of its frames, NaN where it is unknown.
    """

    clip: str
    class_index: int
    onset_s: float
    offset_s: float
    azimuth_deg: float
    distance_m: float
    onscreen: bool
    activity: float
    azimuth_range_deg: tuple[float, float]


def link(events: Events, max_gap: int = MAX_GAP_FRAMES, max_step_deg: float = MAX_STEP_DEG) -> list[Segment]:
    """Return the events of a frame table as segments, ordered by clip and onset.

    Args:
        events: a frame table of any number of clips.
        max_gap: frames that an event may pause.
        max_step_deg: rows further apart than this in azimuth (degrees) are two events.
    """
    segments = [_segment(events, rows) for rows in link_rows(events, max_gap, max_step_deg)]
    order = {name: index for index, name in enumerate(events.clips)}
    return sorted(segments, key=lambda s: (order[s.clip], s.onset_s, s.class_index, s.azimuth_deg))


def link_rows(
    events: Events, max_gap: int = MAX_GAP_FRAMES, max_step_deg: float = MAX_STEP_DEG
) -> list[npt.NDArray[np.int64]]:
    """Return the row numbers of each event, in the order of time; every row belongs to exactly one event."""
    order = np.lexsort((events.source, events.class_index, events.frame, events.clip))
    frames, azimuths = events.frame.tolist(), events.azimuth_deg.tolist()
    keys = list(zip(events.clip.tolist(), events.class_index.tolist(), strict=True))
    chains: list[list[int]] = []
    open_chains: dict[tuple[int, int], list[list[int]]] = {}
    for row in order.tolist():
        frame, azimuth = frames[row], azimuths[row]
        alive = [c for c in open_chains.get(keys[row], []) if frame - frames[c[-1]] <= max_gap + 1]
        free = [c for c in alive if frames[c[-1]] < frame]
        nearest = min(free, key=lambda c: abs(azimuths[c[-1]] - azimuth), default=None)
        if nearest is not None and abs(azimuths[nearest[-1]] - azimuth) <= max_step_deg:
            nearest.append(row)
        else:
            alive.append([row])
            chains.append(alive[-1])
        open_chains[keys[row]] = alive
    return [np.asarray(chain, dtype=np.int64) for chain in chains]


def _segment(table: Events, rows: npt.NDArray[np.int64]) -> Segment:
    azimuth = table.azimuth_deg[rows]
    return Segment(
        clip=table.clips[table.clip[rows[0]]],
        class_index=int(table.class_index[rows[0]]),
        onset_s=float(table.frame[rows[0]]) / LABEL_RATE,
        offset_s=float(table.frame[rows[-1]] + 1) / LABEL_RATE,
        azimuth_deg=float(np.median(azimuth)),
        distance_m=float(np.median(table.distance_m[rows])),
        onscreen=bool(table.onscreen[rows].mean() > 0.5),
        activity=float("nan") if table.activity is None else float(table.activity[rows].mean()),
        azimuth_range_deg=(float(azimuth.min()), float(azimuth.max())),
    )


def to_json(segments: Iterable[Segment], taxonomy: Taxonomy) -> str:
    """Return a JSON list of events: class name, onset and offset (s), azimuth (degrees), distance (m), on screen."""
    rows = [
        {
            "clip": s.clip,
            "class": taxonomy.classes[s.class_index],
            "class_index": s.class_index,
            "onset_s": round(s.onset_s, 2),
            "offset_s": round(s.offset_s, 2),
            "azimuth_deg": round(s.azimuth_deg, 1),
            "azimuth_range_deg": [round(edge, 1) for edge in s.azimuth_range_deg],
            "distance_m": round(s.distance_m, 2),
            "onscreen": s.onscreen,
            "activity": None if np.isnan(s.activity) else round(s.activity, 3),
        }
        for s in segments
    ]
    return json.dumps(rows, indent=1)


def to_audacity(segments: Iterable[Segment], taxonomy: Taxonomy) -> str:
    """Return an Audacity label track: onset, offset (s) and a text, separated by tabs, one event per line."""
    return "".join(
        f"{s.onset_s:.3f}\t{s.offset_s:.3f}\t{taxonomy.classes[s.class_index]} "
        f"{abs(s.azimuth_deg):.0f}° {'left' if s.azimuth_deg > 0 else 'right'} {s.distance_m:.1f} m"
        f"{', on screen' if s.onscreen else ''}\n"
        for s in segments
    )
