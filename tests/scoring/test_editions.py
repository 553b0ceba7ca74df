"""The scores of 2024 and 2023 equal those of the official programs, and those of slow plain ones on random cases."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from edition_scorer import figures as slow_figures
from edition_scorer import frame_sums, interval, segment_sums
from hypothesis import given, settings
from hypothesis import strategies as st

import dcase_seld
from dcase_seld.cli.score import score
from dcase_seld.core.csv_rows import parse_numbers
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.scoring.editions import SUMS, Sources, count_sources, sources_of
from dcase_seld.scoring.figures import EDITION_FIGURES
from dcase_seld.scoring.official import edition_scores

GOLDEN = Path(__file__).parent.parent / "golden" / "editions"
CASES = sorted(f"{case.parent.name}/{case.name}" for case in GOLDEN.glob("20*/*"))


def close(got, expected, tolerance=1e-8):
    if isinstance(expected, dict):
        return all(close(got[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, list):
        return all(close(one, other, tolerance) for one, other in zip(got, expected, strict=True))
    if expected is None or got is None:
        return expected is None and got is None
    return math.isclose(got, expected, rel_tol=tolerance, abs_tol=1e-9)


def run(*words):
    return CliRunner().invoke(score, list(map(str, words)), catch_exceptions=False)


def scored(folder, case, *options):
    """Return what the command writes of a case."""
    task = f"dcase{case[:4]}"
    words = ["--task", task, "--pred", GOLDEN / case / "prediction", "--ref", GOLDEN / case / "reference"]
    done = run(*words, "--json", folder / "s.json", *options)
    assert done.exit_code == 0, done.output
    return json.loads((folder / "s.json").read_text())


def test_all_golden_cases_are_here():
    assert CASES == [
        "2023/edges", "2023/gaps", "2023/integers", "2023/typical", "2024/cartesian", "2024/gaps", "2024/integers",
        "2024/poles", "2024/same_class", "2024/typical",
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_official_programs(case, tmp_path):
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    allowed = ["--allow-missing"] if case.endswith("gaps") else []
    macro = scored(tmp_path, case, "--jackknife", *allowed)
    micro = scored(tmp_path, case, "--average", "micro", *allowed)
    assert micro["jackknife"] is None
    for got, wanted in ((macro, expected["macro"]), (micro, expected["micro"])):
        for name, value in wanted.items():
            tolerance = 1e-5 if case == "2023/integers" and name == "LE_deg" else 1e-8
            assert close(got[name], value, tolerance), name
    names = [one.name for one in EDITION_FIGURES[macro["task"]]]
    assert list(macro) == ["average", "protocol", "clips", "task", *names, "classwise", "jackknife"]
    tolerance = 1e-5 if case == "2023/integers" else 1e-8
    for name in names:
        ours, wanted = macro["jackknife"][name], expected["interval95_macro"]
        assert close(ours["interval"], wanted[name], tolerance), name
        assert close(ours["classwise"], wanted["classwise"][name], tolerance), name
        assert ours["value"] == macro[name]  # not that of the last round


# Few places, so that ties, crowded frames and frames without a partner are common.
ROW = st.tuples(
    st.integers(0, 24),
    st.integers(0, 3),
    st.sampled_from([-180, -170, -90, -20, -10, 0, 10, 20, 30, 90, 179, 370]),
    st.sampled_from([-90, -60, 0, 0, 0, 10, 60, 89]),
    st.sampled_from([0, 0.5, 1, 1, 2, 3.5]),
)
CLIPS = st.lists(st.tuples(st.lists(ROW, max_size=30), st.lists(ROW, max_size=30)), min_size=1, max_size=3)


def table(clips):
    rows = np.array([row for clip in clips for row in clip], float).reshape(-1, 5)
    clip = np.repeat(np.arange(len(clips)), [len(one) for one in clips])
    names = tuple(f"clip{number}" for number in range(len(clips)))
    events = Events(
        names, clip.astype(np.int32), rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int32),
        np.zeros(len(rows), np.int32), rows[:, 2], rows[:, 4], np.zeros(len(rows), bool), elevation_deg=rows[:, 3],
    )  # fmt: skip
    return sources_of(events)


def slow_sums(task, protocol, truth, guess, clip, classes=3):
    """Return the slow scorer's sums of one clip."""
    sides = [
        list(zip(side.frame[rows].tolist(), side.sound[rows].tolist(), side.place[rows].tolist(), strict=True))
        for side in (truth, guess)
        for rows in [side.clip == clip]
    ]
    last = max((row[0] for row in sides[0]), default=0) if protocol == "official" else 30
    return (frame_sums if task == "dcase2024" else segment_sums)(*sides, classes, last)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(CLIPS)
