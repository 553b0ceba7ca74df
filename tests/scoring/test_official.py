import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_scorer import count, figures, leave_one_out
from scored import score_events

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.csv_rows import HEADER, Limits
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import events_of_rows, in_batches, list_csv, read_folder, write_folder
from dcase_seld.corpus.stats import label_stats
from dcase_seld.scoring.counts import count_events
from dcase_seld.scoring.figures import FIGURES
from dcase_seld.scoring.intervals import jackknife, student_t
from dcase_seld.scoring.official import count_clips, format_scores, scores_of

GOLDEN = Path(__file__).parent.parent / "golden" / "scores"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
SETTINGS = {
    "track_a_macro": ("a", "macro", "f_score"),
    "track_b_macro": ("b", "macro", "f_score_onscreen"),
    "track_b_no_onscreen_macro": ("b", "macro", "f_score"),
    "track_a_micro": ("a", "micro", "f_score"),
    "track_b_micro": ("b", "micro", "f_score_onscreen"),
}


def load(case):
    return read_folder(GOLDEN / case / "prediction"), read_folder(GOLDEN / case / "reference")


def close(got, expected):
    if expected is None:
        return got is None or math.isnan(got)
    return math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-9)


def test_all_golden_cases_are_here():
    assert CASES == [
        "big_source", "gaps", "same_class", "same_source_zero", "typical", "unsorted", "wide_azimuth", "zero_distance"
    ]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_official_program(case, setting):
    expected = json.loads((GOLDEN / case / "expected.json").read_text())[setting]
    track, average, f_name = SETTINGS[setting]
    scores = score_events(*load(case), average=average, track=track).to_json()
    for name, value in expected.items():
        if name == "classwise":
            for inner, values in value.items():
                got = scores["classwise"][f_name if inner == "f_score" else inner]
                assert got is None if track == "a" and inner == "onscreen_accuracy" else all(map(close, got, values))
        elif track == "a" and name == "onscreen_accuracy":
            assert scores[name] is None and scores["f_score_onscreen"] is None
        else:
            assert close(scores[f_name if name == "f_score" else name], value), name


@pytest.mark.parametrize("case", [c for c in CASES if (GOLDEN / c / "expected_jackknife.json").exists()])
def test_jackknife_equals_the_official_definition(case):
    counts = count_events(*load(case))
    for setting, expected in json.loads((GOLDEN / case / "expected_jackknife.json").read_text()).items():
        track, average, f_name = SETTINGS[setting]
        got = jackknife(counts, average=average, track=track)
        for name, entry in expected.items():
            if track == "a" and name == "onscreen_accuracy":
                assert got[name] is None
                continue
            ours = got[f_name if name == "f_score" else name]
            assert all(close(ours[key], entry[key]) for key in ("value", "estimate", "std_err"))
            assert all(map(close, ours["interval"], entry["interval"]))


# Few classes, frames and azimuths, so that ties, repeated sources and crowded frames are common.
ROW = st.tuples(
    st.integers(0, 5),
    st.integers(0, 2),
    st.sampled_from([0, 0, 1, 1, 2, 3, 9, 10, 14]),
    st.sampled_from([-540, -200, -170, -90, -30, -20, -10, 0, 0, 10, 20, 30, 90, 110, 179, 200, 360]),
    st.sampled_from([0, 1, 50, 100, 100, 101, 200, 350]),
    st.integers(0, 1),
)
CLIPS = st.lists(st.tuples(st.lists(ROW, max_size=40), st.lists(ROW, max_size=25)), min_size=2, max_size=4)


def table(clips, names):
    rows = np.array([row for clip in clips for row in clip], np.int32).reshape(-1, 6)
    return events_of_rows(rows, names, [len(clip) for clip in clips])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(CLIPS)
def test_scores_equal_a_slow_plain_scorer_on_random_cases(clips):
    names = [f"clip{number}" for number in range(len(clips))]
    prediction, reference = (table([clip[side] for clip in clips], names) for side in (0, 1))
    for protocol in ("official", "complete"):
        slow = [count(p, r, 3, protocol == "complete") for p, r in clips]
        counts = count_events(prediction, reference, n_classes=3, protocol=protocol)
        np.testing.assert_allclose(np.moveaxis(counts.values, 0, 2), slow, rtol=1e-12, atol=1e-9)
        for average in ("macro", "micro"):
            scores = scores_of(counts, average=average)
            overall, classwise = figures(slow, 3, average)
            for place, name in enumerate(FIGURES):
                assert close(getattr(scores, name), overall[place])
                assert all(map(close, scores.classwise[name], [row[place] for row in classwise]))


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("case", ["same_class", "zero_distance"])
def test_jackknife_equals_a_slow_plain_one_also_beside_huge_numbers(case, average):
    prediction, reference = load(case)
    counts = count_events(prediction, reference)
    clips = np.moveaxis(counts.values, 0, 2).tolist()
    ours = jackknife(counts, average=average)
    for name, slow in zip(FIGURES, leave_one_out(clips, 13, average), strict=True):
        entry = ours[name]
        got = (entry["value"], entry["estimate"], entry["std_err"], *entry["interval"])
        np.testing.assert_allclose(got, slow, rtol=1e-9)


