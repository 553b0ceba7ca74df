"""Every benchmark runs: each says what it is for, and those that are quick without downloads do their smallest work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALLEST = {
    "adpit": ["--batch", "1", "--rounds", "1", "--threads", "1"],
    "data": ["--clips", "70"],
    "decode": ["--clips", "4", "--rounds", "1", "--threads", "1"],
    "frontend": ["--clips", "1", "--rounds", "1"],
    "model": ["--batch", "1", "--rounds", "1", "--threads", "1", "--networks", "baseline"],
    "report": ["--clips", "6"],
    "score": ["3", "--repeats", "1"],
    "train_throughput": ["--clips", "30", "--batch", "4", "--threads", "1", "--turns", "1"],
    "video": ["--rounds", "1"],
}


def run(name: str, *words: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALLEST))
def test_its_smallest_form_prints_figures(name: str) -> None:
    assert any(letter.isdigit() for letter in run(name, *SMALLEST[name]))


@pytest.mark.parametrize("name", sorted({file.stem for file in FOLDER.glob("*.py")} - set(SMALLEST) - {"gpu"}))
def test_the_others_load_and_say_how_they_are_run(name: str) -> None:
    assert "usage:" in run(name, "--help")


@pytest.mark.slow
def test_the_gpus_table_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    shown = run("gpu", "--device", "cpu", "--small", "--no-compile", "--json", str(out))
    found = json.loads(out.read_text())
    for title in ("bare step", "trainer", "front end alone", "baseline in the trainer"):
        assert found[title]["clips_per_s"] > 0 and title in shown
    assert found["kernel time by kind"]["convolution"] > 0
    assert sum(found["kernel time by kind"].values()) == pytest.approx(1)
    assert found["simulation"]["1_processes_clips_per_s"] > 0
    assert {"card", "versions", "kernels' share of the clock", "embedding by YAMNet"} <= set(found)
