"""Equality with the official label encoding (golden: its 6 dummy tracks A0 B0 B1 C0 C1 C2), and the rule of three."""

from pathlib import Path

import numpy as np
import pytest

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.events import Events
from dcase_seld.core.task import Task
from dcase_seld.store.store import TargetTable

GOLDEN = Path(__file__).parent.parent / "golden" / "data"


def table(rows, clips=("a",)):
    """Rows of (clip, frame, class, source, azimuth, metres, onscreen)."""
    columns = np.array(rows, np.float64).reshape(-1, 7).T
    ints = [column.astype(np.int32) for column in columns[:4]]
    return Events(tuple(clips), *ints, columns[4], columns[5], columns[6].astype(bool))


def made_of(events, classes=13):
    names = tuple(f"class {number}" for number in range(classes))
    return TargetTable(events, Task(classes=Taxonomy("made", names, names)))


def encoded(made, *given):
    """Return (count, source (…, N, D + 2)): direction, distance and on screen side by side."""
    count, direction, *others = made.encode(*given)
    return count, np.concatenate([direction, *(field[..., None] for field in others)], -1)


def golden_events():
    rows = np.loadtxt(GOLDEN / "adpit_labels.csv", delimiter=",", skiprows=1)
    first = np.column_stack([np.zeros(len(rows)), rows[:, :4], rows[:, 4] / 100.0, rows[:, 5]])
    second = first.copy()
    second[:, 0], second[:, 1] = 1, 49 - second[:, 1]
    return table(np.concatenate([first, second]), ("a", "b"))


def dummy_tracks(number, source):
    """Return (B, T, 6, 5, C): the official layout, in which n sources of a class fill the tracks of its nth group."""
    batch, frames, classes = number.shape
    out = np.zeros((batch, frames, 6, 5, classes), np.float32)
    for count, offset in ((1, 0), (2, 1), (3, 3)):
        for track in range(count):
            here = number == count
            full = np.concatenate([np.ones((*number.shape, 1), np.float32), source[..., track, :]], axis=-1)
            out[:, :, offset + track] = np.where(here[..., None], full, 0.0).transpose(0, 1, 3, 2)
    return out


def test_equal_to_the_official_encoding():
    number, source = encoded(made_of(golden_events()), np.array([0, 1]), 50)
    with np.load(GOLDEN / "adpit_target.npz") as archive:
        expected = archive["target"]
    assert np.abs(dummy_tracks(number, source) - expected).max() < 1e-6
    assert number.dtype == np.int64 and source.dtype == np.float32 and number.max() == 3


def test_first_three_in_file_order_count_and_the_rest_is_reported():
    rows = [(0, 4, 1, source, 10 * source, 1 + source, 0) for source in (7, 2, 5, 1, 3)]
    made = made_of(table(rows), 2)
    number, source = encoded(made, np.array([0]), 6)
    assert number[0, 4, 1] == 3 and number.sum() == 3
    assert made.dropped == 2
    assert source[0, 4, 1, :, 2].tolist() == [8.0, 3.0, 6.0]


def test_clips_may_repeat_and_come_in_any_order():
    events = golden_events()
    made = made_of(events)
    number, source = encoded(made, np.array([1, 0, 1]))
    for item, clip in enumerate((1, 0, 1)):
        one_number, one_source = encoded(made, np.array([clip]))
        assert np.array_equal(number[item], one_number[0]) and np.array_equal(source[item], one_source[0])


def test_windows_of_longer_clips():
    events = table([(0, frame, 0, 0, 30, 2, 1) for frame in range(90, 110)])
    number, _ = encoded(made_of(events, 1), np.array([0, 0, 0]), 50, np.array([0, 50, 100]))
    assert number[:, :, 0].sum(axis=1).tolist() == [0, 10, 10]
    assert number[1, 40:, 0].all() and number[2, :10, 0].all()


def test_nothing_sounds():
    number, source = encoded(made_of(Events.empty(["a", "b"]), 4), np.array([0, 1]), 50)
    assert number.shape == (2, 50, 4) and not number.any() and not source.any()


def test_class_outside_the_taxonomy():
    with pytest.raises(ValueError, match="class 5 among events of 4"):
        made_of(table([(0, 0, 5, 0, 0, 1, 0)]), 4)
