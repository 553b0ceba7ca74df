"""One file of a user's own ideas: each kind runs in a recipe, and nothing is loaded that the user did not name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.registry import FEATURES, LOSS_TERMS, STAGES, VARIABLE, hash_source, load_plugins

IDEAS = Path(__file__).parent / "ideas.py"
RECIPE = """
plugins: [ideas.py]
steps:
  scenes: {stage: simulate, clips: {train: 6, test: 2}, rooms: {train: 3, test: 1}}
  data: {stage: prepare, corpus: scenes}
  tokens: {stage: embed, data: data, model: {kind: rms}}
  train:
    stage: train
    data: data
    tokens: tokens
    epochs: 1
    batch_size: 2
    tensorboard: false
    augment: {swap: 0, flip: 0.5}
    loss: {terms: {adpit: 1, quiet: 0.1}}
    model:
      fusion: [rms]
      encoder: {kind: tiny, width: 32}
      frontend: {features: [log_mel, phase], hop: 600, window: 1024, n_fft: 1024, mels: 16}
      cross_modal: {layers: 1, heads: 2, feed_forward: 16, kernel: 5}
  events: {stage: predict, data: data, tokens: tokens, members: train, threshold: 0.02}
  seen: {stage: visual, events: events, data: data, rules: [body, centre]}
  loud: {stage: louder, events: seen, least: 0.05}
  csv: {stage: export, events: loud, track: a}
  score: {stage: score, csv: csv, data: data, split: test, track: a}
