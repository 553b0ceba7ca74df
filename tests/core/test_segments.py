import json
from dataclasses import replace

import numpy as np

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.events import Events
from dcase_seld.core.segments import heard_table, link, tidy, to_audacity, to_json


def table(rows, clips=("a", "b"), activity=None):
    columns = np.array(rows, dtype=float).reshape(-1, 7).T
    return Events(
        clips,
        *(columns[i].astype(np.int32) for i in range(4)),
        columns[4],
        columns[5],
        columns[6].astype(bool),
        activity=activity,
    )


def test_rows_of_one_source_become_one_event_with_half_open_times():
    events = table([[0, f, 12, 0, 30, 2.0, 0] for f in (32, 33, 34, 36)])
    (segment,) = link(events)
    assert (segment.onset_s, segment.offset_s) == (3.2, 3.7)
    assert (segment.class_index, segment.azimuth_deg, segment.distance_m) == (12, 30, 2.0)


def test_a_long_pause_or_a_jump_of_direction_starts_a_new_event():
    pause = table([[0, 0, 1, 0, 0, 1, 0], [0, 4, 1, 0, 0, 1, 0]])
    jump = table([[0, 0, 1, 0, -60, 1, 0], [0, 1, 1, 0, 60, 1, 0]])
    assert len(link(pause)) == 2 and len(link(jump)) == 2


def test_tracks_that_swap_their_numbers_stay_two_events():
    rows = []
    for frame in range(10):
        near, far = (0, 1) if frame % 2 else (1, 0)
        rows += [[0, frame, 0, near, -40 + frame, 1, 1], [0, frame, 0, far, 40 - frame, 3, 0]]
    left_right = sorted((s.azimuth_deg, s.distance_m, s.onscreen) for s in link(table(rows)))
    assert left_right == [(-35.5, 1.0, True), (35.5, 3.0, False)]


def test_events_of_two_clips_and_classes_do_not_mix():
    events = table([[1, 0, 1, 0, 0, 1, 0], [0, 1, 1, 0, 0, 1, 0], [0, 1, 2, 0, 0, 1, 0]])
    assert [(s.clip, s.class_index) for s in link(events)] == [("a", 1), ("a", 2), ("b", 1)]


def test_written_forms():
    events = table([[0, 0, 11, 0, -30, 2.5, 1]], activity=np.array([0.75], np.float32))
    (row,) = json.loads(to_json(link(events), DCASE2025))
    assert row["class"] == "Bell" and row["offset_s"] == 0.1 and row["onscreen"] is True and row["activity"] == 0.75
    assert to_audacity(link(events), DCASE2025) == "0.000\t0.100\tBell 30° right 2.5 m, on screen\n"
    assert to_json([], DCASE2025) == "[]"


def around(rows):
    """Return a table of one class on the sphere: frame, azimuth, elevation."""
    rows = np.array(rows, float)
    events = table([[0, frame, 1, 0, azimuth, 1, 0] for frame, azimuth, _ in rows])
    return replace(events, elevation_deg=rows[:, 2])


def test_a_source_behind_is_one_event_at_the_back():
    (one,) = link(around([[0, 170, 0], [1, 178, 10], [2, -176, 20], [3, -174, 30]]))
    assert (one.azimuth_deg, one.elevation_deg, one.azimuth_range_deg) == (-179, 15, (170, -174))
    (row,) = json.loads(to_json([one], DCASE2025))
    assert (row["azimuth_deg"], row["elevation_deg"], row["azimuth_range_deg"]) == (-179, 15, [170, -174])
    assert "179° right, 15° up" in heard_table([one], DCASE2025)[1]
    assert "Male speech 179° right, 15° up 1.0 m" in to_audacity([one], DCASE2025)


def test_above_all_azimuths_are_near_and_elevations_part_events():
    assert len(link(around([[0, 0, 88], [1, 150, 88]]))) == 1
    assert len(link(around([[0, 0, -30], [1, 0, 30]]))) == 2


def test_a_bridged_pause_behind_goes_the_short_way():
    events = tidy(around([[0, 170, 0], [2, -170, 20]]), bridged=1)
    assert (events.frame.tolist(), events.azimuth_deg.tolist()) == ([0, 1, 2], [170, -180, -170])
    assert events.elevation_deg.tolist() == [0, 10, 20]


def test_turning_all_turns_the_events():
    rng = np.random.default_rng(3)
    rows = [[f, (40 * s + 7 * f + rng.normal()) % 360 - 180, 20 * s - 30] for f in range(30) for s in range(3)]
    turned = [[f, (a + 90 + 180) % 360 - 180, e] for f, a, e in rows]
    for one, other in zip(link(around(rows)), sorted_like(link(around(turned))), strict=True):
        assert (one.onset_s, one.offset_s, one.elevation_deg) == (other.onset_s, other.offset_s, other.elevation_deg)
        assert abs((other.azimuth_deg - one.azimuth_deg - 90 + 180) % 360 - 180) < 1e-9


def sorted_like(segments):
    return sorted(segments, key=lambda s: (s.onset_s, s.class_index, (s.azimuth_deg - 90 + 180) % 360 - 180))
