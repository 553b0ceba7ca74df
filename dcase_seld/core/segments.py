"""Events with a beginning and an end, out of frame tables: linked, tidied, and written for people and programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import GEOMETRIES, wrap
from dcase_seld.core.task import LABEL_RATE

MAX_GAP_FRAMES = 2
"""Longest silence within one event, in label frames."""

MAX_STEP_DEG = 30.0
"""Largest change of direction from one row of an event to the next, in degrees."""


@dataclass(frozen=True)
class Segment:
    """One event: times in seconds, the median direction in degrees (positive left) and distance in metres.

    `onscreen` is what most of its frames say, None where nobody looked; `activity` their mean, NaN where it is unknown.
    A range of azimuths goes to the left from its first to its second: 170 to -170 crosses the back. Without elevations
    (directions of a half circle) `elevation_deg` is None.
    """

    clip: str
    class_index: int
    onset_s: float
    offset_s: float
    azimuth_deg: float
    distance_m: float
    onscreen: bool | None
    activity: float
    azimuth_range_deg: tuple[float, float]
    elevation_deg: float | None = None


def link(events: Events, max_gap: int = MAX_GAP_FRAMES, max_step_deg: float = MAX_STEP_DEG) -> list[Segment]:
    """Return the events of a frame table as segments, ordered by clip and onset.

    An event may pause for `max_gap` frames; rows further apart than `max_step_deg` degrees are two.
    """
    # Sound alone says nothing of the screen, which is no "no".
    looked = events.onscreen_probability is not None or bool(events.onscreen.any())
    segments = [_segment(events, rows, looked) for rows in link_rows(events, max_gap, max_step_deg)]
    order = {name: index for index, name in enumerate(events.clips)}
    return sorted(segments, key=lambda s: (order[s.clip], s.onset_s, s.class_index, s.azimuth_deg))


def link_rows(
    events: Events, max_gap: int = MAX_GAP_FRAMES, max_step_deg: float = MAX_STEP_DEG
) -> list[npt.NDArray[np.int64]]:
    """Return the row numbers of each event, in the order of time; every row belongs to exactly one event."""
    order = np.lexsort((events.source, events.class_index, events.frame, events.clip))
    frames, table, step = events.frame.tolist(), events.azimuth_deg[:, None], max_step_deg
    if events.elevation_deg is not None:  # on the sphere the chord between directions tells how far apart they are
        table = GEOMETRIES["sphere"].to_vector(events.azimuth_deg, events.elevation_deg)
        step = 2 * math.sin(math.radians(min(max_step_deg, 180.0)) / 2)
    places = table.tolist()
    keys = list(zip(events.clip.tolist(), events.class_index.tolist(), strict=True))
    chains: list[list[int]] = []
    open_chains: dict[tuple[int, int], list[list[int]]] = {}
    for row in order.tolist():
        frame, place = frames[row], places[row]
        alive = [c for c in open_chains.get(keys[row], []) if frame - frames[c[-1]] <= max_gap + 1]
        free = [c for c in alive if frames[c[-1]] < frame]
        nearest = min(free, key=lambda c: math.dist(places[c[-1]], place), default=None)
        if nearest is not None and math.dist(places[nearest[-1]], place) <= step:
            nearest.append(row)
        else:
            alive.append([row])
            chains.append(alive[-1])
        open_chains[keys[row]] = alive
    return [np.asarray(chain, dtype=np.int64) for chain in chains]


def tidy(events: Events, shortest: int = 0, bridged: int = 0) -> Events:
    """Return a frame table without events of fewer than `shortest` frames, pauses of up to `bridged` frames filled.

    A filled row stands between its neighbours: direction and distance on the straight line, all else as before it.
    """
    chains = link_rows(events, max(bridged, MAX_GAP_FRAMES))
    chains = [rows for rows in chains if events.frame[rows[-1]] - events.frame[rows[0]] + 1 >= shortest]
    kept = np.sort(np.concatenate(chains)) if chains else np.zeros(0, np.int64)
    before, frames, shares = [kept], [events.frame[kept]], [np.zeros(len(kept))]
    after = [kept]
    for rows in chains:
        gaps = np.diff(events.frame[rows])
        for place in np.flatnonzero((gaps > 1) & (gaps <= bridged + 1)).tolist():
            steps = np.arange(1, gaps[place])
            before.append(np.full(len(steps), rows[place]))
            after.append(np.full(len(steps), rows[place + 1]))
            frames.append((events.frame[rows[place]] + steps).astype(np.int32))
            shares.append(steps / gaps[place])
    first, last, share = np.concatenate(before), np.concatenate(after), np.concatenate(shares)
    table, azimuth, elevation = events.take(first), events.azimuth_deg, events.elevation_deg
    between = (1 - share) * azimuth[first] + share * azimuth[last]
    if elevation is not None:
        between = np.where(share > 0, wrap(azimuth[first] + share * wrap(azimuth[last] - azimuth[first])), between)
        elevation = (1 - share) * elevation[first] + share * elevation[last]
    return replace(
        table,
        frame=np.concatenate(frames).astype(np.int32),
        azimuth_deg=between,
        elevation_deg=elevation,
        distance_m=(1 - share) * events.distance_m[first] + share * events.distance_m[last],
    ).sorted()


def heard_table(segments: Sequence[Segment], taxonomy: Taxonomy, most: int = 20) -> list[str]:
    """Return lines that tell a person what was heard: class, times, where in words, how far, on screen, how sure."""
    looked = any(s.onscreen is not None for s in segments)
    wide = 12 if all(s.elevation_deg is None for s in segments) else 22
    lines = [f"  {'what':26}{'from':>7}{'to':>8}   {'where':{wide}}{'away':>7}  {'on screen  ' if looked else ''}sure"]
    for s in segments[:most]:
        sure = "–" if np.isnan(s.activity) else f"{min(s.activity, 1.0):.0%}"
        seen = f"{'yes' if s.onscreen else 'no':11}" if looked else ""
        lines.append(
            f"  {taxonomy.classes[s.class_index][:25]:26}{s.onset_s:6.1f}s{s.offset_s:7.1f}s   {_where(s):{wide}}"
            f"{s.distance_m:5.1f} m  {seen}{sure:>4}"
        )
    if len(segments) > most:
        lines.append(f"  … and {len(segments) - most} more events")
    return lines if segments else ["  nothing of the known classes"]


AHEAD_DEG = 5.0
"""Directions nearer to the middle than this are called "ahead", in degrees."""


def _side(s: Segment) -> str:
    return f"{abs(s.azimuth_deg):.0f}° {'left' if s.azimuth_deg > 0 else 'right'}{_height(s)}"


def _where(s: Segment) -> str:
    return f"ahead{_height(s)}" if abs(s.azimuth_deg) < AHEAD_DEG else _side(s)


def _height(s: Segment) -> str:
    return (
        "" if s.elevation_deg is None else f", {abs(s.elevation_deg):.0f}° {'up' if s.elevation_deg >= 0 else 'down'}"
    )


def _segment(table: Events, rows: npt.NDArray[np.int64], looked: bool) -> Segment:
    azimuth, elevation = table.azimuth_deg[rows], table.elevation_deg
    low, middle, high = azimuth.min(), np.median(azimuth), azimuth.max()
    if elevation is not None:  # azimuths on from each other, so that one behind does not lie between left and right
        azimuth = np.unwrap(azimuth, period=360.0)
        low, middle, high = wrap([azimuth.min(), np.median(azimuth), azimuth.max()])
    return Segment(
        clip=table.clips[table.clip[rows[0]]],
        class_index=int(table.class_index[rows[0]]),
        onset_s=float(table.frame[rows[0]]) / LABEL_RATE,
        offset_s=float(table.frame[rows[-1]] + 1) / LABEL_RATE,
        azimuth_deg=float(middle),
        distance_m=float(np.median(table.distance_m[rows])),
        onscreen=bool(table.onscreen[rows].mean() > 0.5) if looked else None,
        activity=float("nan") if table.activity is None else float(table.activity[rows].mean()),
        azimuth_range_deg=(float(low), float(high)),
        elevation_deg=None if elevation is None else float(np.median(elevation[rows])),
    )


def to_json(segments: Iterable[Segment], taxonomy: Taxonomy) -> str:
    """Return a JSON list of events: class name, onset and offset (s), azimuth (degrees), distance (m), on screen.

    Events of the sphere have their elevation too.
    """
    rows = [
        {
            "clip": s.clip,
            "class": taxonomy.classes[s.class_index],
            "class_index": s.class_index,
            "onset_s": round(s.onset_s, 2),
            "offset_s": round(s.offset_s, 2),
            "azimuth_deg": round(s.azimuth_deg, 1),
            "azimuth_range_deg": [round(edge, 1) for edge in s.azimuth_range_deg],
            **({} if s.elevation_deg is None else {"elevation_deg": round(s.elevation_deg, 1)}),
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
        f"{_side(s)} {s.distance_m:.1f} m"
        f"{', on screen' if s.onscreen else ''}\n"
        for s in segments
    )
