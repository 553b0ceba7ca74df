"""The embed stage on a small corpus with sound and video, by tiny models loaded through the real code."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx_made import FLOAT, model, node

from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.infer import embed as embed_module
from dcase_seld.media.audio import write_wav
from dcase_seld.media.frames import read_frames
from dcase_seld.media.writing import write_video
from dcase_seld.pretrained.clap import load_clap
from dcase_seld.pretrained.owlvit import load_owlvit
from dcase_seld.pretrained.transformers_models import make_random_model
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE as PREPARE
from dcase_seld.stages.pictures import DETECTIONS_STAGE as DETECTIONS
from dcase_seld.stages.pictures import KEYPOINTS_STAGE as KEYPOINTS
from dcase_seld.stages.tokens import EMBED_STAGE as STAGE
from dcase_seld.stages.tokens import EmbedConfig
from dcase_seld.store import tokens
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader, TokenSpec, TokenWriter, mirrored_order

CONTEXT = Context(device="cpu", workers=2)
NAMES = [f"fold{3 + (k > 3)}_room{k}_mix001_deg000_start0000" for k in range(6)]
WITHOUT_VIDEO = NAMES[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        part = "dev-train-tau" if name.startswith("fold3") else "dev-test-tau"
        tone = np.sin(np.arange(48_000) * 0.02 * (number + 1)) * 9000
        sound = tone + rng.normal(0, 300, (2, 48_000))
        (root / "stereo_dev" / part).mkdir(parents=True, exist_ok=True)
        write_wav(root / "stereo_dev" / part / f"{name}.wav", sound.astype(np.int16))
        (root / "metadata_dev" / part).mkdir(parents=True, exist_ok=True)
        table = root / "metadata_dev" / part / f"{name}.csv"
        table.write_text("frame,class,source,azimuth,distance,onscreen\n0,1,0,10,200,1\n")
        if name != WITHOUT_VIDEO:
            (root / "video_dev" / part).mkdir(parents=True, exist_ok=True)
            frames = [np.full((90, 160, 3), (40 * number, 5 * k, 200), np.uint8) for k in range(20)]
            for frame in frames:
                frame[20:60, 10 + 8 * number : 60] = 255 - 20 * number
            write_video(root / "video_dev" / part / f"{name}.mp4", frames, fps=10)
    folder = tmp_path_factory.mktemp("work") / "store"
    folder.mkdir()
    PREPARE.run(parse_config(PREPARE.config, {"corpus": str(root), "window_s": 2}, "prepare"), {}, folder, CONTEXT)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_random_model("clap", folder / "clap", seed=0)
    make_random_model("owlvit", folder / "owlvit", seed=0)
    return folder


def embed(store, out, model, **fields):
    config = parse_config(EmbedConfig, {"data": "store", "model": model, **fields}, "embed")
    out.mkdir(parents=True, exist_ok=True)
    return STAGE.run(config, {"data": [store]}, out, CONTEXT)


@pytest.mark.parametrize(
    "stage, given, name",
    [
        (STAGE, {"model": {"kind": "clap"}}, "clap"),
        (STAGE, {"model": {"kind": "owlvit"}}, "owlvit"),
        (STAGE, {"model": {"kind": "yamnet"}}, "yamnet"),
        (STAGE, {"model": {"kind": "voice"}}, "voice"),
        (KEYPOINTS, {"model": "pose-lite"}, "pose-lite"),
        (DETECTIONS, {}, "owlvit"),
    ],
)
def test_missing_weights_are_told_before_a_recipe_starts(tmp_path, monkeypatch, stage, given, name):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path))
    config = parse_config(stage.config, {"data": "data", **given}, "step")
    with pytest.raises(SeldError, match="not on this machine") as caught:
        stage.fetch([config], False)
    assert f"dcase-seld models pull {name}" in caught.value.remedy


def test_clap_tokens_are_the_encoders(store, models, tmp_path, capsys):
    facts = embed(store, tmp_path / "t", {"kind": "clap", "path": str(models / "clap"), "tokens": 3})
    reader, prepared = TokenReader.open(tmp_path / "t"), Store.open(store)
    assert facts["shape"] == [3, 512] and facts["clips"] == 6 and facts["random_weights"] == ["clap"]
    assert reader.names == prepared.names and reader.spec.name == "clap"
    wave = torch.from_numpy(prepared.read_many([4])).transpose(1, 2) / 32768
    expected = load_clap(models / "clap", tokens=3).encode(wave)[0].numpy()
    assert np.abs(reader.read([prepared.names[4]])[0] - expected).max() < 1e-4
    said = capsys.readouterr().err
    assert "6 clips x 3 x 512 in half precision" in said and "RANDOM" in said


def test_vision_tokens_masks_and_stored_mirror(store, models, tmp_path):
    model = {"kind": "owlvit", "path": str(models / "owlvit"), "fps": 2}
    facts = embed(store, tmp_path / "t", model, mirror="store")
    reader, prepared = TokenReader.open(tmp_path / "t"), Store.open(store)
    assert facts["shape"] == [4, 17, 512] and facts["frames_missing"] == 4
    assert reader.read_mask([WITHOUT_VIDEO]).tolist() == [[False] * 4]
    assert not reader.read([WITHOUT_VIDEO]).any()
    assert reader.read_mask([n for n in NAMES if n != WITHOUT_VIDEO]).all()
    owlvit, clip = load_owlvit(models / "owlvit"), prepared.names.index(NAMES[1])
    images = read_frames(prepared.videos[clip], [0.25, 0.75, 1.25, 1.75]).images
    assert np.abs(reader.read([NAMES[1]])[0] - owlvit.encode(images).numpy()).max() < 5e-3
    flipped = owlvit.encode([np.ascontiguousarray(image[:, ::-1]) for image in images]).numpy()
    assert np.abs(reader.read([NAMES[1]], mirror=True)[0] - flipped).max() < 5e-3


def test_grid_flip_is_made_at_reading(store, models, tmp_path):
    model = {"kind": "owlvit", "path": str(models / "owlvit"), "pool": 2}
    facts = embed(store, tmp_path / "t", model, mirror="grid_flip", split="test")
    reader = TokenReader.open(tmp_path / "t")
    assert facts["shape"] == [2, 5, 512] and facts["clips"] == 2
    plain, mirrored = reader.read(list(reader.names)), reader.read(list(reader.names), mirror=True)
    assert np.array_equal(mirrored, plain[:, :, mirrored_order(5)]) and not np.array_equal(mirrored, plain)
    assert not list((tmp_path / "t").glob("mirror-*"))


def test_goes_on_from_the_shards_that_are_there(store, models, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_module, "SOUND_CLIPS_PER_SHARD", 2)
    model = {"kind": "clap", "path": str(models / "clap")}
    embed(store, tmp_path / "whole", model)
    out = tmp_path / "t"
    encode, calls = tokens.TokenWriter.write, []

    def write_once(writer, shard, *arrays):
        if calls:
            raise KeyboardInterrupt
        calls.append(shard)
        encode(writer, shard, *arrays)

    monkeypatch.setattr(tokens.TokenWriter, "write", write_once)
    with pytest.raises(KeyboardInterrupt):
        embed(store, out, model)
    monkeypatch.setattr(tokens.TokenWriter, "write", encode)
    first = (out / "shard-00000.npy").stat().st_mtime_ns
    assert not (out / "tokens.json").exists() and not (out / "shard-00001.npy").exists()
    embed(store, out, model)
    assert (out / "shard-00000.npy").stat().st_mtime_ns == first
    names = TokenReader.open(out).names
    assert np.array_equal(TokenReader.open(out).read(names), TokenReader.open(tmp_path / "whole").read(names))


def test_estimate_of_the_challenge_and_a_full_disk(tmp_path, capsys, monkeypatch):
    spec = TokenSpec("owlvit", "image", "owlvit", "x", False, (5, 577, 512))
    monkeypatch.setattr(embed_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**12})())
    assert embed_module.say_estimate(spec, 30_000, tmp_path, poolable=True) == 88_627_200_000
    said = capsys.readouterr().err
    assert (
        "88.6 GB" in said and "free: 1,000.0 GB" in said and "`pool: 2` (145 tokens a frame) would take 22.3 GB" in said
    )
    both = TokenSpec("owlvit", "image", "owlvit", "x", False, (5, 577, 512), mirror=True)
    assert embed_module.say_estimate(both, 30_000, tmp_path, poolable=True) == 2 * 88_627_200_000
    assert "`mirror: grid_flip` 88.6 GB" in capsys.readouterr().err
    monkeypatch.setattr(embed_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5 * 10**10})())
    with pytest.raises(SeldError, match=r"need 88.6 GB more .* only 50.0 GB are free") as caught:
        embed_module.say_estimate(spec, 30_000, tmp_path, poolable=True)
    assert "pool: 2" in caught.value.remedy


def test_refusals_say_what_to_do(store, models, tmp_path, monkeypatch):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "none"))
    with pytest.raises(SeldError, match="models pull clap"):
        embed(store, tmp_path / "a", {"kind": "clap"})
    with pytest.raises(SeldError, match="mirror: sound tokens do not change"):
        embed(store, tmp_path / "b", {"kind": "clap"}, mirror="store")
    with pytest.raises(SeldError, match="give name or path"):
        embed(store, tmp_path / "b", {"kind": "clap", "name": "clap", "path": "x"})
    with pytest.raises(SeldError, match="no clip to embed"):
        embed(store, tmp_path / "b", {"kind": "clap", "path": str(models / "clap")}, split="eval")


def test_a_store_without_videos_has_no_pictures(store, models, tmp_path, monkeypatch):
    prepared = Store.open(store)
    prepared.videos = [None] * len(prepared)
    monkeypatch.setattr(Store, "open", staticmethod(lambda folder: prepared))
    with pytest.raises(SeldError, match="None of the 6 clips has a video"):
        embed(store, tmp_path / "t", {"kind": "owlvit", "path": str(models / "owlvit")})


def test_infinite_tokens_are_an_error(tmp_path):
    writer = TokenWriter(tmp_path, TokenSpec("clap", "sound", "m", "x", True, (4,)), ["a"])
    with pytest.raises(ValueError, match="beyond half precision"):
        writer.write(0, np.full((1, 4), 1e6))
    with pytest.raises(SeldError, match="dtype: float32"):
        embed_module._checked(np.full((1, 4), np.nan), ["a"])


THREADS = """
import os, sys, time
from pathlib import Path
from dcase_seld.core.config import parse_config
from dcase_seld.infer.devices import pytorch_threads
from dcase_seld.pretrained.encoder import build_encoder, parse_tokens_config
from dcase_seld.recipe.stage import Context
from dcase_seld.stages import tokens
store, model, out = sys.argv[1:]
most = 0
def count_too(*given):
    global most
    encoder = build_encoder(*given)
    plain = encoder.encode
    def encode(batch):
        global most
        tokens = plain(batch)
        most = max(most, len(os.listdir("/proc/self/task")) - before)
        return tokens
    encoder.encode = encode
    return encoder
