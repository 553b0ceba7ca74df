"""Any ONNX model: real onnxruntime sessions over small graphs written here, quantised and with inner tensors."""

import numpy as np
import pytest
import torch
from onnx_made import FLOAT, UINT8, model, node

from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained.encoder import LogMelConfig, OnnxTokensConfig, centred_windows
from dcase_seld.pretrained.onnx import OnnxEncoder, log_mel

W = np.random.default_rng(0).normal(size=(800, 6)).astype(np.float32)


@pytest.fixture
def waveform_model(tmp_path):
    nodes = node("MatMul", ["sound", "w"], "hidden") + node("Relu", ["hidden"], "embedding")
    path = tmp_path / "wave.onnx"
    path.write_bytes(model(nodes, [("sound", FLOAT, ("n", 800))], ("embedding", FLOAT, ("n", 6)), {"w": W}))
    return path


@pytest.fixture
def quantised_model(tmp_path):
    nodes = node("Cast", ["mel"], "whole", to=FLOAT) + node("Flatten", ["whole"], "flat", axis=1)
    path = tmp_path / "mel.onnx"
    path.write_bytes(model(nodes, [("mel", UINT8, (1, 1, 4, 8))], ("flat", FLOAT, (1, 32)), {}))
    return path


def config(path, **fields):
    return parse_config(OnnxTokensConfig, {"kind": "onnx", "path": str(path), **fields}, "model")


def test_patches_of_the_waveform(waveform_model):
    encoder = OnnxEncoder(config(waveform_model, sample_rate=8000, patch_s=0.1, hop_s=0.05), 8000)
    wave = torch.tensor(np.random.default_rng(1).normal(size=(2, 2, 2100)), dtype=torch.float32)
    tokens = encoder.encode(wave)
    assert tokens.shape == (2, 5, 6) and encoder.dimension == 6 and encoder.gives == "sound"
    mono = np.pad(wave.mean(1).numpy(), ((0, 0), (0, 300)))
    for place in range(5):
        expected = np.maximum(mono[:, 400 * place : 400 * place + 800] @ W, 0)
        assert np.abs(tokens[:, place].numpy() - expected).max() < 1e-4


def test_centred_patches_of_the_waveform(waveform_model):
    encoder = OnnxEncoder(config(waveform_model, sample_rate=8000, patch_s=0.1, hop_s=0.05, centred=True), 8000)
    wave = torch.tensor(np.random.default_rng(5).normal(size=(2, 2, 2100)), dtype=torch.float32)
    tokens = encoder.encode(wave)
    assert tokens.shape == (2, 5, 6)  # 2100 / 400 stretches
    mono = np.pad(wave.mean(1).numpy(), ((0, 0), (400, 400)))
    for place in range(5):
        start = 420 * place + 210 - 400 + 400
        expected = np.maximum(mono[:, start : start + 800] @ W, 0)
        assert np.abs(tokens[:, place].numpy() - expected).max() < 1e-4
    assert encoder.encode(wave[..., :80]).shape == (2, 1, 6)  # shorter than a stretch: one patch


def test_windows_lie_around_the_middles_of_equal_stretches():
    ramp = torch.arange(1.0, 101.0)[None]
    windows = centred_windows(ramp, 4, 31)[0]
    assert windows.shape == (4, 31)
    assert windows[0].tolist() == [0] * 3 + list(range(1, 29)) and windows[3].tolist() == [*range(73, 101), 0, 0, 0]
    assert windows[1].tolist() == list(range(23, 54))  # around 37.5 samples into the sound
    assert centred_windows(ramp, 10, 4)[0].mean(1).tolist() == [10.0 * k + 5.5 for k in range(10)]
    assert centred_windows(ramp, 1, 301).sum() == ramp.sum()


def test_an_inner_tensor_can_be_read(waveform_model):
    wave = torch.tensor(np.random.default_rng(2).normal(size=(1, 2, 800)), dtype=torch.float32)
    fields = {"sample_rate": 8000, "patch_s": 0.1, "hop_s": 0.1}
    inner = OnnxEncoder(config(waveform_model, output="hidden", **fields), 8000).encode(wave)
    assert np.abs(inner[0, 0].numpy() - wave.mean(1).numpy() @ W).max() < 1e-4 and inner.min() < 0
    with pytest.raises(SeldError, match="with the tensor 'nowhere'"):
        OnnxEncoder(config(waveform_model, output="nowhere", **fields), 8000)


def test_quantised_log_mel_one_patch_at_a_time(quantised_model):
    mel = {"n_fft": 256, "window": 200, "hop": 80, "mels": 8, "f_min": 50, "f_max": 3500}
    quantisation = {"scale": 0.05, "zero_point": 140}
    fields = {"sample_rate": 8000, "patch_s": 0.04, "hop_s": 0.02, "log_mel": mel}
    encoder = OnnxEncoder(
        config(quantised_model, **fields, input_quantisation=quantisation, output_quantisation=quantisation), 8000
    )
    wave = torch.tensor(0.1 * np.random.default_rng(3).normal(size=(3, 2, 1000)), dtype=torch.float32)
    tokens = encoder.encode(wave)
    assert encoder.patch == 3 * 80 + 200 and tokens.shape == (3, 1 + -(-(1000 - 440) // 160), 32)
    expected = log_mel(wave.mean(1)[:, :440], LogMelConfig(**mel), 8000).reshape(3, 32)
    assert (tokens[:, 0] - expected).abs().max() <= 0.0251  # half a quantisation step
    with pytest.raises(SeldError, match="takes tensor\\(uint8\\)"):
        OnnxEncoder(config(quantised_model, **fields), 8000)


def test_log_mel_against_its_definition():
    settings = LogMelConfig()
    sound = torch.sin(2 * np.pi * 1000 * torch.arange(1600) / 16000)[None]
    features = log_mel(sound, settings, 16000)
    assert features.shape == (1, 1 + (1600 - 400) // 160, 64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(sound[0, :400].numpy() * window, 512))
    to_mel = lambda hertz: 2595 * np.log10(1 + np.asarray(hertz) / 700)  # noqa: E731
    edges = 700 * (10 ** (np.linspace(to_mel(125), to_mel(7500), 66) / 2595) - 1)
    bins = np.linspace(0, 8000, 257)[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    expected = np.log(magnitude @ np.maximum(0, np.minimum(rising, falling)) + 1e-3)
    assert np.abs(features[0, 0].numpy() - expected).max() < 4e-3  # float32 spectra near the floor


def test_fingerprint_follows_file_and_external_weights(waveform_model):
    fields = {"sample_rate": 8000, "patch_s": 0.1}
    first = OnnxEncoder(config(waveform_model, **fields), 8000).fingerprint
    waveform_model.with_suffix(".data").write_bytes(b"weights")
    assert OnnxEncoder(config(waveform_model, **fields), 8000).fingerprint != first


def test_refusals(waveform_model, tmp_path):
    with pytest.raises(SeldError, match="no ONNX model at"):
        OnnxEncoder(config(tmp_path / "absent.onnx"), 8000)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(SeldError, match="cannot be opened"):
        OnnxEncoder(config(tmp_path / "bad.onnx"), 8000)
    with pytest.raises(SeldError, match=r"takes \['n', 800\], but a patch gives \(1600,\)"):
        OnnxEncoder(config(waveform_model, sample_rate=8000, patch_s=0.2), 8000)
    with pytest.raises(SeldError, match="no input 'sond'"):
        OnnxEncoder(config(waveform_model, sample_rate=8000, patch_s=0.1, input="sond"), 8000)