def test_more_than_ten_sources_overwrite_the_first_track():
    reference = table([[(0, 0, 0, 0, 100, 1), (1, 0, 0, 0, 100, 1)]], ["x"])
    guesses = [(0, 0, source, 80, 100, 1) for source in range(10)]
    eleventh = table([[*guesses, (0, 0, 3, 0, 100, 1)]], ["x"])
    twelfth = table([[*guesses, (0, 0, 3, 0, 100, 1), (0, 0, 7, 60, 100, 1)]], ["x"])
    hit, overwritten = (score_events(p, reference, n_classes=1).doa_error_deg for p in (eleventh, twelfth))
    assert (hit, overwritten) == (0.0, 60.0)


def test_protocols_differ_in_last_frame_silent_clips_and_missing_files():
    row = (0, 0, 0, 10, 100, 0)
    reference = table([[row, (1, *row[1:])], [], [row, (1, *row[1:])]], ["spoken", "silent", "lost"])
    prediction = table([[row], [row]], ["spoken", "silent"])
    official = score_events(prediction, reference, n_classes=1)
    complete = score_events(prediction, reference, n_classes=1, protocol="complete")
    assert (official.clips, official.f_score) == (2, 1.0)
    assert complete.clips == 3
    # One hit; missed: the last frame and both frames of the lost clip; one false alarm in the silent clip.
    assert complete.f_score == pytest.approx(1 / (1 + 0.5 * (1 + 3)))


def test_float_events_score_as_the_csv_will_hold_them():
    reference = table([[(0, 0, 0, 0, 100, 0), (9, 0, 0, 0, 100, 0)]], ["x"])
    prediction = table([[(0, 0, 0, 0, 100, 0)]], ["x"])
    prediction.azimuth_deg[:] = 20.4  # rounds to the threshold, which passes
    prediction.distance_m[:] = 2.004
    assert score_events(prediction, reference, n_classes=1).f_score == 1.0
    prediction.azimuth_deg[:] = 20.6
    assert score_events(prediction, reference, n_classes=1).f_score == 0.0


def test_directions_all_around_are_compared_on_the_sphere():
    rows = [(0, 0, 0, 170, 100, 0), (1, 0, 0, 0, 100, 0), (2, 0, 0, 0, 100, 0), (9, 0, 0, 0, 100, 0)]
    reference, prediction = (replace(table([rows], ["x"]), elevation_deg=np.array([0, 80, 0, 0.0])) for _ in range(2))
    prediction.azimuth_deg[:] = [-175, 90, 180, 0]  # across the seam; far round but near the pole; behind
    reference.azimuth_deg[0] = 170
    scores = score_events(prediction, reference, n_classes=1)
    near = math.degrees(math.acos(math.sin(math.radians(80)) ** 2))
    assert scores.doa_error_deg == pytest.approx((15 + near + 180) / 3)
    assert scores.f_score == pytest.approx(2 / 3)
    folded = score_events(replace(prediction, elevation_deg=None), replace(reference, elevation_deg=None), n_classes=1)
    assert folded.doa_error_deg == pytest.approx((15 + 90 + 0) / 3)


def test_scores_do_not_depend_on_the_order_of_clips():
    prediction, reference = load("same_class")
    names = list(reference.clips)
    turned = score_events(prediction.select_clips(names[::-1]), reference)
    assert turned.to_json() == score_events(prediction, reference).to_json()


def test_nothing_matched_is_null_in_json_and_a_dash_in_the_table():
    reference = table([[(0, 0, 0, 0, 100, 0), (3, 0, 0, 0, 100, 0)]], ["x"])
    silence = table([[]], ["x"])
    scores = score_events(silence, reference)
    plain = scores.to_json()
    assert plain["f_score"] == 0.0 and plain["doa_error_deg"] is None and plain["jackknife"] is None
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert "–" in format_scores(scores, DCASE2025.classes)
    lone = jackknife(count_events(silence, reference))
    assert math.isnan(lone["f_score"]["interval"][0])


