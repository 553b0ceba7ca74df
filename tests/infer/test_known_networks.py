"""The networks that the package carries: they are whole, say what they are, and answer offline."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dcase_seld import load_model, predict, read_events
from dcase_seld.cli.main import main
from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.config import NETWORKS, find_network, known_networks
from dcase_seld.core.errors import SeldError
from dcase_seld.infer.predictor import Predictor
from dcase_seld.media.audio import write_wav
from dcase_seld.simulate.sound_bank import make
from dcase_seld.simulate.sources import bell

MOST_BYTES = {"default": 4_000_000, "better": 8_000_000}


def test_the_package_carries_a_default_network():
    assert "default" in known_networks()


@pytest.mark.parametrize("name", sorted(known_networks()))
def test_a_known_network_is_whole_and_its_card_agrees_with_it(name):
    folder = find_network(name)
    assert (folder / "model.safetensors").stat().st_size <= MOST_BYTES[name]
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    predictor = Predictor.load([folder])
    assert f"{predictor.parameters:,} parameters" in card and "CC BY-SA 4.0" in card and "## Limits" in card
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    score = re.search(r"F20/1 (\d+\.\d %) \((\d+\.\d–\d+\.\d)\)", " ".join(about["believe"]))
    assert score and f"{score[1]} ({score[2]})" in card, "what predict says and what the card says are one figure"
    assert "/work" not in (folder / "model.json").read_text() + card
    sources = (NETWORKS / "SOURCES.md").read_text(encoding="utf-8")
    files = sum(int(line.rsplit("|", 2)[1]) for line in sources.splitlines() if re.search(r"\| \d+ \|$", line))
    assert f"{files} recordings" in sources and f"{files} recordings" in " ".join(about["believe"])

    # Recipes tell a changed network by its folder's content, so it has to name the members of another folder.
    outside = [Path(member.folder) for member in predictor.settings.members if Path(member.folder) != folder.resolve()]
    named = {place.name: hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest() for place in outside}
    assert about.get("members", {}) == named


def test_a_known_network_joins_others_as_a_plain_member(tmp_path):
    """Alone it answers with its own settings; among other members only its weights count."""
    alone, both = Predictor.load([Path("default")]), Predictor.load([Path("default"), Path("better")])
    assert alone.settings.tta == "swap" and both.settings.tta == "none"
    assert [len(one.networks) for one in (alone, both, Predictor.load([Path("better")]))] == [1, 2, 2]


def test_what_sounds_is_known_in_mono_too(tmp_path):
    """Equal channels are unlike all that the network learned from; as they are it knows 2 of these 26."""
    network, known = load_model(), 0
    for index, name in enumerate(DCASE2025.folders):
        for number in range(2):
            sound = 0.2 * make(name, 0, number)[:120_000]
            write_wav(tmp_path / "mono.wav", np.stack([sound, sound]))
            events = predict(network, tmp_path / "mono.wav", people="off")
            rows = np.bincount(events.class_index, minlength=13)
            known += bool(rows.any()) and int(rows.argmax()) == index
            assert not len(events.clip) or abs(np.median(events.azimuth_deg)) < 10
    assert known >= 16


def test_predict_without_a_checkpoint_finds_a_side_offline(tmp_path, monkeypatch):
    """A made bell, three times louder on the left, is heard there; nothing but the package is needed."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    sound = 0.2 * bell(np.random.default_rng(1))[: 5 * 24000]
    write_wav(tmp_path / "left.wav", np.stack([sound, sound / 3]).astype(np.float32))
    done = CliRunner().invoke(main, ["predict", "left.wav"])
    assert done.exit_code == 0, done.output
    assert (
        "Bell " in done.output
        and "° left" in done.output
        and "° right" not in done.output
        and "how far to believe it" in done.output
    )


def test_a_run_or_a_recipe_named_as_a_network_lists_the_networks_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "work" / ".results"
    for name in ("train-1/best", "prepare-2"):
        (results / name).mkdir(parents=True)
    (results / "train-1" / "best" / "model.safetensors").touch()
    run = tmp_path / "work" / "mine"
    run.mkdir()
    (run / "finetune").symlink_to("../.results/train-1")
    (run / "pretrain").write_text("../.results/train-1\n")  # a link, where the system knows none
    (run / "data").symlink_to("../.results/prepare-2")
    (tmp_path / "mine.yaml").write_text("steps: {}\n")
    for named in ("work/mine", "mine", "mine.yaml"):
        with pytest.raises(SeldError) as refused:
            Predictor.load([Path(named)])
        assert refused.value.remedy == "Networks of work/mine: work/mine/finetune, work/.results/train-1."
    with pytest.raises(SeldError, match="Give the folder of a finished train step"):
        Predictor.load([Path("work/mine/data")])


def test_the_python_calls_take_the_packages_network_thresholds_and_names(tmp_path, monkeypatch):
    """`load_model()` needs no path; a lower threshold tells more; things say in one line what they are."""
    monkeypatch.chdir(tmp_path)
    sound = 0.2 * bell(np.random.default_rng(1))[: 5 * 24000]
    write_wav(tmp_path / "left.wav", np.stack([sound, sound / 3]).astype(np.float32))
    model = load_model()
    assert repr(model).startswith("Predictor(1 network(s), ") and "13 classes, threshold 0.5, tta swap" in repr(model)
    assert re.fullmatch(
        r"SeldNetwork\(conformer, [\d,]+ parameters, 13 classes, reads sound alone\)", repr(model.networks[0])
    )
    heard, all_ = predict(model, "left.wav"), predict(load_model(threshold=0.01), "left.wav")
    assert len(predict(model, "left.wav", threshold=1.0)) < len(heard) < len(all_)
    assert heard.taxonomy == model.task.classes and set(heard.to_pandas()["class_name"]) == {"Bell"}
    for call in (lambda: predict(model, "left.wav", threshold=1.5), lambda: load_model(threshold=-1)):
        with pytest.raises(SeldError, match="an activity is 0 to 1"):
            call()
    with pytest.raises(SeldError, match=r"tta is 'swp'\. Give one of none, swap, rotate, None\."):
        load_model(tta="swp")
    for wrong in ({"mono": "double"}, {"people": "yes"}):
        with pytest.raises(SeldError, match="Give one of"):
            predict(model, "left.wav", **wrong)


def test_events_of_a_corpus_know_its_classes(tmp_path):
    labels = tmp_path / "metadata_dev" / "dev-train-own"
    labels.mkdir(parents=True)
    (labels / "a.csv").write_text("frame,class,source,azimuth,distance,onscreen\n0,14,0,0,100,0\n")
    with pytest.raises(SeldError, match="class 14 is outside the list"):
        read_events(labels)
    (tmp_path / "own.yaml").write_text(f"classes: [{', '.join(f'Kind {n}' for n in range(15))}]\n")
    given = read_events(labels / "a.csv", taxonomy=tmp_path / "own.yaml")
    assert given.to_pandas()["class_name"].tolist() == ["Kind 14"]
    (tmp_path / "own.yaml").rename(tmp_path / "taxonomy.yaml")
    for path in (labels, labels / "a.csv"):
        assert read_events(path).to_pandas()["class_name"].tolist() == ["Kind 14"]
