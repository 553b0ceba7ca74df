"""Prediction from folders of trained networks: one, several, with the mirrored input, of every length of clip."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.core.task import Task
from dcase_seld.corpus.layout import index_corpus
from dcase_seld.corpus.prepare import build_store
from dcase_seld.infer.collect import swap_output
from dcase_seld.infer.predictor import Predictor
from dcase_seld.media.audio import write_wav
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model
from dcase_seld.model.types import ModelInput
from dcase_seld.model.weights import count_parameters, load_model, save_model
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.networks import PREDICT_STAGE as STAGE
from dcase_seld.stages.networks import PredictStageConfig
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenSpec, TokenWriter

TAXONOMY = Taxonomy("three", ("A", "B", "C"), ("a", "b", "c"))
TASK = Task(classes=TAXONOMY)


def network(
    folder: Path,
    seed: int,
    track: str = "b",
    kind: str = "conformer",
    taxonomy: Taxonomy = TAXONOMY,
    fusion: tuple[str, ...] = (),
    facts: dict[str, object] | None = None,
) -> Path:
    """Write a random network that is often active (its last layer is scaled up)."""
    small = {
        "kind": "conformer",
        "frontend": {"features": ["log_mel", "ild"], "hop": 600, "mels": 16},
        "encoder": {"channels": [4, 8], "layers": 1, "d_model": 8, "heads": 2, "feed_forward": 8, "kernel": 5},
        "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 8, "kernel": 5},
        "fusion": {name: {"width": 4} for name in fusion},
    }
    model = build_model(
        parse_model_config({**(small if kind == "conformer" else {"kind": kind}), "track": track}),
        Task(classes=taxonomy),
        seed,
    )
    with torch.no_grad():
        model.head.out.weight.mul_(12)
    model.frontend.set_statistics(torch.full_like(model.frontend.mean, -40), torch.full_like(model.frontend.std, 20))
    save_model(model, folder, facts)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with members a, b (another track), c (another architecture) and a store of unlabelled clips."""
    root = tmp_path_factory.mktemp("predict")
    for name, seed, track, kind in (("a", 0, "b", "conformer"), ("b", 1, "a", "conformer"), ("c", 2, "b", "crnn")):
        network(root / name, seed, track, kind)
    rng = np.random.default_rng(0)
    sounds = root / "corpus" / "stereo_eval" / "eval"
    sounds.mkdir(parents=True)
    for number, seconds in enumerate((5, 5, 5, 12)):
        noise = 0.1 * rng.standard_normal((2, seconds * 24_000)) * np.array([[1.0], [0.3 + 0.2 * number]])
        write_wav(sounds / f"sample{number}.wav", noise.astype(np.float32))
    clips = index_corpus(root / "corpus").clips
    build_store(clips, root / "store", root=root / "corpus", splits=["eval"] * len(clips), task=TASK)
    return root


def test_the_stage_predicts_every_clip_with_one_and_several_members(folder: Path, tmp_path: Path) -> None:
    config = parse_config(PredictStageConfig, {"data": "s", "members": ["a", "b", "c"], "split": "eval"}, "test")
    inputs = {"data": [folder / "store"], "members": [folder / name for name in "abc"]}
    facts = STAGE.run(config, inputs, tmp_path, Context("cpu"))
    events = Events.load(tmp_path / "events.npz")
    assert facts is not None and events.clips == tuple(f"sample{n}" for n in range(4))
    networks = Predictor.load([folder / name for name in "abc"]).networks
    assert facts["parameters"] == sum(count_parameters(n) for n in networks)
    assert facts["members"] == 3 and facts["tracks"] == ["a", "b"] and facts["events"] == len(events) > 50
    # The long recording has events beyond one window, and none beyond its end.
    assert 50 < events.frame[events.clip == 3].max() < 120 and events.frame[events.clip < 3].max() < 50


def test_batch_size_changes_nothing(folder: Path) -> None:
    predictor, store = Predictor.load([folder / "a", folder / "c"]), Store.open(folder / "store")
    first, second = (predictor.events(predictor.open_store(store, "eval"), size) for size in (1, 32))
    assert np.array_equal(first.frame, second.frame) and np.allclose(first.azimuth_deg, second.azimuth_deg, atol=0.01)


