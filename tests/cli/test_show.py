"""`dcase-seld show`: the picture and the overlay show what is said at the place where it is said."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import write_csv
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import azimuth_to_column
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import read_audio, write_wav
from dcase_seld.media.frames import read_frames, video_info
from dcase_seld.media.writing import write_video
from dcase_seld.report.drawing import RULER_HEIGHT, class_colour, scale_of

WIDTH, HEIGHT = 320, 180
MUSIC = DCASE2025.classes.index("Music")


def events_at(azimuth, frames, name="clip", onscreen=True):
    frames = np.asarray(frames, np.int32)
    zeros = np.zeros(len(frames), np.int32)
    return Events((name,), zeros, frames, zeros + MUSIC, zeros, zeros + float(azimuth), zeros + 2.0,
                  np.full(len(frames), onscreen))  # fmt: skip


@pytest.fixture
def clip(tmp_path):
    """The folder of a 2-second clip with sound, grey pictures, predictions at 30° and references at -20°."""
    write_wav(tmp_path / "clip.wav", np.full((2, 48_000), 3000, np.int16), 24_000)
    write_video(tmp_path / "clip.mp4", [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 20, 10)
    events_at(30.0, range(5, 15)).save(tmp_path / "events.npz")
    write_csv(tmp_path / "ref.csv", events_at(-20.0, range(5, 15)))
    return tmp_path


def show(*options):
    return CliRunner().invoke(main, ["show", *map(str, options)], catch_exceptions=False)


def is_coloured(pixels, colour_rgb):
    """Return whether some pixel (BGR) is close to a colour."""
    return bool((np.abs(pixels.astype(int) - np.array(colour_rgb[::-1])).max(axis=-1) < 60).any())


def test_the_overlay_draws_the_prediction_at_its_azimuth_and_keeps_the_sound(clip):
    done = show(clip / "clip.mp4", "--pred", clip / "events.npz", "--mode", "none", "--fps", 10, "--out", clip / "out")
    assert done.exit_code == 0 and done.output.splitlines() == [str(clip / "out/clip.png"), str(clip / "out/clip.mp4")]
    info = video_info(clip / "out" / "clip.mp4")
    assert (info.width, info.height, info.has_audio) == (
        WIDTH,
        HEIGHT + round(RULER_HEIGHT * scale_of(HEIGHT, WIDTH) / 2) * 2,
        True,
    )
    assert info.duration_s == pytest.approx(2.0, abs=0.11)
    silent, sounding = read_frames(clip / "out" / "clip.mp4", [0.25, 1.05]).images
    colour = class_colour(MUSIC, 13)
    column = round(float(azimuth_to_column(30.0, WIDTH)))
    middle = slice(HEIGHT // 2, HEIGHT - 10)
    assert is_coloured(sounding[middle, column - 2 : column + 3], colour)
    assert not is_coloured(silent[middle, column - 2 : column + 3], colour)
    mirrored = WIDTH - column
    assert not is_coloured(sounding[middle, mirrored - 2 : mirrored + 3], colour)
    on_ruler = round((90 - 30) / 180 * WIDTH)
    assert is_coloured(sounding[HEIGHT : HEIGHT + 50, on_ruler - 3 : on_ruler + 3], colour)


def test_pictures_that_begin_after_the_sound_have_an_overlay(clip):
    with av.open(str(clip / "late.mp4"), "w") as out:
        pictures, track = out.add_stream("libx264", rate=10), out.add_stream("aac", rate=48_000)
        pictures.width, pictures.height, pictures.pix_fmt, track.layout = WIDTH, HEIGHT, "yuv420p", "stereo"
        for first in range(0, 96_000, 1024):
            block = av.AudioFrame.from_ndarray(np.full((2, 1024), 0.1, np.float32), format="fltp", layout="stereo")
            block.sample_rate, block.pts = 48_000, first
            out.mux(track.encode(block))
        for number in range(8, 20):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 220, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            out.mux(pictures.encode(frame))
        out.mux([*pictures.encode(None), *track.encode(None)])
    done = show(clip / "late.mp4", "--ref", clip / "ref.csv", "--mode", "none", "--out", clip / "out")
    assert done.exit_code == 0, done.output
    assert video_info(clip / "out" / "late.mp4").width == WIDTH
    before, after = read_frames(clip / "out" / "late.mp4", [0.3, 1.7]).images
    assert before[: HEIGHT // 3].mean() < 150 and after[: HEIGHT // 3].mean() > 190


def test_the_picture_has_frames_and_both_tables(clip):
    bare = clip / "bare"
    show(clip / "clip.wav", "--mode", "none", "--no-overlay", "--out", bare)
    both = clip / "both"
    show(clip / "clip.wav", "--pred", clip / "events.npz", "--ref", clip / "ref.csv", "--mode", "none", "--no-overlay",
         "--out", both)  # fmt: skip
    assert not (both / "clip.mp4").exists()
    empty, full = cv2.imread(str(bare / "clip.png")), cv2.imread(str(both / "clip.png"))
    assert full.shape[1] == 1650 and full.std() > 5
    colour = class_colour(MUSIC, 13)
    lower = slice(full.shape[0] // 2, None)
    assert is_coloured(full[lower], colour) and not is_coloured(empty[lower], colour)


def test_a_clip_of_a_store_by_name(clip):
    item = Clip("clip", "part", clip / "clip.wav", clip / "ref.csv", None)
    (clip / "store").mkdir()
    build_store([item], clip / "store", root=clip, splits=("test",))
    with pytest.raises(SeldError, match="names such as clip"):
        show("clap", "--data", clip / "store")
    done = show("clip", "--data", clip / "store", "--pred", clip, "--fps", 5, "--out", clip / "out")
    assert done.exit_code == 0
    picture = read_frames(clip / "out" / "clip.mp4", [1.0]).images[0]
    assert picture.shape == (360 + RULER_HEIGHT, 640, 3), "without a video the canvas is empty"
    assert is_coloured(picture, class_colour(MUSIC, 13))


def test_what_is_missing_is_said(clip):
    for options, message in (
        ([clip / "none.wav"], "does not exist"),
        ([clip / "clip.wav", "--pred", clip / "none"], "holds no events of the clip 'clip'"),
        ([clip / "clip.wav", "--video", clip / "none.mp4"], "none.mp4 does not exist"),
    ):
        with pytest.raises(SeldError, match=message):
            show(*options, "--mode", "none", "--out", clip / "out")
    events_at(1.0, [0], name="other").save(clip / "other.npz")
    with pytest.raises(SeldError, match="has no clip 'clip'"):
        show(clip / "clip.wav", "--pred", clip / "other.npz", "--mode", "none", "--out", clip / "out")


def test_sound_is_found_beside_the_video_whatever_its_suffix(clip):
    """A silent video with its sound beside it as .FLAC; another clip's sound has a longer name."""
    video = clip / "stage" / "take[1].MKV"
    video.parent.mkdir()
    write_video(video.with_suffix(".mkv"), [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 10, 10)
    video.with_suffix(".mkv").rename(video)
    assert not video_info(video).has_audio
    tone = (np.sin(np.arange(24_000) * 0.2) * 0.3).astype(np.float32)
    soundfile.write(clip / "stage" / "take[1].FLAC", np.stack([tone, tone], axis=1), 24_000, format="FLAC")
    write_wav(clip / "stage" / "take[1].second.wav", np.zeros((2, 24_000), np.int16), 24_000)
    show(video, "--mode", "none", "--fps", 5, "--out", clip / "out")
    heard = read_audio(clip / "out" / "take[1].mp4", rate=24_000, resample=True)
    assert np.abs(heard).max() > 0.2


def test_a_video_is_not_written_over_by_its_own_picture(clip, tmp_path, monkeypatch):
    (tmp_path / "holiday.mp4").write_bytes((clip / "clip.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "holiday.mp4").read_bytes()
    assert show("holiday.mp4", "--mode", "none", "--fps", 5).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "shown").glob("*.*") if p.name[0] != ".") == [
        "holiday.mp4",
        "holiday.png",
    ]
    with pytest.raises(SeldError, match="would be written over"):
        show("holiday.mp4", "--mode", "none", "--fps", 5, "--out", ".", "--overwrite")
    assert (tmp_path / "holiday.mp4").read_bytes() == before


@pytest.fixture
def sphere(tmp_path):
    """A 2-second Ambisonic recording with a 360° video and files of 2024: predicted at 120°, 30° up, labelled near."""
    for folder in ("foa_dev", "metadata_dev", "video_dev"):
        (tmp_path / folder / "part").mkdir(parents=True)
    write_wav(tmp_path / "foa_dev/part/clip.wav", np.full((4, 48_000), 3000, np.int16), 24_000)
    write_video(tmp_path / "video_dev/part/clip.mp4", [np.full((160, 320, 3), 90, np.uint8)] * 20, 10)
    rows = [f"{frame},{MUSIC},0,{{}},{{}},{{}}\n" for frame in range(5, 15)]
    (tmp_path / "metadata_dev/part/clip.csv").write_text("".join(rows).replace("{},{},{}", "-60,-45,200"))
    (tmp_path / "pred.csv").write_text("".join(rows).replace("{},{},{}", "120.0,30.0,2.00"))
    return tmp_path


def test_the_sphere_is_drawn_over_pictures_of_all_around(sphere):
    labels = sphere / "metadata_dev/part/clip.csv"
    options = ["--ref", labels, "--pred", sphere / "pred.csv", "--fps", 10, "--out", sphere / "out"]
    with pytest.raises(SeldError, match=r"pred\.csv has no header and 6 columns"):
        show(sphere / "foa_dev/part/clip.wav", *options)
    done = show(sphere / "foa_dev/part/clip.wav", *options, "--task", "dcase2024")
    assert done.exit_code == 0, done.output
    info = video_info(sphere / "out/clip.mp4")
    assert info.has_audio and info.width == 320
    frame = read_frames(sphere / "out/clip.mp4", [1.05]).images[0]
    music = class_colour(MUSIC, len(DCASE2025))
    # Azimuth 120° is at a sixth of the width from the left, elevation 30° at a third of the height.
    assert is_coloured(frame[50:57, 50:57], music) and not is_coloured(frame[100:110, 50:57], music)
    ring = frame[160 * 135 // 180 - 8 : 160 * 135 // 180 + 9, 320 * 240 // 360 - 8 : 320 * 240 // 360 + 9]
    assert is_coloured(ring, music)
    assert not is_coloured(ring[7:10, 7:10], music)
    picture = cv2.imread(str(sphere / "out/clip.png"))
    assert picture.shape[0] > 1200 and is_coloured(picture[-500:], music)


def test_a_sound_without_a_sample_is_a_sentence(tmp_path):
    write_wav(tmp_path / "none.wav", np.zeros((2, 0), np.float32))
    done = CliRunner().invoke(
        main, ["show", str(tmp_path / "none.wav"), "--out", str(tmp_path / "o"), "--mode", "none"]
    )
    assert isinstance(done.exception, SeldError) and "holds no sound" in str(done.exception)
