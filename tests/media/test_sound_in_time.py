"""Sound keeps its time and its level: containers, files that are cut, headers that lie."""

import struct
import time
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile as sf

from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import audio_info, read_audio, read_int16
from dcase_seld.media.frames import video_info

RATE = 48_000
BEEP = np.sin(2 * np.pi * 1000 * np.arange(RATE // 5) / RATE)


def container(path, codec, parts, video_s=None):
    """Write sound parts [(start in seconds, samples)] and, where asked for, grey pictures from 0 on."""
    with av.open(str(path), "w") as out:
        out.metadata["title"] = "AAAAAAAA"
        pictures = out.add_stream("libx264", rate=10) if video_s else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        track = out.add_stream(codec, rate=RATE)
        track.layout = "stereo"
        for number in range(int(10 * (video_s or 0))):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 100, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            out.mux(pictures.encode(frame))
        if pictures is not None:
            out.mux(pictures.encode(None))
        for start_s, sound in parts:
            pcm = (np.repeat(sound[:, None], 2, 1) * 20_000).astype(np.int16)
            for first in range(0, len(pcm), 960):
                block = np.ascontiguousarray(pcm[first : first + 960].reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = round(start_s * RATE) + first
                out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


def onsets(sound, rate=RATE):
    """Return where it becomes loud after silence, in seconds."""
    loud = np.convolve(np.abs(sound[0]), np.ones(480) / 480, "same") > 0.05
    return (np.flatnonzero(np.diff(loud.astype(int)) == 1) / rate).round(2)


@pytest.mark.parametrize("name, codec", [("late.mkv", "pcm_s16le"), ("late.mp4", "aac"), ("late.mov", "aac")])
def test_a_track_that_starts_late_is_heard_late(tmp_path, name, codec):
    path = container(tmp_path / name, codec, [(2.0, np.pad(BEEP, (0, RATE)))], video_s=4)
    assert onsets(read_audio(path, rate=RATE)) == pytest.approx([2.0], abs=0.03)
    assert audio_info(path).seconds == pytest.approx(read_audio(path, rate=RATE).shape[1] / RATE, abs=0.9)


@pytest.mark.parametrize("name, codec", [("hole.mkv", "pcm_s16le")])
def test_a_hole_is_silence(tmp_path, name, codec):
    piece = np.pad(BEEP, (0, RATE - len(BEEP)))
    path = container(tmp_path / name, codec, [(0.0, piece), (4.0, piece)], video_s=5)
    sound = read_audio(path, rate=RATE)
    assert onsets(np.pad(sound, ((0, 0), (480, 0))), RATE) - 0.01 == pytest.approx([0.0, 4.0], abs=0.03)
    assert not np.abs(sound[:, int(1.1 * RATE) : int(3.9 * RATE)]).max() > 0.01


@pytest.mark.parametrize("name", ["five.m4a", "five.mp4"])
def test_a_track_ends_where_it_says(tmp_path, name):
    """The coder fills its last block: five seconds would become a 51st label frame."""
    path = container(tmp_path / name, "aac", [(0.0, np.tile(BEEP, 25))])
    assert read_audio(path, rate=RATE).shape[1] == 5 * RATE == audio_info(path).samples
    assert read_int16(path, rate=24_000, resample=True).shape[1] == 120_000


def test_metadata_in_another_coding_does_not_matter(tmp_path):
    path = container(tmp_path / "five.mkv", "pcm_s16le", [(0.0, BEEP)], video_s=1)
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(path.read_bytes().replace(b"AAAAAAAA", b"\xff\xfe\xe9\xc3\x28AAA"))
    assert bad.read_bytes() != path.read_bytes()
    assert read_audio(bad, rate=RATE).shape[1] == len(BEEP) and video_info(bad).frames == 10


@pytest.mark.parametrize("format, suffix", [("OGG", "ogg"), ("OGG", "opus"), ("MP3", "mp3")])
def test_a_file_that_is_cut_is_read_as_far_as_it_goes_and_said(tmp_path, capsys, format, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f"whole.{suffix}"
    subtype = {"opus": "OPUS", "ogg": "VORBIS", "mp3": None}[suffix]
    sf.write(path, rng.normal(0, 0.1, (10 * 24_000, 2)), 24_000, format=format, subtype=subtype)
    assert read_audio(path, rate=24_000).shape[1] == pytest.approx(240_000, abs=2_000)
    assert "cut short" not in capsys.readouterr().err
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 20_000 < read_audio(cut, rate=24_000).shape[1] < 200_000
    assert f"{cut} is cut short" in capsys.readouterr().err


def test_a_container_that_is_cut_is_said(tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = container(tmp_path / "whole.mkv", "libopus", [(0.0, rng.normal(0, 0.1, 8 * RATE))], video_s=8)
    read_audio(path, rate=RATE)
    assert "cut short" not in capsys.readouterr().err
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert read_audio(cut, rate=RATE).shape[1] < 7 * RATE
    assert "its header promises 8.0 s" in capsys.readouterr().err


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path, length):
    path = tmp_path / "pipe.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, (24_000, 2)), 24_000, subtype="PCM_16")
    whole = read_int16(path)
    data = bytearray(path.read_bytes())
    place = data.find(b"data") + 4
    data[place : place + 4] = data[4:8] = struct.pack("<I", length)
    path.write_bytes(data)
    assert np.array_equal(read_int16(path), whole) and audio_info(path).samples == 24_000


def test_numbers_of_16_bits_stored_as_float_are_refused(tmp_path):
    path = tmp_path / "loud.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 3_000, (24_000, 2)), 24_000, subtype="FLOAT")
    for read in (read_audio, read_int16):
        with pytest.raises(SeldError, match="times full scale"):
            read(path)
    sf.write(path, np.random.default_rng(0).normal(0, 0.5, (24_000, 2)), 24_000, subtype="FLOAT")
    assert np.abs(read_audio(path)).max() > 1.0


def test_headers_that_lie_are_answered_at_once(tmp_path):
    path = tmp_path / "slow.wav"
    sf.write(path, np.zeros((24_000, 2)), 24_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 7)
    path.write_bytes(data)
    began = time.monotonic()
    with pytest.raises(SeldError, match="7 samples per second"):
        read_audio(path, resample=True)
    flac = tmp_path / "long.flac"
    sf.write(flac, np.random.default_rng(0).normal(0, 0.1, (24_000, 2)), 24_000)
    data = bytearray(flac.read_bytes())
    data[21] |= 0x0F  # the upper bits of the 36-bit number of samples
    flac.write_bytes(data)
    try:
        assert read_audio(flac).shape[1] == 24_000
    except SeldError as error:
        assert str(flac) in error.problem
    assert time.monotonic() - began < 5
