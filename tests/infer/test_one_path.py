"""A recipe, the command and Python give the same events of one long recording, with tokens and with people."""

import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import dcase_seld
from dcase_seld.cli.main import main
from dcase_seld.core.config import parse_config
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.events import Events
from dcase_seld.core.task import Task
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import write_video
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import save_model
from dcase_seld.pretrained.transformers_models import make_random_model
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE
from dcase_seld.stages.networks import EXPORT_STAGE, PREDICT_STAGE
from dcase_seld.stages.pictures import KEYPOINTS_STAGE, VISUAL_STAGE
from dcase_seld.stages.tokens import EMBED_STAGE
from dcase_seld.store.tokens import TokenReader

SECONDS, HOP = 12.4, 25


@pytest.fixture(scope="module")
def work(tmp_path_factory, portrait):
    """Return a folder with a recording and its video, and a network that reads CLAP tokens."""
    root = tmp_path_factory.mktemp("one_path")
    rng = np.random.default_rng(3)
    for folder in ("stereo_eval/eval", "video_eval/eval"):
        (root / "corpus" / folder).mkdir(parents=True)
    sound = rng.normal(0, 0.1, (2, round(SECONDS * 24_000))) * np.array([[1.0], [0.4]])
    write_wav(root / "corpus/stereo_eval/eval/walk.wav", sound.astype(np.float32))
    image = portrait[0][:360, :512]
    frames = []
    for step in range(round(SECONDS * 5)):
        frame = np.full((360, 640, 3), 90, np.uint8)
        left = (2 * step) % 128
        frame[: image.shape[0], left : left + image.shape[1]] = image
        frames.append(frame)
    write_video(root / "corpus/video_eval/eval/walk.mp4", frames, fps=5)
    make_random_model("clap", root / "clap", seed=0)
    stage(PREPARE_STAGE, root / "store", {"corpus": str(root / "corpus")})
    encoder = {"kind": "clap", "path": str(root / "clap"), "tokens": 2}
    stage(EMBED_STAGE, root / "tokens", {"data": "d", "model": encoder, "hop_frames": HOP}, {"data": [root / "store"]})
    spec = asdict(TokenReader.open(root / "tokens").spec)
    config = {
        "track": "b",
        "fusion": {"clap": {"width": spec["shape"][-1]}},
        "frontend": {"features": ["log_mel", "ild"], "hop": 600, "window": 1024, "n_fft": 1024, "mels": 16},
        "encoder": {"channels": [8, 8], "layers": 1, "d_model": 16, "heads": 2, "feed_forward": 16, "kernel": 5},
        "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 16, "kernel": 5},
    }
    model = build_model(parse_model_config(config), Task(), seed=0)
    with torch.no_grad():
        model.head.out.weight.mul_(8)
    model.frontend.set_statistics(torch.full_like(model.frontend.mean, -40), torch.full_like(model.frontend.std, 20))
    save_model(model, root / "network", {"tokens": {"clap": spec}})
    return root


def stage(which, out, config, inputs=None):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    which.run(parse_config(which.config, config, out.name), inputs or {}, out, Context("cpu", 1))
    return out


@pytest.fixture(scope="module")
def by_recipe(work, pose_model):
    """Return the events before and after the visual step, and the official CSV, that the stages write."""
    store, tokens = work / "store", work / "tokens"
    given = {"data": [store], "members": [work / "network"], "tokens": [tokens]}
    options = {"data": "d", "members": "m", "tokens": "t", "split": "eval", "hop_frames": HOP}
    events = stage(PREDICT_STAGE, work / "events", options, given)
    keypoints = stage(KEYPOINTS_STAGE, work / "keypoints", {"data": "d"}, {"data": [store]})
    given = {"events": [events], "data": [store], "keypoints": [keypoints]}
    seen = stage(VISUAL_STAGE, work / "seen", {"events": "e", "data": "d", "keypoints": "k"}, given)
    csv = stage(EXPORT_STAGE, work / "csv", {"events": "e"}, {"events": [seen]})
    return Events.load(events / "events.npz"), Events.load(seen / "events.npz"), csv / "csv" / "walk.csv"


def same(one, other):
    assert one.clips == other.clips and len(one) == len(other)
    for name in ("frame", "class_index", "source", "onscreen"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert np.allclose(one.azimuth_deg, other.azimuth_deg, atol=1e-3)
    assert np.allclose(one.distance_m, other.distance_m, atol=1e-4)


@pytest.mark.slow
def test_python_gives_what_a_recipe_gives(work, by_recipe):
    plain, seen, _ = by_recipe
    assert len(plain) > 100 and not np.array_equal(plain.onscreen, seen.onscreen), "people must matter here"
    model = dcase_seld.load_model(work / "network")
    sound, video = work / "corpus/stereo_eval/eval/walk.wav", work / "corpus/video_eval/eval/walk.mp4"
    same(dcase_seld.predict(model, sound, video=video, people="off"), plain)
    same(dcase_seld.predict(model, sound, video=video, people="on"), seen)


@pytest.mark.slow
def test_the_command_gives_what_a_recipe_gives(work, by_recipe):
    _, seen, csv = by_recipe
    words = ["predict", str(work / "corpus/stereo_eval"), "--videos", str(work / "corpus/video_eval"), "--people", "on"]
    words += ["--checkpoint", str(work / "network"), "--out", str(work / "out"), "--device", "cpu"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    ours, official = (read_csv(path, frames=None) for path in (work / "out/walk.csv", csv))
    assert len(ours) == len(official) == len(seen)
    rounded = replace(official, azimuth_deg=ours.azimuth_deg, distance_m=ours.distance_m)
    same(ours, rounded)
    # A value halfway between two whole degrees may be rounded either way.
    assert np.abs(ours.azimuth_deg - official.azimuth_deg).max() <= 1
