"""Visual post-processing: a pure function on the event table, with its symmetries."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people_made import HEIGHT, WIDTH, clip_people

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.vision.fit import count_changes, write_changes
from dcase_seld.vision.keypoints import ClipPeople, mirror_keypoints
from dcase_seld.vision.rules import REASONS, LogisticWeights, PartRule, VisualConfig, gather_evidence, judge

SPEECH, CLAP, STEPS, MUSIC = 0, 2, 6, 8
CONFIG = VisualConfig()


def events_at(azimuths, class_index=SPEECH, frames=range(50), onscreen=False, probability=None):
    """Return one clip's events: source k at azimuth k in every frame."""
    rows = [(frame, k, a) for frame in frames for k, a in enumerate(azimuths)]
    count = len(rows)
    return Events(
        ("clip",),
        np.zeros(count, np.int32),
        np.array([r[0] for r in rows], np.int32),
        np.full(count, class_index, np.int32),
        np.array([r[1] for r in rows], np.int32),
        np.array([r[2] for r in rows], np.float64),
        np.full(count, 2.0),
        np.full(count, onscreen),
        onscreen_probability=None if probability is None else np.full(count, probability, np.float32),
    )


def run(events, people, config=CONFIG, objects=None, taxonomy=DCASE2025):
    given_people = {} if people is None else {"clip": people}
    return judge(events, gather_evidence(events, given_people, taxonomy, config, objects), config)


@pytest.mark.parametrize("class_index", [0, 1, 2, 4, 6])
def test_a_part_at_the_event_puts_it_on_screen_and_pulls_it(class_index):
    judged = run(events_at([25.0], class_index), clip_people([30.0]))
    assert judged.events.onscreen.all()
    np.testing.assert_allclose(judged.events.azimuth_deg, 28.9, atol=0.2)
    assert {REASONS[i] for i in judged.reason} == {"part near"}


def test_a_part_far_from_the_event_puts_it_off_screen():
    judged = run(events_at([-30.0], onscreen=True), clip_people([30.0]))
    assert not judged.events.onscreen.any()
    np.testing.assert_array_equal(judged.events.azimuth_deg, -30.0)
    assert {REASONS[i] for i in judged.reason} == {"part far"}


def test_classes_without_a_body_part_are_left_to_the_network():
    music = events_at([25.0], MUSIC, onscreen=True)
    judged = run(music, clip_people([25.0]))
    np.testing.assert_array_equal(judged.events.onscreen, music.onscreen)
    np.testing.assert_array_equal(judged.events.azimuth_deg, music.azimuth_deg)


@pytest.mark.parametrize("class_index", [SPEECH, MUSIC])
@pytest.mark.parametrize("side", [-1, 1])
def test_beyond_51_degrees_nothing_is_on_screen(class_index, side):
    events = events_at([side * 60.0], class_index, onscreen=True, probability=0.99)
    judged = run(events, clip_people([side * 45.0]))
    assert not judged.events.onscreen.any()
    inside = run(events_at([side * 51.0], MUSIC, onscreen=True, probability=0.9), clip_people([]))
    assert inside.events.onscreen.all(), "the limit itself is on screen"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-89, 89), min_size=1, max_size=3), st.sampled_from([0, 1, 2, 4, 6]), st.floats(0.01, 0.999))
def test_nobody_seen_means_no_human_event_on_screen(azimuths, class_index, probability):
    judged = run(events_at(azimuths, class_index, range(3), True, probability), clip_people([]))
    assert not judged.events.onscreen.any()
    np.testing.assert_array_equal(judged.events.azimuth_deg, np.tile(azimuths, 3))


def mirrored_people(people):
    return replace(people, keypoints=mirror_keypoints(people.keypoints, WIDTH))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-80, 80), min_size=1, max_size=3, unique=True),
    st.lists(st.floats(-48, 48), min_size=0, max_size=3, unique=True),
    st.sampled_from([0, 2, 6, 8]),
    st.floats(0.05, 0.95),
)
def test_a_mirrored_video_gives_mirrored_results(sounds, people, class_index, probability):
    events = events_at(sounds, class_index, range(8), False, probability)
    seen = clip_people(people)
    straight = run(events, seen).events
    mirrored = run(replace(events, azimuth_deg=-events.azimuth_deg), mirrored_people(seen)).events
    np.testing.assert_array_equal(mirrored.onscreen, straight.onscreen)
    np.testing.assert_allclose(mirrored.azimuth_deg, -straight.azimuth_deg, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(3)), st.lists(st.floats(-45, 45), min_size=2, max_size=3, unique=True))
