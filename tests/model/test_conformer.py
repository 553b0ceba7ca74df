import pytest
import torch

from dcase_seld.model.conformer import ConformerLayer, to_all_tokens, to_own_moment
from dcase_seld.pretrained.transformers_models import ready_torchaudio

WIDTH, HEADS, HIDDEN, KERNEL = 16, 4, 24, 7


def copy_from_torchaudio(ours, theirs):
    """Copy a torchaudio ConformerLayer's weights into ours."""
    pairs = {
        "before.0": theirs.ffn1.sequential[0],
        "before.1": theirs.ffn1.sequential[1],
        "before.4": theirs.ffn1.sequential[4],
        "attention_norm": theirs.self_attn_layer_norm,
        "attention.out": theirs.self_attn.out_proj,
        "convolution.norm": theirs.conv_module.layer_norm,
        "convolution.expand": theirs.conv_module.sequential[0],
        "convolution.depthwise": theirs.conv_module.sequential[2],
        "convolution.batch_norm": theirs.conv_module.sequential[3],
        "convolution.project": theirs.conv_module.sequential[5],
        "after.0": theirs.ffn2.sequential[0],
        "after.1": theirs.ffn2.sequential[1],
        "after.4": theirs.ffn2.sequential[4],
        "final_norm": theirs.final_layer_norm,
    }
    weights = {f"{name}.{key}": value for name, part in pairs.items() for key, value in part.state_dict().items()}
    for name in ("convolution.expand.weight", "convolution.project.weight"):
        weights[name] = weights[name][:, :, 0]
    projections = zip(
        ("query", "key", "value"),
        theirs.self_attn.in_proj_weight.chunk(3),
        theirs.self_attn.in_proj_bias.chunk(3),
        strict=True,
    )
    for name, weight, bias in projections:
        weights[f"attention.{name}.weight"] = weight
        weights[f"attention.{name}.bias"] = bias
    del weights["attention.key.bias"]
    ours.load_state_dict(weights)


def random_layers(count):
    assert ready_torchaudio()
    from torchaudio.models import Conformer

    torch.manual_seed(0)
    theirs = Conformer(WIDTH, HEADS, HIDDEN, count, KERNEL, dropout=0.0).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = [ConformerLayer(WIDTH, HEADS, HIDDEN, KERNEL, 0.0).double() for _ in range(count)]
    for mine, other in zip(ours, theirs.conformer_layers, strict=True):
        copy_from_torchaudio(mine, other)
    return ours, theirs


@pytest.mark.parametrize("training", [True, False])
def test_equals_torchaudio_conformer(training):
    ours, theirs = random_layers(2)
    theirs.train(training)
    x = torch.randn(3, 20, WIDTH, dtype=torch.float64)
    expected, _ = theirs(x, torch.full((3,), 20))
    for layer in ours:
        x = layer.train(training)(x)
    assert torch.allclose(x, expected, atol=1e-12)


def test_attention_to_itself_is_the_same_class_as_to_a_memory():
    # With an identity in place of the memory's norm, looking at its own normalised input is self-attention.
    layer = ConformerLayer(WIDTH, HEADS, HIDDEN, KERNEL, 0.0).double().eval()
    x = torch.randn(2, 10, WIDTH, dtype=torch.float64)
    assert torch.allclose(layer(x), layer(x, lambda own, query: own.attention(query, query, query)))


def cross_layer():
    torch.manual_seed(0)
    return ConformerLayer(WIDTH, HEADS, HIDDEN, KERNEL, 0.0, memory_width=12).double().eval()


@pytest.mark.parametrize("moments", [1, 3, 5, 10, 25])
def test_time_aligned_attention_sees_the_moment_of_each_frame(moments):
    layer, frames = cross_layer(), 10
    tokens = torch.randn(2, moments, 4, 12, dtype=torch.float64)
    query = torch.randn(2, frames, WIDTH, dtype=torch.float64)
    got = to_own_moment(tokens)(layer, query)
    for frame in range(frames):
        memory = layer.memory_norm(tokens[:, frame * moments // frames])
        expected = layer.attention(query[:, frame : frame + 1], memory, memory)[:, 0]
        assert torch.allclose(got[:, frame], expected, atol=1e-12)


def test_single_token_gives_every_frame_the_same_vector():
    layer = cross_layer()
    got = to_all_tokens(torch.randn(2, 1, 1, 12, dtype=torch.float64))(layer, torch.randn(2, 10, WIDTH).double())
    assert torch.allclose(got, got[:, :1].expand_as(got), atol=1e-12)


def test_several_tokens_are_told_apart_by_time():
    layer = cross_layer()
    tokens = torch.randn(1, 5, 1, 12, dtype=torch.float64)
    query = torch.randn(1, 10, WIDTH, dtype=torch.float64)
    assert not torch.allclose(to_all_tokens(tokens)(layer, query), to_all_tokens(tokens.flip(1))(layer, query))


@pytest.mark.parametrize("attention", [to_own_moment, to_all_tokens])
def test_missing_moments_contribute_nothing(attention):
    layer = cross_layer()
    tokens = torch.randn(2, 5, 3, 12, dtype=torch.float64)
    query = torch.randn(2, 10, WIDTH, dtype=torch.float64)
    mask = torch.tensor([[True, False, True, True, True], [False] * 5])
    got = attention(tokens, mask)(layer, query)
    other = tokens.clone()
    other[~mask] = 7.0
    assert torch.equal(got, attention(other, mask)(layer, query))
    assert not got[1].any()
    assert torch.allclose(attention(tokens, torch.ones_like(mask))(layer, query), attention(tokens)(layer, query))
