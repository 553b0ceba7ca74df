"""Reports of the editions before 2025: directions are compared on the sphere, figures are the edition's."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.report.errors import budget, changed_predictions, confusion, errors_by, pair
from dcase_seld.report.gather import gather
from dcase_seld.report.run import Run, difference

CLIPS = tuple(f"fold4_room{room}_mix001" for room in (2, 8, 9))


def table(rows, clips=CLIPS[:1]):
    """Return a table of rows (clip, frame, class, azimuth, elevation, metres)."""
    clip, frame, sound, azimuth, elevation, distance = np.array(rows, float).reshape(-1, 6).T
    ints = [column.astype(np.int32) for column in (clip, frame, sound, 0 * sound)]
    return Events(tuple(clips), *ints, azimuth, distance, clip > 99, elevation_deg=elevation)


def some_run(task="dcase2024", spread=10.0, seed=0):
    draw = np.random.default_rng(3)
    rows = [
        (clip, frame, draw.integers(0, 4), draw.integers(-180, 180), draw.integers(-60, 60), draw.integers(1, 5))
        for clip in range(3)
        for frame in range(60)
        for _ in range(draw.integers(0, 3))
    ]
    truth = table(rows, CLIPS)
    rng = np.random.default_rng(seed)
    kept = truth.take(rng.random(len(truth)) < 0.8)
    moved = np.clip(kept.elevation_deg + rng.normal(0, spread, len(kept)), -90, 90)
    return Run("some", replace(kept, elevation_deg=moved), truth, track="a", task=task)


def test_directions_are_paired_on_the_sphere_and_not_by_azimuth():
    # Azimuths alone would pair the wrong ones; near the pole azimuths differ much and directions little.
    truth = table([(0, 0, 0, 0, 60, 2), (0, 0, 0, 10, -60, 2), (0, 1, 1, 0, 85, 2), (0, 2, 2, 179, 0, 2)])
    guess = table([(0, 0, 0, 9, 58, 2), (0, 0, 0, 1, -61, 2), (0, 1, 3, 170, 85, 2), (0, 2, 2, -179, 0, 2)])
    run = Run("x", guess, truth, track="a", task="dcase2024")
    pairs = pair(guess, truth, 13)
    found = dict(zip(pairs.reference.tolist(), pairs.prediction.tolist(), strict=True))
    assert found == {0: 0, 1: 1, 3: 3} and confusion(run, pairs)[1, 3] == 1
    by = errors_by(run, pairs, "azimuth")
    assert by.labels == ("-160", "-120", "-80", "-40", "0", "40", "80", "120", "160")
    assert by.angle[-1] == pytest.approx(2.0) and by.count[4] == 3
    up = errors_by(run, pairs, "elevation")
    assert up.labels[-1] == "70" and up.count.tolist() == [1, 0, 0, 1, 0, 0, 2] and 4 < up.angle[-1] < 6


@pytest.mark.parametrize("task", ["dcase2024", "dcase2023"])
def test_the_budget_is_scored_as_the_edition_and_truth_about_directions_mends_them(task):
    run = some_run(task, spread=40.0)
    changed, found = changed_predictions(run), budget(run)
    assert found["as it is"].figures == pytest.approx(run.scores.figures, nan_ok=True)
    wrong = "DOAE_deg" if task == "dcase2024" else "LE_deg"
    assert {wrong, "F", "ER", "SELD"} <= set(found["as it is"].figures)
    assert (changed["true directions"].elevation_deg != changed["as it is"].elevation_deg).any()
    before, after = (found[name].classwise[wrong][0] for name in ("as it is", "true directions"))
    assert before > 20 and after < 0.01
    assert pytest.approx(4 / 13) == found["all of it true"].F
    assert "true on-screen flags" not in found and ("true distances" in found) == (task == "dcase2024")


@pytest.mark.parametrize("task", ["dcase2024", "dcase2023"])
def test_true_answers_are_right_in_every_row_and_wrong_elevations_in_none(task):
    rng = np.random.default_rng(1)
    rows = [(frame // 30, frame % 30, frame % 4, *rng.integers((-180, -60, 1), (181, 60, 5))) for frame in range(89)]
    truth = table([*rows, (2, 29, 0, 0, 0, 1)], CLIPS)  # what stands in the last frame of a clip is not scored in 2024
    for moved, share in ((0.0, 1.0), (25.0, 0.0)):
        guess = replace(truth, elevation_deg=truth.elevation_deg + moved)
        run = Run("x", guess, truth, track="a", task=task, average="micro")
        found, pairs = budget(run), pair(guess, truth, 13)
        assert share == found["as it is"].F and found["true directions"].F == 1
        assert share == 0 or all(scores.F == 1 for scores in found.values())
        for what in ("azimuth", "elevation", "distance", "polyphony", "class"):
            bins = errors_by(run, pairs, what)
            full = bins.count > 0
            assert (bins.recall[full] == share).all() and bins.angle[full] == pytest.approx(moved, abs=1e-3)
    # A prediction of another class is confused where directions are near on the sphere, not in azimuth alone.
    other = replace(truth, class_index=truth.class_index + 1)
    far = replace(other, elevation_deg=other.elevation_deg + 25.0)
    assert len(pair(other, truth, 13).confused_reference) == len(truth)
    assert len(pair(far, truth, 13).confused_reference) == 0


def test_runs_of_an_edition_are_compared_by_its_figures():
    first, second = some_run(), some_run(spread=40.0, seed=1)
    found = difference(first, second)
    assert {"F", "DOAE_deg", "RDE"} <= set(found) and found["F"]["value"] < 0 < found["DOAE_deg"]["value"]
    assert found["DOAE_deg"]["value"] == second.scores.DOAE_deg - first.scores.DOAE_deg


def write(folder: Path, run: Run, unit: float, cartesian: bool = False) -> Path:
    for side, events in (("pred", run.prediction), ("ref/metadata_dev/dev-test-tau", run.reference)):
        (folder / side).mkdir(parents=True)
        for number, clip in enumerate(events.clips):
            rows = events.take(events.clip == number)
            angles = np.radians(rows.azimuth_deg), np.radians(rows.elevation_deg)
            metres = rows.distance_m * (unit if side == "pred" else 100)
            places = [rows.azimuth_deg, rows.elevation_deg]
            if cartesian and side == "pred":
                level = np.cos(angles[1])
                places = [level * np.cos(angles[0]), level * np.sin(angles[0]), np.sin(angles[1])]
            lines = np.stack([rows.frame, rows.class_index, 0 * rows.frame, *places, metres], 1).tolist()
            text = "".join(",".join(f"{v:g}" for v in line) + "\n" for line in lines)
            (folder / side / f"{clip}.csv").write_text(text)
    return folder


@pytest.mark.parametrize("cartesian", [False, True])
def test_a_report_of_files_of_2024(tmp_path, cartesian):
    write(tmp_path, some_run(), 1.0, cartesian)
    options = ["--ref", str(tmp_path / "ref"), "--task", "dcase2024", "--track", "a", "--examples", "2"]
    done = CliRunner().invoke(main, ["report", str(tmp_path / "pred"), "--out", str(tmp_path / "r.html"), *options])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "r.html").read_text()
    assert "scored as dcase2024" in page and "Direction error, degrees, by elevation" in page
    assert "official baseline of 2024, FOA" in page and "F20/1" not in page and "on-screen" not in page
    assert "all around, azimuth by elevation" in page and re.search(r'cx="[\d.]+" cy="[\d.]+" r="2.2"', page)
    run = gather([tmp_path / "pred"], tmp_path / "ref", "a", "dcase2024")[0]
    assert pytest.approx(some_run().scores.F, abs=1e-6) == run.scores.F
    with pytest.raises(SeldError, match="line 1"):
        gather([tmp_path / "pred"], tmp_path / "ref", "a")


def test_what_six_columns_of_2023_mean_is_asked(tmp_path):
    write(tmp_path, some_run("dcase2023"), 1.0)
    with pytest.raises(SeldError, match="6 columns, which may be polar or cartesian"):
        gather([tmp_path / "pred"], tmp_path / "ref", "a", "dcase2023")
    run = gather([tmp_path / "pred"], tmp_path / "ref", "a", "dcase2023", "polar")[0]
    assert run.scores.LE_deg == pytest.approx(some_run("dcase2023").scores.LE_deg, abs=1e-4)