@pytest.mark.parametrize("task", ["dcase2024", "dcase2023"])
@pytest.mark.parametrize("protocol", ["official", "complete"])
def test_sums_equal_those_of_slow_plain_scorers(task, protocol, clips):
    truth, guess = table([one for one, _ in clips]), table([other for _, other in clips])
    names, sums = count_sources(guess, truth, task=task, n_classes=3, protocol=protocol)
    assert names == truth.clips
    for clip in range(len(clips)):
        slow, errors = slow_sums(task, protocol, truth, guess, clip)
        assert sums[SUMS.index("errors"), clip].sum() == errors
        for kind, expected in enumerate(slow):
            got = {name: sums[SUMS.index(name), clip, kind] for name in expected}
            assert got == pytest.approx(expected, rel=1e-9, abs=3e-6)


# Clips of few rows, so that figures and intervals of all but one meet classes and clips of which nothing is scored:
# a reference with its last frame alone, an empty prediction, a missing one.
SPARSE = st.lists(
    st.tuples(st.lists(ROW, min_size=1, max_size=4), st.none() | st.lists(ROW, max_size=4)), min_size=2, max_size=4
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SPARSE)
@pytest.mark.parametrize("task", ["dcase2024", "dcase2023"])
@pytest.mark.parametrize("average", ["macro", "micro"])
def test_figures_and_intervals_equal_those_of_slow_plain_scorers(task, average, clips):
    given_ = [place for place, (_, guess) in enumerate(clips) if guess is not None]
    truth, full = table([one for one, _ in clips]), table([guess or [] for _, guess in clips])
    names, places = tuple(full.clips[place] for place in given_), np.full(len(clips), -1)
    places[given_] = np.arange(len(given_))
    guess = replace(full, clips=names, clip=places[full.clip])
    scored, sums = count_sources(guess, truth, task=task, n_classes=3)
    assert scored == names
    slow = [slow_sums(task, "official", truth, full, place) for place in given_]
    found = edition_scores(scored, sums, task=task, average=average, protocol="official", jackknife=True)
    if not sums.any():
        assert found.to_json()["ER"] is None
        return
    wanted, classwise = slow_figures(slow, task, average)
    parts = [slow_figures(slow[:out] + slow[out + 1 :], task, average) for out in range(len(slow))]
    for name, value in wanted.items():
        close_to = {"rel": 1e-9, "abs": 3e-6, "nan_ok": True}
        assert found.figures[name] == pytest.approx(value, **close_to)
        assert found.classwise[name] == pytest.approx(classwise[name], **close_to)
        if len(slow) > 1:
            bounds = found.jackknife[name]
            assert bounds["interval"] == pytest.approx(interval(value, [part[0][name] for part in parts]), **close_to)
            for kind, one in enumerate(bounds["classwise"]):
                each = [part[1][name][kind] for part in parts]
                assert one == pytest.approx(interval(classwise[name][kind], each), **close_to)


def test_complete_counts_every_frame_and_missing_files(tmp_path):
    gaps = {protocol: scored(tmp_path, "2024/gaps", "--protocol", protocol, *more)
            for protocol, more in (("official", ["--allow-missing"]), ("complete", []))}  # fmt: skip
    assert (gaps["official"]["clips"], gaps["complete"]["clips"]) == (7, 8)
    assert gaps["complete"]["LR"] < gaps["official"]["LR"]


@pytest.fixture
def folders(tmp_path):
    for name in ("pred", "ref"):
        (tmp_path / name).mkdir()
    (tmp_path / "ref" / "a.csv").write_text("0,1,0,10,0,200\n1,1,0,10,0,200\n9,1,0,10,0,200\n")
    return tmp_path


def command(folders, text, *options, task="dcase2024"):
    (folders / "pred" / "a.csv").write_text(text)
    words = ["--task", task, "--pred", folders / "pred", "--ref", folders / "ref", "--average", "micro"]
    done = run(*words, "--json", folders / "s.json", *options)
    return json.loads((folders / "s.json").read_text()), done.output


