import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scored import score_events

from dcase_seld.core.events import Events
from dcase_seld.report import sections
from dcase_seld.report.charts import Series, bars, heatmap, lines
from dcase_seld.report.errors import (
    BUDGET,
    budget,
    calibration,
    changed_predictions,
    clip_scores,
    confusion,
    errors_by,
    onscreen_table,
    pair,
    polyphony,
)
from dcase_seld.report.run import Run, difference
from dcase_seld.scoring.counts import COUNTS, count_events

NAMES = tuple(f"fold4_room1_mix{n:03d}_deg000_start{n:04d}" for n in range(12))


def events(rows, clips=("a",), activity=None):
    """Return a table of rows (clip, frame, class, azimuth, distance, on screen)."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    clip, frame, kind, azimuth, distance, onscreen = columns
    source = np.zeros(len(rows), np.int32)
    return Events(
        tuple(clips),
        clip.astype(np.int32),
        frame.astype(np.int32),
        kind.astype(np.int32),
        source,
        azimuth.astype(float),
        distance.astype(float),
        onscreen.astype(bool),
        None if activity is None else np.array(activity, np.float32),
    )


def random_run(name, seed, spread=15.0):
    truth_rng, rng = np.random.default_rng(5), np.random.default_rng(seed)
    rows = [
        (clip, frame, truth_rng.integers(0, 4), truth_rng.integers(-90, 90), 1.0 + truth_rng.integers(0, 3), 0)
        for clip in range(len(NAMES))
        for frame in range(30)
        for _ in range(truth_rng.integers(0, 3))
    ]
    truth = events(rows, NAMES)
    kept = truth.take(rng.random(len(truth)) < 0.8)
    guess = replace(kept, azimuth_deg=np.clip(np.rint(kept.azimuth_deg + rng.normal(0, spread, len(kept))), -90, 90))
    return Run(name, guess, truth)


def test_pairs_are_those_that_are_scored():
    run = random_run("x", 1)
    pairs = pair(run.prediction, run.reference, 13)
    counts = count_events(run.prediction, run.reference, protocol="complete").values.sum(axis=(1, 2))
    assert len(pairs.reference) == counts[COUNTS.index("match")]
    error = np.abs(run.reference.azimuth_deg[pairs.reference] - run.prediction.azimuth_deg[pairs.prediction])
    assert error.sum() == pytest.approx(counts[COUNTS.index("azimuth_error")])
    assert len(pairs.reference) + len(pairs.confused_reference) + len(pairs.missed) == len(run.reference)
    assert len(pairs.prediction) + len(pairs.confused_prediction) + len(pairs.extra) == len(run.prediction)


def test_confusion_sees_right_wrong_missed_and_invented():
    truth = events([(0, 0, 2, 10, 2, 1), (0, 0, 5, -60, 2, 0), (0, 1, 5, -60, 2, 0), (0, 2, 7, 0, 2, 0)])
    guess = events([(0, 0, 2, 80, 2, 1), (0, 0, 6, -55, 2, 1), (0, 1, 6, 60, 2, 0), (0, 2, 7, 5, 2, 1)])
    run = Run("x", guess, truth)
    pairs = pair(guess, truth, 13)
    table = confusion(run, pairs)
    assert {(i, j): int(table[i, j]) for i, j in zip(*np.nonzero(table), strict=True)} == {
        (2, 2): 1,
        (5, 6): 1,
        (5, 13): 1,
        (7, 7): 1,
        (13, 6): 1,
    }
    assert onscreen_table(run, pairs).tolist() == [[0, 1], [0, 1]]


def test_errors_in_bins():
    truth = events([(0, 0, 0, 0, 2, 0), (0, 0, 1, 40, 2, 0), (0, 1, 0, -90, 8, 0), (0, 2, 0, 90, 0.5, 0)])
    guess = events([(0, 0, 0, 10, 3, 0), (0, 0, 1, 70, 2, 0), (0, 2, 0, 90, 2, 0)])
    run = Run("x", guess, truth)
    pairs = pair(guess, truth, 13)
    assert polyphony(run).tolist() == [2, 2, 1, 1]
    by = errors_by(run, pairs, "azimuth")
    assert by.labels[0] == "-80" and by.count.tolist() == [1, 0, 0, 0, 1, 0, 1, 0, 1]
    assert by.angle[4] == 10 and by.angle[6] == 30 and math.isnan(by.angle[0])
    assert by.recall[[0, 4, 6, 8]].tolist() == [0, 1, 0, 0]
    far = errors_by(run, pairs, "distance")
    assert far.labels[-1] == "6+" and far.distance[0] == 3.0 and far.distance[3] == 0.25
    assert errors_by(run, pairs, "polyphony").count.tolist() == [2, 2, 0, 0]
    assert errors_by(run, pairs, "class").count[:2].tolist() == [3, 1]


def test_calibration_is_the_share_of_right_predictions():
    truth = events([(0, frame, 0, 0, 2, 0) for frame in range(10)])
    activity = [0.55] * 5 + [0.95] * 5
    guess = events([(0, f, 0, 0 if f in (0, 5, 6, 7, 8, 9) else 50, 2, 0) for f in range(10)], activity=activity)
    run = Run("x", guess, truth)
    mean, right, count = calibration(run, pair(guess, truth, 13))
    assert mean == pytest.approx([0.55, 0.95]) and right.tolist() == [0.2, 1.0] and count.tolist() == [5, 5]
    assert calibration(replace(run, prediction=replace(guess, activity=None)), pair(guess, truth, 13)) is None


def test_paired_difference_equals_leaving_each_recording_out():
    first, second = random_run("x", 1), random_run("y", 2, spread=40)
    found = difference(first, second)["f_score"]

    def f_score(run, names):
        return score_events(run.prediction.select_clips(names), run.reference.select_clips(names)).f_score

    whole = f_score(second, NAMES) - f_score(first, NAMES)
    parts = []
    for left_out in NAMES:
        names = [name for name in NAMES if name != left_out]
        parts.append(f_score(second, names) - f_score(first, names))
    n, mean = len(parts), np.mean(parts)
    error = math.sqrt((n - 1) * np.mean((np.array(parts) - mean) ** 2))
    estimate = n * whole - (n - 1) * mean
    assert found["value"] == pytest.approx(whole) and whole < 0
    assert (found["low"] + found["high"]) / 2 == pytest.approx(estimate)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(2.2009851600916384 * error)  # t, 97.5 %, 11 degrees
    assert found["units"] == 12


def test_a_run_does_not_differ_from_itself_and_one_recording_is_not_enough():
    run = random_run("x", 1)
    same = difference(run, run)["doa_error_deg"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    one = Run("x", run.prediction.select_clips(NAMES[:1]), run.reference.select_clips(NAMES[:1]))
    assert difference(one, one) == {}


def test_clip_scores_are_one_for_perfect_clips():
    run = random_run("x", 1)
    perfect = Run("p", run.reference, run.reference)
    assert set(clip_scores(perfect).values()) == {1.0} and min(clip_scores(run).values()) < 1


def full_run(seed, lost=0.2, invented=0.1, wrong=0.2, spread=15.0, order=None):
    """Return a run in which all 13 classes occur and every fault does: rows out of order, sources at one azimuth."""
    rng = np.random.default_rng(seed)
    rows = [
        (clip, frame, rng.integers(0, 13), 10 * rng.integers(-9, 10), 0.5 * rng.integers(1, 9), rng.integers(0, 2))
        for clip in range(len(NAMES))
        for frame in range(40)
        for _ in range(rng.integers(0, 5))
    ]
    truth = events(rows, NAMES)
    guess = truth.take(rng.random(len(truth)) >= lost)
    n = len(guess)
    guess = replace(
        guess,
        azimuth_deg=np.clip(guess.azimuth_deg + rng.normal(0, spread, n), -90, 90),
        distance_m=guess.distance_m * rng.lognormal(0, 0.6, n) if spread else guess.distance_m,
        onscreen=guess.onscreen ^ (rng.random(n) < wrong),
        class_index=np.where(rng.random(n) < wrong, rng.integers(0, 13, n), guess.class_index).astype(np.int32),
        frame=np.where(rng.random(n) < invented, rng.integers(0, 40, n), guess.frame).astype(np.int32),
    )
    return Run("x", guess.take(rng.permutation(n)) if order is None else guess, truth)


def test_perfect_labels_give_everything_in_every_row_of_the_budget():
    run = full_run(3, lost=0, invented=0, wrong=0, spread=0, order="kept")
    found = budget(run)
    assert list(found) == list(BUDGET)
    assert {score.f_score for score in found.values()} == {score.f_score_onscreen for score in found.values()} == {1.0}
    assert "true on-screen flags" not in budget(replace(run, track="a"))


def same(one, other):
    return all(one.figures[name] == pytest.approx(value, rel=1e-12) for name, value in other.figures.items()) and (
        one.classwise["f_score_onscreen"] == pytest.approx(other.classwise["f_score_onscreen"], rel=1e-12)
    )


@pytest.mark.parametrize("protocol", ["official", "complete"])
def test_every_row_of_the_budget_is_a_score_and_puts_right_what_it_says(protocol, monkeypatch):
    monkeypatch.setattr("dcase_seld.report.errors.BUDGET_CLIPS", 5)
    run = replace(full_run(4), protocol=protocol)
    run = replace(run, prediction=run.prediction.select_clips(NAMES[1:]))  # one clip has no file
    changed, found = changed_predictions(run), budget(run)
    plain = score_events(run.prediction, run.reference, protocol=protocol)
    assert same(found["as it is"], plain)
    for name, prediction in changed.items():
        again = score_events(prediction, run.reference, protocol=protocol)
        assert same(again, found[name])
        assert again.f_score_onscreen >= plain.f_score_onscreen and name in BUDGET
    counts = {
        name: dict(zip(COUNTS, count_events(p, run.reference, protocol=protocol).values.sum(axis=(1, 2)), strict=True))
        for name, p in changed.items()
    }
    assert counts["true directions"]["azimuth_error"] == 0 < counts["as it is"]["azimuth_error"]
    both = counts["true directions and distances"]
    assert both["hit"] == both["match"] == counts["as it is"]["match"]
    assert counts["true distances"]["distance_error"] == 0
    assert counts["true on-screen flags"]["hit_onscreen"] == counts["as it is"]["hit"]
    assert counts["no misses"]["miss"] == 0 < counts["as it is"]["miss"]
    assert counts["no false alarms"]["extra"] == 0 < counts["as it is"]["extra"]
    assert counts["true classes within 20°"]["azimuth_right"] > counts["as it is"]["azimuth_right"]
    assert found["all of it true"].f_score_onscreen == 1.0


def test_classes_are_put_right_for_as_many_as_possible_within_20_degrees():
    truth = events([(0, 0, 1, 0, 2, 0), (0, 0, 2, 30, 2, 0), (0, 9, 1, 0, 2, 0)])
    guess = events([(0, 0, 1, 90, 2, 0), (0, 0, 5, 15, 2, 0), (0, 0, 6, 45, 2, 0), (0, 0, 7, -45, 2, 0)])
    changed = changed_predictions(Run("x", guess, truth))["true classes within 20°"]
    # The prediction of the right class is 90° away: another one within 20° takes its place.
    assert changed.class_index.tolist() == [1, 1, 2, 7]


def test_charts_say_what_is_not_there_and_escape_names():
    bar = bars("a < b", ["one", "two"], [Series("s", [math.nan, 2.0])])
    assert "a &lt; b" in bar and bar.count("<rect") == 1 and "–" in bar
    assert "nothing to show" in lines("t", [[]], [Series("s", [])], "x")
    assert re.findall(r">(\d+)</text>", lines("t", [[1, 12]], [Series("s", [0, 4])], "x"))[-4:] == ["1", "4", "7", "10"]
    assert lines("t", [[0, 1, 2]], [Series("s", [1, math.nan, 3])], "x").count("<circle") == 2
    assert heatmap("t", ["a"], ["a", "b"], [[1, 3]]).count("<rect") == 2 and "75" in heatmap(
        "t", ["a"], ["a", "b"], [[1, 3]]
    )


def test_pairs_of_many_clips_are_found_some_clips_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    names = [f"c{number}" for number in range(11)]

    def table(clips):
        clip = np.sort(rng.integers(0, len(clips), 400)).astype(np.int32)
        whole = [rng.integers(0, most, 400).astype(np.int32) for most in (5, 3, 2)]
        return Events(tuple(clips), clip, *whole, rng.uniform(-90, 90, 400), np.ones(400), np.zeros(400, bool))

    run = Run("r", table([*names[::-1], "unknown"]), table(names))
    whole = pair(run.prediction, run.reference, 13)
    monkeypatch.setattr(sections, "BUDGET_CLIPS", 4)
    for name, rows in vars(sections.paired(run)).items():
        assert len(rows) and sorted(rows.tolist()) == sorted(getattr(whole, name).tolist())
    some = sections.paired(run)
    assert {*zip(some.reference, some.prediction, strict=True)} == {
        *zip(whole.reference, whole.prediction, strict=True)
    }