import dcase_seld.pretrained.encoder as encoders
encoders.build_encoder = count_too
with pytorch_threads(1):
    data = {"data": "s", "model": {"kind": "onnx", "path": model, "sample_rate": 8000, "patch_s": 0.1, "hop_s": 0.05}}
    config = parse_config(tokens.EmbedConfig, data, "embed")
    for name, workers in (("first", 1), ("one", 1), ("two", 2)):  # the first run imports what starts threads
        time.sleep(0.3)  # the system takes a moment to end those of the run before
        before, most = len(os.listdir("/proc/self/task")), 0
        folder = Path(out) / name
        folder.mkdir()
        tokens.EMBED_STAGE.run(config, {"data": [Path(store)]}, folder, Context("cpu", workers))
        print(most)
"""


def test_workers_are_all_that_computes_and_write_the_same(store, tmp_path):
    weights = np.random.default_rng(0).normal(size=(800, 6)).astype(np.float32)
    nodes = node("MatMul", ["sound", "w"], "embedding")
    path = tmp_path / "wave.onnx"
    path.write_bytes(model(nodes, [("sound", FLOAT, (1, 800))], ("embedding", FLOAT, (1, 6)), {"w": weights}))
    command = [sys.executable, "-c", THREADS, str(store), str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one, two = map(int, done.stdout.split()[1:])
    assert one <= 1 and two <= 2  # threads beside the one that waits: none of the runtime's own
    one, two = (TokenReader.open(tmp_path / name) for name in ("one", "two"))
    assert one.names == two.names == Store.open(store).names
    tokens = one.read(one.names)
    assert tokens.std() > 0.1 and np.array_equal(tokens, two.read(one.names))


SPREAD = """
import sys
from pathlib import Path
from dcase_seld.core.config import parse_config
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.tokens import EMBED_STAGE
if __name__ == "__main__":
    store, model, out = sys.argv[1:]
    data = {"data": "s", "model": {"kind": "owlvit", "path": model}, "devices": 2}
    config = parse_config(EMBED_STAGE.config, data, "embed")
    facts = EMBED_STAGE.run(config, {"data": [Path(store)]}, Path(out), Context("cpu", 1))
    print(facts["clips"], facts["frames_missing"])
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(store, models, tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(SPREAD)
    (tmp_path / "two").mkdir()
    command = [sys.executable, str(script), str(store), str(models / "owlvit"), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["6", "2"]
    embed(store, tmp_path / "one", {"kind": "owlvit", "path": str(models / "owlvit")})
    one, two = TokenReader.open(tmp_path / "one"), TokenReader.open(tmp_path / "two")
    # Half precision's last digit: some processors' matrix kernels round otherwise in a process of its own.
    assert one.names == two.names
    assert np.allclose(one.read(np.arange(6)), two.read(np.arange(6)), rtol=2e-3, atol=2e-3)
