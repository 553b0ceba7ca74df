import filecmp
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import submission_made as make
import yaml
from click.testing import CliRunner
from scored import score_events
from submission_made import LABEL_A, LABEL_B

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_folder, write_folder
from dcase_seld.recipe.stage import Context
from dcase_seld.stages import load_stage
from dcase_seld.submission.check import check_submission
from dcase_seld.submission.deliver import _class_table
from dcase_seld.submission.layout import BUILT_IN, fill_yaml, latex, load_layout, load_team, plain
from dcase_seld.submission.package import Entry, make_entries, notes, write_package
from dcase_seld.submission.systems import Run, find_run, stated_track

ROOT = Path(__file__).parent.parent.parent


def command(name, *arguments):
    result = CliRunner().invoke(main, [name, *map(str, arguments)])
    if isinstance(result.exception, SeldError):
        return 1, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def meta_of(path, label=LABEL_B):
    files = make.contents(path)
    return files[next(name for name in files if name.endswith(f"{label}.meta.yaml"))].decode()


def unpack(path, folder):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def test_the_meta_file_tells_what_the_receipts_tell_and_keeps_its_comments(tmp_path):
    text = meta_of(make.package(tmp_path))
    meta = yaml.safe_load(text)
    system = meta["system"]
    assert meta["submission"]["label"] == LABEL_B and meta["submission"]["authors"][0]["lastname"] == "Example"
    assert system["complexity"]["total_parameters"] == 2 * 20_000 + 700  # both members and the frozen network, once
    assert system["description"] == {
        "input_format": "stereo and video",
        "input_sampling_rate": "24 kHz",
        "acoustic_features": ["log-mel energies", "inter-channel level difference"],
        "visual_features": ["OWL-ViT tokens"],
        "data_augmentation": ["left-right channel swap", "mixup"],
        "machine_learning_method": "ensemble of 2: CNN-Conformer with Cross-Modal Conformer (owlvit)",
        "ensemble_members": 2,
        "external_data": ["simulated scenes of procedural sounds"],
        "pre_trained_models": ["OWL-ViT (base)"],
    }
    assert "numpy" in system["versions"] and system["source_code"] is None
    assert meta["results"]["development_dataset"]["overall"] == {
        "F_20_1": 45.68, "F_20_1_onoff": 20.0, "DOAE_CD": 15.123, "RDE_CD": 0.3, "onscreen_accuracy": 81.0
    }  # fmt: skip
    template = (BUILT_IN / "meta.yaml").read_text()
    comments = [line for line in template.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) > 10 and all(line in text for line in comments)


def test_the_audio_only_track_has_its_own_scores_and_no_pictures(tmp_path):
    meta = yaml.safe_load(meta_of(make.package(tmp_path), LABEL_A))
    assert meta["system"]["description"]["input_format"] == "stereo"
    assert meta["system"]["description"]["visual_features"] is None
    assert set(meta["results"]["development_dataset"]["overall"]) == {"F_20_1", "DOAE_CD", "RDE_CD"}


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first = make.package(tmp_path / "one")
    shutil.copytree(tmp_path / "one" / "work", tmp_path / "two" / "work", symlinks=True)
    recipe = tmp_path / "one" / "work" / "demo"
    systems = [(find_run(recipe, "b"), track) for track in ("a", "b")]
    report = tmp_path / "one" / "report.pdf"
    again = tmp_path / "again.zip"
    entries = make_entries(systems, load_team(None), load_layout())
    write_package(again, entries, load_team(None), reports={"a": report, "b": report})
    assert filecmp.cmp(first, again, shallow=False)
    assert not list(tmp_path.glob("*.part"))


