import numpy as np
import pytest
import torch
from golden_model import GOLDEN, official_output

from dcase_seld.core.geometry import fold
from dcase_seld.model.network import decode
from dcase_seld.model.types import SeldOutput


def one_cell(*tracks, threshold=0.5, **options):
    """Decode three tracks (azimuth in degrees, length, distance, on-screen logit) of one frame of one class."""
    azimuth, length, distance, logit = (torch.tensor(column).float() for column in zip(*tracks, strict=True))
    xy = torch.stack((torch.cos(azimuth.deg2rad()), torch.sin(azimuth.deg2rad())), -1) * length[:, None]
    output = SeldOutput(xy[None, None, None], distance[None, None, None], logit[None, None, None])
    return decode(output, ["clip"], thresholds=threshold, **options)


def test_equals_official_decoding():
    golden = np.load(GOLDEN / "decode.npz")
    expected = golden["decoded"]
    events = decode(official_output(golden["output_audio_visual"]), ["a", "b"])
    assert len(events) == len(expected) == 2493
    for column, index in ((events.clip, 0), (events.frame, 1), (events.class_index, 2)):
        assert np.array_equal(column, expected[:, index])
    # The official program works in float32.
    assert np.abs(events.azimuth_deg - fold(expected[:, 3])).max() < 1e-4
    assert np.abs(events.distance_m - expected[:, 4]).max() < 1e-6
    assert np.abs(events.onscreen_probability - expected[:, 5]).max() < 1e-6
    assert np.array_equal(events.onscreen, expected[:, 5] > 0.5)


def test_audio_only_output_says_nothing_of_the_screen():
    golden = np.load(GOLDEN / "decode.npz")
    output = official_output(golden["output_audio_visual"])
    events = decode(output._replace(onscreen=None), ["a", "b"])
    assert len(events) == 2493 and not events.onscreen.any() and events.onscreen_probability is None


def test_similar_tracks_become_one_event():
    events = one_cell((10, 0.9, 1.0, 3.0), (20, 0.9, 3.0, -3.0), (60, 0.8, 2.0, 1.0))
    assert events.azimuth_deg == pytest.approx([60, 15], abs=1e-4)
    assert events.distance_m == pytest.approx([2.0, 2.0])
    assert events.source.tolist() == [0, 1]
    assert events.onscreen_probability == pytest.approx([0.7311, 0.9526], abs=1e-4)


def test_chain_of_similar_tracks_becomes_one_event():
    events = one_cell((0, 1.0, 1.0, 0.0), (10, 1.0, 2.0, 0.0), (20, 1.0, 3.0, 0.0))
    assert events.azimuth_deg == pytest.approx([10], abs=1e-4)
    assert events.distance_m == pytest.approx([2.0])


def test_unification_angle_is_an_option():
    assert len(one_cell((0, 1.0, 1.0, 0.0), (10, 1.0, 1.0, 0.0), (90, 0.1, 1.0, 0.0), unify_deg=5.0)) == 2


def test_directions_behind_are_folded():
    events = one_cell((150, 1.0, 1.0, 0.0), (0, 0.0, 1.0, 0.0), (0, 0.0, 1.0, 0.0))
    assert events.azimuth_deg == pytest.approx([30], abs=1e-4)


def test_thresholds_per_class():
    xy = torch.zeros(1, 1, 2, 3, 2)
    xy[..., 0, 0] = 0.4
    output = SeldOutput(xy, torch.ones(1, 1, 2, 3), None)
    assert len(decode(output, ["clip"])) == 0
    assert decode(output, ["clip"], thresholds=np.array([0.3, 0.6])).class_index.tolist() == [0]


def test_activity_and_onscreen_threshold():
    events = one_cell((0, 0.7, 1.0, 1.0), (80, 1.3, 1.0, -1.0), (-80, 0.2, 1.0, 0.0), onscreen_threshold=0.8)
    assert events.activity == pytest.approx([0.7, 1.0])
    assert not events.onscreen.any()


def test_silence_gives_an_empty_table_of_all_clips():
    output = SeldOutput(torch.zeros(2, 50, 13, 3, 2), torch.zeros(2, 50, 13, 3), torch.zeros(2, 50, 13, 3))
    events = decode(output, ["a", "b"])
    assert len(events) == 0 and events.clips == ("a", "b")
