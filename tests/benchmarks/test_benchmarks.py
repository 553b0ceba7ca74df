"""Every benchmark runs: each says what it is for, and those that need no downloads do their smallest work."""

import json
import runpy
import time
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALLEST = {
    "adpit": ["--batch", "1", "--rounds", "1", "--threads", "1"],
    "convert": ["--seconds", "5", "--width", "256", "--workers", "1"],
    "data": ["--clips", "70"],
    "decode": ["--clips", "4", "--rounds", "1", "--threads", "1"],
    "frontend": ["--clips", "1", "--rounds", "1", "--threads", "1"],
    "model": ["--batch", "1", "--rounds", "1", "--threads", "1", "--networks", "baseline"],
    "mono": ["--most", "1"],
    "people": ["--scenes", "2"],
    "recipe_cost": ["RECIPE", "--batches", "1", "2"],
    "report": ["--clips", "6"],
    "score": ["3", "--repeats", "1"],
    "simulate": ["2"],
    "startup": ["--rounds", "1", "--commands", "score"],
    "submission": ["3", "1"],
    "train_throughput": ["--clips", "20", "--batch", "2", "--threads", "1", "--turns", "1", "--runs", "2"],
    "video": ["--rounds", "1"],
    "visual": ["--scenes", "4"],
}
RECIPE = """
steps:
  scenes: {stage: simulate, clips: {train: 8, test: 2}}
  data: {stage: prepare, corpus: scenes}
  small: {stage: train, data: data, epochs: 1, batch_size: 4, model: {kind: crnn, filters: 8, gru_units: 8}}
  tokens: {stage: embed, data: data, model: {kind: yamnet}}
  as_it_comes: {stage: predict, data: data, members: [default]}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run a benchmark as a program would be, in this process: importing torch takes longer than most of them."""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))

    def started(name: str, *words: str) -> str:
        monkeypatch.setattr("sys.argv", [f"{name}.py", *words])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capfd.readouterr().out

    yield started
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALLEST))
def test_its_smallest_form_prints_figures(name: str, run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name in ("people", "visual"):
        request.getfixturevalue("pose_model")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    words = [word.replace("RECIPE", str(tmp_path / "recipe.yaml")) for word in SMALLEST[name]]
    assert any(letter.isdigit() for letter in run(name, *words))


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.py")))
def test_it_says_how_it_is_run(name: str, run, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(name, "--help")
    assert "usage:" in capfd.readouterr().out


@pytest.mark.slow
def test_the_gpus_table_without_a_gpu(tmp_path: Path, run) -> None:
    out = tmp_path / "gpu.json"
    shown = run("gpu", "--device", "cpu", "--small", "--no-compile", "--json", str(out))
    found = json.loads(out.read_text())
    assert not [title for title, part in found.items() if isinstance(part, dict) and "failed" in part]
    for title in ("bare step", "bare step, deterministic", "trainer", "front end alone", "baseline in the trainer"):
        assert found[title]["clips_per_s"] > 0 and title in shown
    assert found["kernel time by kind"]["convolution"] > 0
    assert sum(found["kernel time by kind"].values()) == pytest.approx(1)
    assert found["simulation"]["1_processes_clips_per_s"] > 0
    assert found["trainings alike"]["same_weights_twice"] is True
    assert found["trainings alike"]["bf16_loss"] == pytest.approx(found["trainings alike"]["fp32_loss"], rel=0.05)
    assert {"card", "versions", "kernels' share of the clock", "embedding by YAMNet"} <= set(found)


def test_a_part_that_fails_costs_the_others_nothing(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **named: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("dcase_seld.train.loop.train", broken)
    monkeypatch.setattr("dcase_seld.model.network.build_model", broken)
    out = tmp_path / "gpu.json"
    run("gpu", "--device", "cpu", "--small", "--no-compile", "--json", str(out))
    found = json.loads(out.read_text())
    for title in ("bare step", "trainer", "kernel time by kind", "trainings alike"):
        assert found[title] == {"failed": "RuntimeError: no such kernel"}
    assert found["simulation"]["1_processes_clips_per_s"] > 0 and found["seconds"] > 0


def test_a_part_ends_when_its_time_is_over_even_if_the_first_word_is_lost(run, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    limited = runpy.run_path(str(FOLDER / "gpu.py"), run_name="loaded")["limited"]
    lost = []
    with pytest.raises(TimeoutError, match=r"more than 0\.02 s"), limited(0.02):
        try:
            time.sleep(10)
        except TimeoutError as error:
            lost.append(error)
        time.sleep(10)
    assert len(lost) == 1
    with limited(0.02):
        pass
    time.sleep(0.05)
