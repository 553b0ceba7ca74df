"""`run`, `status` and `clean` as a user calls them, on stages that write, add and count numbers."""

import click
import pytest
import torch
from click.testing import CliRunner
from toy_stages import RECIPE, REGISTRY

from dcase_seld.cli import recipes
from dcase_seld.cli.main import main
from dcase_seld.core import work
from dcase_seld.core.errors import SeldError


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "registry", lambda: REGISTRY)
    (tmp_path / "adding.yaml").write_text(RECIPE)

    def invoke(*words):
        result = CliRunner().invoke(main, list(words), standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return invoke


def test_run_prints_what_it_made_and_the_table_and_then_that_all_is_up_to_date(call):
    said = call("run", "adding.yaml")
    lines = said.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["a", "work/adding/a"],
        ["b", "work/adding/b"],
        ["total", "work/adding/total"],
        ["more", "work/adding/more"],
    ]
    assert "made in" in lines[2] and "total\nthe total is 26.0\n" in said.stdout
    assert "[3/4] total (sum): it was never made" in said.stderr
    again = call("run", "adding.yaml")
    assert "all 4 steps of adding are up to date" in again.stderr and "up to date, took" in again.stdout
    assert "the total is 26.0" in again.stdout


def test_quiet_prints_results_only(call):
    said = call("run", "adding.yaml", "--quiet", "--until", "a")
    assert said.stderr == "" and said.stdout.startswith("a  work/adding/a  (made in")


def test_dry_run_and_status_say_why_and_write_no_results(call, tmp_path):
    assert "4 of 4 steps would run" in call("run", "adding.yaml", "--dry-run").stdout
    assert not (tmp_path / "work" / ".results").exists()
    call("run", "adding.yaml")
    assert call("status", "adding.yaml").stdout.endswith("all 4 steps are up to date\n")
    text = call("status", "adding.yaml", "--set", "b.scale.factor=3").stdout
    assert text.startswith("adds numbers\n")
    assert "b      numbers     would run: scale.factor: 2.0 → 3.0" in text
    assert "total  sum         would run: numbers: another result of a, b (after b)" in text


def test_clean_lists_and_removes_only_when_told(call, tmp_path):
    with pytest.raises(SeldError):
        call("clean")
    call("run", "adding.yaml")
    call("run", "adding.yaml", "--set", "b.values=[1]")
    listed = call("clean").stdout
    assert "adding/total" in listed and "3 unused results" in listed and "--yes removes them" in listed
    assert len(list((tmp_path / "work" / ".results").glob("sum-*"))) == 4
    assert "removed 3 results" in call("clean", "--yes").stdout
    assert "removed 4 results" in call("clean", "--forget", "adding", "--yes").stdout
    assert list((tmp_path / "work" / ".results").glob("*-*")) == []


def test_errors_leave_through_the_front_door(call):
    with pytest.raises(SeldError, match="did you mean 'values'"):
        call("run", "adding.yaml", "--set", "a.valeus=[1]")
    with pytest.raises(SeldError, match="no recipe"):
        call("status", "nothing.yaml")


def test_a_mistyped_device_is_told_before_anything_runs(call, tmp_path):
    with pytest.raises(click.BadParameter, match="'gpu0' is no device"):
        call("run", "adding.yaml", "--device", "gpu0")
    assert not (tmp_path / "work").exists()
    if torch.cuda.device_count() < 2:
        with pytest.raises(SeldError, match="'cuda:1' is not to be had on this machine"):
            call("run", "adding.yaml", "--device", "cuda:1", "--dry-run")


def test_status_of_a_finished_run_needs_no_variables(call, tmp_path, monkeypatch):
    for name, number in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "n.txt").write_text(str(number))
    recipe = "steps:\n  a: {stage: numbers, source: '${SOUNDS}', values: ['${FIRST}', 2]}\n"
    (tmp_path / "outer.yaml").write_text(recipe + "  b: {stage: numbers, source: '${SOUNDS}', mode: 'm ${WORD} m'}\n")
    monkeypatch.setenv("SOUNDS", "one")
    monkeypatch.setenv("FIRST", "7")
    monkeypatch.setenv("WORD", "x")
    call("run", "outer.yaml")
    monkeypatch.delenv("SOUNDS")
    monkeypatch.delenv("FIRST")
    monkeypatch.delenv("WORD")
    said = call("status", "outer.yaml")
    assert said.stdout.endswith("all 2 steps are up to date\n")
    assert said.stderr.count("SOUNDS is not set") == 1 and "'7', as in the last run, is taken" in said.stderr
    assert "WORD is not set: 'x'" in said.stderr
    with pytest.raises(SeldError, match="the environment variable SOUNDS is not set"):
        call("run", "outer.yaml")
    monkeypatch.setenv("SOUNDS", "two")
    assert "2 of 2 steps would run" in call("status", "outer.yaml").stdout
    (tmp_path / "new.yaml").write_text(recipe)
    monkeypatch.delenv("SOUNDS")
    with pytest.raises(SeldError, match="the environment variable SOUNDS is not set"):
        call("status", "new.yaml")


def test_a_mistyped_step_has_a_near_name(call):
    with pytest.raises(SeldError, match=r"--until totl: .*no such step. Did you mean total\?"):
        call("run", "adding.yaml", "--until", "totl")
    with pytest.raises(SeldError, match="no step 'totl'; did you mean 'total'"):
        call("run", "adding.yaml", "--set", "totl.rate=2")
    call("run", "adding.yaml", "--quiet")
    with pytest.raises(SeldError, match=r"recipe 'addin'. Did you mean adding\?"):
        call("clean", "--forget", "addin")


def test_in_a_log_a_step_that_says_nothing_is_heard_of(call, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "PLAIN_S", 0.1)
    slow = "steps:\n  a: {stage: numbers}\n  wait: {stage: slow, numbers: a, steps: 3, pause: 0.1}\n"
    (tmp_path / "slow.yaml").write_text(slow)
    lines = call("run", "slow.yaml").stderr.splitlines()
    assert [line for line in lines if line.startswith("wait (slow) · 0.")]
    (tmp_path / "again.yaml").write_text(slow.replace("steps: 3", "steps: 4"))
    assert call("run", "again.yaml", "--quiet").stderr == ""


def test_a_dry_run_refuses_what_a_run_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))  # no weights are there
    (tmp_path / "corpus").mkdir()
    (tmp_path / "heard.yaml").write_text(
        "steps:\n  data: {stage: prepare, corpus: corpus}\n  tokens: {stage: embed, data: data, model: {kind: clap}}\n"
    )
    said = []
    for more in (["--dry-run"], []):
        result = CliRunner().invoke(main, ["run", "heard.yaml", *more])
        assert isinstance(result.exception, SeldError) and "The model clap is not on" in result.exception.problem
        said.append((result.exception.problem, result.exception.remedy))
        assert ("would run" in result.stdout) == bool(more)
    assert said[0] == said[1] and not (tmp_path / "work" / ".results").exists()
