"""Every field of the meta file, against runs whose truth is known from how their receipts were made."""

import json
import shutil

import numpy as np
import pytest
import submission_made as make
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.config import known_networks
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import write_folder
from dcase_seld.submission.deliver import scores_of_systems
from dcase_seld.submission.describe import describe, random_weights, total_parameters, uncounted
from dcase_seld.submission.layout import RANDOM, load_layout, load_team
from dcase_seld.submission.package import make_entries, notes
from dcase_seld.submission.systems import find_run, with_scores


def store(results, name, path="/data/DCASE25", parts=("dev-train-tau", "dev-test-sony", "eval"), inputs=None):
    outside = None if inputs else {"corpus": [{"path": path, "files": 9, "bytes": 1}]}
    folder = make.step(results, name, "store", inputs, outside=outside)
    splits = ["eval" if part == "eval" else "train" for part in parts]
    np.savez(folder / "clips.npz", part=np.array(parts), split=np.array(splits))
    return name


def tokens(results, name, kind, data, gives="sound", parameters=100, random=False, **model):
    facts = {
        "name": kind, "kind": kind, "gives": gives, "weights": f"w-{kind}", "random_weights": [kind] if random else [],
        "encoder_parameters": parameters,
    }  # fmt: skip
    outside = {"model.path": [{"path": model["path"], "files": 1, "bytes": 1}]} if "path" in model else None
    return make.step(results, name, "tokens", {"data": [data]}, {"model": {"kind": kind, **model}}, facts, outside).name


def network(results, name, data, fusion=(), init=(), tokens=(), parameters=1000, **more):
    model = {"kind": "conformer", "frontend": make.FRONT_END, "fusion": {one: {} for one in fusion}}
    read = {"data": [data], "init": list(init), "tokens": list(tokens)}
    config = {"model": model, "augment": {"own": {}, **more.pop("augment", {})}}
    return make.step(results, name, "checkpoint", read, config, {"parameters": parameters, **more}).name


def exported(results, number, members, data, read=(), split="eval", track="a", seen=None):
    predict = {"data": [data], "members": members, "tokens": list(read)}
    make.step(results, f"predict-{number}", "events", predict, {"split": split})
    events = f"predict-{number}"
    if seen:
        make.step(results, f"visual-{number}", "events", {"events": [events], "data": [data], **seen})
        events = f"visual-{number}"
    folder = make.step(results, f"export-{number}", "csv", {"events": [events]}, facts={"track": track})
    write_folder(make.events(), folder / "csv")
    return folder


def scored(results, number, csv, track="a", f_score=0.4, finished=1.0, data="prepare-1"):
    config, facts, read = {"split": "test"}, {"track": track, "clips": 9}, {"csv": [csv], "data": [data]}
    folder = make.step(results, f"score-{number}", "scores", read, config, facts, finished=finished)
    (folder / "scores.json").write_text(json.dumps(make.scores(track=track, f_score=f_score)))
    return folder