def test_permuting_people_changes_nothing(order, sounds):
    events = events_at(sounds, frames=range(8))
    seen = clip_people([-20.0, 5.0, 33.0])
    straight = run(events, seen).events
    rows = np.lexsort((np.asarray(order)[seen.track], seen.frame))
    shuffled = replace(
        seen, frame=seen.frame[rows], track=np.asarray(order)[seen.track[rows]], keypoints=seen.keypoints[rows],
        score=seen.score[rows], face_score=seen.face_score[rows],
    )  # fmt: skip
    other = run(events, shuffled).events
    np.testing.assert_array_equal(other.onscreen, straight.onscreen)
    np.testing.assert_allclose(other.azimuth_deg, straight.azimuth_deg)


def test_the_order_of_rows_changes_nothing():
    events = events_at([28.0, -12.0], probability=0.4)
    order = np.random.default_rng(0).permutation(len(events))
    seen = clip_people([-10.0, 30.0])
    straight, shuffled = run(events, seen).events, run(events.take(order), seen).events
    np.testing.assert_array_equal(shuffled.onscreen, straight.onscreen[order])
    np.testing.assert_allclose(shuffled.azimuth_deg, straight.azimuth_deg[order])


def test_two_voices_do_not_share_one_mouth():
    judged = run(events_at([8.0, 16.0]), clip_people([10.0]))
    on = judged.events.onscreen.reshape(50, 2)
    assert on[:, 0].all() and not on[:, 1].any()
    both = run(events_at([8.0, 16.0]), clip_people([10.0, 15.0]))
    assert both.events.onscreen.all()
    np.testing.assert_allclose(both.events.azimuth_deg.reshape(50, 2)[0], [9.5, 15.2], atol=0.2)


def test_a_part_at_the_edge_draws_in_an_event_just_beyond_it():
    judged = run(events_at([54.0]), clip_people([48.0]))
    assert judged.events.onscreen.all() and (judged.events.azimuth_deg < 51).all()
    strict = run(events_at([54.0]), clip_people([48.0]), VisualConfig(limit_slack_deg=0))
    assert not strict.events.onscreen.any()


def test_unseen_feet_are_not_on_screen_but_a_hidden_mouth_has_the_nose():
    steps = run(events_at([10.0], STEPS), clip_people([10.0], hidden=("ankle",)))
    assert not steps.events.onscreen.any()
    speech = run(events_at([10.0], SPEECH), clip_people([10.0], hidden=("mouth",)))
    assert speech.events.onscreen.all()


def test_a_walking_person_is_interpolated_between_sampled_frames():
    walk = [[a] for a in np.linspace(-40, 40, 10)]
    events = events_at([0.0], class_index=STEPS)
    truth = np.interp((np.arange(50) + 0.5) / 10, (np.arange(10) + 0.5) / 2, np.linspace(-40, 40, 10))
    events = replace(events, azimuth_deg=truth + 4.0)
    config = VisualConfig(weights={"ankles": LogisticWeights(refine=1.0)}, smooth_frames=1)
    judged = run(events, clip_people(walk), config)
    assert judged.events.onscreen.all()
    np.testing.assert_allclose(judged.events.azimuth_deg[3:47], truth[3:47], atol=1.0)


def test_smoothing_removes_a_single_frame_of_doubt():
    events = events_at([10.0])
    azimuth = events.azimuth_deg.copy()
    azimuth[20] += 25.0  # still within one event, beyond the tolerance
    events = replace(events, azimuth_deg=azimuth)
    seen = clip_people([10.0])
    assert not run(events, seen, VisualConfig(smooth_frames=1)).events.onscreen[20]
    assert run(events, seen, VisualConfig(smooth_frames=5)).events.onscreen[20]


def test_an_unreadable_video_leaves_events_as_they_are():
    events = events_at([10.0, 70.0], onscreen=True)
    judged = run(events, ClipPeople.nothing("cut off", [0.5, 1.5]))
    np.testing.assert_array_equal(judged.events.onscreen, events.onscreen)
    np.testing.assert_array_equal(judged.events.azimuth_deg, events.azimuth_deg)
    assert {REASONS[i] for i in judged.reason} == {"no picture"}


