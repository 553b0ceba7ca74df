import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.cli.score import score
from dcase_seld.core.csv_rows import HEADER
from dcase_seld.core.errors import SeldError

GOLDEN = Path(__file__).parent.parent / "golden" / "scores"
KEYS = [
    "track", "average", "protocol", "clips", "f_score", "f_score_onscreen", "doa_error_deg", "distance_error_cm",
    "relative_distance_error", "onscreen_accuracy", "classwise", "jackknife",
]  # fmt: skip
FIGURES = KEYS[4:10]


@pytest.fixture
def case(tmp_path):
    """A copy of one golden case with the names of its folders."""
    shutil.copytree(GOLDEN / "typical", tmp_path / "typical")
    return tmp_path / "typical" / "prediction", tmp_path / "typical" / "reference"


def command(pred, ref, *options):
    """Run the whole program as a user does; return exit status, standard output and standard error."""
    program = [sys.executable, "-m", "dcase_seld.cli.main", "score", "--pred", str(pred), "--ref", str(ref)]
    done = subprocess.run([*program, *map(str, options)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def scores(pred, ref, folder, *options):
    """Run the command in this process; return what --json wrote."""
    result = CliRunner().invoke(
        score, ["--pred", str(pred), "--ref", str(ref), "--json", str(folder / "out.json"), *options],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0
    return json.loads((folder / "out.json").read_text())


def test_the_program_prints_a_table_with_class_names_and_writes_json(case, tmp_path):
    status, table, errors = command(*case, "--jackknife", "--json", tmp_path / "scores.json")
    assert (status, errors) == (0, "")
    assert "Knock" in table and "Water tap, faucet" in table and "45.4" in table and "33.6" in table
    found = json.loads((tmp_path / "scores.json").read_text())
    expected = json.loads((GOLDEN / "typical" / "expected.json").read_text())
    assert list(found) == KEYS
    assert found["f_score"] == pytest.approx(expected["track_b_no_onscreen_macro"]["f_score"], rel=1e-9)
    assert found["f_score_onscreen"] == pytest.approx(expected["track_b_macro"]["f_score"], rel=1e-9)
    assert (found["track"], found["average"], found["protocol"], found["clips"]) == ("b", "macro", "official", 24)
    assert list(found["classwise"]) == FIGURES and all(len(v) == 13 for v in found["classwise"].values())
    assert list(found["jackknife"]) == FIGURES
    assert all(list(e) == ["value", "estimate", "std_err", "interval"] for e in found["jackknife"].values())
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_every_key_is_there_for_track_a_too(case, tmp_path, average):
    found = scores(*case, tmp_path, "--track", "a", "--average", average, "--jackknife")
    assert list(found) == KEYS
    assert found["f_score_onscreen"] is None and found["onscreen_accuracy"] is None
    assert found["classwise"]["onscreen_accuracy"] is None and found["jackknife"]["f_score_onscreen"] is None
    assert found["classwise"]["doa_error_deg"][2] is None  # claps were never matched
    assert scores(*case, tmp_path)["jackknife"] is None


def test_reference_may_be_flat(case, tmp_path):
    pred, ref = case
    (tmp_path / "flat").mkdir()
    for path in ref.glob("*/*.csv"):
        shutil.copy(path, tmp_path / "flat")
    assert scores(pred, tmp_path / "flat", tmp_path) == scores(pred, ref, tmp_path)


def test_missing_and_unknown_files_are_named_and_missing_ones_may_be_allowed(case, tmp_path):
    pred, ref = case
    lost = sorted(pred.iterdir())[3]
    lost.unlink()
    status, _, errors = command(pred, ref)
    assert status == 1 and lost.stem in errors and "--allow-missing" in errors
    allowed = scores(pred, ref, tmp_path, "--allow-missing")
    assert allowed["clips"] == 23
    complete = scores(pred, ref, tmp_path, "--protocol", "complete")
    assert complete["clips"] == 24 and complete["f_score"] < allowed["f_score"]
    (pred / "stranger.csv").write_text(HEADER + "\n")
    status, _, errors = command(pred, ref, "--allow-missing")
    assert status == 1 and "stranger" in errors


@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_file_on_either_side_ends_with_its_name_and_line(case, side):
    broken = sorted(case[side].rglob("*.csv"))[5]
    broken.write_text(broken.read_text() + "55,1,0,4,100,0\n")
    status, table, errors = command(*case)
    lines = len(broken.read_text().splitlines())
    assert (status, table) == (1, "") and f"{broken}, line {lines}: frame 55" in errors and "→" in errors


def test_folders_that_are_not_there_end_with_a_sentence(case, tmp_path):
    status, _, errors = command(tmp_path / "nowhere", case[1])
    assert status == 1 and "nowhere" in errors
    status, _, errors = command(case[0], case[1], "--json", tmp_path / "no" / "folder" / "x.json")
    assert status == 1 and "x.json" in errors
    status, _, errors = command(case[0], case[1], "--frames", "some")
    assert status == 2 and "'some'" in errors


def test_longer_recordings_and_own_classes(tmp_path):
    for name in ("pred", "ref"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "day.csv").write_text(f"{HEADER}\n70,1,0,4,100,0\n71,1,0,4,100,0\n")
    (tmp_path / "birds.yaml").write_text("classes: [Robin, Wren]\n")
    folders = (tmp_path / "pred", tmp_path / "ref")
    status, table, errors = command(*folders, "--frames", "any", "--taxonomy", tmp_path / "birds.yaml")
    assert status == 0 and "Wren" in table and "Knock" not in table, errors
    assert scores(*folders, tmp_path, "--frames", "72", "--average", "micro")["f_score"] == 1.0
    status, _, errors = command(*folders)
    assert status == 1 and "--frames any" in errors


def small(folder, pred, ref):
    """Write files of two sides, name → rows; return their folders."""
    for side, files in (("pred", pred), ("ref", ref)):
        shutil.rmtree(folder / side, ignore_errors=True)
        (folder / side).mkdir(parents=True)
        for name, rows in files.items():
            (folder / side / f"{name}.csv").write_text("\n".join([HEADER, *rows, ""]))
    return folder / "pred", folder / "ref"


@pytest.mark.parametrize(
    ("pred", "ref", "said"),
    [
        ({"a": ["0,1,0,4,100,0"]}, {"a": ["0,1,0,4,0,0", "9,1,0,4,90,0"]}, "1 of 2 annotated rows have distance 0"),
        ({"a": ["0,1,0,4,100,0"]}, {"a": []}, "the references hold no event at all"),
        (
            {"a": ["0,1,0,4,100,0"], "b": ["0,1,0,4,100,0", "1,1,0,4,100,0"]},
            {"a": ["0,1,0,4,100,0"], "b": []},
            "2 predicted rows lie in 1 clip(s) in which nothing is annotated",
        ),
        ({"a": ["0,1,0,4,3,0"]}, {"a": ["0,1,0,4,300,0"]}, "all distances of the predictions are below 20 cm"),
        ({"a": ["0,1,0,4,300,0"]}, {"a": ["0,1,0,4,3,0"]}, "all distances of the references are below 20 cm"),
        ({"a": ["0,1,0,4,300,0"]}, {"a": ["0,1,0,4,250,0"]}, ""),
    ],
)
def test_what_makes_a_figure_doubtful_gets_one_line(tmp_path, pred, ref, said):
    status, _, errors = command(*small(tmp_path, pred, ref))
    assert status == 0 and errors.count("\n") == bool(said)
    assert not said or errors.startswith(f"note: {said}")
    complete = command(*small(tmp_path, pred, ref), "--protocol", "complete")[2]
    assert ("note" in complete) == (bool(said) and "predicted rows" not in said)


def test_a_taxonomy_beside_the_references_is_used_and_said(tmp_path):
    pred, flat = small(tmp_path / "flat", {"a": ["0,1,0,4,100,0"]}, {"a": ["0,1,0,4,100,0"]})
    root = tmp_path / "corpus"
    shutil.copytree(flat, root / "metadata_dev" / "dev-test")
    for own, ref in (
        (flat, flat),
        (root, root / "metadata_dev"),
        (root, root / "metadata_dev" / "dev-test"),
    ):
        (own / "taxonomy.yaml").write_text("classes: [Robin, Wren]\n")
        status, table, errors = command(pred, ref)
        assert status == 0 and "Wren" in table and "Knock" not in table and str(own / "taxonomy.yaml") in errors
    (tmp_path / "other.yaml").write_text("classes: [Owl, Crow, Rook]\n")
    status, table, errors = command(pred, flat, "--taxonomy", tmp_path / "other.yaml")
    assert "Rook" in table and errors == ""
    (flat / "a.csv").write_text(f"{HEADER}\n0,2,0,4,100,0\n")
    assert "--taxonomy" in command(pred, flat)[2]


def test_a_corpus_may_be_named_instead_of_its_labels(case, tmp_path):
    pred, ref = case
    shutil.copytree(ref, tmp_path / "corpus" / "metadata_dev")
    assert scores(pred, tmp_path / "corpus", tmp_path) == scores(pred, ref, tmp_path)


def test_json_to_standard_output_is_json_alone(case):
    status, out, errors = command(*case, "--json", "-")
    assert status == 0 and list(json.loads(out)) == KEYS and errors == ""
    assert not Path("-").exists()


def test_jackknife_by_recording(case, tmp_path):
    by_clip = scores(*case, tmp_path, "--jackknife")["jackknife"]
    by_recording = scores(*case, tmp_path, "--jackknife", "--jackknife-by", "recording")["jackknife"]
    assert by_recording == by_clip  # here every clip is of another recording


def test_help_explains_both_protocols_and_all_options():
    text = CliRunner().invoke(score, ["--help"]).output
    assert "OFFICIAL" in text and "COMPLETE" in text and "every frame of every clip" in " ".join(text.split())
    for option in ("--pred", "--ref", "--track", "--average", "--protocol", "--jackknife", "--jackknife-by",
                   "--allow-missing", "--json", "--taxonomy", "--frames"):  # fmt: skip
        assert option in text


def test_nothing_heavy_is_imported(case):
    code = (
        "import sys; from dcase_seld.cli.score import score\n"
        f"score(['--pred', {str(case[0])!r}, '--ref', {str(case[1])!r}, '--jackknife'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'pandas', 'scipy', 'pydantic', 'yaml', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_frame_with_thousands_of_sources_takes_neither_memory_nor_pages(tmp_path):
    """The official rule keeps ten of a class; whoever matches all of a frame refuses."""
    rows = "".join(f"0,1,{number},{number % 90},{100 + number % 300},1\n" for number in range(20_000))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("frame,class,source,azimuth,distance,onscreen\n" + rows)
    folder, run = str(tmp_path / "csv"), CliRunner().invoke
    assert run(main, ["score", "--pred", folder, "--ref", folder]).exit_code == 0
    told = run(main, ["data", "stats", folder])
    assert told.exit_code == 0 and len(told.output) < 5_000
    with pytest.raises(SeldError, match="20,000 annotated and 20,000 predicted sources; 400 are matched"):
        run(main, ["report", folder, "--ref", folder, "--out", str(tmp_path / "r.html")], catch_exceptions=False)
