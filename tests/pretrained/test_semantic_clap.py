"""CLAP from a folder: equal to transformers' own extractor and model, never filled up with random weights."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained.catalogue import MARKER, has_random_weights
from dcase_seld.pretrained.clap import load_clap
from dcase_seld.pretrained.encoder import cut_windows, pad_window, window_starts
from dcase_seld.pretrained.transformers_models import import_transformers, make_random_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "clap"
    make_random_model("clap", path, tiny=True, seed=3)
    return path


@pytest.fixture(scope="module")
def clap(folder):
    return load_clap(folder, input_rate=24000)


@pytest.fixture(scope="module")
def wave():
    steps = np.arange(120_000) / 24_000
    noise = np.random.default_rng(0).normal(size=(3, 2, 120_000))
    tones = np.sin(2 * np.pi * np.array([220.0, 880.0, 3000.0])[:, None] * steps)
    return torch.tensor(0.2 * tones[:, None] + 0.02 * noise, dtype=torch.float32)


def test_equals_transformers_extractor_and_model(clap, folder, wave):
    from torchaudio.functional import resample

    transformers = import_transformers()
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    mono = resample(wave.mean(1), 24000, 48000).numpy()
    features = extractor(list(mono), sampling_rate=48000, return_tensors="pt")
    mel = clap.mel(pad_window(torch.from_numpy(mono), 480_000, "repeatpad"))
    assert (mel - features["input_features"]).abs().max() < 2e-3  # decibels; theirs is computed in float64
    with torch.no_grad():
        theirs = model.get_audio_features(**features).pooler_output
    tokens = clap.encode(wave)
    assert tokens.shape == (3, 1, 512) and clap.dimension == 512 and clap.tokens == 1
    assert (tokens[:, 0] - theirs).abs().max() < 1e-6
    assert torch.allclose(tokens.norm(dim=-1), torch.ones(3, 1))


def test_each_clip_alone_and_again_is_the_same(clap, wave):
    together = clap.encode(wave)
    assert torch.equal(together, clap.encode(wave))
    assert torch.allclose(together[1:2], clap.encode(wave[1:2]), atol=1e-6)
    assert (together[0] - together[2]).abs().max() > 1e-5


def test_swapped_channels_give_the_same_vector(clap, wave):
    assert torch.equal(clap.encode(wave), clap.encode(wave.flip(1)))


def test_windows_are_encoded_on_their_own(folder, wave):
    several = load_clap(folder, tokens=4, batch=3)
    tokens = several.encode(wave)
    starts, length = window_starts(120_000, 4)
    assert tokens.shape == (3, 4, 512) and starts[0] == 0 and starts[-1] + length == 120_000
    alone = load_clap(folder).encode(wave[:, :, starts[2] : starts[2] + length])
    assert (tokens[:, 2] - alone[:, 0]).abs().max() < 1e-3  # resampling sees the neighbours at the window's edges


@pytest.mark.parametrize(("samples", "windows"), [(10, 1), (120_000, 2), (120_000, 7), (121_003, 5)])
def test_windows_cover_the_clip_and_overlap_by_half(samples, windows):
    cut = cut_windows(torch.arange(samples).float().unsqueeze(0), windows)[0]
    assert cut[0, 0] == 0 and cut[-1, -1] == samples - 1
    heard = torch.zeros(samples)
    for window in cut:
        heard[window.long()] += 1
    assert heard.min() == 1
    if windows > 1:
        assert heard.max() <= 3 and (heard == 2).float().mean() > 0.3


def test_padding_is_the_extractors():
    sound = torch.tensor([[1.0, 2.0, 3.0]])
    assert pad_window(sound, 8, "repeatpad").tolist() == [[1, 2, 3, 1, 2, 3, 0, 0]]
    assert pad_window(sound, 8, "repeat").tolist() == [[1, 2, 3, 1, 2, 3, 1, 2]]
    assert pad_window(sound, 5, "pad").tolist() == [[1, 2, 3, 0, 0]]


def test_frozen_and_known_by_its_weights(clap, folder, tmp_path):
    assert not any(p.requires_grad for p in clap.model.parameters()) and not clap.model.training
    assert not clap.encode(torch.zeros(1, 2, 24_000)).requires_grad
    make_random_model("clap", tmp_path / "same", seed=3)
    make_random_model("clap", tmp_path / "other", seed=4)
    assert load_clap(tmp_path / "same").fingerprint == clap.fingerprint
    assert load_clap(tmp_path / "other").fingerprint != clap.fingerprint


def test_silence_is_finite(clap):
    assert torch.isfinite(clap.encode(torch.zeros(1, 2, 120_000))).all()


def test_low_precision_stays_near(clap, folder, wave):
    half = load_clap(folder, dtype="bfloat16").encode(wave)
    assert half.dtype == torch.float32
    assert (half * clap.encode(wave)).sum(-1).min() > 0.99


def test_random_weights_are_marked(clap, folder):
    assert clap.random_weights and has_random_weights(folder)
    assert json.loads((folder / MARKER).read_text())["random_weights"] is True


def test_sound_longer_than_clap_takes_is_refused(clap):
    with pytest.raises(SeldError, match=r"10 s at once, but a window has 11 s"):
        clap.encode(torch.zeros(1, 2, 11 * 24_000))


def test_missing_weights_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path))
    with pytest.raises(SeldError, match="dcase-seld models pull clap"):
        load_clap("clap")
    with pytest.raises(SeldError, match="dcase-seld models pull laion/clap-htsat-fused"):
        load_clap("laion/clap-htsat-fused")
    with pytest.raises(SeldError, match="path does not exist"):
        load_clap("./not/here")
    with pytest.raises(SeldError, match="kind 'vision', but one of kind 'clap'"):
        load_clap("owlvit")


def test_gaps_in_the_weights_are_never_filled(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (broken / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(SeldError, match="cannot be loaded"):
        load_clap(broken)
    weights = load_file(folder / "model.safetensors")
    del weights["audio_projection.linear1.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SeldError, match=r"1 missing \(audio_projection.linear1.weight\)"):
        load_clap(broken)
    weights["audio_projection.linear1.weight"] = torch.zeros(512, 7)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SeldError):
        load_clap(broken)
    (broken / "preprocessor_config.json").unlink()
    (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(SeldError, match=r"preprocessor_config.json"):
        load_clap(broken)


def test_weights_in_the_older_format_are_read_too(clap, folder, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert load_clap(tmp_path).fingerprint == clap.fingerprint


def test_an_occupied_folder_is_not_overwritten(folder):
    with pytest.raises(SeldError, match="holds files that this work did not make"):
        make_random_model("clap", folder)
