"""Tuning: it finds thresholds that are known to be right, on validation clips only; greedy choice; soups; guards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from noise import noise_store

from dcase_seld.cli.results import ensemble
from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.core.task import Task
from dcase_seld.infer.collect import EventCollector
from dcase_seld.infer.ensemble import average_weights, make_ensemble
from dcase_seld.infer.predictor import Predictor
from dcase_seld.infer.settings import (
    EnsembleConfig,
    EnsembleSettings,
    Member,
    check_leakage,
    read_ensemble,
    write_ensemble,
)
from dcase_seld.infer.tune import MemberOutputs, greedy_weights, tune
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model
from dcase_seld.model.types import ModelInput, SeldOutput
from dcase_seld.model.weights import load_model, save_model
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.networks import ENSEMBLE_STAGE as STAGE
from dcase_seld.stages.networks import EnsembleStageConfig
from dcase_seld.store.batches import Batch
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store, TargetTable

TASK = Task(classes=Taxonomy("two", ("A", "B"), ("a", "b")))
SMALL = {
    "kind": "conformer",
    "track": "b",
    "frontend": {"features": ["log_mel"], "hop": 1200, "mels": 8},
    "encoder": {"channels": [4], "layers": 1, "d_model": 8, "heads": 2, "feed_forward": 8, "kernel": 5},
    "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 8, "kernel": 5},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_store(tmp_path_factory.mktemp("made") / "store", 60, task=TASK, rows=40)


def members_of(store: Store, outputs: list[SeldOutput]) -> MemberOutputs:
    indices = store.indices("val")
    source = StoreSource(store, indices)
    zeros = torch.zeros(len(indices), dtype=torch.int64)
    windows = Batch(ModelInput(), None, torch.from_numpy(indices), zeros, zeros)
    return MemberOutputs(tuple(outputs), windows, source, EventCollector([source]).reference(), "f_score")


def answer(store: Store, true: tuple[float, float], false: tuple[float, float], turn_deg: float = 0.0) -> SeldOutput:
    """Return an output that is right but for its activities: `true` per class where it sounds, else `false`."""
    encoded = TargetTable(store.events, store.task).encode(store.indices("val"))
    number, direction, distance, onscreen = map(torch.from_numpy, encoded)
    sounding = torch.arange(3) < number[..., None]
    angle = torch.atan2(direction[..., 1], direction[..., 0]) + np.radians(turn_deg)
    length = torch.where(sounding, torch.tensor(true)[:, None], 0.0)
    # The first track is a false alarm where nothing sounds.
    length[..., 0] = torch.where(number == 0, torch.tensor(false), length[..., 0])
    unit = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    screen = torch.where(onscreen > 0, -1.0, -3.0)
    return SeldOutput(unit * length[..., None], distance, screen)


def test_thresholds_lie_between_false_alarms_and_sounds_of_each_class(store: Path) -> None:
    opened = Store.open(store)
    output = answer(opened, true=(0.45, 0.95), false=(0.25, 0.65))
    found = tune(members_of(opened, [output]), output)
    assert 0.25 <= found.thresholds[0] < 0.45 and 0.65 <= found.thresholds[1] < 0.95
    # Off-screen sources say 0.05 and on-screen ones 0.27: only a low threshold tells them apart.
    assert 0.04 < found.onscreen_threshold < 0.27
    assert found.after > 0.99 > 0.5 > found.before
    common = tune(members_of(opened, [output]), output, per_class=False)
    assert len(common.thresholds) == 1 and common.after < found.after


def test_a_class_in_too_few_recordings_keeps_the_common_threshold(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store.open(store)
    output = answer(opened, true=(0.45, 0.95), false=(0.25, 0.65))
    monkeypatch.setattr("dcase_seld.infer.tune.FEWEST_GROUPS", 1000)
    found = tune(members_of(opened, [output]), output)
    assert len(set(found.thresholds)) == 1


def test_the_greedy_choice_leaves_out_a_bad_member(store: Path) -> None:
    opened = Store.open(store)
    good = [answer(opened, (0.9, 0.9), (0.1, 0.1), turn) for turn in (18.0, -18.0)]
    bad = answer(opened, (0.9, 0.9), (0.9, 0.9), turn_deg=90.0)
    one_sided = members_of(
        opened, [bad, answer(opened, (0.9, 0.4), (0.1, 0.1)), answer(opened, (0.4, 0.9), (0.1, 0.1))]
    )
    counts, scores = greedy_weights(one_sided, 5)
    assert counts == [0, 1, 1] and scores[1] > scores[0] + 0.3
    # Members that are alike: the second brings nothing, and one is enough.
    assert sum(greedy_weights(members_of(opened, good), 5)[0]) == 1


def network(folder: Path, seed: int, facts: dict[str, object] | None = None) -> Path:
    model = build_model(parse_model_config(SMALL), TASK, seed)
    with torch.no_grad():
        model.head.out.weight.mul_(8)
    save_model(model, folder, {"train_on": ["train"], **(facts or {})})
    return folder


def test_the_stage_writes_an_ensemble_that_predicts(store: Path, tmp_path: Path) -> None:
    members = [network(tmp_path / str(seed), seed) for seed in range(2)]
    out = tmp_path / "out"
    out.mkdir()
    config = EnsembleStageConfig(members=["x", "y"], data="d", tta="swap")
    facts = STAGE.run(config, {"members": members, "data": [store]}, out, Context("cpu"))
    assert facts is not None and facts["members"] == 2 and facts["tuned_clips"] == 6
    assert facts["scores"]["tuned"] >= facts["scores"]["average"] - 0.02
    for member in members:
        (member / "model.safetensors").unlink()  # the ensemble stands alone
    predictor = Predictor.load([out])
    assert predictor.settings.tta == "swap" and len(predictor.settings.class_thresholds(2)) == 2
    assert facts["parameters"] == predictor.parameters
    opened = Store.open(store)
    with pytest.raises(SeldError, match="tuned on"):
        predictor.open_store(opened, "val")
    assert len(predictor.events(predictor.open_store(opened, "val", allow_tuned=True)).clips) == 6
    with pytest.raises(SeldError, match="cannot be mixed"):
        Predictor.load([out, out])


def test_thresholds_of_an_ensemble_are_used(store: Path, tmp_path: Path) -> None:
    member = network(tmp_path / "a", 0)
    opened = Store.open(store)
    counts = []
    for limits in ((0.1, 0.1), (0.1, 1.4), (1.4, 1.4)):
        settings = EnsembleSettings(members=(Member(folder="../a"),), thresholds=limits)
        (tmp_path / "e").mkdir(exist_ok=True)
        write_ensemble(settings, tmp_path / "e")
        predictor = Predictor.load([tmp_path / "e"])
        events = predictor.events(predictor.open_store(opened, "val"))
        counts.append([int((events.class_index == c).sum()) for c in range(2)])
    assert counts[0][0] == counts[1][0] > counts[2][0] and counts[0][1] > counts[1][1] == counts[2][1]
    assert member.exists()


def test_a_soup_is_the_mean_of_weights(tmp_path: Path) -> None:
    members = [network(tmp_path / str(seed), seed) for seed in range(2)]
    mean = average_weights(members, [1.0, 3.0]).state_dict()
    a, b = (load_model(member).state_dict() for member in members)
    for name in mean:
        if mean[name].is_floating_point():
            torch.testing.assert_close(mean[name], (a[name] + 3 * b[name]) / 4)
    facts = make_ensemble(EnsembleConfig(soup="all", thresholds="none"), members, None, tmp_path / "out")
    assert facts["members"] == 1 and facts["parameters"] == sum(p.numel() for p in load_model(members[0]).parameters())
    other = build_model(parse_model_config({**SMALL, "track": "a"}), TASK, 0)
    save_model(other, tmp_path / "other")
    with pytest.raises(SeldError, match="different networks"):
        average_weights([members[0], tmp_path / "other"])


def test_nothing_is_tuned_on_clips_that_members_know(store: Path, tmp_path: Path) -> None:
    known = network(tmp_path / "known", 0, {"train_on": ["train", "val"]})
    with pytest.raises(SeldError, match="trained on the validation clips"):
        make_ensemble(EnsembleConfig(), [known], Store.open(store), tmp_path / "out")
    tuned = network(tmp_path / "tuned", 1)
    (tmp_path / "twin").mkdir()
    facts = make_ensemble(EnsembleConfig(tta="swap"), [tuned], Store.open(store), tmp_path / "twin")
    out = tmp_path / "final"
    out.mkdir()
    config = EnsembleStageConfig(members=["x"], data="d", settings_of="t")
    given = {"members": [known], "data": [store], "settings_of": [tmp_path / "twin"]}
    taken = STAGE.run(config, given, out, Context("cpu"))
    assert taken is not None and taken["thresholds"] == facts["thresholds"] and taken["tta"] == "swap"
    names = ["fold1_room1_mix001_deg000_start0000"]
    with pytest.raises(SeldError, match="1 clip"):
        check_leakage(names, ["fold1_room1_mix001_deg180_start0100"], "Scores")
    check_leakage(names, ["fold1_room1_mix002_deg000_start0000"], "Scores")


def test_the_command_makes_an_ensemble_and_refuses_test_clips(store: Path, tmp_path: Path) -> None:
    members = [str(network(tmp_path / str(seed), seed)) for seed in range(2)]
    options = ["--data", str(store), "--device", "cpu", "--weights", "2,1", "--quiet"]
    done = CliRunner().invoke(ensemble, [*members, *options, "--out", str(tmp_path / "e")], catch_exceptions=False)
    assert done.exit_code == 0 and "with tuned thresholds (flattered" in done.output
    settings = read_ensemble(tmp_path / "e")
    assert settings is not None and [member.weight for member in settings.members] == [2.0, 1.0]
    assert "members/00" in json.loads((tmp_path / "e" / "ensemble.json").read_text())["members"][0]["folder"]
    with pytest.raises(SeldError, match="proves nothing"):
        CliRunner().invoke(
            ensemble, [*members, *options, "--split", "test", "--out", str(tmp_path / "f")], catch_exceptions=False
        )
    with pytest.raises(SeldError, match="3 weights are given for 2 members"):
        CliRunner().invoke(
            ensemble, [*members, "--weights", "1,1,1", "--out", str(tmp_path / "g")], catch_exceptions=False
        )


def test_what_a_killed_command_left_of_an_ensemble_is_made_anew_and_nothing_else(tmp_path: Path) -> None:
    member, out = str(network(tmp_path / "0", 0)), tmp_path / "e"
    ask = [member, "--device", "cpu", "--quiet", "--out", str(out)]
    assert CliRunner().invoke(ensemble, ask, catch_exceptions=False).exit_code == 0
    (out / "ensemble.json").unlink()  # it is written last
    assert CliRunner().invoke(ensemble, ask, catch_exceptions=False).exit_code == 0
    for name in ("ensemble.json", "members/photo.jpg", "members/00/notes.txt", "mine/members"):
        shutil.rmtree(out, ignore_errors=True)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
        with pytest.raises(SeldError, match="an ensemble, or other files"):
            CliRunner().invoke(ensemble, ask, catch_exceptions=False)
        assert (out / name).read_text() == "mine"


def test_distances_that_are_too_far_on_the_whole_are_brought_nearer(store: Path) -> None:
    """Relative error punishes "too far" more: of distances spread evenly in log around the truth, less wins."""
    opened = Store.open(store)
    output = answer(opened, true=(0.9, 0.9), false=(0.1, 0.1))
    spread = torch.exp(0.5 * torch.randn(output.distance.shape, generator=torch.Generator().manual_seed(1)))
    members = members_of(opened, [output._replace(distance=1.25 * spread * output.distance)])
    found = tune(members, members.outputs[0])
    assert 0.6 <= found.distance_scale < 0.8
    error = {
        scale: members.scores(members.events(members.outputs[0], distance_scale=scale))["relative_distance_error"]
        for scale in (1.0, found.distance_scale)
    }
    assert error[found.distance_scale] < 0.8 * error[1.0]
    assert tune(members, members.outputs[0], distance=False).distance_scale == 1.0


def test_the_distance_factor_and_the_smoothing_of_an_ensemble_are_in_what_it_predicts(
    store: Path, tmp_path: Path
) -> None:
    network(tmp_path / "one", 1)
    opened = Store.open(store)
    found = []
    for changed in ({}, {"distance_scale": 0.5}, {"smooth_frames": 4.0}):
        folder = tmp_path / f"with {''.join(changed)}"
        folder.mkdir()
        settings = EnsembleSettings(members=(Member(folder="../one"),), thresholds=(0.0,), unify_deg=180.0)
        write_ensemble(settings.model_copy(update=changed), folder)
        predictor = Predictor.load([folder])
        found.append(predictor.events(predictor.open_store(opened, "val")))
    plain, nearer, smooth = found
    assert len(plain) and np.allclose(nearer.distance_m, 0.5 * plain.distance_m, rtol=1e-6)

    def steps(events: Events) -> float:
        first = (events.clip == events.clip[0]) & (events.class_index == events.class_index[0])
        return float(np.abs(np.diff(events.azimuth_deg[first])).mean())

    assert len(smooth) == len(plain) and steps(smooth) < 0.9 * steps(plain)
