import pytest
import torch
from small_models import TASK, inputs, small_crnn, small_network, target, with_tokens
from torch.nn import functional

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import Task
from dcase_seld.model import encoders
from dcase_seld.model.config import CrnnConfig, SeldConfig, parse_model_config
from dcase_seld.model.frontend import leave_uncompiled
from dcase_seld.model.network import build_model
from dcase_seld.model.types import Tokens
from dcase_seld.model.weights import count_parameters
from dcase_seld.train.losses import adpit_loss

VARIANTS = {
    "audio": small_network("a", ()),
    "clap": small_network("a", ("clap",)),
    "audio_visual": small_network(),
    "vision_only": small_network("b", ("owlvit",)),
    "no_clap_no_layers": small_network("a", (), plain_without_sound=False),
    "resnet": small_network("a", (), encoder={"kind": "resnet_conformer"}),
    "deep": small_network("a", (), encoder={"layers": 8}),
    "all_seconds": small_network(said={"owlvit": {"attention": "all"}}),
    "log_distance": small_network(head={"log_distance": True}),
    "relu": small_network(head={"distance_activation": "relu"}),
    "other_width": small_network(encoder={"d_model": 20, "pool_first": 2}),
    "pooled_in_time": small_network("a", (), encoder={"channels": [8, 16]}),
    "crnn": small_crnn(),
    "crnn_audio_visual": small_crnn("b", ("owlvit",)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_and_ranges(name):
    config = VARIANTS[name]
    model = build_model(config, TASK).eval()
    with torch.no_grad():
        output = model(inputs())
    assert output.direction.shape == (2, 20, 13, 3, 2) and output.direction.abs().max() <= 1
    assert output.distance.shape == (2, 20, 13, 3) and output.distance.min() >= 0
    assert (output.onscreen is None) == (config.track == "a")
    if output.onscreen is not None:
        assert output.onscreen.shape == (2, 20, 13, 3)
    assert model.needs == set(config.fusion)


def test_classes_come_from_the_taxonomy():
    taxonomy = Taxonomy("two", ("Speech", "Music"), ("speech", "music"))
    model = build_model(small_network("a", ()), Task(classes=taxonomy))
    assert model(inputs()).direction.shape == (2, 20, 2, 3, 2)
    assert model.taxonomy is taxonomy


def test_full_size_parameter_counts():
    audio_visual = build_model(SeldConfig(track="b", fusion=("clap", "owlvit")), TASK)
    # The paper's encoder has about 20.7 million parameters; the published baseline's audio network 734,261.
    assert count_parameters(audio_visual.encoder) == pytest.approx(20.7e6, rel=0.005)
    assert count_parameters(audio_visual.fusion["clap"]) == pytest.approx(7.94e6, rel=0.01)
    assert count_parameters(audio_visual.fusion["clap"]) == count_parameters(audio_visual.fusion["owlvit"])
    assert count_parameters(build_model(CrnnConfig(), TASK)) == 734_261


SINGLE_KEY = (
    "attention_norm.weight",
    "attention_norm.bias",
    "attention.query.weight",
    "attention.query.bias",
    "attention.key.weight",
)
"""With one CLAP token softmax is 1 whatever the key and the query (and the norm that only feeds it) say."""


def dead(name, config):
    """Return whether a parameter has no influence on the loss in training, by mathematics."""
    if isinstance(config, CrnnConfig):
        # BatchNorm subtracts the bias of the convolution before it; softmax cancels the bias of keys.
        return name.startswith("encoder.convolutions.") and name.endswith(".0.bias")
    if name.endswith("depthwise.bias"):
        return True
    return name.startswith("fusion.clap.") and name.endswith(SINGLE_KEY)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_living_parameter_has_a_gradient(name):
    config = VARIANTS[name]
    model = build_model(config, TASK, seed=1).double().train()
    given = inputs(clips=3)
    given = given.map(lambda field: field if field.dtype == torch.bool else field.double())
    parts = adpit_loss(model(given), target(clips=3), onscreen_loss="masked")
    parts.total.backward()
    key_bias = slice(config.gru_units, 2 * config.gru_units) if isinstance(config, CrnnConfig) else None
    for parameter_name, parameter in model.named_parameters():
        gradient = parameter.grad.abs()
        if key_bias is not None and parameter_name.endswith("in_proj_bias"):
            assert gradient[key_bias].max() < 1e-12
        if dead(parameter_name, config):
            assert gradient.max() < 1e-12, parameter_name
        else:
            assert gradient.max() > 1e-9, parameter_name
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_with_several_clap_tokens_nothing_in_the_cross_modal_conformer_is_dead():
    model = build_model(small_network("a", ("clap",)), TASK).double().train()
    given = inputs(sound_tokens=3)
    adpit_loss(model(given._replace(wave=given.wave.double())), target()).total.backward()
    for name in SINGLE_KEY:
        assert dict(model.named_parameters())[f"fusion.clap.layers.0.{name}"].grad.abs().max() > 1e-9


@pytest.mark.parametrize("field", ["clap", "owlvit"])
@pytest.mark.parametrize("name", ["audio_visual", "all_seconds"])
def test_zeroing_tokens_changes_the_output(name, field):
    model = build_model(VARIANTS[name], TASK).eval()
    given = inputs()
    zeroed = with_tokens(given, field, torch.zeros_like(given.tokens[field].values))
    assert not torch.allclose(model(given).direction, model(zeroed).direction, atol=1e-5)


def test_same_seed_same_network_and_output_other_seed_another():
    given = inputs()
    state = torch.random.get_rng_state()
    first, second, other = (build_model(small_network(), TASK, seed).eval() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first(given).direction, second(given).direction)
    assert not torch.equal(first(given).direction, other(given).direction)


def test_missing_vision_is_the_same_as_all_frames_masked():
    model = build_model(small_network(), TASK).eval()
    given = inputs()
    masked = with_tokens(given, "owlvit", mask=torch.zeros(2, 2, dtype=torch.bool))
    assert torch.allclose(model(with_tokens(given, "owlvit")).direction, model(masked).direction, atol=1e-6)
    assert not torch.allclose(model(given).direction, model(masked).direction, atol=1e-5)


def test_modality_dropout_hides_video_in_training_only():
    config = small_network(said={"owlvit": {"dropout": 0.5}}, cross_modal={"dropout": 0.0}, encoder={"dropout": 0.0})
    model = build_model(config, TASK)
    given = inputs(clips=64, frames=4)
    torch.manual_seed(0)
    mask = model.train()._tokens(given.tokens, 64)["owlvit"].mask
    assert 16 < mask[:, 0].sum() < 48 and torch.equal(mask[:, 0], mask[:, 1])
    assert model.eval()._tokens(given.tokens, 64)["owlvit"].mask.all()


def test_cached_features_give_the_output_of_the_wave():
    model = build_model(small_network(), TASK).eval()
    given = inputs()
    cached = given._replace(wave=None, features=model.frontend.extract(given.wave))
    assert torch.equal(model(given).direction, model(cached).direction)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given.replace(wave=None), "neither waveforms nor features"),
        (lambda given: with_tokens(given, "clap"), "needs clap tokens"),
        (lambda given: with_tokens(given, "clap", torch.zeros(2, 1, 7)), "the last of 24"),
        (lambda given: with_tokens(given, "owlvit", torch.zeros(2, 1, 5, 7)), "owlvit tokens have shape"),
    ],
)
def test_input_that_does_not_fit_is_a_users_error(change, words):
    model = build_model(small_network(), TASK)
    with pytest.raises(SeldError, match=words):
        model(change(inputs()))


