"""A file predicted by itself gives what the same clip gives in a recipe, tokens included."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import Task
from dcase_seld.infer.predictor import Predictor, read_for
from dcase_seld.infer.recording_source import RecordingSource, open_embedders
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import write_video
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import save_model
from dcase_seld.pretrained.transformers_models import make_random_model
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE as PREPARE
from dcase_seld.stages.tokens import EMBED_STAGE as EMBED
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader

NAME = "fold4_room1_mix001_deg000_start0000"
CONTEXT = Context(device="cpu", workers=1)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with a clip, its store and tokens, and a network that reads both kinds."""
    root = tmp_path_factory.mktemp("live")
    rng = np.random.default_rng(3)
    for kind in ("stereo_dev", "metadata_dev", "video_dev"):
        (root / "corpus" / kind / "dev-test-tau").mkdir(parents=True)
    write_wav((root / "corpus/stereo_dev/dev-test-tau" / NAME).with_suffix(".wav"), rng.normal(0, 0.1, (2, 120_000)))
    label = "frame,class,source,azimuth,distance,onscreen\n0,1,0,10,200,1\n"
    (root / "corpus/metadata_dev/dev-test-tau" / NAME).with_suffix(".csv").write_text(label)
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    frames = [np.roll(np.tile(ramp, (90, 1)), 9 * k, axis=1)[..., None].repeat(3, 2) for k in range(50)]
    write_video((root / "corpus/video_dev/dev-test-tau" / NAME).with_suffix(".mp4"), frames, fps=10)

    def stage(which, out, config, inputs=None):
        (root / out).mkdir()
        which.run(parse_config(which.config, config, out), inputs or {}, root / out, CONTEXT)

    stage(PREPARE, "store", {"corpus": str(root / "corpus")})
    specs = {}
    for kind in ("clap", "owlvit"):
        make_random_model(kind, root / "models" / kind, seed=0)
        model = {"kind": kind, "path": str(root / "models" / kind)}
        mirror = {"mirror": "store"} if kind == "owlvit" else {}
        stage(EMBED, kind, {"data": "store", "model": model, **mirror}, {"data": [root / "store"]})
        specs[kind] = asdict(TokenReader.open(root / kind).spec)
    config = {
        "track": "b",
        "fusion": {name: {"width": spec["shape"][-1]} for name, spec in specs.items()},
        "frontend": {"features": ["log_mel", "ild"], "hop": 600, "window": 1024, "n_fft": 1024, "mels": 16},
        "encoder": {"channels": [8, 8], "layers": 1, "d_model": 16, "heads": 2, "feed_forward": 16, "kernel": 5},
        "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 16, "kernel": 5},
    }
    save_model(build_model(parse_model_config(config), Task(), seed=0), root / "network", {"tokens": specs})
    return root


def by_recipe(work, predictor):
    source = predictor.open_store(Store.open(work / "store"), "test", [work / "clap", work / "owlvit"])
    ((output, _),) = predictor.outputs(source)
    return output


def by_file(work, predictor, video=True):
    sound = (work / "corpus/stereo_dev/dev-test-tau" / NAME).with_suffix(".wav")
    picture = (work / "corpus/video_dev/dev-test-tau" / NAME).with_suffix(".mp4")
    recording = read_for(predictor, sound, picture if video else None)
    embedders = open_embedders(predictor.specs, predictor.needs, predictor.task, "cpu")
    ((output, _),) = predictor.outputs(RecordingSource(recording, predictor.task, embedders, 50))
    return output


@pytest.mark.parametrize("tta", ["none", "swap"])
def test_a_file_gives_what_its_clip_gives_in_a_recipe(work, tta):
    predictor = Predictor.load([work / "network"], tta=tta)
    for live, stored in zip(by_file(work, predictor), by_recipe(work, predictor), strict=True):
        torch.testing.assert_close(live, stored, atol=2e-5, rtol=2e-5)


def test_the_picture_matters_and_its_absence_is_allowed(work):
    predictor = Predictor.load([work / "network"])
    seen, blind = by_file(work, predictor), by_file(work, predictor, video=False)
    assert (seen.direction - blind.direction).abs().max() > 1e-4 and torch.isfinite(blind.direction).all()


def test_other_weights_than_those_of_the_training_are_refused(work):
    make_random_model("clap", work / "models/other", seed=5)
    predictor = Predictor.load([work / "network"])
    with pytest.raises(SeldError, match="other weights"):
        open_embedders(predictor.specs, predictor.needs, predictor.task, "cpu", {"clap": str(work / "models/other")})
