"""Known models: where they lie, pulling over HTTP into a checked folder, and what the commands say."""

import functools
import hashlib
import http.server
import json
import threading

import pytest
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained.catalogue import (
    KNOWN_MODELS,
    MARKER,
    PACKAGE,
    KnownModel,
    cache_folder,
    find_model,
    model_folder_of,
)
from dcase_seld.pretrained.fetch import bring_models, check_model, pull_model, wanted_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path):
    """The address of a web server over a folder with one file of weights."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "small.task").write_bytes(bytes(range(256)) * 5000)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_changed_pose_model_is_found_by_its_checksum(cache):
    folder = model_folder_of("pose")
    folder.mkdir(parents=True)
    for name in ("pose_landmarker_full.task", "face_detector.tflite"):
        (folder / name).write_bytes(name.encode())
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / MARKER).write_text(json.dumps({"sha256": sums, "random_weights": False}))
    assert check_model(wanted_model("pose")).state == "intact"
    (folder / "face_detector.tflite").write_bytes(b"other")
    assert check_model(wanted_model("pose")).problems == ("face_detector.tflite has other contents than were pulled",)


def model_at(address, file="small.task"):
    return KnownModel("small", "clap", "a test", f"{address}/{file}", "MIT", 1_280_000, (file,))


def test_entries_are_complete_and_unique():
    names = [model.name for model in KNOWN_MODELS]
    assert len(set(names)) == len(names) and {"clap", "owlvit"} <= set(names)
    for model in KNOWN_MODELS:
        assert model.licence and model.about and model.files and model.size_bytes > 0
        assert model.source.startswith(("https://", PACKAGE)) or model.source.count("/") == 1


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("DCASE_SELD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dcase-seld"


def test_pull_records_checksums_and_check_finds_every_change(cache, site):
    model = model_at(site)
    assert check_model(model).state == "missing"
    folder = pull_model(model)
    assert folder == model_folder_of("small") and (folder / "small.task").stat().st_size == 1_280_000
    marker = json.loads((folder / MARKER).read_text())
    assert marker["licence"] == "MIT" and marker["random_weights"] is False
    assert len(marker["files"]["small.task"]["sha256"]) == 64
    assert check_model(model).state == "intact"
    assert find_model("small", "clap") == folder / "small.task"
    content = bytearray((folder / "small.task").read_bytes())
    content[700_000] ^= 1
    (folder / "small.task").write_bytes(content)
    assert check_model(model).problems == ("small.task has other contents than were pulled",)
    assert check_model(model, contents=False).state == "intact"
    (folder / "small.task").write_bytes(content[:-1])
    assert "1,279,999 bytes" in check_model(model).problems[0]
    (folder / "small.task").unlink()
    assert check_model(model).problems == ("small.task is not there",)
    pull_model(model)
    assert check_model(model).state == "intact"


def test_a_failed_pull_leaves_nothing(cache, site):
    with pytest.raises(SeldError, match="File not found") as caught:
        pull_model(model_at(site, "absent.task"))
    assert "give the path" in caught.value.remedy
    assert not list((cache / "models").iterdir())


def test_the_hub_out_of_reach_is_one_sentence(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SeldError, match="cannot be fetched from the model hub"):
        pull_model(wanted_model("clap"))
    assert not list((cache / "models").iterdir())
    done = CliRunner().invoke(main, ["models", "pull", "clap", "owlvit"])  # the second is tried all the same
    assert "error: laion/" in done.output and "error: google/" in done.output
    assert "`dcase-seld models pull clap owlvit` tries them again" in str(done.exception)


def test_names_that_nobody_knows(cache):
    assert wanted_model("laion/clap-htsat-unfused").name == "clap"
    assert wanted_model("owner/some-model").source == "owner/some-model"
    with pytest.raises(SeldError, match="no known model 'clop'"):
        wanted_model("clop")


def test_commands(cache, tmp_path):
    runner = CliRunner()
    shown = runner.invoke(main, ["models", "list", "--kind", "vision"])
    assert shown.exit_code == 0 and "google/owlvit-base-patch32" in shown.output and "missing" in shown.output
    assert "Apache-2.0" in shown.output and "615 MB" in shown.output
    checked = runner.invoke(main, ["models", "check", "clap"])
    assert checked.exit_code == 1 and "dcase-seld models pull clap" in checked.output
    assert runner.invoke(main, ["models", "check"]).exit_code == 0
    made = runner.invoke(main, ["models", "make-random", "clap", str(tmp_path / "clap"), "--seed", "5"])
    assert made.exit_code == 0 and "random" in made.output
    assert json.loads((tmp_path / "clap" / MARKER).read_text())["seed"] == 5


def test_a_pointer_in_place_of_weights_is_told_before_anything_runs(tmp_path):
    path = tmp_path / "clap.pt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1863587953\n")
    with pytest.raises(SeldError, match="Git LFS pointer"):
        bring_models([(str(path), "clap")], now=False)