def test_tokens_of_an_unknown_encoder_must_be_said_or_shown():
    config = parse_model_config({"fusion": ["mine"]})
    with pytest.raises(SeldError, match=r"model\.fusion\.mine does not say"):
        build_model(config, TASK)
    known = config.with_tokens({"mine": ("sound", 7)})
    assert build_model(known, TASK).fusion["mine"].layers[0].memory_norm.normalized_shape == (7,)


def test_several_sound_encoders_are_each_heard():
    said = {"yamnet": {"width": 24}, "clap": {"width": 24}}
    model = build_model(small_network("a", ("yamnet", "clap"), said=said), TASK).eval()
    given = inputs()
    noise = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(1))
    given = given.replace(tokens={**given.tokens, "yamnet": Tokens(noise)})
    for name in ("yamnet", "clap"):
        zeroed = with_tokens(given, name, torch.zeros_like(given.tokens[name].values))
        assert not torch.allclose(model(given).direction, model(zeroed).direction, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "crn"}, "kind must be conformer or crnn"),
        ({"kind": "crn", "encoder": {"channels": [16] * 40}}, r"got \{'kind': 'crn', .{60,70}…$"),
        ({"kind": "crnn", "encoder": {}}, r"  model\.encoder: unknown key$"),
        ({"kind": "crnn", "front": {}}, r"did you mean 'frontend'"),
        ({"fusion": ["owlvit"]}, "owlvit needs track: b"),
        ({"encoder": {"layer": 2}}, "did you mean 'layers'"),
        ({"encoder": {"d_model": 100}}, "no multiple of heads"),
        ({"encoder": {"kernel": 50}}, "must be odd"),
        ({"frontend": {"hop": 700}}, "does not divide a label frame"),
        ({"frontend": {"mels": 40}}, "must be a multiple of 2 per convolution block"),
        ({"encoder": {"shortcut_bands": 5}}, "does not divide frontend.mels"),
        ({"kind": "crnn", "frontend": {"hop": 150}}, "pooling reduces time by 5"),
    ],
)
def test_wrong_configurations_are_named(data, words):
    with pytest.raises(SeldError, match=words):
        parse_model_config(data)


