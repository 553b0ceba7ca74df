"""`dcase-seld runs`: trainings in work directories, named by their links, with what differs between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import MODEL

from dcase_seld import run_recipe
from dcase_seld.cli.results import runs
from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.results import forget, leftovers, remove


def finished(folder: Path, score: float | None, lr: float, seconds: float = 75.0) -> None:
    folder.mkdir(parents=True)
    val = {"f_score": score, "f_score_onscreen": None, "doa_error_deg": 12.5, "relative_distance_error": 0.4}
    summary = {"val": val, "criterion": "f_score", "seconds": seconds, "parameters": 1234567, "epochs": 9}
    (folder / "summary.json").write_text(json.dumps({**summary, "best_epoch": 7, "clips_per_second": 40.2}))
    (folder / "epochs.csv").write_text("epoch\n")
    (folder / "receipt.json").write_text(json.dumps({"config": {"lr": lr, "model": {"kind": "conformer", "width": 1}}}))


def test_runs_are_named_by_their_links_and_sorted_by_score(tmp_path: Path) -> None:
    finished(tmp_path / ".results" / "train-aa", 0.25, 0.001)
    finished(tmp_path / ".results" / "train-bb", 0.375, 0.002)
    finished(tmp_path / ".results" / "train-cc", None, 0.001)
    (tmp_path / ".results" / "train-dd").mkdir()  # unfinished
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "first").symlink_to(tmp_path / ".results" / "train-aa")
    done = CliRunner().invoke(runs, [str(tmp_path), "--json"], catch_exceptions=False)
    table = json.loads(done.output)
    assert [run["run"] for run in table] == [".results/train-bb", "mine/first", ".results/train-cc"]
    assert [run["differs"] for run in table] == [{"lr": 0.002}, {}, {}]
    done = CliRunner().invoke(runs, [str(tmp_path / "mine"), "--json"], catch_exceptions=False)
    assert [run["run"] for run in json.loads(done.output)] == ["first"]  # a recipe's folder holds links alone
    text = CliRunner().invoke(runs, [str(tmp_path)], env={"COLUMNS": "160"}, catch_exceptions=False).output
    assert "37.5" in text and "1,234,567" in text and "0:01:15" in text and "7/9" in text and "width" not in text


def test_the_table_says_that_its_scores_are_of_validation(tmp_path: Path) -> None:
    finished(tmp_path / "train", 0.25, 0.001)
    said = " ".join(CliRunner().invoke(runs, [str(tmp_path)], catch_exceptions=False).output.split())
    assert "Scores: validation clips" in said and "test scores are those of" in said


def test_a_train_step_itself_can_be_given(tmp_path: Path) -> None:
    finished(tmp_path / "step", 0.5, 0.1)
    done = CliRunner().invoke(runs, [str(tmp_path / "step"), "--json"], catch_exceptions=False)
    assert [run["run"] for run in json.loads(done.output)] == ["step"]


def test_nothing_to_compare_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeldError, match="no finished training"):
        CliRunner().invoke(runs, [str(tmp_path)], catch_exceptions=False)
    with pytest.raises(SeldError, match="There is no folder"):
        CliRunner().invoke(runs, [str(tmp_path / "none")], catch_exceptions=False)
    finished(tmp_path / "broken", 0.5, 0.1)
    (tmp_path / "broken" / "summary.json").write_text("{}")
    with pytest.raises(SeldError, match="is damaged"):
        CliRunner().invoke(runs, [str(tmp_path)], catch_exceptions=False)


def test_the_table_fits_80_columns_and_keeps_names_whole(tmp_path: Path) -> None:
    finished(tmp_path / "a-rather-long-recipe" / "first-of-two-trainings", 0.5, 0.1, seconds=36_000)
    finished(tmp_path / "a-rather-long-recipe" / "second-of-two-trainings", 0.25, 0.2)
    text = CliRunner().invoke(runs, [str(tmp_path)], env={"COLUMNS": "80"}, catch_exceptions=False).output
    assert max(map(len, text.splitlines())) <= 80
    assert "1  a-rather-long-recipe/first-of-two-trainings" in text and "10:00:00" in text and "lr 0.1" in text


def test_tensorboard_finds_a_training_once_and_clean_takes_its_curves_along(tmp_path, corpus_root, monkeypatch) -> None:
    """TensorBoard's own search through the work directory, where a link and the result lead to one training."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    monkeypatch.chdir(tmp_path)
    train = {"stage": "train", "data": "data", "epochs": 1, "batch_size": 4, "model": MODEL, "augment": {"swap": 0}}
    steps = {"data": {"stage": "prepare", "corpus": str(corpus_root)}, "learn": train}
    (tmp_path / "small.yaml").write_text(json.dumps({"steps": steps}))  # JSON is YAML
    folder = run_recipe("small.yaml", device="cpu", quiet=True)["learn"]
    name = f"small/learn-{folder.name.rpartition('-')[2][:6]}"
    for place, expected in (("work", f"tensorboard/{name}"), ("work/tensorboard", name)):
        found = EventMultiplexer().AddRunsFromDirectory(place)
        assert list(found.Runs()) == [expected]
    assert f"tensorboard --logdir {Path('work/tensorboard')}" in CliRunner().invoke(runs, ["work"]).output
    forget(Path("work"), "small")
    remove(leftovers(Path("work")))
    assert not Path("work/tensorboard", name).exists()