"""


def call(folder, *words, **environment):
    command = [sys.executable, "-m", "dcase_seld", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "own.yaml").write_text(RECIPE)
    shutil.copy(IDEAS, folder / "ideas.py")
    done = call(folder, "run", "own.yaml", "--plugin", "ideas.py", "--device", "cpu", "--workers", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_each_idea_runs_in_a_recipe(made):
    work = made / "work" / "own"
    receipt = json.loads((work / "train" / "receipt.json").read_text())
    assert list(receipt["plugins"]) == ["ideas.py"] and len(receipt["plugins"]["ideas.py"]) == 64
    assert json.loads((work / "data" / "receipt.json").read_text())["plugins"] == {}
    assert 0 <= json.loads((work / "score" / "scores.json").read_text())["hit_rate"] <= 1
    assert list(json.loads((work / "score" / "receipt.json").read_text())["plugins"]) == ["ideas.py"]
    assert "hit_rate" in (work / "train" / "epochs.csv").read_text().splitlines()[0]
    about = json.loads((work / "train" / "best" / "model.json").read_text())
    assert about["config"]["encoder"] == {"kind": "tiny", "width": 32} and "ideas.py" in about["plugins"]
    assert about["config"]["fusion"]["rms"] == {"gives": "sound", "width": 1, "attention": None, "dropout": 0.0}
    header, row = (work / "train" / "epochs.csv").read_text().splitlines()[:2]
    values = dict(zip(header.split(","), row.split(","), strict=True))
    parts = [float(values[f"loss_{name}"]) for name in ("doa", "distance", "quiet")]
    assert parts[2] > 0 and float(values["loss"]) == pytest.approx(parts[0] + parts[1] + 0.1 * parts[2], rel=1e-4)
    with np.load(work / "seen" / "events.npz") as seen, np.load(work / "loud" / "events.npz") as loud:
        assert np.array_equal(seen["onscreen"], np.abs(seen["azimuth_deg"]) < 5)
        assert len(loud["frame"]) == (seen["activity"] > 0.05).sum()


@pytest.mark.slow
def test_a_second_run_does_nothing_and_a_changed_file_remakes_what_uses_it(made):
    again = call(made, "run", "own.yaml", "--plugin", "ideas.py", "--device", "cpu")
    assert "all 9 steps of own are up to date" in again.stderr
    source = (made / "ideas.py").read_text()
    (made / "ideas.py").write_text(source.replace("< 5", "< 6"))
    try:
        said = call(made, "status", "own.yaml", "--plugin", "ideas.py").stdout
    finally:
        (made / "ideas.py").write_text(source)
    assert "the plug-in ideas.py changed" in said
    states = {line.split()[0]: line for line in said.splitlines()[:-1]}
    assert "done" in states["data"] and "would run" in states["train"] and "would run" in states["seen"]
    assert "would run" in states["score"]


@pytest.mark.slow
def test_nothing_is_loaded_that_the_user_did_not_name(made, tmp_path):
    done = call(made, "status", "own.yaml")
    assert done.returncode == 1 and "the plug-in ideas.py is needed; name it yourself with --plugin" in done.stderr
    checkpoint = str(made / "work" / "own" / "train")
    wave = next((made / "work" / "own" / "scenes").rglob("*.wav"))
    done = call(tmp_path, "predict", str(wave), "--checkpoint", checkpoint, "--out", "o")
    assert done.returncode == 1 and "needs the plug-in ideas.py, and nothing loads code by itself" in done.stderr
    named = {"DCASE_SELD_PLUGINS": str(made / "ideas.py")}
    done = call(tmp_path, "predict", str(wave), "--checkpoint", checkpoint, "--out", "o", "--device", "cpu", **named)
    assert done.returncode == 0, done.stderr


def test_a_plug_in_that_is_not_there_or_fails_is_a_sentence(tmp_path):
    (tmp_path / "bad.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "taken.py").write_text("import dcase_seld as s\n@s.encoder('conformer')\nclass A: ...\n")
    for name, words in (("absent.py", "absent.py cannot be loaded: No such"), ("bad.py", "no_such_module_anywhere"),
                        ("taken.py", "a name that is taken"), ("no_such_module", "no installed module")):  # fmt: skip
        done = call(tmp_path, "status", "x.yaml", "--plugin", name)
        assert done.returncode == 1 and words in done.stderr, done.stderr


# What a user gets wrong in a file, and words of the sentence that says so.
FAULTY = {
    "x = nowhere\n": "line 2: NameError: name 'nowhere'",
    "1 / 0\n": "line 2: ZeroDivisionError",
    "@s.loss_trem('far')\ndef far(out, target): ...\n": "line 2: AttributeError",
    "@s.loss_term\ndef far(out, target): ...\n": "A loss term has no name",
    "@s.loss_term('far')\ndef far(out): ...\n": "Let it take (out, target)",
    "@s.feature('far', maps=('a',))\ndef far(spectrum): ...\n": "Let it take (spectrum, bank)",
    "@s.feature('far', maps=('a',), signed=('b',))\ndef far(spectrum, bank): ...\n": "no map 'b', which",
    "@s.augmentation('far')\ndef far(x, target): ...\n": "Let it take (x, target, which, rng)",
    "@s.encoder('far')\nclass Far:\n    def __init__(self, s): ...\n": "Let it take (settings, shape)",
    "@s.visual_rule('far')\ndef far(events): ...\n": "Let it take (events, seen)",
    "@s.stage('far', produces='csv', config=s.Config)\ndef far(config, out): ...\n": "(config, inputs, out, context)",
}


@pytest.mark.parametrize("name", ["/dev/zero", ".", "./", "os", "sys"])
def test_what_is_no_file_of_the_users_is_no_plug_in(name):
    with pytest.raises(SeldError, match="plug-in"):
        load_plugins([name])


@pytest.mark.parametrize("text", FAULTY)
def test_a_faulty_file_is_a_sentence_with_the_place(tmp_path, text):
    (tmp_path / "faulty.py").write_text(f"import dcase_seld as s\n{text}")
    before = os.environ.get(VARIABLE)  # of plug-ins that other tests of this process loaded
    with pytest.raises(SeldError) as told:
        load_plugins([tmp_path / "faulty.py"])
    assert FAULTY[text] in str(told.value) and os.environ.get(VARIABLE) == before
    assert "far" not in {*LOSS_TERMS.names, *FEATURES.names, *STAGES.names}


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ideas.py").write_text("import dcase_seld\n")
    done = call(tmp_path, "status", "x.yaml", "--plugin", "a/ideas.py", "--plugin", "b/ideas.py")
    assert done.returncode == 1 and "have one name" in done.stderr
    done = call(tmp_path, "status", "x.yaml", "--plugin", "a/ideas.py", "--plugin", "b/../a/ideas.py")
    assert "x.yaml" in done.stderr and "have one name" not in done.stderr


# What a plug-in's function gives that it must not, and words of the sentence that says so.
WRONG = {
    "@s.loss_term('far')\ndef far(out, target):\n    return 0.0\n": "The loss term far gave float",
    "@s.loss_term('far')\ndef far(out, target):\n    return out.distance\n": "The loss term far gave a tensor of shape",
    "@s.feature('far', maps=('a', 'b'))\ndef far(spectrum, bank):\n    return spectrum[:, :1].abs() @ bank\n":
        "The feature far gave a tensor of shape",
    "@s.augmentation('far')\ndef far(x, target, which, rng):\n    return x\n": "far did not give x and target",
    "@s.encoder('far')\nclass Far(nn.Module):\n    def __init__(self, s, shape):\n        super().__init__()\n":
        "The encoder 'far' has no width",
    "@s.encoder('far')\nclass Far(nn.Module):\n    def __init__(self, s, shape):\n        super().__init__()\n"
    "        self.width = 8\n    def forward(self, x, tokens):\n        return x\n": "The encoder gave a tensor",
}  # fmt: skip
KEYS = {"loss_term": "loss: {terms: {adpit: 1, far: 1}}", "augmentation": "augment: {far: 1}",
        "feature": "model: {frontend: {features: [log_mel, far]}}",
        "encoder": "model: {encoder: {kind: far}}"}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_a_plug_in_must_not_give_is_a_sentence(made, tmp_path, text):
    (tmp_path / "far.py").write_text(f"import dcase_seld as s\nfrom torch import nn\n{text}")
    data = f"  data: {{stage: prepare, corpus: {made / 'work' / 'own' / 'scenes'}}}\n"
    keys = KEYS[text[3 : text.index("(")]]
    (tmp_path / "far.yaml").write_text(
        f"steps:\n{data}  train: {{stage: train, data: data, epochs: 1, batch_size: 2, tensorboard: false, {keys}}}\n"
    )
    done = call(tmp_path, "run", "far.yaml", "--plugin", "far.py", "--device", "cpu", "--quiet")
    assert done.returncode == 1 and WRONG[text] in done.stderr, done.stderr


def test_a_package_is_known_by_all_files_that_it_may_import(tmp_path, monkeypatch):
    (tmp_path / "ideas_in_parts").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ideas_in_parts" / "__init__.py").write_text("from ideas_in_parts.parts import far\n")
    part = tmp_path / "ideas_in_parts" / "parts.py"
    part.write_text("far = 1\n")
    before = hash_source("ideas_in_parts")
    part.write_text("far = 2\n")
    assert hash_source("ideas_in_parts") != before