def test_formats_are_told_by_the_columns_or_asked_for(folders):
    polar, vector = "0,1,0,15,0,2.5\n", "0,1,0,2,0.5,0,2.5\n"
    assert command(folders, polar)[0]["RDE"] == command(folders, vector)[0]["RDE"] == pytest.approx(0.25)
    centimetres = "0,1,0,15,0,250\n"
    found, said = command(folders, centimetres)
    assert found["F"] == 0 and "--format polar-cm" in said and "250 m" in said
    found, said = command(folders, centimetres, "--format", "polar-cm")
    assert found["RDE"] == pytest.approx(0.25) and "note" not in said
    assert "predictions are below 20 cm" in command(folders, polar, "--format", "polar-cm")[1]
    old = command(folders, "0,1,0,15,0\n", task="dcase2023")[0]
    assert old["LE_deg"] == pytest.approx(5) and old["F"] == 1
    assert command(folders, "0,1,0,2,0.5,0,2.5\n", task="dcase2023")[0]["LE_deg"] == pytest.approx(4.036243)
    with pytest.raises(SeldError, match=r"6 columns, which may be polar or cartesian.*--format"):
        command(folders, "0,1,0,0.9,0.1,0\n", task="dcase2023")
    found = command(folders, "0,1,0,0.9,0.1,0\n", "--format", "cartesian", task="dcase2023")[0]
    assert found["LE_deg"] == pytest.approx(10 - math.degrees(math.atan(1 / 9)))
    assert command(folders, "0,1,0,15,0,2\n", "--format", "polar", task="dcase2023")[0]["LE_deg"] == pytest.approx(5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame,class,source,azimuth,elevation,distance\n0,1,0,1,1,1\n", "line 1: expected numbers"),
        ("0,1,0,1,1,1\n\n0,1,0,1,1,1\n", "line 2: expected 6 columns"),
        ("0,1,0,1,1\n", "line 1: expected 6 or 7 columns, got 5"),
        ("0,1,0,1,1,1\n0,1,0,1,1,1,1\n", "line 2: expected 6 columns, got 7"),
        ("0,1,0,nan,1,1\n", "line 1: column 4 must be a number, got 'nan'"),
        ("0,1,0,1,inf,1\n", "column 5"),
        ("0,1,0,1,1_0,1\n", "column 5"),
        ("0.5,1,0,1,1,1\n", "frame must be 0, 1, 2"),
        ("0,-1,0,1,1,1\n", "class must be 0, 1, 2"),
        ("0,1,0,1,1,1e300\n", "column 6"),
        ("0,1,0,1,1,\xff\n", "column 6"),
        ("9999999999,1,0,1,1,1\n", "column 1"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(folders, text, said):
    with pytest.raises(SeldError, match=said) as error:
        command(folders, text)
    assert "a.csv" in error.value.problem


def test_what_programs_take_is_taken(folders):
    plain = command(folders, "0,1,0,15,0,2.5\n")[0]
    for text in (
        "\ufeff0,1,0,15,0,2.5\r\n",
        "0, 1,0,1.5e1,0.0,2.50\n\n",
        "0,1,0,15,0,2.5",
        "0,13,0,1,1,1\n0,1,0,15,0,2.5\n",
    ):
        found, said = command(folders, text)
        assert found == plain
        assert ("1 row(s) of classes above 12 are left out" in said) == text.startswith("0,13")
    assert command(folders, "")[0]["F"] == 0
    (folders / "ref" / "a.csv").write_text("0,1,0,10,0\n")
    with pytest.raises(SeldError, match=r"expected 6 columns, got 5"):
        command(folders, "0,1,0,15,0,2.5\n")


def test_a_frame_far_away_needs_no_memory_for_the_frames_before(folders):
    for task, text in (("dcase2024", "900000000,1,0,15,0,2.5\n"), ("dcase2023", "900000000,1,0,15,0\n")):
        (folders / "ref" / "a.csv").write_text("900000000,1,0,10,0,200\n900000001,1,0,10,0,200\n")
        assert command(folders, text, task=task)[0]["F"] == 1


def test_nothing_scored_has_no_figures_and_format_is_of_these_tasks_alone(folders):
    none = Sources(("a",), *[np.zeros(0, np.int64)] * 3, np.zeros((0, 6)))
    clips, sums = count_sources(none, none, task="dcase2023")
    found = edition_scores(clips, sums, task="dcase2023", average="macro", protocol="official", jackknife=True)
    assert found.to_json()["ER"] is None and found.to_json()["jackknife"]["F"]["interval"] == [None, None]
    with pytest.raises(SeldError, match="--format is for"):
        run("--pred", folders, "--ref", folders, "--format", "polar")


def test_unknown_and_missing_files_are_named(folders):
    shutil.copy(folders / "ref" / "a.csv", folders / "ref" / "b.csv")
    with pytest.raises(SeldError, match=r"have no prediction file .* b"):
        command(folders, "0,1,0,15,0,2.5\n")
    (folders / "pred" / "stranger.csv").write_text("")
    with pytest.raises(SeldError, match="stranger"):
        command(folders, "0,1,0,15,0,2.5\n")


def test_nothing_heavy_is_imported():
    case = GOLDEN / "2024" / "typical"
    code = (
        "import sys; from dcase_seld.cli.score import score\n"
        f"score(['--task', 'dcase2024', '--pred', {str(case / 'prediction')!r}, '--ref', {str(case / 'reference')!r}],"
        " standalone_mode=False)\n"
        "print([name for name in ('torch', 'pandas', 'scipy', 'pydantic', 'yaml', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


CELL = st.sampled_from(["0", "1", "-1", "2.5", "1e9", "nan", "", " 3 ", "1_0"])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.text('0123456789.,,,,-+eE\n\r _nai\t"x\x00٣é', max_size=60).map(lambda text: text.encode()),
        st.binary(max_size=40),
        st.lists(st.lists(CELL, min_size=5, max_size=7), max_size=4).map(
            lambda rows: "\n".join(map(",".join, rows)).encode()
        ),
    )
)
def test_any_bytes_are_rows_or_a_mistake_with_a_line(data):
    rows, mistake = parse_numbers(data, {5, 6, 7})
    if mistake is None:
        assert np.isfinite(rows).all() and (rows[:, :2] >= 0).all()
    else:
        assert mistake.line >= 1 and mistake.problem and mistake.remedy and not len(rows)


def test_python_call_scores_editions_own_classes_and_intervals(folders, capsys):
    (folders / "pred" / "a.csv").write_text("0,1,0,10,0,250\n")
    assert dcase_seld.score(folders / "pred", folders / "ref", task="dcase2024").F == 0
    assert "--format polar-cm" in capsys.readouterr().err
    case = GOLDEN / "2024" / "typical"
    expected = json.loads((case / "expected.json").read_text())["macro"]
    found = dcase_seld.score(case / "prediction", case / "reference", task="dcase2024", jackknife="clip")
    assert pytest.approx(expected["SELD"], rel=1e-8) == found.SELD and found.jackknife["F"]["value"] == found.F
    header = "frame,class,source,azimuth,distance,onscreen\n"
    for side in ("pred", "ref"):
        for name in ("a", "b"):
            (folders / side / f"{name}.csv").write_text(f"{header}60,1,0,5,100,0\n61,1,0,5,100,0\n")
    (folders / "ref" / "taxonomy.yaml").write_text("classes: [Robin, Wren]\n")
    found = dcase_seld.score(folders / "pred", folders / "ref", frames=None, jackknife="clip")
    assert len(found.classwise["f_score"]) == 2 and found.jackknife["f_score"]["interval"] == [0.5, 0.5]
    assert capsys.readouterr().err == ""
    (folders / "ref" / "b.csv").write_text(f"{header}60,1,0,5,0,0\n61,1,0,5,100,0\n")
    dcase_seld.score(folders / "pred", folders / "ref", frames=None)
    assert "1 of 4 annotated rows have distance 0" in capsys.readouterr().err
    with pytest.raises(SeldError, match="jackknife is 'clips'"):
        dcase_seld.score(folders / "pred", folders / "ref", frames=None, jackknife="clips")


def test_two_hundred_minutes_are_scored_in_a_second(tmp_path):
    """Processor time of the whole program, with intervals, on long decimals as networks write them; 0.9 s alone."""
    rng = np.random.default_rng(6)
    count = 900  # 1.5 sources a frame
    frame, sound = np.sort(rng.integers(0, 600, count)), rng.integers(0, 13, count)
    azimuth, elevation = rng.integers(-180, 181, count), rng.integers(-40, 41, count)
    flat = np.cos(np.radians(elevation))
    vectors = np.stack([flat * np.cos(np.radians(azimuth)), flat * np.sin(np.radians(azimuth))], axis=1)
    vectors = np.column_stack([vectors, np.sin(np.radians(elevation))]) + rng.normal(0, 0.1, (count, 3))
    whole = zip(frame.tolist(), sound.tolist(), strict=True)
    texts = {"ref": "", "pred": ""}
    for k, (f, c) in enumerate(whole):
        texts["ref"] += f"{f},{c},0,{azimuth[k]},{elevation[k]},200\n"
        texts["pred"] += f"{f},{c},0,{','.join(map(repr, vectors[k].tolist()))},{2 + 0.001 * k!r}\n"
    for side, text in texts.items():
        (tmp_path / side).mkdir()
        (tmp_path / side / "mix000.csv").write_text(text)
        for number in range(1, 200):
            (tmp_path / side / f"mix{number:03d}.csv").hardlink_to(tmp_path / side / "mix000.csv")
    code = (
        "import resource, sys; from dcase_seld.cli.score import score\n"
        f"score(['--task', 'dcase2024', '--jackknife', '--pred', {str(tmp_path / 'pred')!r},"
        f" '--ref', {str(tmp_path / 'ref')!r}], standalone_mode=False)\n"
        "print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) < 4, "seconds of processor time on a busy machine"
