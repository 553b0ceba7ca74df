"""People over the frames of clips: tracking, the keypoints folder, and the stage."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people_made import WIDTH, body, clip_people

from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import azimuth_to_column
from dcase_seld.core.task import sample_times
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import write_video
from dcase_seld.recipe.stage import Context
from dcase_seld.stages import load_stage
from dcase_seld.store.store import Store
from dcase_seld.vision.keypoints import KEYPOINTS, ClipPeople, Keypoints, see_part, track
from dcase_seld.vision.seen import CLIPS_PER_SHARD


def test_people_keep_their_number_while_they_walk():
    times = sample_times(5.0, 2.0)
    paths = [np.linspace(-45, 20, 10), np.linspace(46, 38, 10)]
    rng = np.random.default_rng(2)
    frames, truth = [], []
    for step in range(10):
        order = rng.permutation(2)
        frames.append([body(paths[k][step]) for k in order])
        truth.append(order)
    numbers = track(frames, times)
    name = {int(k): n for k, n in zip(truth[0], numbers[0], strict=True)}
    assert [[name[int(k)] for k in order] for order in truth] == numbers


def test_a_person_who_comes_back_late_is_new_and_a_missed_frame_is_bridged():
    times = np.array([0.25, 0.75, 1.25, 3.25])
    assert track([[body(0.0)], [], [body(1.0)], [body(1.0)]], times) == [[0], [], [0], [1]]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(3)))
def test_the_order_of_people_does_not_change_who_is_who(order):
    first = [body(a) for a in (-30.0, 0.0, 30.0)]
    later = [body(a) for a in (-28.0, 3.0, 27.0)]
    times = np.array([0.25, 0.75])
    numbers = track([[first[i] for i in order], [later[i] for i in order]], times)
    assert numbers[0] == numbers[1] == [2 - i for i in order], "numbered from left to right"


def test_sampled_frames_are_the_middles_of_equal_steps():
    np.testing.assert_allclose(sample_times(5.0, 1.0), [0.5, 1.5, 2.5, 3.5, 4.5])
    assert len(sample_times(0.2, 1.0)) == 1


def test_the_folder_gives_back_what_was_written_and_resumes(tmp_path):
    names = [f"clip{i}" for i in range(CLIPS_PER_SHARD + 3)]
    made = []

    def look(index):
        made.append(index)
        if index == 1:
            return ClipPeople.nothing("there is no video", [0.5])
        return clip_people([[float(index % 40)]] * 10) if index % 2 else clip_people([])

    def cut(index):
        if index == CLIPS_PER_SHARD:
            raise KeyboardInterrupt
        return look(index)

    with pytest.raises(KeyboardInterrupt):
        KEYPOINTS.write(tmp_path, names, cut, {"fps": 2.0})
    with pytest.raises(SeldError, match="no finished keypoints folder"):
        Keypoints([tmp_path])
    KEYPOINTS.write(tmp_path, names, look, {"fps": 2.0})
    assert made == list(range(len(names))), "the shard that was there was not made again"
    folder = Keypoints([tmp_path])
    assert list(folder) == names
    assert folder.facts[0]["fps"] == 2.0 and len(folder.facts[0]["landmarks"]) == 33
    for index in (0, 1, 3, CLIPS_PER_SHARD + 1):
        for field in fields(ClipPeople):
            np.testing.assert_array_equal(getattr(folder[names[index]], field.name), getattr(look(index), field.name))


def test_columns_become_the_exact_pinhole_azimuth():
    people = clip_people([-44.0, 12.5, 44.0])
    seen = see_part(people, "mouth", 50, fov_deg=100.0, min_visibility=0.5, max_gap_s=0.6)
    np.testing.assert_allclose(seen.azimuth_deg, np.tile([-44.0, 12.5, 44.0], (50, 1)), atol=0.05)
    assert seen.watched.all()


def test_a_gap_in_time_is_not_bridged_further_than_asked():
    people = clip_people([[10.0], [10.0], [], [], [], [], [], [], [10.0], [10.0]])
    seen = see_part(people, "mouth", 50, fov_deg=100.0, min_visibility=0.5, max_gap_s=0.6)
    there = ~np.isnan(seen.azimuth_deg[:, 0])
    assert there[:13].all() and not there[15:35].any() and there[38:].all()
    assert seen.watched.all(), "the frames were seen, only nobody was in them"


@pytest.fixture(scope="module")
def store(tmp_path_factory, portrait):
    """Three clips: the portrait at -20° in a wide room, a cut-off video, and none."""
    import cv2

    image, nose = portrait
    root = tmp_path_factory.mktemp("corpus")
    height = 240
    small = cv2.resize(image, (round(image.shape[1] * height / image.shape[0]), height))
    frame = np.full((360, WIDTH, 3), 110, np.uint8)
    left = round(float(azimuth_to_column(-20.0)) - nose[0] * small.shape[1])
    frame[120:, left : left + small.shape[1]] = small
    clips = []
    for name in ("whole", "broken", "blind"):
        write_wav(root / f"{name}.wav", np.zeros((2, 120_000), np.int16), 24_000)
        video = None if name == "blind" else root / f"{name}.mp4"
        if video:
            write_video(video, [frame] * 50, 10)
        if name == "broken":
            video.write_bytes(video.read_bytes()[:200])
        clips.append(Clip(name, "part", root / f"{name}.wav", None, video))
    out = tmp_path_factory.mktemp("store")
    build_store(clips, out, root=root, splits=("test", "test", "test"))
    return out


def test_the_stage_finds_people_and_reports_videos_it_cannot_read(store, pose_model, tmp_path, capsys):
    stage = load_stage("keypoints")
    config = stage.config(data="data", split="test", fps=1.0, mode="fast", model=str(pose_model))
    facts = stage.run(config, {"data": [store]}, tmp_path, Context())
    assert {"clips": 3, "frames": 5, "people": 5, "clips_with_problems": 2}.items() <= facts.items()
    assert "2 of 3 clips have no or incomplete pictures" in capsys.readouterr().err
    folder = Keypoints([tmp_path])
    whole = folder["whole"]
    assert whole.track.tolist() == [0] * 5
    seen = see_part(whole, "mouth", 50, fov_deg=100.0, min_visibility=0.5, max_gap_s=1.0)
    np.testing.assert_allclose(seen.azimuth_deg, -20.0, atol=1.5)
    assert "broken.mp4" in folder["broken"].problem and folder["blind"].problem == "there is no video"


@pytest.mark.slow
def test_several_workers_give_the_same_people(store, pose_model, tmp_path):
    video = next(path for path in Store.open(store).videos if path is not None and path.stem == "whole")
    clips = []
    for number in range(CLIPS_PER_SHARD + 2):
        write_wav(tmp_path / f"c{number}.wav", np.zeros((2, 24_000), np.int16), 24_000)
        clips.append(Clip(f"c{number}", "part", tmp_path / f"c{number}.wav", None, None if number % 33 else video))
    root = video.parent.parent
    for folder in ("store", "1", "2"):
        (tmp_path / folder).mkdir()
    build_store(clips, tmp_path / "store", root=root, splits=("test",) * len(clips))
    stage = load_stage("keypoints")
    config = stage.config(data="data", fps=1.0, model=str(pose_model))
    for workers in (1, 2):
        facts = stage.run(config, {"data": [tmp_path / "store"]}, tmp_path / str(workers), Context(workers=workers))
        assert facts["people"] == 2 and facts["clips"] == len(clips)
    alone, shared = Keypoints([tmp_path / "1"]), Keypoints([tmp_path / "2"])
    assert list(alone) == list(shared)
    for name in alone:
        np.testing.assert_array_equal(alone[name].keypoints, shared[name].keypoints)
