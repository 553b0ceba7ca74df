import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from dcase_seld.cli.predict import predict
from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.events import Events
from dcase_seld.core.segments import tidy
from dcase_seld.core.task import Task
from dcase_seld.media.frames import video_info
from dcase_seld.media.writing import write_video
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import save_model

SMALL = {
    "kind": "conformer",
    "frontend": {"features": ["log_mel", "ild"], "hop": 600, "window": 1024, "n_fft": 1024, "mels": 16},
    "encoder": {"channels": [8, 8], "layers": 1, "d_model": 16, "heads": 2, "feed_forward": 16, "kernel": 5},
    "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 16, "kernel": 5},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = build_model(parse_model_config(SMALL), Task(), seed=1)
    model.head.out.bias.data[:] = 1.0  # every class is heard everywhere, so that there is something to write
    save_model(model, folder)
    return folder


def write_sound(path, seconds, rate=24000, channels=2):
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((round(seconds * rate), channels)), rate)


def run(*arguments):
    return CliRunner().invoke(predict, [str(a) for a in arguments])


def test_a_long_recording_of_another_rate_gives_rows_to_its_end_in_all_formats(tmp_path, checkpoint):
    write_sound(tmp_path / "long.flac", 12.34, rate=44100)
    result = run(tmp_path / "long.flac", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--format", "csv",
                 "--format", "json", "--format", "audacity")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "12.3 s of sound" in result.output and "× real time" in result.output
    events = read_csv(tmp_path / "out/long.csv", frames=None)
    assert events.frame.min() == 0 and events.frame.max() == 122  # 12.34 s are 123 label frames, as in a store
    listed = json.loads((tmp_path / "out/long.json").read_text())
    assert {row["class"] for row in listed} == {DCASE2025.classes[c] for c in events.class_index}
    assert max(row["offset_s"] for row in listed) == 12.3
    assert len((tmp_path / "out/long.txt").read_text().splitlines()) == len(listed)