def test_bfloat16_autocast_is_close_to_float32():
    model = build_model(small_network(), TASK).eval()
    with torch.no_grad():
        exact = model(inputs())
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(inputs())
    assert rough.direction.dtype == torch.float32
    assert (rough.direction - exact.direction).abs().max() < 0.05
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(inputs())
    adpit_loss(output, target()).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("track", ["a", "b"])
def test_polar_head_separates_length_and_direction(track):
    fusion = ("clap", "owlvit") if track == "b" else ("clap",)
    network = build_model(small_network(track, fusion, head={"direction": "polar"}), TASK).eval()
    given = inputs()
    with torch.no_grad():
        before = network(given)
        bias = network.head.out.bias.view(network.head.shape)
        assert bias.shape == (3, 5 if track == "b" else 4, 13)
        bias[:, 3] += 2.0
        louder = network(given)
    length, more = (torch.linalg.vector_norm(output.direction, dim=-1) for output in (before, louder))
    assert (length < more).all() and (more < 1).all()
    assert torch.allclose(before.direction / length[..., None], louder.direction / more[..., None], atol=1e-5)
    assert torch.equal(before.distance, louder.distance)
    assert (before.onscreen is None) == (track == "a")
    if track == "b":
        assert torch.equal(before.onscreen, louder.onscreen)


def test_shortcut_brings_levels_past_the_blocks():
    network = build_model(small_network(encoder={"shortcut_bands": 4}), TASK).eval()
    channels = len(network.frontend.channels)
    assert network.encoder.widen.in_features == 16 + 4 * channels
    with torch.no_grad():
        features = network.frontend.extract(inputs().wave)
        blocks = network.encoder.blocks
        before = network.encoder(network.frontend.standardise(features))
        for parameter in blocks.parameters():
            parameter.zero_()
        silent = network.encoder(network.frontend.standardise(features))
        louder = network.encoder(network.frontend.standardise(features + 6.0))
    assert before.shape == silent.shape == (2, 20, 16)
    assert not torch.allclose(silent, louder), "with dead blocks the levels still arrive"


def test_shortcut_follows_the_rate_of_the_blocks():
    # 5 front-end frames per label frame: no block strides in time, and the Conformer runs at the front end's rate.
    frontend = {"hop": 480, "window": 960, "n_fft": 1024, "mels": 16}
    network = build_model(small_network(encoder={"shortcut_bands": 2}, frontend=frontend), TASK).eval()
    with torch.no_grad():
        assert network(inputs()).direction.shape == (2, 20, 13, 3, 2)


def test_aligned_clap_tokens_reach_the_frames_of_their_own_time():
    # Without the Conformer's convolution over time nothing else mixes frames.
    config = small_network(
        "a", ("clap",), cross_modal={"kernel": 1}, said={"clap": {"attention": "aligned"}}, encoder={"layers": 0}
    )
    network = build_model(config, TASK).eval()
    given = inputs(sound_tokens=4)
    changed = given.tokens["clap"].values.clone()
    changed[:, 1] += 1.0
    with torch.no_grad():
        difference = (
            (network(given).direction - network(with_tokens(given, "clap", changed)).direction).abs().amax((0, 2, 3, 4))
        )
    frames = torch.nonzero(difference > 0).flatten().tolist()
    assert frames == list(range(5, 10))


@pytest.mark.slow
def test_compiled_network_gives_the_same_output_and_gradients():
    model = build_model(small_network(encoder={"channels": [8]}), TASK).eval()
    leave_uncompiled()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=False)
    gradients = []
    for network in (model, compiled):
        model.zero_grad()
        adpit_loss(network(inputs()), target()).total.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


@pytest.mark.parametrize("window", [(1, 2), (2, 2), (2, 3), (5, 4)])
def test_pooling_by_a_mean_is_average_pooling(window):
    x = torch.randn(2, 3, 21, 17, requires_grad=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        ours, theirs = encoders.mean_pool(x.to(memory_format=layout), window), functional.avg_pool2d(x, window)
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-6)
        grads = [torch.autograd.grad(made.square().sum(), x)[0] for made in (ours, theirs)]
        assert torch.allclose(*grads, atol=1e-6)
