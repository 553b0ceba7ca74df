"""Finding people with the real models, in scenes composed of a real portrait."""

import json
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import linear_sum_assignment

from dcase_seld.cli.main import main
from dcase_seld.core import work
from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import azimuth_to_column, column_to_azimuth
from dcase_seld.media.writing import write_video
from dcase_seld.vision.keypoints import INDEX, LANDMARKS, mirror_keypoints
from dcase_seld.vision.people import PeopleConfig, PeopleFinder

WIDTH, HEIGHT = 640, 360
MODES = ["accurate", "fast"]


@pytest.fixture(scope="module", params=MODES)
def finder(request, pose_model):
    with PeopleFinder(PeopleConfig(mode=request.param, model=str(pose_model))) as opened:
        yield opened


def compose(portrait, places):
    """Return a 640×360 frame with the person at (azimuth in degrees, height in pixels) places, and the nose columns."""
    image, nose = portrait
    ramp = np.linspace(60, 140, WIDTH)[None, :, None] * np.linspace(0.8, 1.2, HEIGHT)[:, None, None]
    frame = np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).astype(np.uint8).copy()
    columns = []
    for azimuth, height in places:
        width = round(image.shape[1] * height / image.shape[0])
        column = float(azimuth_to_column(azimuth))
        left = round(column - nose[0] * width)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        first, last = max(0, left), min(WIDTH, left + width)
        frame[HEIGHT - height :, first:last] = small[:, first - left : last - left]
        columns.append(left + nose[0] * width)
    return frame, np.array(columns)


SCENES = [
    [(0.0, 200)],
    [(38.0, 150), (4.0, 120), (-30.0, 210)],
    [(30.0, 90), (10.0, 90), (-12.0, 100), (-35.0, 110)],
]


@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_people_are_found_where_they_were_put(finder, portrait, scene):
    frame, columns = compose(portrait, SCENES[scene])
    found = finder.find(frame)
    noses = np.array([p.nose[0] for p in found])
    assert len(found) == len(columns)
    cost = np.abs(columns[:, None] - noses)
    rows, order = linear_sum_assignment(cost)
    assert cost[rows, order].max() < 0.02 * WIDTH
    azimuth = column_to_azimuth(noses[order])
    np.testing.assert_allclose(azimuth, [a for a, _ in SCENES[scene]], atol=2.0)


def test_a_mirrored_picture_gives_mirrored_people(finder, portrait):
    frame, _ = compose(portrait, SCENES[1])
    straight = sorted(float(p.nose[0]) for p in finder.find(frame))
    mirrored = sorted(WIDTH - float(p.nose[0]) for p in finder.find(np.ascontiguousarray(frame[:, ::-1])))
    np.testing.assert_allclose(mirrored, straight, atol=0.02 * WIDTH)


