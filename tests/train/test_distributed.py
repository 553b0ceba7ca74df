"""Two processes on one CPU train as one process does at the same global batch, and lose or repeat no clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tiny import MODEL, TAXONOMY, make_store

from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.scoring.figures import FIGURES, read_epochs
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.loop import train

STILL = {
    **MODEL,
    "track": "b",
    "encoder": {**MODEL["encoder"], "dropout": 0.0},
    "cross_modal": {**MODEL["cross_modal"], "dropout": 0.0},
}


def trained(store: Path, out: Path, devices: int, **changes: object) -> Path:
    out.mkdir()
    options = {"model": STILL, "epochs": 2, "batch_size": 8, "lr": 3e-3, "tensorboard": False, "augment": {"swap": 0}}
    config = TrainConfig(**{**options, "freeze_batch_norm": True, "devices": devices, **changes})  # type: ignore[arg-type]
    train(config, [store], out, device="cpu")
    return out


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    # Seven validation clips do not divide by two; on-screen sources are spread unevenly over the halves of a batch.
    store = make_store(tmp_path, train=24, val=7, test=1)
    one, two = (trained(store, tmp_path / str(devices), devices) for devices in (1, 2))
    first, second = (load_file(folder / "last" / "model.safetensors") for folder in (one, two))
    assert max(float((first[name].double() - second[name].double()).abs().max()) for name in first) < 1e-5
    for a, b in zip(read_epochs(one / "epochs.csv"), read_epochs(two / "epochs.csv"), strict=True):
        for name in ("loss", "loss_doa", "loss_distance", "loss_onscreen", "val_loss", *FIGURES):
            assert a.get(name) == pytest.approx(b.get(name), abs=1e-5), name


@pytest.mark.slow
def test_a_mistake_in_a_process_comes_home_as_a_sentence(tmp_path: Path) -> None:
    store = make_store(tmp_path, train=8, val=2, test=1)
    with pytest.raises(SeldError, match="batch_size 7 is not divisible by 2 devices"):
        trained(store, tmp_path / "out", 2, batch_size=7)


RECIPE = """
about: Two processes that torchrun starts run one recipe together.
steps:
  data: {{stage: prepare, corpus: "{corpus}", taxonomy: "{corpus}/taxonomy.yaml"}}
  first: {{stage: train, data: data, epochs: 1, batch_size: 8, devices: 2, tensorboard: false, model: {model}}}
  second: {{stage: train, data: data, init: first, epochs: 1, batch_size: 8, tensorboard: false, model: {model}}}
  third: {{stage: train, data: data, init: second, epochs: 1, batch_size: 8, devices: 2, tensorboard: false,
           model: {model}}}
  events: {{stage: predict, data: data, members: [third]}}
"""


@pytest.mark.slow
def test_torchrun_runs_a_recipe(tmp_path: Path) -> None:
    make_store(tmp_path, train=16, val=5, test=3)
    (tmp_path / "corpus" / "taxonomy.yaml").write_text(yaml.safe_dump(TAXONOMY.to_json()))
    recipe = tmp_path / "two.yaml"
    recipe.write_text(RECIPE.format(corpus=tmp_path / "corpus", model=json.dumps(STILL)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        *launcher,
        "-m",
        "dcase_seld.cli.main",
        "run",
        str(recipe),
        "--work",
        str(tmp_path / "w"),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "w" / "two"
    for step in ("data", "first", "second", "third", "events"):
        assert (results / step / "receipt.json").is_file()
    assert len(Events.load(results / "events" / "events.npz").clips) == 3
    # Each update saw the whole batch: two of 16 clips in an epoch, not four.
    assert read_epochs(results / "third" / "epochs.csv")[-1]["step"] == 2