def test_a_video_that_ends_early_judges_only_what_it_shows():
    seen = clip_people([10.0])
    short = replace(seen, seen=seen.times_s < 2.0)
    keep = short.seen[seen.frame]
    short = replace(
        short, frame=seen.frame[keep], track=seen.track[keep], keypoints=seen.keypoints[keep],
        score=seen.score[keep], face_score=seen.face_score[keep],
    )  # fmt: skip
    judged = run(events_at([10.0]), short)
    assert judged.events.onscreen[:20].all() and not judged.events.onscreen[30:].any()
    assert REASONS[judged.reason[-1]] == "no picture"


def test_without_keypoints_only_the_limit_acts():
    events = events_at([10.0, 70.0], MUSIC, onscreen=True)
    judged = run(events, None)
    np.testing.assert_array_equal(judged.events.onscreen, np.tile([True, False], 50))


def test_the_networks_doubt_weighs_against_a_far_part():
    """A source behind the camera, folded near a person, is told by the network's probability."""
    near = clip_people([10.0])
    behind = run(events_at([25.0], probability=0.02), near)
    shown = run(events_at([25.0], probability=0.6), near)
    assert not behind.events.onscreen.any() and shown.events.onscreen.all()


def test_the_field_of_view_is_a_setting():
    sure = {"mouth": LogisticWeights(near=40.0, refine=1.0)}
    wide = run(events_at([30.0]), clip_people([30.0]), VisualConfig(fov_deg=60.0, weights=sure))
    expected = np.degrees(np.arctan(np.tan(np.radians(30)) / np.tan(np.radians(50)) * np.tan(np.radians(30))))
    np.testing.assert_allclose(wide.events.azimuth_deg[0], expected, atol=0.1)


def test_own_classes_and_rules():
    taxonomy = Taxonomy("own", ("Music", "Voice"), ("music", "voice"))
    config = VisualConfig(parts={"Voice": PartRule(part="mouth", tolerance_deg=5.0)})
    judged = run(events_at([12.0], 1), clip_people([10.0]), config, taxonomy=taxonomy)
    assert judged.events.onscreen.all()
    assert not run(events_at([18.0], 1), clip_people([10.0]), config, taxonomy=taxonomy).events.onscreen.any()
    with pytest.raises(SeldError, match="Voices"):
        run(events_at([18.0], 1), None, VisualConfig(parts={"Voices": PartRule(part="mouth")}), taxonomy=taxonomy)
    assert len(run(events_at([18.0], 1), None, taxonomy=taxonomy).events), "default rules pass over absent classes"


def test_changes_are_written_with_their_reason(tmp_path):
    events = events_at([25.0, -40.0], onscreen=True, probability=0.6)
    judged = run(events, clip_people([30.0]))
    write_changes(tmp_path / "changes.csv", events, judged, DCASE2025)
    lines = (tmp_path / "changes.csv").read_text().splitlines()
    assert len(lines) == 101
    assert lines[0].startswith("clip,frame,class,source,azimuth_before_deg")
    assert lines[1].startswith("clip,0,Female speech,0,25.00,2") and lines[1].endswith("part near")
    assert ",1,0," in lines[2] and lines[2].endswith("part far")
    counts = count_changes(events, judged)
    assert counts["switched_off"] == 50 and counts["moved"] == 50 and counts["switched_on"] == 0


def test_an_empty_table_stays_empty():
    assert len(run(Events.empty(("clip",)), clip_people([10.0])).events) == 0
    assert HEIGHT * 16 == WIDTH * 9


def test_a_class_left_to_the_network_keeps_a_decision_by_a_tuned_threshold():
    events = events_at([10.0], 8)
    tuned = replace(
        events, onscreen=np.ones(len(events), bool), onscreen_probability=np.full(len(events), 0.3, np.float32)
    )
    assert run(tuned, clip_people([10.0])).events.onscreen.all()
    sure = replace(tuned, onscreen=~tuned.onscreen, onscreen_probability=1 - tuned.onscreen_probability)
    assert not run(sure, clip_people([10.0])).events.onscreen.any()