def test_pictures_without_people_have_none(finder):
    rng = np.random.default_rng(5)
    blobs = cv2.resize(rng.integers(0, 255, (18, 32, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    noise = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    table = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    cv2.ellipse(table, (320, 120), (70, 20), 0, 0, 360, (240, 240, 240), -1)
    cv2.rectangle(table, (314, 120), (326, 300), (60, 60, 60), -1)
    for picture in (blobs, noise, table, np.zeros_like(noise)):
        assert finder.find(picture) == []


def test_keypoints_are_complete_and_hidden_outside_the_picture(finder, portrait):
    frame, _ = compose(portrait, [(0.0, 340)])
    (person,) = finder.find(frame)
    assert person.keypoints.shape == (len(LANDMARKS), 3)
    x, y, seen = person.keypoints.T
    outside = (x < 0) | (x >= WIDTH) | (y < 0) | (y >= HEIGHT)
    assert outside.any() and not seen[outside].any(), "a bust has its legs below the picture"
    left, right = person.keypoints[INDEX["left_shoulder"], 0], person.keypoints[INDEX["right_shoulder"], 0]
    assert left > right + 20, "she faces the camera: her left is on the picture's right"
    assert 0.8 < person.score <= 1 and person.face_score > 0.8


def test_any_size_and_aspect(finder, portrait):
    frame, columns = compose(portrait, [(10.0, 220)])
    for width, height in ((1920, 1080), (480, 480)):
        (person,) = finder.find(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA))
        assert person.nose[0] / width == pytest.approx(columns[0] / WIDTH, abs=0.02)
    tall = frame[:, 180:400]
    (person,) = finder.find(np.ascontiguousarray(tall))
    assert person.nose[0] == pytest.approx(columns[0] - 180, abs=8)


def test_mirroring_keypoints_twice_is_the_identity():
    keypoints = np.random.default_rng(0).uniform(0, 300, (4, 33, 3)).astype(np.float32)
    once = mirror_keypoints(keypoints, 640)
    np.testing.assert_allclose(mirror_keypoints(once, 640), keypoints, atol=1e-3)
    np.testing.assert_allclose(once[:, INDEX["left_wrist"], 0], 640 - keypoints[:, INDEX["right_wrist"], 0], atol=1e-3)


def test_the_command_lists_pictures_and_videos(pose_model, portrait, tmp_path):
    frame, columns = compose(portrait, [(-20.0, 200)])
    cv2.imwrite(str(tmp_path / "one.jpg"), frame)
    write_video(tmp_path / "two.mp4", [frame] * 20, 10)
    target = tmp_path / "people.json"
    files = [str(tmp_path / "one.jpg"), str(tmp_path / "two.mp4")]
    options = ["--mode", "fast", "--fps", "2", "--model", str(pose_model), "--json", str(target)]
    options += ["--out", str(tmp_path / "drawn")]
    done = CliRunner().invoke(main, ["people", *files, *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "1 person\n  nose at column" in done.output and ": 1 person in 4 frames" in done.output
    drawn = cv2.imread(str(tmp_path / "drawn/one.png"))
    assert drawn.shape == frame.shape and np.abs(drawn.astype(int) - cv2.imread(files[0])).max() > 100
    entries = json.loads(target.read_text())
    assert [e["time_s"] for e in entries] == [None, 0.25, 0.75, 1.25, 1.75]
    for entry in entries:
        assert (entry["width"], entry["height"]) == (WIDTH, HEIGHT)
        (person,) = entry["people"]
        assert person["nose_x"] == pytest.approx(columns[0], abs=10)
        assert set(person["keypoints"]) == set(LANDMARKS)


def test_one_long_video_is_followed_picture_by_picture_without_a_terminal(pose_model, portrait, tmp_path, monkeypatch):
    frame, _ = compose(portrait, [(-20.0, 200)])
    write_video(tmp_path / "long.mp4", [frame] * 20, fps=5)
    monkeypatch.setattr(work, "PLAIN_S", 0.02)
    words = ["people", str(tmp_path / "long.mp4"), "--mode", "fast", "--model", str(pose_model), "--out"]
    done = CliRunner().invoke(main, [*words, str(tmp_path / "drawn")], catch_exceptions=False)
    assert re.search(r"people: [2-7] of 8 pictures, \d\.\d s left \(long\.mp4\) · \d\.\d s so far", done.output)


def test_the_command_refuses_what_it_cannot_read(pose_model, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    for file, message in ((text, "no picture that can be decoded"), (tmp_path / "none.png", "does not exist")):
        with pytest.raises(SeldError, match=message):
            CliRunner().invoke(
                main, ["people", str(file), "--json", str(tmp_path / "o.json"), "--model", str(pose_model), "--out",
                       str(tmp_path / "drawn")], catch_exceptions=False,
            )  # fmt: skip
    assert not (tmp_path / "o.json").exists()


def test_a_folder_is_looked_at_and_a_broken_picture_stops_only_itself(pose_model, portrait, tmp_path):
    frame, _ = compose(portrait, [(-20.0, 200)])
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/good.jpg"), frame)
    cv2.imwrite(str(tmp_path / "in/one.png"), frame[:1, :1])
    for name in ("broken.jpg", "._good.jpg", "notes.txt"):
        (tmp_path / "in" / name).write_text("no picture")
    words = ["people", str(tmp_path / "in"), "--model", str(pose_model), "--mode", "fast", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(main, words)
    assert isinstance(done.exception, SeldError) and "1 of 3 files" in str(done.exception)
    assert "broken.jpg is no picture" in done.output and "._good" not in done.output
    assert {p.name for p in (tmp_path / "o").glob("*.png")} == {"good.png", "one.png"}


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SeldError, match="models pull pose"):
        PeopleFinder(PeopleConfig(model=str(tmp_path)))


def test_a_model_that_cannot_be_opened_leaves_none_open(tmp_path, pose_model, portrait):
    shutil.copytree(pose_model, tmp_path / "pose")
    (broken,) = (tmp_path / "pose").glob("*.task")
    broken.write_bytes(broken.read_bytes()[:500_000])
    cv2.imwrite(str(tmp_path / "a.png"), portrait[0])
    words = ["people", str(tmp_path / "a.png"), "--model", str(tmp_path / "pose"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "dcase_seld", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cannot be opened as a pose model" in done.stderr
    assert "Exception ignored" not in done.stderr, "the face model is closed while Python still runs"