def test_a_folder_goes_in_and_a_broken_file_stops_only_itself(tmp_path, checkpoint):
    (tmp_path / "in/deep").mkdir(parents=True)
    write_sound(tmp_path / "in/short.wav", 0.3)
    write_sound(tmp_path / "in/deep/whole.wav", 5)
    write_sound(tmp_path / "in/mono.wav", 1, channels=1)
    whole = (tmp_path / "in/deep/whole.wav").read_bytes()
    (tmp_path / "in/cut.wav").write_bytes(whole[: len(whole) // 2])
    result = run(tmp_path / "in", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert isinstance(result.exception, SeldError) and "2 of 4" in str(result.exception)
    assert "mono.wav is mono" in result.output and "cut.wav is cut short" in result.output
    assert sorted(p.name for p in (tmp_path / "out").glob("*.csv")) == ["short.csv", "whole.csv"]
    assert read_csv(tmp_path / "out/short.csv").frame.max() == 2


def test_mono_and_ambisonics_by_option(tmp_path, checkpoint):
    write_sound(tmp_path / "mono.wav", 1, channels=1)
    write_sound(tmp_path / "foa.wav", 1, channels=4)
    options = ("--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert run(tmp_path / "mono.wav", *options, "--mono", "duplicate").exit_code == 0
    assert run(tmp_path / "foa.wav", *options, "--foa", "40").exit_code == 0
    assert (tmp_path / "out/mono.csv").exists() and (tmp_path / "out/foa.csv").exists()
    wrong = str(run(tmp_path / "mono.wav", *options, "--foa", "40").exception)
    assert "mono.wav has 1 channel(s); first-order Ambisonics (--foa) has 4" in wrong


@pytest.mark.parametrize("name, problem", [("absent.wav", "does not exist"), ("notes.txt", "no sound or video file")])
def test_inputs_that_cannot_be_meant(tmp_path, checkpoint, name, problem):
    (tmp_path / "notes.txt").write_text("hello")
    result = run(tmp_path / name, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert isinstance(result.exception, SeldError) and problem in str(result.exception)


def test_one_name_twice_and_no_model(tmp_path, checkpoint):
    (tmp_path / "a").mkdir()
    write_sound(tmp_path / "a/x.wav", 1)
    write_sound(tmp_path / "x.flac", 1)
    twice = run(tmp_path / "a/x.wav", tmp_path / "x.flac", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "have one name" in str(twice.exception)
    both = run(tmp_path / "x.flac", "--checkpoint", checkpoint, "--ensemble", checkpoint, "--out", tmp_path / "out")
    assert both.exit_code == 2 and "not both" in both.output
    unknown = run(tmp_path / "x.flac", "--checkpoint", "defualt", "--out", tmp_path / "out")
    assert "defualt is no folder, and no network that the package carries" in str(unknown.exception)


def test_the_overlay_is_a_video_with_sound_as_long_as_the_recording(tmp_path, checkpoint):
    write_sound(tmp_path / "short.wav", 1.5)
    for _ in range(2):  # the overlay in the folder's own sub-folder is not taken for a recording
        result = run(tmp_path, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--overlay")
        assert result.exit_code == 0 and "1 of 1 recordings" in result.output, result.exception
    info = video_info(tmp_path / "out/short.mp4")
    assert info.has_audio and abs(info.duration_s - 1.5) < 0.15


def test_what_was_heard_is_told_and_nothing_of_the_users_is_written_over(tmp_path, checkpoint):
    write_sound(tmp_path / "walk.wav", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/walk.csv").write_text("my own labels")
    told = run(tmp_path / "walk.wav", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "walk.csv is there already" in str(told.exception) and "--overwrite" in str(told.exception)
    assert (tmp_path / "out/walk.csv").read_text() == "my own labels"
    for _ in range(2):  # what predict wrote itself, it may write again
        told = run(tmp_path / "walk.wav", "--checkpoint", checkpoint, "--out", tmp_path / "new")
        assert told.exit_code == 0, told.exception
    header, first = told.output.splitlines()[1:3]
    assert header.split() == ["what", "from", "to", "where", "away", "sure"] and " m " in first, (
        "sound alone says nothing of the screen"
    )
    (tmp_path / "new/walk.json").write_text("edited by hand")
    assert "walk.json is there already" in str(run(tmp_path / "walk.wav", "--checkpoint", checkpoint,
                                                   "--out", tmp_path / "new").exception)  # fmt: skip
    assert (
        run(tmp_path / "walk.wav", "--checkpoint", checkpoint, "--out", tmp_path / "new", "--overwrite").exit_code == 0
    )


def test_an_overlay_does_not_replace_the_video_it_is_made_of(tmp_path, checkpoint):
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 10
    write_video(tmp_path / "holiday.mp4", frames, 10, np.zeros((2, 24_000), np.int16) + 5, 24_000)
    before = (tmp_path / "holiday.mp4").read_bytes()
    for options in (["--overlay"], ["--overlay", "--overwrite"]):
        done = run(tmp_path / "holiday.mp4", "--checkpoint", checkpoint, "--out", tmp_path, "--people", "off", *options)
        assert "would be written over" in str(done.exception)
    assert (tmp_path / "holiday.mp4").read_bytes() == before


def test_short_events_are_dropped_and_pauses_bridged():
    frame = np.array([0, 1, 2, 5, 6, 20], np.int32)
    ones = np.ones(6)
    azimuth = np.array([0.0, 0, 0, 12, 12, -50])
    zeros = np.zeros(6, np.int32)
    events = Events(("a",), zeros, frame, zeros, zeros, azimuth, ones, ones > 0)
    assert tidy(events, 2, 0).frame.tolist() == [0, 1, 2, 5, 6]
    bridged = tidy(events, 0, 2)
    assert bridged.frame.tolist() == [0, 1, 2, 3, 4, 5, 6, 20]
    assert bridged.azimuth_deg.tolist() == pytest.approx([0, 0, 0, 4, 8, 12, 12, -50])
    assert len(tidy(Events.empty(("a",)), 3, 3)) == 0


def test_channels_that_are_equal_are_said_to_have_no_direction(tmp_path, checkpoint):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "mono.wav", np.repeat(0.1 * rng.standard_normal((24_000, 1)), 2, 1), 24_000)
    write_sound(tmp_path / "true.wav", 1)
    both = run(tmp_path / "mono.wav", tmp_path / "true.wav", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "note: mono.wav: its channels are the same (mono)" in both.output and "front of a small room" in both.output
    assert "true.wav: its channels" not in both.output