def test_what_is_scored_before_packaging_equals_what_is_scored_out_of_the_zip(tmp_path):
    """Also for rows in any order, azimuths behind the listener, a byte-order mark and Windows line ends."""
    golden = ROOT / "tests" / "golden" / "scores" / "wide_azimuth"
    folder = tmp_path / "pred"
    shutil.copytree(golden / "prediction", folder)
    first, second = sorted(folder.iterdir())[:2]
    first.write_bytes(b"\xef\xbb\xbf" + first.read_bytes().replace(b"\n", b"\r\n"))
    second.write_text(second.read_text().rstrip("\n"))
    reference = read_folder(golden / "reference")
    entries = make_entries([(find_run(folder, t), t) for t in ("a", "b")], load_team(None), load_layout())
    write_package(tmp_path / "x.zip", entries, load_team(None))
    out = unpack(tmp_path / "x.zip", tmp_path / "out")
    before = read_folder(folder)
    for track, label in (("a", LABEL_A), ("b", LABEL_B)):
        after = read_folder(out / f"task3{track}" / label / label)
        expected = score_events(before, reference, track=track).to_json()
        assert score_events(after, reference, track=track).to_json() == expected
        raw = np.loadtxt(
            next((out / f"task3{track}" / label / label).glob("*.csv")), delimiter=",", skiprows=1, ndmin=2
        )
        assert (np.abs(raw[:, 3]) <= 90).all()
    assert not read_folder(out / "task3a" / LABEL_A / LABEL_A).onscreen.any()
    findings, _ = check_submission(tmp_path / "x.zip", load_layout())
    assert findings.rules() <= {"meta-field", "meta-scores", "report-missing"}  # a plain folder has no receipts


def test_systems_are_numbered_per_track_and_limited(tmp_path):
    recipe = make.work(tmp_path)
    runs = [(find_run(recipe / "csv_eval", "b"), track) for track in "abab"]
    labels = [entry.label for entry in make_entries(runs, load_team(None), load_layout())]
    assert labels == [LABEL_A, LABEL_B, LABEL_A[:-1] + "2", LABEL_B[:-1] + "2"]
    with pytest.raises(SeldError, match="at most 4"):
        make_entries([runs[0]] * 5, load_team(None), load_layout())


def test_untrained_networks_are_refused_unless_forced(tmp_path):
    recipe = make.work(tmp_path, random_weights=["vision"])
    run = find_run(recipe, "b")
    with pytest.raises(SeldError, match=r"never trained: vision"):
        make_entries([(run, "b")], load_team(None), load_layout())
    entries = make_entries([(run, "b")], load_team(None), load_layout(), force_random_weights=True)
    assert any("never trained" in line for line in notes(entries))


def test_runs_are_found_by_recipe_step_link_and_result(tmp_path):
    recipe = make.work(tmp_path)
    evaluation, test = tmp_path / ".results" / "export-eval", tmp_path / ".results" / "export-test"
    assert find_run(recipe, "b").csv == evaluation.resolve()  # the evaluation set is what is submitted
    for path in (recipe / "csv_test", test, recipe / "score", tmp_path / ".results" / "score-1"):
        run = find_run(path, "b")
        assert run.csv == test.resolve() and run.scores["f_score"] == 0.45678
    # An export of the evaluation set has no score of its own: those of the same networks are taken.
    assert find_run(recipe / "csv_eval", "b").scores["f_score"] == 0.45678
    link = tmp_path / "demo" / "as_text"
    link.write_text("../.results/export-test\n")  # how links are written where the system refuses them
    assert find_run(link, "b").csv == test.resolve()


def test_the_track_of_a_run_is_what_it_was_exported_for(tmp_path):
    recipe = make.work(tmp_path)
    assert stated_track(recipe) == stated_track(recipe / "csv_test") == stated_track(tmp_path / "nowhere") == "b"
    step = make.step(tmp_path / ".results", "export-a", "csv", facts={"track": "a"})
    assert stated_track(step) == "a" and stated_track(recipe) == "b"
    write_folder(make.events(), step / "csv")
    status, text = command("package-submission", "--system", step, "--out", tmp_path / "x.zip")
    assert "_task3a_1" in text and status == 1  # its networks are not known, so the meta file has gaps


