import json

import pytest
import torch
from small_models import TASK, inputs, small_crnn, small_network

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import Task
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import count_parameters, load_matching, load_model, read_facts, save_model


@pytest.mark.parametrize("config", [small_network(), small_crnn()], ids=["cmc", "crnn"])
def test_saving_and_loading_is_bit_exact(tmp_path, config):
    model = build_model(config, TASK, seed=5)
    model.frontend.mean.normal_()
    model.train()(inputs())  # moves BatchNorm's statistics
    save_model(model, tmp_path, {"epoch": 3})
    loaded = load_model(tmp_path)
    assert not loaded.training and loaded.config == config and loaded.task == TASK
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(loaded(inputs()).direction, model.eval()(inputs()).direction)
    about = read_facts(tmp_path)
    assert about["facts"] == {"epoch": 3} and about["parameters"] == count_parameters(model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_damaged_or_missing_files_are_a_users_error(tmp_path):
    with pytest.raises(SeldError, match=r"no file .*model\.json"):
        load_model(tmp_path)
    save_model(build_model(small_network(), TASK), tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(SeldError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(SeldError, match="lacks config, task"):
        load_model(tmp_path)


def test_weights_of_another_size_are_named(tmp_path):
    save_model(build_model(small_network(), TASK), tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    about["config"]["head"]["hidden"] = 64
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(SeldError, match=r"of another shape \(head\.hidden\.bias, head\.hidden\.weight"):
        load_model(tmp_path)


@pytest.mark.parametrize("direction, both", [("cartesian", 3), ("polar", 4)])
def test_audio_visual_model_starts_from_an_audio_one(tmp_path, direction, both):
    head = {"direction": direction}
    audio = build_model(small_network("a", ("clap",), head=head), TASK, seed=1)
    audio.frontend.mean.fill_(2.0)
    save_model(audio, tmp_path)
    model = build_model(small_network(head=head), TASK, seed=2)
    fresh_cmc2 = model.fusion["owlvit"].layers[0].attention.query.weight.clone()
    fresh_out = model.head.out.weight.clone()
    matching = load_matching(model, tmp_path)
    assert torch.equal(
        model.fusion["clap"].layers[0].attention.value.weight, audio.fusion["clap"].layers[0].attention.value.weight
    )
    assert torch.equal(model.frontend.mean, audio.frontend.mean)
    assert torch.equal(model.fusion["owlvit"].layers[0].attention.query.weight, fresh_cmc2)
    assert matching.partial == ("head.out.weight", "head.out.bias")
    old, new, start = (w.unflatten(0, (3, -1, 13)) for w in (audio.head.out.weight, model.head.out.weight, fresh_out))
    assert new.shape[1] == both + 1
    assert torch.equal(new[:, :both], old) and torch.equal(new[:, both], start[:, both])
    assert set(matching.fresh) == {name for name in model.state_dict() if name.startswith("fusion.owlvit.")}
    assert not matching.unused
    listed = {*matching.matched, *matching.partial, *matching.fresh}
    assert listed == set(model.state_dict())


def test_heads_of_other_directions_do_not_mix(tmp_path):
    # An audio-visual cartesian head and a polar audio head have equally many outputs, with other meanings.
    save_model(build_model(small_network(), TASK), tmp_path)
    other = build_model(small_network("a", ("clap",), head={"direction": "polar"}), TASK)
    with pytest.raises(SeldError, match="direction: cartesian, this model's has polar"):
        load_matching(other, tmp_path)


@pytest.mark.parametrize(
    "network",
    [
        small_network,
        small_crnn,
        lambda **front: small_network(
            encoder={"kind": "resnet_conformer", "frequency": "flatten", "shortcut_bands": 8, "pool_first": 2}, **front
        ),
    ],
    ids=["conformer", "crnn", "resnet"],
)
def test_features_that_are_added_change_nothing_until_they_are_learned(tmp_path, network):
    front = network().frontend.model_dump()
    given = build_model(network(), TASK, seed=4)
    given.frontend.mean.normal_()
    save_model(given, tmp_path)
    more = {**front, "features": (*front["features"], "mid_side", "direct")}
    model = build_model(network(frontend=more), TASK)
    matching = load_matching(model, tmp_path)
    assert "frontend.mean" in matching.partial and matching.maps == len(given.frontend.channels)
    assert not matching.fresh and not matching.unused
    assert torch.equal(model.eval()(inputs()).direction, given.eval()(inputs()).direction)
    # In another order the checkpoint's weights would stand for other maps.
    other = build_model(network(frontend={**front, "features": ("direct", *front["features"])}), TASK)
    with pytest.raises(SeldError, match="may be added behind those of the checkpoint"):
        load_matching(other, tmp_path)


def test_plain_layers_of_a_checkpoint_without_clap_are_listed_as_unused(tmp_path):
    save_model(build_model(small_network("a", ()), TASK), tmp_path)
    matching = load_matching(build_model(small_network("a", ("clap",)), TASK), tmp_path)
    assert matching.unused and all(name.startswith("conformer.") for name in matching.unused)
    assert matching.fresh and all(name.startswith("fusion.clap.") for name in matching.fresh)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (small_network(encoder={"layers": 2}), r"weight\(s\) differ \(encoder\.layers\.1"),
        (small_network(encoder={"feed_forward": 32}), r"encoder\.layers\.0\.before\.1\.weight"),
        (small_network(frontend={"hop": 600, "window": 1024, "n_fft": 1024, "mels": 32}), "another front end"),
        (small_network(head={"hidden": 64}), r"head\.hidden"),
    ],
)
def test_unexpected_mismatch_is_an_error_and_changes_nothing(tmp_path, config, words):
    save_model(build_model(small_network("a", ("clap",)), TASK), tmp_path)
    model = build_model(config, TASK, seed=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SeldError, match=words):
        load_matching(model, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_other_classes_are_an_error(tmp_path):
    save_model(build_model(small_network(), TASK), tmp_path)
    other = build_model(small_network(), Task(classes=Taxonomy("one", ("Speech",), ("speech",))))
    with pytest.raises(SeldError, match="different tasks: the classes"):
        load_matching(other, tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"encoder": {"layers": 10**9}},
        {"encoder": {"d_model": 10**7}},
        {"encoder": {"channels": [10**9]}},
        {"cross_modal": {"feed_forward": 10**12}},
        {"frontend": {"mels": 2**40}},
        {"encoder": {"layers": 64, "d_model": 8192, "feed_forward": 65_536}},
        {"kind": "crnn", "gru_units": 10**9},
        {"frontend": {"hop": 1}},
        {"frontend": {"sample_rate": 1}},
    ],
)
def test_sizes_that_no_machine_holds_are_refused_before_anything_is_built(config):
    with pytest.raises(SeldError):
        build_model(parse_model_config(config), TASK)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), -1e38])
def test_weights_that_no_training_gives_are_refused(tmp_path, value):
    """A network of them hears nothing, without a word."""
    model = build_model(small_network(), TASK)
    next(model.head.parameters()).data.view(-1)[0] = value
    save_model(model, tmp_path)
    with pytest.raises(SeldError, match="no finite numbers") as told:
        load_model(tmp_path)
    assert "head." in str(told.value)
