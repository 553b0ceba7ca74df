import cv2
import numpy as np
import pytest

from dcase_seld.core.classes import DCASE2025, profile_of
from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.geometry import PANORAMA, PERSPECTIVE, azimuth_to_column, foa_to_stereo, perspective_view, project
from dcase_seld.corpus.ambisonic import clip_labels, find_recordings, read_metadata
from dcase_seld.corpus.layout import index_corpus
from dcase_seld.media.audio import read_audio
from dcase_seld.media.frames import read_frames, video_info
from dcase_seld.media.writing import write_video
from dcase_seld.simulate.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.simulate.film import Placement, compose, list_actors, paste
from dcase_seld.simulate.pictures import open_pictures
from dcase_seld.simulate.render import hear_scene, label_scene
from dcase_seld.simulate.simulation import ClipMaker, SimulationPlan, simulate
from dcase_seld.simulate.sprites import draw


def job(out, scene=None, clips=2, **changes):
    settings = {"rooms": {"train": 3, "test": 1}, "polyphony": {"weights": [0, 1]}, "moving": 0.0, **(scene or {})}
    return SimulationPlan(
        out=out,
        taxonomy=DCASE2025,
        sounds=None,
        sound_config=SoundsConfig(procedural_recordings=8),
        scene=parse_config(SceneConfig, settings, "scene"),
        clips=ClipCounts(train=clips, test=0),
        seed=1,
        prior=(1.0,) * 13,
        **{"video": PictureConfig(), **changes},
    )


def frames_of(maker, scene, config=None):
    rooms = maker.job.scene.rooms
    return list(compose(scene, maker.bank, maker.pictures, config or maker.job.video, rooms, PERSPECTIVE, seed=4))


def test_columns_agree_with_the_pinhole_formula_at_eye_level():
    azimuth = np.linspace(-50, 50, 21)
    column, row = project(azimuth, np.zeros(21))
    np.testing.assert_allclose(column, azimuth_to_column(azimuth), atol=1e-9)
    np.testing.assert_allclose(row, 180, atol=1e-9)
    assert project(0, 20)[1] < 180 and np.isnan(project(120, 0)[0])


def test_what_is_on_screen_is_drawn_where_it_sounds_and_nothing_else(tmp_path):
    maker = ClipMaker(job(tmp_path))
    background = maker.pictures.background(maker.room("train", 0), "train", 4, PERSPECTIVE)
    drawn = empty = 0
    for index in range(0, 39, 3):
        scene = maker.scene("train", index)
        actors = list_actors(scene, maker.bank, maker.job.video, maker.job.scene.rooms, PERSPECTIVE)
        frames = frames_of(maker, scene)
        assert len(frames) == 150
        seen = [actor for actor in actors if actor.drawn.any()]
        changed = np.abs(frames[75].astype(int) - background).max(axis=2) > 0
        if not seen:
            assert not changed.any()
            empty += 1
        elif len(seen) == 1:
            column, row = project(seen[0].azimuth_deg[25], seen[0].elevation_deg[25])
            columns = np.flatnonzero(changed.any(axis=0))
            assert columns[0] - 2 <= column <= columns[-1] + 2
            if columns[0] > 0 and columns[-1] < 639:
                assert (columns[0] + columns[-1]) / 2 == pytest.approx(column, abs=6)
            rows = np.flatnonzero(changed.any(axis=1))
            assert rows[0] - 2 <= row <= rows[-1] + 2
            drawn += 1
    assert drawn >= 3 and empty >= 3


def test_frames_change_with_the_labels_when_only_what_sounds_is_visible(tmp_path):
    maker = ClipMaker(job(tmp_path))
    checked = 0
    for index in range(0, 45, 3):
        scene = maker.scene("train", index)
        events = label_scene(scene, hear_scene(scene, maker.bank))
        if not events.onscreen.any():
            continue
        frames = frames_of(maker, scene, PictureConfig(visible="sounding"))
        background = maker.pictures.background(scene.room, scene.split, 4, PERSPECTIVE)
        shown = np.asarray([np.any(frame != background) for frame in frames])
        expected = np.zeros(50, bool)
        expected[events.frame[events.onscreen]] = True
        times = ((np.arange(150) + 0.5) / (30000 / 1001) * 10).astype(int)
        np.testing.assert_array_equal(shown, expected[times])
        checked += 1
    assert checked >= 3


