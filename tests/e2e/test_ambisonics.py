"""First-order Ambisonics from the simulator to the score: directions by physics, and whole recipes at a small size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import submission_made
import torch
from click.testing import CliRunner
from tiny import MODEL

from dcase_seld.api import run_recipe
from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import GEOMETRIES, ROTATIONS
from dcase_seld.media.audio import read_audio, to_int16, write_wav
from dcase_seld.model.config import FrontEndConfig
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.types import ModelInput, SeldTarget
from dcase_seld.recipe.stage import Context
from dcase_seld.scoring.figures import read_epochs
from dcase_seld.simulate.config import RoomsConfig
from dcase_seld.simulate.rooms import Room, direction, early_responses, sample_room, sample_source
from dcase_seld.stages import load_stage
from dcase_seld.train.augment import rotate

RECIPES = Path(__file__).parents[2] / "recipes"
SPHERE = GEOMETRIES["sphere"]
DEAD = Room((9.0, 9.0, 9.0), ((0.9999,) * 6,) * 6, (0.05,) * 6, (4.5, 4.5, 4.5), 1)
"""A room without reflections, so to say: what arrives is the plane wave of the source."""


def heard(room: Room, place: np.ndarray, seed: int) -> torch.Tensor:
    """Return noise from a place as the networks get it: (1, 4, S), rounded to 16 bits as the simulator writes it."""
    noise = np.random.default_rng(seed).standard_normal(12_000).astype(np.float32)
    response = early_responses(room, place[None], 4)[0][0]
    wet = np.stack([np.convolve(noise, channel)[:12_000] for channel in response])
    return torch.from_numpy(to_int16(0.05 * wet).astype(np.float32) / 32768.0)[None]


def intensity_direction(front: FrontEnd, features: torch.Tensor) -> np.ndarray:
    """Return the unit vector (x, y, z) that the intensity maps (1, A, T', F) point to."""
    x, y, z = (features[0, front.channels.index(f"iv_{axis}")].double().mean().item() for axis in "xyz")
    return np.array([x, y, z]) / np.linalg.norm([x, y, z])


@pytest.mark.parametrize("elevation", [-75, -40, 0, 15, 60, 88])
@pytest.mark.parametrize("azimuth", [-150, -20, 0, 100])
def test_intensity_points_to_the_label_over_the_sphere_after_every_turn(azimuth: float, elevation: float) -> None:
    wanted = SPHERE.to_vector(azimuth, elevation)
    place = np.asarray(DEAD.microphone_m) + 1.5 * wanted
    label = direction(DEAD, place)
    assert np.allclose(label, (azimuth, elevation, 1.5), atol=1e-6)
    wave = heard(DEAD, place, seed=3)
    # SN3D: Z is W times the sine of the elevation, whatever its sign.
    assert (wave[0, 2] * wave[0, 0]).sum() / wave[0, 0].square().sum() == pytest.approx(
        np.sin(np.radians(elevation)), abs=0.01
    )
    front = FrontEnd(FrontEndConfig(features=["log_mel", "intensity_vector"], hop=600, window=1024, n_fft=1024), "foa")
    zeros = torch.zeros(1, 5, 1, 3)
    vectors = torch.from_numpy(SPHERE.to_vector(*label[:2])).float().expand(1, 5, 1, 3, 3)
    target = SeldTarget(torch.ones(1, 5, 1, dtype=torch.int64), vectors, zeros, zeros)
    for number in range(len(ROTATIONS)):
        pattern = torch.tensor([number])
        turned, moved = rotate(ModelInput(wave=wave), target, pattern, front)
        there = moved.direction[0, 0, 0, 0].double().numpy()
        for features in (front.extract(turned.wave), front.rotate(front.extract(wave), pattern)):
            assert np.degrees(np.linalg.norm(intensity_direction(front, features) - there)) < 1.0, number


def test_sources_stand_at_all_elevations_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    config = RoomsConfig(elevation_deg=(-40, 50), distance_m=(0.6, 3.0), height_m=(2.6, 4.0))
    rooms = [sample_room(config, rng) for _ in range(20)]
    places = [(room, sample_source(room, config, rng, (1.5, 1.6))) for room in rooms for _ in range(40)]
    found = np.array([direction(room, place) for room, place in places])
    inside = [np.all((place > 0.29) & (place < np.asarray(room.size_m) - 0.29)) for room, place in places]
    assert all(inside) and found[:, 1].min() >= -40.01 and found[:, 1].max() <= 50.01
    counts = np.histogram(found[:, 1], np.linspace(-40, 50, 7))[0]
    assert counts.min() > 0.6 * counts.mean() and found[:, 2].max() <= 3.0 and found[:, 2].min() > 0.55
    assert np.abs(np.mean(np.exp(1j * np.radians(found[:, 0])))) < 0.15


SMALL_MODEL = {
    "features": ["log_mel", "intensity_vector", "stpacc"],
    "encoder": {**MODEL["encoder"], "kind": "resnet_conformer"},
}


def small(**changes: object) -> dict[str, object]:
    """Return changes that make a recipe's steps tiny."""
    return {key.replace("__", "."): value for key, value in changes.items()}


def test_the_quickstart_on_the_sphere_from_scenes_to_the_report(tmp_path: Path) -> None:
    at = run_recipe(
        RECIPES / "foa_quickstart.yaml",
        work=tmp_path,
        changes=small(
            scenes__clips={"train": 16, "test": 3},
            scenes__rooms={"train": 4, "test": 1, "elevation_deg": [-45, 60], "reflections": 2},
            train__epochs=1,
            train__model__encoder=SMALL_MODEL["encoder"],
            train__model__frontend__mels=16,
        ),
        workers=1,
        quiet=True,
        device="cpu",
    )
    scores = json.loads((at["score"] / "scores.json").read_text())
    assert scores["task"] == "dcase2024" and scores["clips"] == 3
    # The training validates by the figures of its edition, under their names, and lists of trainings show them.
    epoch = read_epochs(at["train"] / "epochs.csv")[-1]
    summary = json.loads((at["train"] / "summary.json").read_text())
    assert {"F", "LR", "SELD"} <= epoch.keys() and "f_score" not in epoch and summary["criterion"] == "F"
    listed = CliRunner().invoke(main, ["runs", str(at["train"])]).output
    assert "F20 %" in listed and "F20/1" not in listed
    # The command scores the written files as the step did.
    words = ["score", "--task", "dcase2024", "--json", str(tmp_path / "told.json"), "--pred", str(at["csv"] / "csv")]
    words += ["--ref", str(at["scenes"] / "metadata_dev" / "dev-test-synth")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "told.json").read_text())
    assert all(told[name] == pytest.approx(scores[name], abs=1e-9, nan_ok=True) for name in ("F", "DOAE_deg", "RDE"))
    page = (at["report"] / "report.html").read_text()
    assert "annotated elevation" in page and "Mean errors of the two angles" in page
    # A table of runs names these figures too; runs of different editions do not stand in one.
    table, folders = load_stage("compare"), [at["score"].resolve()] * 2
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(at["score"].resolve().parent, elsewhere, ignore=shutil.ignore_patterns("train-*", "simulate-*"))
    store = elsewhere / at["data"].resolve().name / "store.json"
    store.write_text(store.read_text().replace('"dcase2024"', '"dcase2023"'))
    rows = table.config(rows=[{"label": "a", "score": "a"}, {"label": "b", "score": "b"}])

    def compare(*scores: Path) -> str:
        steps = {f"rows.{place}.score": [one] for place, one in enumerate(scores)}
        return str(table.run(rows, steps, tmp_path, Context())["show"])

    shown = compare(*folders)
    assert "F20 %" in shown and "LR %" in shown and "F20/1" not in shown
    with pytest.raises(SeldError, match="of different editions"):
        compare(folders[0], elsewhere / folders[1].name)
    # A recording turned a quarter to the left, upside down or mirrored is heard so, in the files too.
    name = Events.load(at["predict"] / "events.npz").clips[0]
    wave = read_audio(at["scenes"] / "foa_dev" / "dev-test-synth" / f"{name}.wav", channels=4)
    patterns = [
        ROTATIONS[0],
        next(one for one in ROTATIONS if one.order == (1, 0, 2) and one.sign == (-1, 1, 1)),
        next(one for one in ROTATIONS if one.order == (0, 1, 2) and one.sign == (1, 1, -1)),
        next(one for one in ROTATIONS if one.order == (1, 0, 2) and one.sign == (1, 1, -1)),
    ]
    files = [tmp_path / f"turned{number}.wav" for number in range(len(patterns))]
    for file, pattern in zip(files, patterns, strict=True):
        place, sign = pattern.of("wyzx")
        write_wav(file, np.stack([s * wave[p] for p, s in zip(place, sign, strict=True)]))
    w, y, z, x = wave
    assert np.array_equal(read_audio(files[1], channels=4), np.stack([w, x, z, -y]))
    words = ["predict", *map(str, files), "--checkpoint", str(at["train"])]
    words += ["--out", str(tmp_path / "out"), "--tta", "rotate", "--threshold", "0.1", "--quiet", "--people", "off"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    plain, *turned = (np.loadtxt(tmp_path / "out" / f"{file.stem}.csv", delimiter=",") for file in files)
    assert len(plain) > 20 and np.abs(plain[:, 4]).max() > 0
    for rows, pattern in zip(turned, patterns[1:], strict=True):
        assert rows.shape == plain.shape
        vectors = SPHERE.to_vector(plain[:, 3], plain[:, 4])
        expected = np.stack([pattern.sign[axis] * vectors[:, pattern.order[axis]] for axis in range(3)], axis=1)
        ours, theirs = (np.lexsort((one[:, 5], one[:, 1], one[:, 0])) for one in (plain, rows))
        assert np.array_equal(plain[ours][:, :2], rows[theirs][:, :2])
        away = np.linalg.norm(expected[ours] - SPHERE.to_vector(rows[theirs][:, 3], rows[theirs][:, 4]), axis=1)
        assert np.degrees(away).max() < 0.2 and np.abs(plain[ours][:, 5] - rows[theirs][:, 5]).max() <= 0.011


def stand_in(root: Path) -> None:
    """Make a little corpus as STARSS23 is laid out: dev-train-sony, dev-test-tau, and evaluation without labels."""
    made = run_recipe(_recipe(root), work=root / "made", workers=1, quiet=True, device="cpu")["scenes"]
    rng = np.random.default_rng(0)
    for fold, part, count in ((3, "dev-train-sony", 6), (4, "dev-test-tau", 2)):
        for number in range(count):
            old = sorted((made / "foa_dev").rglob("*.wav"))[number if fold == 3 else 6 + number]
            name = f"fold{fold}_room{1 + number % 3 + 10 * (fold == 4)}_mix{1 + number // 3:03d}"
            label = next((made / "metadata_dev").rglob(f"{old.stem}.csv"))
            for folder, source, suffix in (("foa_dev", old, ".wav"), ("metadata_dev", label, ".csv")):
                (root / folder / part).mkdir(parents=True, exist_ok=True)
                (root / folder / part / f"{name}{suffix}").write_bytes(source.read_bytes())
    (root / "foa_eval").mkdir()
    for number in (1, 2):
        sound = 0.05 * rng.standard_normal((4, 7 * 24_000)).astype(np.float32)
        write_wav(root / "foa_eval" / f"mix{number:03d}.wav", sound)


def _recipe(root: Path) -> Path:
    root.mkdir()
    (root / "made.yaml").write_text(
        "steps:\n  scenes: {stage: simulate, output: foa, clips: {train: 6, test: 2}, "
        "rooms: {train: 3, test: 1, reflections: 2}, seed: 5}\n"
    )
    return root / "made.yaml"


def test_the_recipe_of_2024_runs_from_starss_to_a_package_that_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "starss"
    stand_in(root)
    monkeypatch.setenv("STARSS23", str(root))
    monkeypatch.setenv("SOUNDS", "unused")
    monkeypatch.setenv("REPORT", str(submission_made.pdf(tmp_path / "report.pdf")))
    tiny = {"epochs": 1, "batch_size": 4, "precision": "fp32"}
    changes = small(scenes__sounds=None, scenes__clips={"train": 6, "test": 0})
    changes["scenes.rooms"] = {"train": 3, "reflections": 2, "elevation_deg": [-45, 50]}
    for step in ("baseline_pretrain", "baseline", "pretrain", "finetune"):
        changes |= {f"{step}.{key}": value for key, value in tiny.items()}
        if "baseline" not in step:
            changes[f"{step}.model.encoder"] = SMALL_MODEL["encoder"]
    for step in ("predict_baseline", "predict", "predict_eval"):
        changes[f"{step}.threshold"] = 0.05
    at = run_recipe(
        RECIPES / "foa_2024.yaml", work=tmp_path / "work", changes=changes, workers=1, quiet=True, device="cpu"
    )
    assert json.loads((at["score"] / "scores.json").read_text())["task"] == "dcase2024"
    words = ["check-submission", str(at["submission"] / "submission.zip"), "--layout", "dcase2024"]
    words += ["--eval", str(root)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
