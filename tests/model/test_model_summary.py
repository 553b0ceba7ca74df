import json

import pytest
import torch
from click.testing import CliRunner
from small_models import TASK, placed, small_crnn, small_network

from dcase_seld.cli.models import model_summary
from dcase_seld.core.errors import SeldError
from dcase_seld.model.config import SeldConfig
from dcase_seld.model.network import build_model
from dcase_seld.model.summary import summarise
from dcase_seld.model.types import ModelInput, Tokens
from dcase_seld.model.weights import count_parameters, save_model
from dcase_seld.train.losses import adpit_loss


@pytest.mark.parametrize(
    "config", [small_network(), small_network("a", ()), small_crnn()], ids=["conformer", "plain", "crnn"]
)
def test_parts_add_up(config):
    summary = summarise(config, TASK)
    assert summary.parameters == sum(part.parameters for part in summary.parts)
    assert summary.parameters == count_parameters(build_model(config, TASK))
    assert summary.multiply_adds == sum(part.multiply_adds for part in summary.parts)


def test_a_shallow_list_has_the_same_parts():
    shallow, deep = (summarise(small_network(), TASK, depth=depth) for depth in (1, 3))
    assert shallow.parts == deep.parts and len(shallow.layers) < len(deep.layers)
    assert not any("." in layer.name for layer in shallow.layers)


def test_multiply_adds_of_the_first_layers_by_hand():
    summary = summarise(SeldConfig(), TASK, depth=4)
    layers = {layer.name: layer for layer in summary.layers}
    conv = layers["encoder.blocks.0.first"]
    assert conv.shape == (1, 64, 800, 64)
    assert conv.multiply_adds == 4 * 64 * 9 * 800 * 64
    assert layers["head.hidden"].multiply_adds == 50 * 512 * 128
    assert [part.name for part in summary.parts] == ["front end", "encoder", "Conformer layers", "head"]


def test_activations_are_what_autograd_keeps():
    config, clips = small_network(), 3
    model = build_model(config, TASK).train()
    features = torch.randn(clips, 4, 200, 16)
    sound, image = torch.randn(clips, 1, 24), torch.randn(clips, 5, 7, 24)
    mask = torch.ones(clips, 5, dtype=torch.bool)
    given = ModelInput(features=features, tokens={"clap": Tokens(sound), "owlvit": Tokens(image, mask)})
    own = {
        t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), features, sound, image, mask)
    }
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(given)
        number = torch.zeros(clips, 50, 13, dtype=torch.long)
        adpit_loss(output, placed(number, torch.zeros(clips, 50, 13, 3, 4)))
    expected = sum(t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in own)
    got = summarise(config, TASK, clips=clips, tokens_per_frame=7).activations_bytes
    assert got == pytest.approx(expected, rel=0.1)


RECIPE = """
steps:
  data: {stage: prepare, corpus: "${NOT_SET_HERE}"}
  audio: {stage: train, data: data, batch_size: 4, model: {kind: crnn}}
  again: {stage: train, data: data, seed: 1, batch_size: 4, model: {kind: crnn}}
  visual:
    stage: train
    data: data
    model: {track: b, fusion: [owlvit], encoder: {layers: 1, channels: [8, 16, 32, 64], d_model: 64}}
"""


def test_command_shows_each_network_of_a_recipe_once(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    result = CliRunner().invoke(model_summary, [str(recipe), "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert "audio, again: layers" in result.output and "visual: parts" in result.output
    assert "734,261" in result.output and "at 4 clips in float32" in result.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["audio, again"]["parameters"] == 734_261
    only = CliRunner().invoke(model_summary, [str(recipe), "--step", "visual", "--set", "visual.model.track=b"])
    assert "visual: layers" in only.output and "audio" not in only.output


def test_command_shows_a_trained_model(tmp_path):
    save_model(build_model(small_network(), TASK), tmp_path / "best")
    result = CliRunner().invoke(model_summary, [str(tmp_path)])
    assert result.exit_code == 0 and "Cross-Modal Conformer (owlvit)" in result.output


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("steps: {a: {stage: prepare, corpus: x}}", [], "has no train step"),
        (RECIPE, ["--step", "audiox"], "no train step audiox"),
        ("steps: {a: {stage: train, model: {encoder: {layer: 3}}}}", [], "did you mean 'layers'"),
    ],
)
def test_mistakes_are_named(tmp_path, text, arguments, words):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    result = CliRunner().invoke(model_summary, [str(recipe), *arguments])
    assert isinstance(result.exception, SeldError) and words in str(result.exception)