def test_encoders_are_called_what_they_are_and_count_once(tmp_path):
    dev, read = store(tmp_path, "prepare-1"), []
    for kind, count in (("yamnet", 3_742_443), ("voice", 1_500_000), ("mine", 0), ("clap", 30_000_000)):
        read.append(tokens(tmp_path, f"embed-{kind}", kind, dev, parameters=count))
    read.append(tokens(tmp_path, "embed-onnx", "onnx", dev, path="/models/beats.onnx", parameters=50))
    fusion = ["yamnet", "voice", "mine", "onnx"]  # the step is given CLAP's tokens too, and no network reads them
    member = network(tmp_path, "train-1", dev, fusion, tokens=read)
    make.step(
        tmp_path, "keypoints-1", "keypoints", {"data": [dev]}, {"model": "pose"}, {"parameters": 6_235_905, "people": 3}
    )
    found = {"model": "owlvit", "weights": "w9", "parameters": 88_000_000, "random_weights": False}
    make.step(tmp_path, "detections-1", "detections", {"data": [dev]}, {"model": "owlvit", "path": None}, found)
    seen = {"keypoints": ["keypoints-1"], "detections": ["detections-1"]}
    run = find_run(exported(tmp_path, 1, [member], dev, read, track="b", seen=seen), "b")
    said = describe(run, "b")
    heard = ["log-mel energies", "inter-channel level difference"]
    assert said["acoustic_features"] == [
        *heard, "YAMNet embeddings", "female/male voice embeddings", "mine embeddings",
        "embeddings of an ONNX model (beats.onnx)",
    ]  # fmt: skip
    assert said["visual_features"] == ["human keypoints", "open-vocabulary detections"]
    assert said["input_format"] == "stereo and video" and said["ensemble_members"] == 1
    assert said["external_data"] is None  # the development set, the evaluation set and weights are none
    assert set(said["pre_trained_models"]) == {
        "YAMNet, trained on AudioSet", "female/male voice network of inaSpeechSegmenter", "CLAP", "OWL-ViT",
        "mine (encoder of a plug-in)", "ONNX model (beats.onnx)", "MediaPipe pose landmarker and face detector (pose)",
    }  # fmt: skip
    assert said["total_parameters"] == 1000 + 3_742_443 + 1_500_000 + 50 + 6_235_905 + 88_000_000
    assert uncounted(run) == ["mine (encoder of a plug-in)"]
    assert describe(run, "a")["visual_features"] is None and describe(run, "a")["input_format"] == "stereo"


def test_networks_for_the_evaluation_set_have_the_scores_of_their_tuned_twin_and_its_members_do_not_count(tmp_path):
    dev = store(tmp_path, "prepare-1")
    tuned = [network(tmp_path, f"train-{n}", dev) for n in (1, 2)]
    final = [network(tmp_path, f"train-{n}", dev) for n in (3, 4)]
    make.step(tmp_path, "ensemble-1", "ensemble", {"members": tuned, "data": [dev]})
    make.step(tmp_path, "ensemble-2", "ensemble", {"members": final, "settings_of": ["ensemble-1"]})
    scored(tmp_path, 1, exported(tmp_path, 1, ["ensemble-1"], dev, split="test").name)
    scored(tmp_path, 2, exported(tmp_path, 2, [tuned[0]], dev, split="test").name, f_score=0.9, finished=9.0)
    run = find_run(exported(tmp_path, 3, ["ensemble-2"], dev), "a")
    assert run.scores["f_score"] == 0.4 and run.scores_of == "r/score-1"
    assert [one.name for one in run.networks] == final and total_parameters(run) == 2000
    assert describe(run, "a")["scored_on"] == "9 clips of the development set (test split)"
    assert describe(run, "a")["machine_learning_method"] == "ensemble of 2: CNN-Conformer"
    # A greedy choice keeps some of the members: those that are in the ensemble's file.
    (tmp_path / "ensemble-2" / "ensemble.json").write_text(json.dumps({"members": [{"folder": "members/01"}]}))
    run = find_run(tmp_path / "export-3", "a")
    assert [one.name for one in run.networks] == final[1:] and total_parameters(run) == 1000


def test_external_data_is_what_was_learned_from_beside_the_development_set(tmp_path):
    dev, evaluation = store(tmp_path, "prepare-1"), store(tmp_path, "prepare-2", "/data/eval", ("eval",))
    outside = {
        field: [{"path": f"/my/{field}", "files": 7, "bytes": 1}] for field in ("sounds", "pictures", "taxonomy")
    } | {"like": [{"path": "/data/DCASE25/metadata_dev/dev-train-tau", "files": 7, "bytes": 1}]}
    make.step(tmp_path, "simulate-1", "corpus", outside=outside)
    make.step(tmp_path, "convert-1", "corpus", outside={"source": [{"path": "/data/STARSS23", "files": 5, "bytes": 1}]})
    own = store(tmp_path, "prepare-5", "/my/corpus", ("dev-train-tau", "dev-train-garden", "dev-train-garden"))
    starts = []
    for number, data in enumerate((store(tmp_path, "prepare-3", inputs={"corpus": ["simulate-1"]}), own), 1):
        starts.append(network(tmp_path, f"train-{number}", data, init=starts[-1:]))
    converted = store(tmp_path, "prepare-4", inputs={"corpus": ["convert-1"]})
    starts.append(network(tmp_path, "train-3", converted, init=starts[-1:]))
    final = network(tmp_path, "train-4", dev, init=starts[-1:], augment={"swap": 0.5, "own": {"echo": 0.1}})
    run = find_run(exported(tmp_path, 1, [final], evaluation), "a")
    said = describe(run, "a")
    assert sorted(said["external_data"]) == [
        "clips converted from STARSS23 (5 files)",
        "corpus, dev-train-garden (2 clips)",
        "pictures: pictures (7 files)",
        "simulated scenes of recordings: sounds (7 files)",
    ]
    assert said["data_augmentation"] == ["left-right channel swap", "echo"] and said["pre_trained_models"] is None
    assert total_parameters(run) == 1000  # what a training started from is no part of a prediction


