"""From the official layout to a checked zip for both tracks, by the commands that docs/challenge.md gives."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import onnx_made as onnx
import pytest
import submission_made
import yaml
from click.testing import CliRunner
from corpus_made import write_corpus
from tiny import MODEL

from dcase_seld.cli.main import main
from dcase_seld.core.event_files import read_folder
from dcase_seld.media.writing import write_video

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "challenge.md").read_text(encoding="utf-8")
CLIPS = [("dev-train-tau", 3, room, 0) for room in (1, 2, 3)] + [("dev-test-sony", 4, 8, 0), ("eval", 9, 1, 0)]
ENVIRONMENT = {"DCASE25_ROOT": "x", "DCASE25_EVAL": "x", "SOUNDS": "x", "PICTURES": "x"}


def commands(beginning):
    """Return the documented commands that follow some words, as (environment, words)."""
    block = re.search(beginning + r".*?```sh\n(.*?)```", PAGE, re.DOTALL)[1]
    for line in block.strip().replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        environment = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("-"))
        words = [word for word in words if word not in {f"{k}={v}" for k, v in environment.items()}]
        assert words[0] == "dcase-seld"
        yield environment, words[1:]


def shrunk(name, encoder):
    """Return a shipped recipe, step for step, with tiny networks, one epoch, and a tiny encoder in CLAP's place."""
    text = re.sub(r"\$\{\w+:-\}", "", (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    recipe = yaml.safe_load(text)
    steps = recipe["steps"]
    no_pictures = [step for step in steps if step.endswith("_owlvit")]
    for step in no_pictures:  # its weights are not to be had: the visual step is what sees
        del steps[step]
    for step in steps.values():
        if "tokens" in step:
            kept = [one for one in np.atleast_1d(step["tokens"]).tolist() if one not in no_pictures]
            step["tokens"] = kept
        if step["stage"] == "train":
            step.update(epochs=1, batch_size=2, precision="fp32", model={**MODEL, "track": step["model"]["track"]})
            step["model"]["fusion"] = {"clap": {"width": 6}}
        if step["stage"] == "embed":
            step.update(name="clap", model={"kind": "onnx", "path": str(encoder), "sample_rate": 4000, "patch_s": 1.0})
        if step["stage"] == "keypoints":
            step["fps"] = 0.4
    scenes = {"clips": {"train": 4, "test": 0}, "rooms": {"train": 2}, "video": False, "sounds": None, "pictures": None}
    steps["scenes"].update(scenes)
    return yaml.safe_dump(recipe, sort_keys=False)


def run(words, environment):
    result = CliRunner().invoke(main, words, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output[-3000:]
    return result.output


def official_layout(root):
    """Write a data set of a few clips with videos, a team file and a report."""
    write_corpus(root / "dcase2025", CLIPS, windows=1, seconds=5.0)
    frames = [np.full((90, 160, 3), 40 * number, np.uint8) for number in range(5)]
    for file in sorted((root / "dcase2025").rglob("*.wav")):
        video = Path(str(file).replace("stereo_", "video_")).with_suffix(".mp4")
        video.parent.mkdir(parents=True, exist_ok=True)
        write_video(video, frames, fps=1)
    submission_made.pdf(root / "report.pdf")
    (root / "team.yaml").write_bytes((ROOT / "submission" / "team.yaml").read_bytes())


@pytest.mark.slow
def test_the_short_way_is_one_recipe_for_both_tracks(tmp_path, monkeypatch, pose_model):
    """The recipe as it is, but for epochs and batches."""
    monkeypatch.chdir(tmp_path)
    official_layout(tmp_path)
    few = ["finetune.epochs=1", "finetune.batch_size=2", "final.epochs=1", "final.batch_size=2", "keypoints.fps=0.4"]
    small = [word for one in (*few, "dev_keypoints.fps=0.4") for word in ("--set", one)]
    for environment, words in list(commands("The short way"))[2:]:
        said = run([*words, "--device", "cpu", *small] if words[0] == "run" else words, environment)
    assert "ready to submit; 0 error(s)" in said
    zip_file = tmp_path / "work" / "hand_in" / "submission" / "submission.zip"
    for label in (submission_made.LABEL_A, submission_made.LABEL_B):
        meta = next(
            yaml.safe_load(data)
            for path, data in submission_made.contents(zip_file).items()
            if path.endswith(f"{label}.meta.yaml")
        )
        description = meta["system"]["description"]
        assert description["ensemble_members"] == 1
        carried = "dcase_seld's network default (a network that was trained before)"
        assert carried in description["pre_trained_models"]
        assert ["network default was trained on" in one for one in description["external_data"]] == [True]
        development = meta["results"]["development_dataset"]
        assert development["clips"] == "1 clips of the development set (test split)"
        assert development["overall"]["F_20_1"] is not None


@pytest.mark.slow
def test_the_documented_commands_make_a_checked_zip_for_both_tracks(tmp_path, monkeypatch, pose_model):
    monkeypatch.chdir(tmp_path)
    official_layout(tmp_path)
    weights = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)
    node = onnx.node("MatMul", ["x", "w"], "y")
    encoder = tmp_path / "tiny.onnx"
    encoder.write_bytes(onnx.model(node, [("x", 1, ["n", 4000])], ("y", 1, ["n", 6]), {"w": weights}))
    for name in ("track_a_eval", "track_b_eval"):
        (tmp_path / f"{name}.yaml").write_text(shrunk(name, encoder))
    documented = list(commands("Six commands"))
    assert len(documented) <= 6 and [words[0] for _, words in documented][:2] == ["data", "models"]
    for environment, words in documented[2:]:
        if words[0] == "run":
            assert {key: environment[key] for key in environment if key not in ENVIRONMENT} == {}
            words = ["run", f"{words[1]}.yaml", "--device", "cpu"]
        said = run(words, environment)
    assert "ready to submit; 0 error(s)" in said
    files = submission_made.contents(tmp_path / "submission.zip")
    for track, label in (("a", submission_made.LABEL_A), ("b", submission_made.LABEL_B)):
        meta = yaml.safe_load(files[f"task3{track}/{label}/{label}.meta.yaml"])
        description = meta["system"]["description"]
        scores = meta["results"]["development_dataset"]["overall"]
        assert scores["F_20_1"] is not None and meta["system"]["complexity"]["total_parameters"] > 24_000
        assert description["ensemble_members"] == 3 and description["input_sampling_rate"] == "24 kHz"
        assert description["external_data"] == ["simulated scenes of procedural sounds"]
        assert "embeddings of an ONNX model (tiny.onnx)" in description["acoustic_features"]
        assert f"task3{track}/{label}/{label}/fold9_room1_mix000_deg004_start0000.csv" in files
    assert description["visual_features"] == ["human keypoints"] and description["input_format"] == "stereo and video"
    assert meta["system"]["complexity"]["total_parameters"] > 6_000_000  # the pose and face networks
    assert len(read_folder(tmp_path / "work" / "track_b_eval" / "csv").clips) == 1
    learned, taken = (tmp_path / "work" / "track_b_eval" / step / "visual.json" for step in ("dev_visual", "visual"))
    assert json.loads(learned.read_text())["weights"] == json.loads(taken.read_text())["weights"]
    # Each recipe's own package step has the same scores, and asks for nothing but the report.
    own = next((tmp_path / "work" / "track_b_eval" / "submission").glob("*.zip"))
    assert yaml.safe_load(submission_made.contents(own)[f"task3b/{label}/{label}.meta.yaml"]) == meta
