"""What 0.1 wrote is read, and answers as it did: stores, tokens, checkpoints, ensembles, recipes, receipts."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dcase_seld.core.events import COLUMNS
from dcase_seld.infer.predictor import Predictor, read_for
from dcase_seld.infer.recording_source import RecordingSource, open_embedders
from dcase_seld.recipe.load import load_recipe
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader

FIXTURE = Path(__file__).parent / "fixtures" / "run_0_1"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
AUDIO, BOTH = ("first", "second", "soup", "ensemble"), ("both", "ensemble_av")
VARIANTS = tuple(sorted(path.name for path in (FIXTURE / "checkpoints").iterdir()))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a copy of the run as the current directory, its encoders in the cache, its corpus restored."""
    folder = tmp_path_factory.mktemp("version") / "run_0_1"
    shutil.copytree(FIXTURE, folder, symlinks=True)
    spec = importlib.util.spec_from_file_location("sound_of_0_1", folder / "sound.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before, cache = Path.cwd(), os.environ.get("DCASE_SELD_CACHE")
    os.chdir(folder)
    os.environ["DCASE_SELD_CACHE"] = str(folder / "cache")
    module.restore_corpus(Path())
    module.write_sound(folder / "noise.wav")
    yield folder
    os.chdir(before)
    os.environ.pop("DCASE_SELD_CACHE") if cache is None else os.environ.update(DCASE_SELD_CACHE=cache)


def folder_of(run, name):
    if name in VARIANTS:
        return run / "checkpoints" / name
    recipe = "recipe_a" if name in AUDIO else "recipe_av"
    return (run / "work" / recipe / name.removesuffix("_av")).resolve()


def readers(run):
    """Return every token folder of the run by what it holds."""
    return [path.parent for path in sorted((run / "work" / ".results").glob("embed-*/tokens.json"))]


def fitting(run, predictor):
    """Return the token folders that a predictor was trained with."""
    known = {name: specs[0] for name, specs in predictor.specs.items()}
    found = []
    for folder in readers(run):
        spec = TokenReader.open(folder).spec
        one = known.get(spec.name)
        keys = ("fingerprint", "shape", "mirror_by")
        if one and all(getattr(spec, key) in (one[key], tuple(one[key])) for key in keys):
            found.append(folder)
    return found


def alike(ours, name):
    """Compare with 0.1's array; processors of other makes add in another order, so not to the bit."""
    theirs = np.load(FIXTURE / "expected.npz")[name]
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", [*AUDIO, *BOTH, *VARIANTS])
def test_networks_answer_as_they_did(run, name):
    torch.set_num_threads(1)
    predictor = Predictor.load([folder_of(run, name)])
    store = Store.open((run / "work/recipe_a/data").resolve())
    source = predictor.open_store(store, "all", fitting(run, predictor), allow_tuned=True)
    ((output, _),) = predictor.outputs(source, batch_size=4)
    for field, ours in (("xy", output.direction), ("distance", output.distance), ("onscreen", output.onscreen)):
        key = f"outputs/{name}/{field}"
        if ours is not None and key in np.load(FIXTURE / "expected.npz").files:
            kept = ours.numpy()[[0, 3]] if name in ("second", "both") else ours.numpy()[:1]
            alike(kept, key)


@pytest.mark.parametrize("name, atol", [("second", 1e-5), ("ensemble", 1e-5), ("both", 2e-3), ("onnx_aligned", 2e-3)])
def test_recordings_are_answered_as_they_were(run, name, atol):
    """Tokens made for a recording are rounded as stored ones are since, so networks that read some differ a little."""
    torch.set_num_threads(1)
    predictor = Predictor.load([folder_of(run, name)])
    recording = read_for(predictor, run / "noise.wav")
    if name in ("second", "both"):
        embedders = open_embedders(predictor.specs, predictor.needs, predictor.task, "cpu")
        source = RecordingSource(recording, predictor.task, embedders, 25)
        assert source.windows[:, 1].tolist() == [0, 25, 50, 74]
    events = predictor.with_threshold(0.15).predict(recording, hop_frames=25)
    expected = np.load(FIXTURE / "expected.npz")
    assert len(events) == len(expected[f"events/noise/{name}/frame"])
    for column in COLUMNS[1:]:
        ours, theirs = getattr(events, column), expected[f"events/noise/{name}/{column}"]
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, atol=max(atol, 1e-4) * 100, err_msg=column)
        else:
            assert np.array_equal(ours, theirs), column


@pytest.mark.parametrize("name", ["recipe_a", "recipe_av", "recipe_variants"])
def test_recipes_are_read_with_a_note_of_each_renamed_key(run, name):
    recipe = load_recipe(run / f"{name}.yaml")
    models = [step["model"] for step in recipe.steps.values() if step["stage"] == "train"]
    assert models and all(model.get("kind", "conformer") in ("conformer", "crnn") for model in models)
    assert not any("clap_width" in str(model) or "vision_width" in str(model) for model in models)
    assert any("kind: cmc is conformer now" in note for note in recipe.notes) or name == "recipe_av"
    checked = subprocess.run(
        [sys.executable, "-m", "dcase_seld", "run", f"{name}.yaml", "--dry-run", "--work", "again"],
        cwd=run, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_onnx_tokens_are_called_onnx_tokens(run):
    predictor = Predictor.load([run / "checkpoints" / "onnx_aligned"])
    assert predictor.needs == {"onnx"} and predictor.specs["onnx"][0]["gives"] == "sound"
    assert list(predictor.networks[0].fusion) == ["onnx"]


def test_a_training_starts_from_a_network_of_0_1(run, tmp_path):
    from dcase_seld.train.config import TrainConfig
    from dcase_seld.train.loop import train

    store = (run / "work/recipe_a/data").resolve()
    model = json.loads((run / "checkpoints/conformer/model.json").read_text())["config"]
    from dcase_seld.core.old_formats import model_config

    config = TrainConfig(model=model_config(model)[0], epochs=1, batch_size=2, tensorboard=False)
    summary = train(config, [store], tmp_path, init=run / "checkpoints/conformer", device="cpu")
    listed = json.loads((tmp_path / "init.json").read_text())
    assert summary["epochs"] == 1 and not listed["fresh"] and not listed["unused"] and len(listed["matched"]) > 40