def test_a_network_that_came_along_is_a_pre_trained_model_with_data_of_its_own(tmp_path):
    folder = known_networks()["default"]
    about = json.loads((folder / "model.json").read_text())
    dev = store(tmp_path, "prepare-1")
    given = [{"path": str(folder), "files": 3, "bytes": 1}]
    config = {"model": {"kind": "conformer", "frontend": make.FRONT_END}, "augment": {}}
    read = {"data": [dev], "init": ["default"]}
    make.step(tmp_path, "train-1", "checkpoint", read, config, {"parameters": 5}, {"init": given})
    run = find_run(exported(tmp_path, 1, ["train-1"], dev), "a")
    said = describe(run, "a")
    assert said["pre_trained_models"] == ["dcase_seld's network default (a network that was trained before)"]
    assert "network default was trained on (this network learned from" in said["external_data"][0]
    # The same network as it is: its parameters, features and method are told by its own file.
    predict = {"data": [dev], "members": ["default"]}
    make.step(tmp_path, "predict-2", "events", predict, {"split": "eval"}, outside={"members": given})
    csv = make.step(tmp_path, "export-2", "csv", {"events": ["predict-2"]}, facts={"track": "a"})
    said = describe(find_run(csv, "a"), "a")
    assert said["total_parameters"] == about["parameters"] and said["machine_learning_method"]
    assert "log-mel energies" in said["acoustic_features"] and len(said["external_data"]) == 1


def test_random_weights_anywhere_behind_a_run_are_said(tmp_path):
    dev = store(tmp_path, "prepare-1")
    scenes = store(tmp_path, "prepare-2", "/my/scenes", ("dev-train-synth",))
    random = tokens(tmp_path, "embed-1", "clap", scenes, random=True)
    start = network(tmp_path, "train-1", scenes, ["clap"], tokens=[random], random_weights=["clap"])
    final = network(tmp_path, "train-2", dev, init=[start])
    run = find_run(exported(tmp_path, 1, [final], dev), "a")
    assert describe(run, "a")["external_data"] == ["simulated scenes of scenes, dev-train-synth (1 clips)"]
    assert random_weights(run) == ["clap"] and describe(run, "a")["pre_trained_models"] == [f"CLAP: {RANDOM}"]


@pytest.mark.parametrize("broken", ["train-1", "prepare-1", "embed-yamnet", "simulate-1", "export-1"])
def test_a_step_whose_receipt_cannot_be_read_is_no_step_without_augmentation_or_random_weights(tmp_path, broken):
    """It was passed over: `data_augmentation: null`, and networks that were never trained were packaged."""
    make.step(tmp_path, "simulate-1", "corpus")
    own = store(tmp_path, "prepare-1", inputs={"corpus": ["simulate-1"]})
    read = [tokens(tmp_path, "embed-yamnet", "yamnet", own)]
    member = network(tmp_path, "train-1", own, ["yamnet"], tokens=read, augment={"swap": 0.5})
    csv = exported(tmp_path, 1, [member], own, read)
    scored(tmp_path, 1, csv.name, data=own)
    assert make_entries([(find_run(csv, "a"), "a")], load_team(None), load_layout())[0].description["data_augmentation"]
    for damage in ("cut", "gone"):
        (tmp_path / broken / "receipt.json").write_text("{")
        if damage == "gone" and broken != "export-1":
            shutil.rmtree(tmp_path / broken)
        with pytest.raises(SeldError, match=rf"{broken}.*(gone or damaged|cannot be read)|(gone or damaged).*{broken}"):
            make_entries([(find_run(csv, "a"), "a")], load_team(None), load_layout())