def test_a_source_at_twice_the_distance_is_half_as_tall():
    heights = []
    for distance in (2.0, 4.0):
        frame = np.zeros((360, 640, 3), np.uint8)
        where = PERSPECTIVE.place(10.0, 0.0, distance)
        person = draw("male_speech", 0, True)
        paste(frame, Placement(person, person.image, *where, distance), PERSPECTIVE)
        rows = np.flatnonzero(frame.any(axis=(1, 2)))
        heights.append((rows[-1] - rows[0]) if rows[-1] < 359 else where[2] * 1.7)
    assert heights[0] / heights[1] == pytest.approx(2.0, rel=0.12)


@pytest.mark.parametrize("folder", [*DCASE2025.folders, "whale"])
def test_every_class_has_a_drawing_that_changes_when_it_sounds_or_looks_different_by_seed(folder):
    still, sounding, other = draw(folder, 1, False), draw(folder, 1, True), draw(folder, 2, False)
    assert still.image.shape[2] == 4 and (still.image[:, :, 3] > 0).mean() > 0.1
    assert other.image.shape != still.image.shape or np.any(other.image != still.image)
    if folder not in ("musical_instrument",):
        assert np.any(sounding.image != still.image)
    assert (1.5 < still.height_m < 1.9) == profile_of(folder).person


def test_a_corpus_with_video_is_complete_and_moving_sources_walk_through_the_frame(tmp_path):
    one = job(tmp_path, {"moving": 1.0, "polyphony": {"weights": [0, 0, 1]}}, clips=2)
    simulate(one)
    corpus = index_corpus(tmp_path)
    assert not corpus.problems and all(clip.video and clip.audio and clip.labels for clip in corpus.clips)
    info = video_info(corpus.clips[0].video)
    assert (info.width, info.height, info.frames) == (640, 360, 150) and info.fps == pytest.approx(29.97, abs=0.01)
    maker = ClipMaker(one)
    for index in range(40):
        scene = maker.scene("train", index)
        actors = list_actors(scene, maker.bank, one.video, one.scene.rooms, PERSPECTIVE)
        if any(a.drawn.all() and np.ptp(a.azimuth_deg) > 5 for a in actors):
            frames = frames_of(maker, scene)
            assert len({id(frame) for frame in frames}) > 20
            return
    pytest.fail("no source walked through the picture")


def test_silent_people_are_drawn_and_not_labelled(tmp_path):
    maker = ClipMaker(job(tmp_path, {"polyphony": {"weights": [1]}}, video=PictureConfig(silent_people=(3, 3))))
    scene = maker.scene("train", 0)
    actors = list_actors(scene, maker.bank, maker.job.video, maker.job.scene.rooms, PERSPECTIVE)
    assert len(actors) == 3 and not any(actor.sounding.any() for actor in actors)
    assert len(hear_scene(scene, maker.bank).frame) == 0


