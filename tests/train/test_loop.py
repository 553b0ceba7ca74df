"""The training loop: it learns, resumes after a kill with the same weights, and refuses what cannot work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._inductor.config
from safetensors.torch import load_file
from tiny import MODEL, TASK, make_store

from dcase_seld.core.config import find_network
from dcase_seld.core.errors import SeldError
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import write_wav
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import load_model, read_facts
from dcase_seld.scoring.figures import read_epochs
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenSpec, TokenWriter
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.loop import train
from dcase_seld.train.setup import make_fabric, wants_cache

TRAIN = """
import json, sys
from pathlib import Path
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.loop import train
config, store, out = TrainConfig(**json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
out.mkdir(exist_ok=True)
train(config, [store], out, device="cpu")
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("tiny"))


def options(**changes: object) -> dict[str, object]:
    plain = {"model": {**MODEL, "track": "b"}, "epochs": 2, "batch_size": 8, "lr": 3e-3, "tensorboard": False}
    return {**plain, **changes}


def trained(store: Path, out: Path, **changes: object) -> dict[str, object]:
    out.mkdir(parents=True, exist_ok=True)
    return train(TrainConfig(**options(**changes)), [store], out, device="cpu")  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_and_writes_everything(store: Path, tmp_path: Path) -> None:
    summary = trained(store, tmp_path, epochs=5, keep_top=2, ema=0.8, tensorboard=True)
    rows = read_epochs(tmp_path / "epochs.csv")
    assert [row["epoch"] for row in rows] == list(range(1, 6))
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert summary["val"]["f_score"] == pytest.approx(max(row["f_score"] for row in rows))  # type: ignore[index]
    assert {"best", "last", "top", "curves.png", "classwise.csv", "tensorboard"} <= {p.name for p in tmp_path.iterdir()}
    assert len(list((tmp_path / "top").iterdir())) == 2
    assert not (tmp_path / "state").exists()
    lines = (tmp_path / "classwise.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 * 2 and lines[1].startswith("1,0,Low,")
    # A finished training is not repeated.
    assert trained(store, tmp_path, epochs=5) == summary


def test_kill_and_resume_gives_the_same_weights(store: Path, tmp_path: Path) -> None:
    changes = {"epochs": 3, "checkpoint_steps": 2, "ema": 0.9, "accumulate": 2, "augment": {"swap": 0.5, "mask": 0.5}}
    trained(store, tmp_path / "whole", **changes)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", TRAIN, json.dumps(options(**changes)), str(store), str(killed)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})
    while process.poll() is None and step_of(killed) < 4:
        time.sleep(0.002)
    assert process.poll() is None, "the training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "summary.json").exists()
    trained(store, killed, **changes)
    assert equal(tmp_path / "whole" / "last", killed / "last")
    assert equal(tmp_path / "whole" / "best", killed / "best")
    scores = [[row["f_score"] for row in read_epochs(tmp_path / n / "epochs.csv")] for n in ("whole", "killed")]
    losses = [[row["loss"] for row in read_epochs(tmp_path / n / "epochs.csv")] for n in ("whole", "killed")]
    assert scores[0] == scores[1] and losses[0] == losses[1]


def step_of(out: Path) -> int:
    try:
        return int(json.loads((out / "state" / "state.json").read_text())["position"]["step"])
    except (OSError, ValueError):
        return 0


@pytest.mark.parametrize("track", ["a", "b"])
def test_accumulation_changes_nothing_but_rounding(store: Path, tmp_path: Path, track: str) -> None:
    still = {**MODEL, "track": track}
    still["encoder"] = {**MODEL["encoder"], "dropout": 0.0}
    still["cross_modal"] = {**MODEL["cross_modal"], "dropout": 0.0}
    for parts in (1, 4):
        trained(store, tmp_path / str(parts), model=still, freeze_batch_norm=True, accumulate=parts, epochs=1)
    first, second = weights(tmp_path / "1" / "last"), weights(tmp_path / "4" / "last")
    assert max(float((first[name].double() - second[name].double()).abs().max()) for name in first) < 1e-5


def test_fine_tuning_starts_from_the_weights_and_freezes(store: Path, tmp_path: Path) -> None:
    trained(store, tmp_path / "first", model={**MODEL, "track": "a"})
    out = tmp_path / "second"
    out.mkdir()
    config = TrainConfig(**options(epochs=1, freeze=["encoder"], freeze_batch_norm=True))  # type: ignore[arg-type]
    train(config, [store], out, init=tmp_path / "first", device="cpu")
    before, after = weights(tmp_path / "first" / "best"), weights(out / "last")
    listed = json.loads((out / "init.json").read_text())
    assert set(listed["matched"]) | set(listed["partial"]) == set(after) and not listed["fresh"] + listed["unused"]
    assert listed["partial"] == ["head.out.weight", "head.out.bias"]
    encoder = [name for name in after if name.startswith("encoder")]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    assert not torch.equal(before["head.hidden.weight"], after["head.hidden.weight"])
    assert torch.equal(before["frontend.mean"], after["frontend.mean"])


def test_fine_tuning_takes_the_network_of_init_where_none_is_named(store: Path, tmp_path: Path) -> None:
    trained(store, tmp_path / "first", epochs=1)
    changes = {name: value for name, value in options(epochs=1).items() if name != "model"}
    (tmp_path / "second").mkdir()
    train(TrainConfig(**changes), [store], tmp_path / "second", init=tmp_path / "first", device="cpu")  # type: ignore[arg-type]
    one, other = (read_facts(tmp_path / name / "last") for name in ("first", "second"))
    assert one["config"] == other["config"] and one["parameters"] == other["parameters"]


def test_without_validation_best_is_last(store: Path, tmp_path: Path) -> None:
    trained(store, tmp_path, epochs=1, train_on=["train", "val", "test"])
    assert equal(tmp_path / "best", tmp_path / "last")
    assert "f_score" not in read_epochs(tmp_path / "epochs.csv")[0]


def test_a_loss_that_is_no_number_stops_with_the_last_state_intact(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SeldError, match="no numbers any more"):
        trained(store, tmp_path, epochs=60, lr=1e30, clip_norm=0, schedule={"kind": "constant", "warmup": 0})
    assert not (tmp_path / "summary.json").exists()


def test_two_stores_are_mixed_by_weight(store: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", train=8, val=4, test=1, seed=5)
    out = tmp_path / "out"
    out.mkdir()
    config = TrainConfig(**options(weights=[1, 3], epoch_clips=16, epochs=1, class_balance=0.5))  # type: ignore[arg-type]
    summary = train(config, [store, other], out, device="cpu")
    row = read_epochs(out / "epochs.csv")[0]
    assert row["step"] == 2 and summary["clips"] == 32
    with pytest.raises(SeldError, match="weights has 2 numbers, but data names 1 stores"):
        trained(store, tmp_path / "wrong", weights=[1, 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 512}, "smaller than one batch of 512"),
        ({"freeze": ["encodr"]}, "'encodr' is the beginning of no parameter's name"),
        ({"precision": "fp16"}, "fp16 needs a CUDA device"),
        ({"model": {**MODEL, "fusion": ["clap"]}}, "reads clap tokens"),
        ({"nodes": 2}, "neither by torchrun nor by SLURM"),
        ({"compile": True, "cuda_graphs": True}, "cuda_graphs needs one CUDA device; this training runs on 1 × cpu"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(
    store: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SeldError, match=message):
        trained(store, tmp_path, **changes)


def test_recorded_kernels_are_fused_ones_of_whole_batches() -> None:
    for changes in ({}, {"compile": True, "accumulate": 2}):
        with pytest.raises(ValueError, match="cuda_graphs needs compile: true and accumulate: 1"):
            TrainConfig(**options(cuda_graphs=True, **changes))  # type: ignore[arg-type]


def test_early_stopping(store: Path, tmp_path: Path) -> None:
    summary = trained(store, tmp_path, epochs=6, lr=1e-12, patience=2, cache_features="no")
    assert summary["epochs"] == 3


def test_half_precision_learns_like_full(store: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        trained(store, tmp_path / precision, precision=precision, epochs=2)
        losses[precision] = [row["loss"] for row in read_epochs(tmp_path / precision / "epochs.csv")]
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)


def test_a_cache_of_long_clips_is_refused(tmp_path: Path) -> None:
    clip = Clip("long", "dev-train-synth", tmp_path / "long.wav", None, None)
    write_wav(tmp_path / "long.wav", np.zeros((2, 240_000), np.int16), 24_000)
    (tmp_path / "store").mkdir()
    build_store([clip], tmp_path / "store", root=tmp_path, splits=["train"], task=TASK)
    source = StoreSource(Store.open(tmp_path / "store"), np.array([0]))
    config = TrainConfig(**options(cache_features="yes"))  # type: ignore[arg-type]
    network = build_model(config.model, TASK, 0)
    with pytest.raises(SeldError, match="clips of 100 label frames"):
        wants_cache(config, make_fabric(config, "cpu"), [source], network)


def test_a_teacher_with_tokens_guides_a_network_without(store: Path, tmp_path: Path) -> None:
    kept = Store.open(store)
    spec = TokenSpec("sounds", "sound", "made", "abc", False, (5, 4))
    writer = TokenWriter(tmp_path / "tokens", spec, kept.names)
    rng = np.random.default_rng(0)
    for shard, rows in writer.pending():
        writer.write(shard, rng.standard_normal((len(rows), 5, 4)).astype(np.float16))
    writer.finish()
    tokens = [tmp_path / "tokens"]
    large = TrainConfig(**options(model={**MODEL, "fusion": {"sounds": {"attention": "aligned"}}}, epochs=3))  # type: ignore[arg-type]
    (tmp_path / "teacher").mkdir()
    train(large, [store], tmp_path / "teacher", tokens=tokens, device="cpu")
    teacher = tmp_path / "teacher"
    small = TrainConfig(**options(model=MODEL, epochs=3, loss={"teacher_weight": 2.0}))  # type: ignore[arg-type]
    (tmp_path / "student").mkdir()
    train(small, [store], tmp_path / "student", tokens=tokens, teacher=teacher, device="cpu")
    rows = read_epochs(tmp_path / "student/epochs.csv")
    assert rows[-1]["loss_teacher"] < 0.9 * rows[0]["loss_teacher"]
    facts = read_facts(tmp_path / "student/best")["facts"]
    assert facts["tokens"] == {} and load_model(tmp_path / "student/best").config.fusion == {}
    other = TrainConfig(**options(model={**MODEL, "frontend": {"features": ["log_mel"], "hop": 600, "mels": 16}}))  # type: ignore[arg-type]
    with pytest.raises(SeldError, match=r"model\.frontend of the teacher"):
        train(other, [store], tmp_path / "other", tokens=tokens, teacher=teacher, device="cpu")


def test_tables_that_a_kill_kept_from_being_written_are_written_on_resuming(store: Path, tmp_path: Path) -> None:
    """The kill falls between the last epoch's checkpoint and its tables."""
    kill = "import os, signal\nimport dcase_seld.train.loop as loop\n"
    kill += "loop.write_tables = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nconfig, store"
    script = TRAIN.replace("config, store", kill)
    words = [sys.executable, "-c", script, json.dumps(options(epochs=1)), str(store), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "out/epochs.csv").exists()
    trained(store, tmp_path / "out", epochs=1)
    assert len(read_epochs(tmp_path / "out/epochs.csv")) == 1 and (tmp_path / "out/classwise.csv").exists()


@pytest.mark.slow
def test_fused_kernels_learn_alike_and_weights_keep_their_names(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "restored after the test")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    assert Path(cache_dir()).parent == Path(tempfile.gettempdir())  # as the first import of the compiler leaves it
    # The smallest network and the plainest code: each fused kernel is compiled by itself, which takes longer than all
    # else, vectors longer still, and processes that compile would first have to start.
    monkeypatch.setattr(torch._inductor.config.cpp, "simdlen", 1)
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    still = {**MODEL, "track": "a", "encoder": {**MODEL["encoder"], "channels": [8], "layers": 0}}
    still["plain_without_sound"] = False
    for name, compiled in (("plain", False), ("fused", True)):
        trained(store, tmp_path / name, model=still, epochs=1, compile=compiled, deterministic=compiled)
    assert (tmp_path / "cache" / "compiled").is_dir()
    first, second = weights(tmp_path / "plain" / "last"), weights(tmp_path / "fused" / "last")
    assert first.keys() == second.keys()
    assert max(float((first[name].double() - second[name].double()).abs().max()) for name in first) < 1e-3
    rows = [read_epochs(tmp_path / name / "epochs.csv")[0] for name in ("plain", "fused")]
    assert rows[0]["val_loss"] == pytest.approx(rows[1]["val_loss"], rel=1e-3)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_network_that_goes_on_with_a_loss_that_teaches_silence_is_told(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = {"active_weight": 4, "distance_loss": "active"}
    trained(store, tmp_path / "first", epochs=1, loss=loud)
    other = {**loud, "terms": {"angle": 1}}
    for name, loss, told in (("official", {}, True), ("same", loud, False), ("other", other, False)):
        (tmp_path / name).mkdir()
        config = TrainConfig(**options(epochs=1, loss=loss))  # type: ignore[arg-type]
        train(config, [store], tmp_path / name, init=tmp_path / "first" / "last", device="cpu", quiet=False)
        said = "learned with `loss: {active_weight: 4.0, distance_loss: active}`" in capsys.readouterr().err
        assert said is told
    assert {"active_weight", "distance_loss"} <= read_facts(find_network("default"))["facts"]["loss"].keys()


def test_a_kill_between_summary_and_clean_up_leaves_no_state_beside_the_result(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text("{}")
    (tmp_path / "summary.json").write_text('{"epochs": 1}')
    assert train(TrainConfig(), [], tmp_path) == {"epochs": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