def test_scores_may_be_named(tmp_path):
    dev = store(tmp_path / ".results", "prepare-1")
    csv = exported(tmp_path / ".results", 1, [network(tmp_path / ".results", "train-1", dev)], dev)
    other = exported(tmp_path / ".results", 2, [network(tmp_path / ".results", "train-2", dev)], dev, split="test")
    score = scored(tmp_path / ".results", 1, other.name)
    run = find_run(csv, "a")
    assert run.scores is None
    recipe = tmp_path / "track_a"
    recipe.mkdir()
    (recipe / "score").symlink_to(score)
    for place in (recipe, recipe / "score", score, score / "scores.json"):
        assert with_scores(run, place, "a").scores["f_score"] == 0.4 and not run.scores
    out = tmp_path / "x.zip"
    for option in (recipe, f"{recipe}:a"):
        result = CliRunner().invoke(
            main, ["package-submission", "--system", f"{csv}:a", "--scores", str(option), "--out", str(out)]
        )
        assert result.exit_code == 0 and f"its development scores are those of {recipe}" in result.output
    (recipe / "score").unlink()
    (tmp_path / "text.json").write_text("{}")
    for place, words in (
        (recipe, "must hold one finished score step for track a; it has none"),
        (tmp_path / "text.json", "holds no F-score"),
        (tmp_path / "nowhere", "nowhere"),
    ):
        with pytest.raises(SeldError, match=words):
            with_scores(run, place, "a")


def test_which_system_scores_are_of(tmp_path):
    assert scores_of_systems([], ["a", "b"]) == [None, None]
    one, two = (tmp_path / name for name in ("one", "two"))
    assert scores_of_systems([str(one), str(two)], ["a", "a"]) == [one, two]
    assert scores_of_systems([f"{one}:b"], ["a", "b", "b"]) == [None, one, one]
    assert scores_of_systems([str(one)], ["a", "a"]) == [one, one]
    for texts, tracks in (([str(one)], "ab"), ([str(one), str(two)], "aab"), ([str(one), f"{two}:b"], "ab")):
        with pytest.raises(SeldError, match="not clear"):
            scores_of_systems(texts, list(tracks))


def test_an_audio_only_system_that_looks_at_pictures_is_said(tmp_path):
    entries = make_entries([(find_run(make.work(tmp_path), "a"), "a")], load_team(None), load_layout())
    assert any("audio-only track, but uses pictures: OWL-ViT tokens" in line for line in notes(entries))


def test_a_file_that_is_no_link_is_no_run(tmp_path):
    for text in ("x" * 3000, "\0", json.dumps(make.scores())):
        (tmp_path / "file").write_text(text)
        with pytest.raises(SeldError, match="There is no run"):
            find_run(tmp_path / "file", "a")


def test_scores_of_simulated_scenes_are_called_so(tmp_path):
    make.step(tmp_path, "simulate-1", "corpus")
    data = store(tmp_path, "prepare-1", inputs={"corpus": ["simulate-1"]})
    csv = exported(tmp_path, 1, [network(tmp_path, "train-1", data)], data, split="test")
    scored(tmp_path, 1, csv.name)
    out = tmp_path / "x.zip"
    result = CliRunner().invoke(main, ["package-submission", "--system", str(csv), "--out", str(out)])
    assert "development scores are of simulated scenes" in result.output and "scores-simulated" in result.output
    meta = next(data for name, data in make.contents(out).items() if name.endswith(".meta.yaml")).decode()
    assert "clips: 9 clips of simulated scenes of procedural sounds (test split)" in meta
    assert "are of 9 clips of simulated scenes" in (tmp_path / "x_report" / "report.md").read_text()