def test_a_users_pictures_are_used_and_divided(tmp_path, capsys):
    for folder, count in (("people", 8), ("03_telephone", 1), ("backgrounds", 3)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            image = np.zeros((60, 40, 4 if folder != "backgrounds" else 3), np.uint8)
            image[10:50, 5:35] = 40 + 20 * number
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    bank = open_pictures(tmp_path, DCASE2025, 0)
    splits = bank.files["people"]
    assert sorted(len(files) for files in splits.values()) == [1, 2, 5]
    assert len({path for files in splits.values() for path in files}) == 8
    person = bank.sprite(DCASE2025.folders.index("female_speech"), "train", 7, True)
    assert person.image.shape == (40, 30, 4) and person.height_m == 1.7
    assert bank.sprite(DCASE2025.folders.index("bell"), "train", 7, True).image.shape[0] == 256
    maker = ClipMaker(job(tmp_path))
    background = bank.background(maker.room("train", 0), "test", 3, PERSPECTIVE)
    assert background.shape == (360, 640, 3) and background.max() <= 80
    with pytest.raises(SeldError, match="does not exist"):
        open_pictures(tmp_path / "none", DCASE2025, 0)
    with pytest.raises(SeldError, match="backgrounds, people"):
        open_pictures(tmp_path / "people", DCASE2025, 0)
    (tmp_path / "people" / "0.png").write_bytes(b"no picture")
    broken = open_pictures(tmp_path, DCASE2025, 0)
    for split, files in broken.files["people"].items():
        for seed in range(len(files)):
            assert broken.sprite(0, split, seed, True).image.size
    assert "0.png is no picture that can be decoded: something is drawn in its place" in capsys.readouterr().err


def test_short_videos_play_and_a_table_tells_sizes_and_mouths(tmp_path):
    (tmp_path / "people").mkdir()
    grey = [np.full((48, 64, 3), 20 + 3 * (number // 6), np.uint8) for number in range(60)]
    write_video(tmp_path / "people" / "talk.mp4", grey, 30.0)
    (tmp_path / "pictures.csv").write_text("file,height_m,x,y\npeople/talk.mp4,0.8,0.25,0.5\n")
    bank = open_pictures(tmp_path, DCASE2025, 0)
    sprite = bank.sprite(0, "test", 3, True)
    assert (sprite.height_m, sprite.sounding) == (0.8, (0.25, 0.5)) and 19 <= len(sprite.moving) <= 21
    assert sprite.image_at(1.5).mean() > sprite.image_at(0.0).mean() + 10
    assert sprite.image_at(len(sprite.moving) / 10) is sprite.moving[0]
    (tmp_path / "pictures.csv").write_text("file,height_m,x,y\npeople/talk.mp4,0.8,2,0.5\n")
    with pytest.raises(SeldError, match="line 2"):
        open_pictures(tmp_path, DCASE2025, 0)


def test_first_order_recordings_with_360_video_suit_the_converter(tmp_path):
    foa = job(tmp_path / "foa", {"seconds": 2}, clips=1, output="foa")
    simulate(foa)
    (recording,) = find_recordings(tmp_path / "foa", with_video=True)
    assert recording.name == "fold1_room1_mix001" and recording.frames == 20
    sound = read_audio(recording.foa, channels=4)
    stereo = job(tmp_path / "stereo", {"seconds": 2}, clips=1, video=None)
    simulate(stereo)
    name = stereo.clip_name("train", 0)
    expected = read_audio(stereo.audio_file("train", name))
    turned = foa_to_stereo(sound, 0.0)
    scale = np.vdot(turned, expected) / np.vdot(turned, turned)
    assert np.abs(turned * scale - expected).max() < 2e-4
    converted = clip_labels(name, read_metadata(recording.metadata), 0, 0)
    direct = read_csv(stereo.label_file("train", name), frames=20)
    np.testing.assert_array_equal(converted.frame, direct.frame)
    np.testing.assert_allclose(converted.azimuth_deg, direct.azimuth_deg, atol=1)
    np.testing.assert_allclose(converted.distance_m, direct.distance_m, atol=0.011)
    info = video_info(recording.video)
    assert (info.width, info.height, info.frames) == (1920, 960, 60)
    (picture,) = read_frames(recording.video, [1.0]).images
    maker = ClipMaker(foa)
    scene = maker.scene("train", 0)
    rooms = foa.scene.rooms
    # The room's look follows from the job; the frame from the 360° canvas must show what the direct one shows.
    look = foa.seed * 1000 + 100_003
    wide = next(compose(scene, maker.bank, maker.pictures, foa.video, rooms, PANORAMA, look))
    assert np.abs(wide.astype(int) - picture).mean() < 6
    near = next(compose(scene, maker.bank, maker.pictures, foa.video, rooms, PERSPECTIVE, look))
    assert np.abs(perspective_view(wide, 0.0).astype(int) - near).mean() < 8
