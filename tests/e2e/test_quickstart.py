"""The quickstart recipes from the command line: everything is made, found done, and continued after a kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dcase_seld.core.event_files import read_folder

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {
    "scenes.clips": "{train: 40, test: 0}",
    "scenes.rooms.train": 4,
    "target.clips": "{train: 40, test: 8}",
    "target.rooms": "{train: 4, test: 2}",
    "pretrain.epochs": 2,
    "pretrain.batch_size": 8,
    "finetune_1.epochs": 2,
    "finetune_1.batch_size": 8,
    "finetune_2.epochs": 1,
    "finetune_2.batch_size": 8,
    "from_default.epochs": 1,
}
SMALL_AV = {"scenes.clips": "{train: 24, test: 6}", "scenes.rooms": "{train: 4, test: 2}", "train.epochs": 1}


def command(recipe, work, small):
    sets = [item for key, value in small.items() for item in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "dcase_seld.cli.main", "run", str(RECIPES / recipe), "--work", str(work), *sets]


def run(recipe, work, small):
    began = time.monotonic()
    done = subprocess.run(command(recipe, work, small), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return done, time.monotonic() - began


@pytest.mark.slow
def test_quickstart_makes_a_scored_submission_and_a_second_run_does_nothing(tmp_path):
    said, _ = run("quickstart.yaml", tmp_path, SMALL)
    named = re.findall(r"^report +(\S+)  |; copy (\S+), fill it in", said.stdout, re.MULTILINE)
    assert len(named) == 2 and all(Path("".join(place)).is_file() for place in named), "what the end names is there"
    results = tmp_path / "quickstart"
    scores = json.loads((results / "score/scores.json").read_text())
    assert scores["clips"] == 8 and scores["track"] == "a" and scores["onscreen_accuracy"] is None
    events = read_folder(results / "csv/csv")
    assert len(events.clips) == 8
    with zipfile.ZipFile(next((results / "submission").glob("*.zip"))) as archive:
        names = archive.namelist()
        assert sum(name.endswith(".csv") for name in names) == 8
        assert sum(name.endswith(".meta.yaml") for name in names) == 1
    again, seconds = run("quickstart.yaml", tmp_path, SMALL)
    assert "up to date" in again.stderr + again.stdout
    assert seconds < 4  # under 2 s on an idle machine


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path):
    small = {**SMALL, "pretrain.epochs": 4, "pretrain.checkpoint_steps": 1}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    until = ["--until", "pretrain"]
    subprocess.run([*command("quickstart.yaml", whole, small), *until], check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(
        [*command("quickstart.yaml", broken, small), *until], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not list(broken.glob(".results/train-*/state/state.json")):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint was written before the end"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / "quickstart/pretrain/receipt.json").exists()
    subprocess.run([*command("quickstart.yaml", broken, small), *until], check=True, capture_output=True, timeout=300)
    first, second = (work / "quickstart/pretrain/last/model.safetensors" for work in (whole, broken))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_the_audio_visual_line_writes_on_screen_flags_of_all_clips(tmp_path):
    run("quickstart_av.yaml", tmp_path, SMALL_AV)
    results = tmp_path / "quickstart_av"
    scores = json.loads((results / "score/scores.json").read_text())
    assert scores["track"] == "b" and scores["clips"] == 6 and scores["f_score_onscreen"] is not None
    events = read_folder(results / "csv/csv")
    assert len(events.clips) == 6 and not np.any(events.onscreen & (np.abs(events.azimuth_deg) > 51))
    assert (results / "visual/changes.csv").exists()