def test_unknown_clips_are_named():
    with pytest.raises(SeldError, match="stranger"):
        score_events(table([[]], ["stranger"]), table([[]], ["x"]))


def test_jackknife_by_recording_leaves_all_windows_of_one_recording_out():
    prediction, reference = load("typical")
    twice = [f"fold4_room1_mix{n // 2:03d}_deg{n % 2:03d}_start0000" for n in range(len(reference.clips))]
    order = {name: new for name, new in zip(reference.clips, twice, strict=True)}
    renamed = [type(t)(tuple(order[n] for n in t.clips), *list(vars(t).values())[1:]) for t in (prediction, reference)]
    counts = count_events(*renamed)
    clips = np.moveaxis(counts.values, 0, 2)
    pairs = [(clips[k] + clips[k + 1]).tolist() for k in range(0, len(clips), 2)]
    expected = leave_one_out(pairs, 13, "macro")[0]
    entry = jackknife(counts, by="recording")["f_score"]
    np.testing.assert_allclose((entry["value"], entry["estimate"], entry["std_err"], *entry["interval"]), expected)
    assert entry != jackknife(counts)["f_score"]
    with pytest.raises(SeldError, match="sample1"):
        jackknife(count_events(table([[]], ["sample1"]), table([[]], ["sample1"])), by="recording")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 23, 100, 1999, 29_999])
def test_student_quantiles_equal_scipy(freedom):
    from scipy import stats

    for probability in (0.6, 0.95, 0.975, 0.999):
        assert student_t(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-11)
    assert student_t(0.025, freedom) == -student_t(0.975, freedom)


@pytest.mark.parametrize("wrong", [{"track": "c"}, {"average": "mean"}, {"protocol": "Official"}])
def test_a_mistyped_setting_is_refused_and_not_taken_for_another(wrong):
    with pytest.raises(SeldError, match=f"{next(iter(wrong))} is .*Give one of"):
        score_events(*load(CASES[0]), **wrong)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 2,000 files with 300 rows each (one file under many names)."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(4)
    rows = zip(*(rng.integers(0, most, 300).tolist() for most in (50, 13, 3, 90, 500, 2)), strict=True)
    first = folder / "clip0000.csv"
    first.write_text(f"{HEADER}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    for number in range(1, 2000):
        (folder / f"clip{number:04d}.csv").hardlink_to(first)
    return folder


def test_memory_grows_by_the_sums_of_a_clip_and_not_by_its_rows(many):
    files = list_csv(many)

    def peak(work, clips):
        tracemalloc.start()
        work(files[:clips])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    for work in (
        lambda part: count_clips(part, part, Limits(), "official"),
        lambda part: label_stats(in_batches(part, Limits()), DCASE2025),
    ):
        small, large = peak(work, 500), peak(work, 2000)
        assert (large - small) / 1500 < 4_000, "bytes a clip; its rows alone take 9,000"
        assert small < 40e6


def test_counting_files_in_batches_equals_counting_tables(tmp_path):
    prediction, reference = load("typical")
    reference = reference.select_clips(reference.clips[::-1])
    kept = [name for name in prediction.clips if name != prediction.clips[5]]
    write_folder(prediction.select_clips(kept), tmp_path / "pred")
    write_folder(reference, tmp_path / "ref")
    sides = [list_csv(tmp_path / side) for side in ("pred", "ref")]
    for protocol in ("official", "complete"):
        for size in (1, 7, 1000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("dcase_seld.core.event_files.BATCH_CLIPS", size)
                found = count_clips(*sides, Limits(), protocol)
            whole = count_events(prediction.select_clips(kept), read_folder(tmp_path / "ref"), protocol=protocol)
            assert found.clips == whole.clips
            np.testing.assert_array_equal(found.values, whole.values)


def test_all_mistaken_files_are_named_although_they_are_read_in_batches(many, tmp_path):
    for number in range(600):
        text = (many / "clip0000.csv").read_text() + ("60,1,0,4,100,0\n" if number % 150 == 3 else "")
        (tmp_path / f"clip{number:04d}.csv").write_text(text)
    files = list_csv(tmp_path)
    others = r"\(3 more file\(s\) have mistakes: clip0153.csv, clip0303.csv, clip0453.csv.\)"
    with pytest.raises(SeldError, match=r"clip0003.csv, line 302: frame 60 .*" + others):
        count_clips(files, files, Limits(), "official")