def test_mirrored_input_gives_mirrored_output_under_swap(folder: Path) -> None:
    predictor = Predictor.load([folder / "a", folder / "c"], tta="swap")
    wave = torch.randn(2, 2, 120_000, generator=torch.Generator().manual_seed(0)) * 0.1
    plain, mirrored = (
        predictor.output(ModelInput(wave=wave)),
        swap_output(predictor.output(ModelInput(wave=wave.flip(1)))),
    )
    assert torch.allclose(plain.activity(), mirrored.activity(), atol=1e-4)
    order = torch.argsort(plain.direction[..., 1], -1), torch.argsort(mirrored.direction[..., 1], -1)
    ordered = plain.direction[..., 1].gather(-1, order[0]), mirrored.direction[..., 1].gather(-1, order[1])
    assert torch.allclose(*ordered, atol=1e-4)


def test_mistakes_are_answered_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    store = Store.open(folder / "store")
    other = network(tmp_path / "other", 0, taxonomy=Taxonomy("two", ("A", "B"), ("a", "b")))
    with pytest.raises(SeldError, match="different tasks: the classes"):
        Predictor.load([folder / "a", other])
    with pytest.raises(SeldError, match=r"different tasks: the classes A, B, C and A, B"):
        Predictor.load([other]).open_store(store, "eval")
    with pytest.raises(SeldError, match="no clip in split 'test'"):
        Predictor.load([folder / "a"]).open_store(store, "test")
    with pytest.raises(SeldError, match="holds no trained network"):
        Predictor.load([tmp_path])
    with pytest.raises(SeldError, match="no member"):
        Predictor.load([])


@pytest.mark.parametrize(
    ("name", "value", "said"), [("frontend.std", 0.0, "no number"), ("head.out.bias", 1e6, "1,000 m")]
)
def test_what_broken_weights_say_is_refused_with_checkpoint_and_clip(
    folder: Path, tmp_path: Path, name: str, value: float, said: str
) -> None:
    model = load_model(folder / "a")
    with torch.no_grad():
        model.state_dict()[name].fill_(value)
    save_model(model, tmp_path / "broken")
    predictor = Predictor.load([folder / "a", tmp_path / "broken"], tta="swap")
    with pytest.raises(SeldError, match=rf"network in \S+/broken says of sample0 .*{said}"):
        predictor.events(predictor.open_store(Store.open(folder / "store"), "eval"))


def test_overlapping_windows_cover_long_clips_and_leave_short_ones_as_they_are(folder: Path) -> None:
    predictor, store = Predictor.load([folder / "a"]), Store.open(folder / "store")
    plain, overlapping = (predictor.events(predictor.open_store(store, "eval", hop_frames=hop)) for hop in (None, 10))
    for clip in range(3):
        assert (plain.clip == clip).sum() == (overlapping.clip == clip).sum()
    long = overlapping.take(overlapping.clip == 3)
    assert set(np.unique(long.frame)) <= set(range(120)) and long.frame.max() > 100
    assert not np.array_equal(long.azimuth_deg, plain.take(plain.clip == 3).azimuth_deg)


def test_tokens_of_other_weights_than_the_trainings_are_refused(folder: Path, tmp_path: Path) -> None:
    opened = Store.open(folder / "store")
    store = build_store_of(opened, tmp_path / "short")
    for name in ("right", "wrong"):
        spec = TokenSpec("clap", "sound", "tiny", name, True, (1, 4), store=store.identity)
        writer = TokenWriter(tmp_path / name, spec, store.names)
        writer.write(0, np.ones((len(store), 1, 4)))
        writer.finish()
    member = network(
        tmp_path / "m",
        0,
        fusion=("clap",),
        facts={"tokens": {"clap": asdict(TokenSpec("clap", "sound", "t", "right", True, ()))}},
    )
    predictor = Predictor.load([member])
    assert predictor.events(predictor.open_store(store, "eval", [tmp_path / "right"])).clips == store.names
    with pytest.raises(SeldError, match=r"other weights \(wrong\) than .* \(right\)"):
        predictor.open_store(store, "eval", [tmp_path / "wrong"])


def build_store_of(store: Store, out: Path) -> Store:
    """Return a store of another's first three clips, each one window long."""
    out.mkdir()
    clips = index_corpus(Path(store.facts["corpus"])).clips[:3]
    build_store(clips, out, root=Path(store.facts["corpus"]), splits=["eval"] * 3, task=TASK)
    return Store.open(out)
