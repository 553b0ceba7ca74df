"""Sound keeps its time and its level: containers, files that are cut, headers that lie."""

import os
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


def test_a_track_that_an_edit_list_delays_is_whole(tmp_path, capsys):
    """Its duration holds the delay already where the media is longer than what the edit list plays."""
    path = container(tmp_path / "late.mp4", "aac", [(0.0, np.tile(BEEP, 30))], video_s=7)
    content = bytearray(path.read_bytes())
    edits = content.rindex(b"elst")
    content[edits + 8 : edits + 24] = struct.pack(">IIiIIiI", 2, 1000, -1, 65536, 5000, 1024, 65536)
    for box in (b"elst", b"edts", b"trak", b"moov"):
        start = content.rindex(box, 0, edits + 4)
        content[start - 4 : start] = struct.pack(">I", struct.unpack(">I", content[start - 4 : start])[0] + 12)
    path.write_bytes(content)
    sound = read_audio(path, rate=RATE)
    assert sound.shape[1] == 6 * RATE == audio_info(path).samples and "note" not in capsys.readouterr().err
    assert not sound[:, : int(0.97 * RATE)].any() and np.abs(sound[:, RATE : RATE + 4800]).max() > 0.3


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


def test_holes_that_no_recording_has_are_a_damaged_clock(tmp_path):
    """Each is below the limit; together they would be a hundred hours of silence."""
    path = container(tmp_path / "holes.mkv", "pcm_s16le", [(3_000.0 * number, BEEP) for number in range(60)])
    with pytest.raises(SeldError, match="holes of 6000 s"):
        read_audio(path, rate=RATE)


@pytest.mark.parametrize("rate, layout", [(24_000, "stereo"), (48_000, "mono")])
def test_a_track_that_changes_its_rate_or_channels_is_refused(tmp_path, rate, layout):
    for name, other_rate, other in (("first.aac", RATE, "stereo"), ("second.aac", rate, layout)):
        with av.open(str(tmp_path / name), "w", format="adts") as out:
            track = out.add_stream("aac", rate=other_rate)
            track.layout = other
            for number in range(100):
                block = np.zeros((1 if other == "mono" else 2, 1024), np.float32)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=other)
                frame.sample_rate, frame.pts = other_rate, 1024 * number
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    both = tmp_path / "both.aac"
    both.write_bytes((tmp_path / "first.aac").read_bytes() + (tmp_path / "second.aac").read_bytes())
    with pytest.raises(SeldError, match=r"changes its sound at 2\.\d s"):
        read_audio(both, rate=RATE)


@pytest.mark.parametrize(
    "format, suffix, subtype", [("OGG", "ogg", None), ("OGG", "opus", "OPUS"), ("MP3", "mp3", None)]
)
def test_recordings_that_were_joined_are_said(tmp_path, capsys, format, suffix, subtype):
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    sound = np.random.default_rng(0).normal(0, 0.1, (48_000, 2))
    sf.write(one, sound, 24_000, format=format, subtype=subtype)
    read_audio(one, rate=24_000)
    assert "note" not in capsys.readouterr().err
    two.write_bytes(2 * one.read_bytes())
    assert read_audio(two, rate=24_000).shape[1] == pytest.approx(48_000, abs=2_000)
    assert "holds several recordings one after the other" in capsys.readouterr().err


@pytest.mark.parametrize("format, suffix", [("RF64", "wav"), ("AIFF", "aiff")])
def test_other_headers_promise_a_length_too(tmp_path, format, suffix):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    sf.write(whole, np.random.default_rng(0).normal(0, 0.1, (24_000, 2)), 24_000, format=format, subtype="PCM_16")
    assert read_audio(whole).shape[1] == 24_000
    cut.write_bytes(whole.read_bytes()[:50_000])
    with pytest.raises(SeldError, match="is cut short"):
        read_audio(cut)


@pytest.mark.parametrize("length", [0, 2**40])
def test_rf64_of_unknown_length_is_read_and_of_a_false_one_refused(tmp_path, length):
    path = tmp_path / "long.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, (24_000, 2)), 24_000, format="RF64", subtype="PCM_16")
    whole, data = read_int16(path), bytearray(path.read_bytes())
    struct.pack_into("<Q", data, data.find(b"ds64") + 16, length)
    path.write_bytes(data)
    if length:
        with pytest.raises(SeldError, match="is cut short"):
            read_int16(path)
    else:
        assert np.array_equal(read_int16(path), whole)


def test_sound_after_the_end_that_a_wav_names_is_said(tmp_path, capsys):
    path = tmp_path / "short.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, (24_000, 2)), 24_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.find(b"data") + 4, 1_000)
    path.write_bytes(data)
    assert read_int16(path).shape[1] == 250
    assert "its header counts 1,000 bytes of sound; 95,000 are left out" in capsys.readouterr().err


def test_an_avi_that_is_cut_is_said(tmp_path, capsys):
    path = container(tmp_path / "whole.avi", "pcm_s16le", [(0.0, np.tile(BEEP, 25))], video_s=5)
    read_audio(path, rate=RATE)
    assert "cut short" not in capsys.readouterr().err
    cut = tmp_path / "cut.avi"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert read_audio(cut, rate=RATE).shape[1] < 4 * RATE
    assert "is cut short" in capsys.readouterr().err


def test_hours_of_silence_in_a_few_bytes_are_not_unpacked(tmp_path):
    path = tmp_path / "bomb.flac"
    sf.write(path, np.zeros((24_000, 2), np.int16), 24_000)
    data = bytearray(path.read_bytes())
    block = data[42:]  # after the marker and the stream's description, in which the count of samples has 36 bits
    data[21] = data[21] & 0xF0 | 0xF
    data[22:26] = b"\xff" * 4
    path.write_bytes(data + block)
    with pytest.raises(SeldError, match="hours of sound in"):
        read_audio(path)


def test_names_that_are_no_text_can_be_read(tmp_path):
    wav = tmp_path / os.fsdecode(b"caf\xe9.wav")
    sf.write(tmp_path / "a.wav", np.zeros((2_400, 2)), 24_000)
    (tmp_path / "a.wav").rename(wav)
    assert read_audio(wav).shape == (2, 2_400)
    mkv = tmp_path / os.fsdecode(b"caf\xe9.mkv")
    container(tmp_path / "a.mkv", "pcm_s16le", [(0.0, BEEP)], video_s=1).rename(mkv)
    assert read_audio(mkv, rate=RATE).shape[1] == len(BEEP) and video_info(mkv).frames == 10
