"""The table of figures: what is registered once stands wherever figures stand."""

import csv
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scored import score_events

from dcase_seld.cli.results import runs
from dcase_seld.cli.score import score
from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import events_of_rows, write_folder
from dcase_seld.core.task import Task
from dcase_seld.report.page import write_report
from dcase_seld.report.run import Run, difference
from dcase_seld.scoring.counts import COUNTS, count_events
from dcase_seld.scoring.figures import EPOCH_COLUMNS, FIGURES, Figure, figures, format_table, metric, read_epochs, shown
from dcase_seld.train.history import write_tables


@pytest.fixture
def own():
    """Register a user's metric, the plan's example, for one test."""

    @metric("hit_rate", title="hits %", scale=100)
    def hits(n):
        return n["hit"] / (n["hit"] + n["miss"])

    yield hits
    FIGURES.pop("hit_rate", None)


def events(rows, clips):
    rows = np.array(rows, np.int32)
    order = np.argsort(rows[:, 0], kind="stable")
    return events_of_rows(rows[order, 1:], clips, np.bincount(rows[:, 0], minlength=len(clips)))


CLIPS = ("one", "two", "three")
# clip, frame, class, source, azimuth, distance, on screen; class 0: hit, hit, miss; class 1: hit; class 2: never there
TRUTH = events([(clip, frame, clip % 2, 0, 10, 100, 0) for clip in range(3) for frame in (0, 9)], CLIPS)
GUESS = events([(0, 0, 0, 0, 10, 100, 0), (1, 0, 1, 0, 10, 100, 0)], CLIPS)


def test_a_users_metric_is_averaged_per_class_pooled_and_left_out_where_undefined(own):
    macro, micro = (score_events(GUESS, TRUTH, n_classes=3, average=how) for how in ("macro", "micro"))
    assert macro.hit_rate == pytest.approx((1 / 2 + 1) / 2)  # class 0: 1 of 2; class 1: 1 of 1; class 2 is not there
    assert micro.hit_rate == pytest.approx(2 / 3)
    assert macro.classwise["hit_rate"][:2] == [0.5, 1.0] and math.isnan(macro.classwise["hit_rate"][2])
    plain = macro.to_json()
    assert plain["hit_rate"] == 0.75 and plain["classwise"]["hit_rate"][2] is None
    assert own({"hit": 1, "miss": 3}) == 0.25  # the function is left as it is


def test_a_users_metric_stands_wherever_figures_stand(own, tmp_path):
    write_folder(TRUTH, tmp_path / "ref")
    write_folder(GUESS, tmp_path / "pred")
    words = ["--pred", str(tmp_path / "pred"), "--ref", str(tmp_path / "ref"), "--jackknife"]
    done = CliRunner().invoke(score, [*words, "--json", str(tmp_path / "s.json")], catch_exceptions=False)
    assert "hits %" in done.output and "75.0" in done.output
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["hit_rate"] == 0.75 and written["jackknife"]["hit_rate"]["value"] == 0.75

    first, second = Run("first", GUESS, TRUTH), Run("second", TRUTH, TRUTH)
    assert difference(first, second)["hit_rate"]["value"] == pytest.approx(0.25)
    write_report([first, second], tmp_path / "r.html", examples=0)
    page = (tmp_path / "r.html").read_text().replace("\u00a0", " ")
    assert page.count("hits %") >= 3 and "<b>75.0 %</b><span>hits</span>" in page

    row = {"row": "a", "against": None, "clips": 3, "unit": "clip", "figures": {"hit_rate": {"value": 0.75}}}
    head, line, _ = format_table([row]).splitlines()
    assert head.endswith("hits %") and line.endswith("75.0")

    history = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "hit_rate": 0.75, "classwise": {"hit_rate": [0.5, 1.0, None]}}]
    (tmp_path / "train").mkdir()
    write_tables(tmp_path / "train", history, Task(classes=Taxonomy("three", ("a", "b", "c"), ("a", "b", "c"))))
    assert read_epochs(tmp_path / "train" / "epochs.csv")[1] == {"epoch": 2.0, "hit_rate": 0.75}
    with (tmp_path / "train" / "classwise.csv").open() as stream:
        assert [row["hit_rate"] for row in csv.DictReader(stream)] == ["0.5", "1.0", ""]
    summary = {"val": {"hit_rate": 0.75}, "criterion": "f_score", "seconds": 1.0, "parameters": 5, "epochs": 2}
    (tmp_path / "train" / "summary.json").write_text(json.dumps(summary))
    listed = CliRunner().invoke(runs, [str(tmp_path / "train")], catch_exceptions=False).output
    assert "hits %" in listed and "75.0" in listed


@pytest.mark.parametrize("name", ["f_score", "loss_own", "epoch", "clips", "two words", "1st", "classwise"])
def test_names_that_are_taken_or_no_names_are_refused(name):
    with pytest.raises(SeldError, match=r"cannot be a metric's name|Two metrics are called"):
        metric(name, title="x")
    assert list(FIGURES)[:2] == ["f_score", "f_score_onscreen"]


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda n: n["hits"], "reads n\\['hits'\\]"), (lambda n: 1.0, "shape"), (lambda n: n["hit"].sum(), "shape")],
)
def test_a_metric_that_cannot_be_computed_is_named(make, said):
    figure = Figure("mine", make, "mine", "mine")
    with pytest.raises(SeldError, match=said):
        figure.of(np.ones((len(COUNTS), 4, 3)))


def test_every_figure_is_printed_by_the_table_alone_and_never_as_minus_nothing():
    for figure in FIGURES.values():
        tiny = -0.4 * 10.0**-figure.decimals / figure.scale
        assert not figure.text(tiny).startswith("-") and figure.change(tiny).startswith("+0")
        assert figure.text(None) == figure.text(math.nan) == "–"
        assert figure.title.startswith(figure.label) and figure.label
        assert figure.name not in EPOCH_COLUMNS
    assert FIGURES["f_score"].text(0.457, unit=True) == "45.7 %" and FIGURES["doa_error_deg"].text(15, True) == "15.0°"
    assert FIGURES["relative_distance_error"].text(4.5e15) == "4.50e+15"
    assert [one.name for one in FIGURES.values() if one not in shown("a")] == ["f_score_onscreen", "onscreen_accuracy"]


@given(st.lists(st.lists(st.integers(0, 3), min_size=len(COUNTS), max_size=len(COUNTS)), min_size=1, max_size=5))
def test_macro_is_the_mean_over_classes_for_which_a_figure_is_defined(counted):
    sums = np.array(counted, float).T
    overall, classwise = figures(sums, "macro")
    for name, value in overall.items():
        known = [one for one in classwise[name].tolist() if not math.isnan(one)]
        assert math.isnan(value) if not known else value == pytest.approx(np.mean(known))


def test_counts_tell_azimuth_and_distance_apart():
    guess = events([(0, 0, 0, 0, 40, 100, 0), (1, 0, 1, 0, 10, 900, 0), (2, 0, 0, 0, 12, 120, 0)], CLIPS)
    sums = dict(zip(COUNTS, count_events(guess, TRUTH, n_classes=3).values.sum(axis=2).tolist(), strict=True))
    assert (sums["azimuth_right"], sums["distance_right"], sums["hit"]) == ([0, 1, 1], [1, 0, 1], [0, 0, 1])