def test_what_is_no_run_is_refused(tmp_path):
    recipe = make.work(tmp_path)
    with pytest.raises(SeldError, match="There is no run"):
        find_run(tmp_path / "nowhere", "b")
    with pytest.raises(SeldError, match="makes checkpoint"):
        find_run(tmp_path / ".results" / "train-1", "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeldError, match="neither a finished export"):
        find_run(tmp_path / "empty", "b")
    (recipe / "csv_eval").unlink()
    second = make.step(tmp_path / ".results", "export-other", "csv", facts={"track": "b"})
    (recipe / "csv_other").symlink_to(second)
    with pytest.raises(SeldError, match="several export steps for track b: csv_other, csv_test"):
        find_run(recipe, "b")


def test_broken_csv_files_are_not_packaged(tmp_path):
    folder = tmp_path / "pred"
    write_folder(make.events(), folder)
    (folder / "sample5.csv").write_text("frame,class,source,azimuth,distance,onscreen\n1,2,3\n")
    entries = make_entries([(find_run(folder, "b"), "b")], load_team(None), load_layout())
    with pytest.raises(SeldError, match=r"sample5\.csv, line 2"):
        write_package(tmp_path / "x.zip", entries, load_team(None))
    assert list(tmp_path.iterdir()) == [folder]


def test_team_files_are_checked_all_at_once(tmp_path):
    text = (BUILT_IN / "team.yaml").read_text()
    for change, words in (
        (("corresponding: true", "corresponding: false"), "exactly one author"),
        (("ada@example.org", "ada"), "email"),
        (("abbreviation: EXU", "short: EXU"), "affiliation.short: unknown key"),
        (("name: Cross-modal SELD", "name: [a"), "line"),
    ):
        assert change[0] in text
        (tmp_path / "team.yaml").write_text(text.replace(*change))
        with pytest.raises(SeldError, match=words):
            load_team(tmp_path / "team.yaml")
    with pytest.raises(SeldError, match="There is no file"):
        load_team(tmp_path / "nowhere.yaml")


def test_a_team_says_what_differs_in_one_system(tmp_path):
    text = (BUILT_IN / "team.yaml").read_text().replace("systems: {}", "systems:\n  b1:\n    abbreviation: AVE")
    text += "    description: {data_augmentation: [my own]}\n"
    text = text.replace("#  b1: {name: Audio-visual ensemble, abbreviation: AVE", "#").replace(
        "lastname: Example", "lastname: Łukasz-Müller"
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    (tmp_path / "team.yaml").write_text("\n".join(lines))
    team = load_team(tmp_path / "team.yaml")
    (entry,) = make_entries([(find_run(make.work(tmp_path), "b"), "b")], team, load_layout())
    assert entry.label == "Lukasz-Muller_EXU_task3b_1" and entry.abbreviation == "AVE"
    assert entry.description["data_augmentation"] == ["my own"]
    with pytest.raises(SeldError, match="no Latin letter"):
        plain("山田")


def test_templates_and_layout_may_be_replaced(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    layout = (BUILT_IN / "layout.yaml").read_text()
    (own / "layout.yaml").write_text(
        layout.replace("task{task}/{label}/{label}/{clip}.csv", "out/{task}/{label}/{clip}.csv")
    )
    (own / "meta.yaml").write_text("# mine\nsubmission: {label: ${label}}\n")
    run = find_run(make.work(tmp_path), "b")
    entries = make_entries([(run, "b")], load_team(None), load_layout(own))
    write_package(tmp_path / "x.zip", entries, load_team(None), templates=own)
    files = make.contents(tmp_path / "x.zip")
    assert f"out/3b/{LABEL_B}/sample3.csv" in files
    assert files[f"task3b/{LABEL_B}/{LABEL_B}.meta.yaml"] == b"# mine\nsubmission: {label: " + LABEL_B.encode() + b"}\n"
    rules = check_submission(tmp_path / "x.zip", load_layout(own))[0].rules()
    assert rules == {"meta-field", "report-missing"}
    (own / "meta.yaml").write_text("label: ${lable}\n")
    with pytest.raises(SeldError, match="lable"):
        write_package(tmp_path / "x.zip", entries, load_team(None), templates=own)
    (own / "layout.yaml").write_text(layout.replace("entries: 200000", "entrys: 5"))
    with pytest.raises(SeldError, match="entrys"):
        load_layout(own)
    with pytest.raises(SeldError, match="not there"):
        load_layout(tmp_path / "nowhere")


def test_the_copies_in_the_repository_are_the_built_in_templates():
    for path in BUILT_IN.iterdir():
        assert (ROOT / "submission" / path.name).read_bytes() == path.read_bytes()


def test_yaml_values_stay_what_they_are():
    values = {"a": "yes", "b": None, "c": ["x: y", "#"], "d": {"k": [1, None]}, "e": 1e-5, "f": "3a\nb", "g": True}
    text = fill_yaml("# ${a} stays\n" + "".join(f"{k}: ${{{k}}}\n" for k in values), values, "t")
    assert yaml.safe_load(text) == values and text.startswith("# ${a} stays\n")
    assert latex("50 % of a_b & {c} ~ \\") == r"50 \% of a\_b \& \{c\} \textasciitilde{} \textbackslash{}"


def test_class_wise_figures_are_those_of_the_edition():
    classwise = {"ER": [0.9, 0.9], "F": [0.5, None], "DOAE_deg": [12.34, None]}
    entry = Entry("X", "a", 1, Run(Path(), scores={"F": 0.25, "classwise": classwise}), {}, {}, "some", "s")
    lines = _class_table(entry, as_latex=False).splitlines()
    assert lines[0] == "| classes of X | F20 % | DOA error ° |" and lines[2:] == [
        "| class 0 | 50.0 | 12.3 |",
        "| class 1 | – | – |",
    ]
    assert _class_table(replace(entry, run=Run(Path())), as_latex=True) == ""


def test_the_command_packages_both_tracks_and_leaves_a_skeleton_where_no_report_is(tmp_path):
    recipe = make.work(tmp_path / "work")
    out = tmp_path / "deliver" / "x.zip"
    systems = ("--system", f"{recipe}:a", "--system", f"{recipe}:b")
    status, text = command("package-submission", *systems, "--out", out)
    assert status == 0 and "WARNING: the technical report of track a and b is missing" in text, text
    skeleton = out.parent / "x_report"
    assert {path.name for path in skeleton.iterdir()} == {
        "report.md", "report.tex", f"curves_{LABEL_A}.png", f"curves_{LABEL_B}.png"
    }  # fmt: skip
    markdown, tex = ((skeleton / name).read_text() for name in ("report.md", "report.tex"))
    for page in (markdown, tex.replace("\\", "")):
        assert "45.68" in page and "40,700 parameters" in page and f"curves_{LABEL_B}.png" in page and "Knock" in page
        assert "${" not in page
    (skeleton / "report.md").write_text("my own words")
    pdf = make.pdf(tmp_path / "report.pdf")
    status, text = command("package-submission", *systems, "--out", out, "--report", f"{pdf}:a")
    assert "track b is missing" in text and (skeleton / "report.md").read_text() == "my own words"
    status, text = command("package-submission", *systems, "--out", out, "--report", pdf)
    assert status == 0 and "WARNING" not in text and "error" not in text
    assert command("check-submission", out)[0] == 0


def test_the_command_refuses_in_sentences(tmp_path):
    recipe = make.work(tmp_path / "work", random_weights=["clap"])
    out = tmp_path / "x.zip"
    for arguments, words in (
        (["--system", f"{recipe}:c"], "no track 'c'"),
        (["--system", recipe], "never trained: clap"),
        (["--system", tmp_path / "nowhere"], "There is no run"),
        (["--system", recipe, "--force-random-weights", "--report", tmp_path / "no.pdf"], "no report"),
        (["--system", recipe, "--force-random-weights", "--team", tmp_path / "no.yaml"], "no.yaml"),
    ):
        status, text = command("package-submission", *arguments, "--out", out)
        assert status == 1 and words in text and not out.exists()
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "other.wav").touch()
    status, text = command(
        "package-submission", "--system", recipe, "--force-random-weights", "--out", out, "--eval", tmp_path / "eval"
    )
    assert status == 1 and "clip-missing" in text and "clip-unknown" in text


def test_the_stage_makes_the_package_of_its_steps(tmp_path):
    recipe = make.work(tmp_path / "work")
    results = (tmp_path / "work" / ".results").resolve()
    stage = load_stage("package")
    out = tmp_path / "out"
    out.mkdir()
    config = stage.config(csv=["csv", "csv"], scores=["score", "score"], tracks=["a", "b"], members=["one"])
    inputs = {
        "csv": [results / "export-test"] * 2,
        "scores": [results / "score-1"] * 2,
        "members": [results / "train-1"],
    }
    facts = stage.run(config, inputs, out, Context())
    said = facts.pop("show")
    assert facts == {"zip": "submission.zip", "errors": ["report-missing"], "warnings": ["clip-count"]}
    assert yaml.safe_load(meta_of(out / "submission.zip"))["system"]["complexity"]["total_parameters"] == 40_700
    assert "report of track a and b is missing" in said and (out / "submission_report").is_dir()
    for wrong in ({"tracks": ["a"]}, {"tracks": ["a", "b"], "scores": ["score"]}, {"tracks": ["a", "c"]}):
        with pytest.raises(ValueError, match=r"tracks|scores"):
            stage.config(csv=["csv", "csv"], **wrong)
    assert recipe.is_dir()


def test_nothing_heavy_is_imported(tmp_path):
    recipe = make.work(tmp_path)
    code = (
        "import sys; from dcase_seld.cli.submission import package_submission\n"
        f"words = ['--system', {str(recipe)!r}, '--out', {str(tmp_path / 'x.zip')!r}]\n"
        "package_submission(words, standalone_mode=False)\n"
        "print([name for name in ('torch', 'pandas', 'scipy', 'pypdf', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_edition_of_2024_is_a_layout_with_rows_all_around(tmp_path):
    around = replace(make.events(), elevation_deg=np.linspace(-40, 40, 60), onscreen=np.zeros(60, bool))
    for folder in ("a", "b"):
        write_folder(around, tmp_path / folder)
    pdf = make.pdf(tmp_path / "report.pdf")
    words = ["--system", f"{tmp_path / 'a'}:a", "--system", f"{tmp_path / 'b'}:b", "--layout", "dcase2024"]
    (tmp_path / "scores.json").write_text(json.dumps({"F": 0.131, "DOAE_deg": 36.9, "RDE": 0.33}))
    words += ["--scores", f"{tmp_path / 'scores.json'}:a", "--out", tmp_path / "x.zip"]
    text = command("package-submission", *words)[1]
    assert "development scores are those of" in text
    assert "audio and audiovisual sound event" in (tmp_path / "x_report" / "report.md").read_text()
    command("package-submission", *words, "--report", pdf)
    files = make.contents(tmp_path / "x.zip")
    assert files[f"task3a/{LABEL_A}/{LABEL_A}/sample3.csv"] == (tmp_path / "a" / "sample3.csv").read_bytes()
    scores = yaml.safe_load(meta_of(tmp_path / "x.zip", LABEL_A))["results"]["development_dataset"]["overall"]
    assert scores == {"F_20_1": 13.1, "DOAE_CD": 36.9, "RDE_CD": 0.33}
    layout = load_layout(edition="dcase2024")
    findings, summary = check_submission(tmp_path / "x.zip", layout)
    assert findings.rules() == {"meta-field", "meta-scores"} and summary[LABEL_B]["events"] == 60  # no receipts
    assert "header" in check_submission(tmp_path / "x.zip", load_layout())[0].rules()
    where = f"task3b/{LABEL_B}/{LABEL_B}/sample3.csv"
    for row, rule in (
        (b"1,1,0,181,0,1.5", "azimuth-range"), (b"1,1,0,0,-91,1.5", "elevation-range"),
        (b"1,13,0,0,0,1", "class-range"), (b"1,1,0,0,0,-1", "distance-range"),
        (b"36000,1,0,0,0,1", "frame-range"), (b"1,1,0,0", "columns"),
        (b"frame,class,source,azimuth,elevation,distance", "header"), (b"1,1,0,nan,0,1", None),
    ):  # fmt: skip
        make.rewrite(tmp_path / "y.zip", {**files, where: row + b"\n"})
        found = check_submission(tmp_path / "y.zip", layout)[0]
        broken = [one for one in found.kept if one.where == where and one.severity == "error"]
        assert [one.line for one in broken] == [1] and (rule is None or broken[0].rule == rule), (row, broken)
        (tmp_path / "b" / "sample3.csv").write_bytes(row + b"\n")
        assert command("package-submission", *words)[0] == 1
    make.rewrite(
        tmp_path / "y.zip", {**files, where: b"1,1,0,0.6,0.8,0,2.5\n", where.replace("sample3", "sample4"): b""}
    )
    assert check_submission(tmp_path / "y.zip", layout)[0].rules() == {"meta-field", "meta-scores"}
