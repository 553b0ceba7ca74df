import numpy as np
import pytest
import soundfile

from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import audio_info, read_audio, read_int16, resample_audio, to_int16, write_wav

RATE = 24_000


def tone(hz, seconds=0.5, rate=RATE):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def stereo(tmp_path):
    sound = np.stack([tone(440), tone(1000)])
    write_wav(tmp_path / "a.wav", sound)
    return tmp_path / "a.wav", sound


def test_wav_round_trip(stereo):
    path, sound = stereo
    back = read_audio(path)
    assert back.shape == sound.shape and back.dtype == np.float32
    assert np.abs(back - sound).max() <= 0.5 / 32768 + 1e-7
    assert audio_info(path).channels == 2 and audio_info(path).samples == 12_000
    assert not list(path.parent.glob(".*part"))


def test_int16_is_bit_exact(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, (2, 999)).astype(np.int16)
    write_wav(tmp_path / "p.wav", pcm)
    assert np.array_equal(read_int16(tmp_path / "p.wav"), pcm)
    assert np.array_equal(to_int16(read_audio(tmp_path / "p.wav")), pcm)


def test_part_of_a_file(stereo):
    path, _ = stereo
    whole = read_audio(path)
    assert np.array_equal(read_audio(path, start_sample=100, samples=50), whole[:, 100:150])
    with pytest.raises(SeldError, match="12000 samples; sample 99999"):
        read_audio(path, start_sample=99_999)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_compressed_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(440), tone(440)]).T, RATE)
    back = read_audio(path)
    spectrum = np.abs(np.fft.rfft(back[0][:12_000]))
    assert spectrum.argmax() * RATE / 12_000 == pytest.approx(440, abs=4)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "m4a"])
def test_containers(tmp_path, suffix):
    import av

    path = tmp_path / f"a.{suffix}"
    sound = np.stack([tone(440, 1.0), tone(1000, 1.0)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    back = read_audio(path)
    assert back.shape[0] == 2 and abs(back.shape[1] - RATE) < 4096
    for channel, hz in zip(back, (440, 1000), strict=True):
        spectrum = np.abs(np.fft.rfft(channel))
        assert spectrum.argmax() * RATE / len(channel) == pytest.approx(hz, abs=3)
    info = audio_info(path)
    assert info.rate == RATE and info.channels == 2 and info.seconds == pytest.approx(1.0, abs=0.2)


def test_container_without_sound(tmp_path):
    import av

    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="bgr24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    for function in (read_audio, audio_info):
        with pytest.raises(SeldError, match="has no sound track"):
            function(tmp_path / "v.mp4")


def test_mono_is_refused_or_duplicated(tmp_path):
    soundfile.write(tmp_path / "m.wav", tone(440), RATE, subtype="PCM_16")
    with pytest.raises(SeldError, match=r"is mono; 2 channels.*mono: duplicate"):
        read_audio(tmp_path / "m.wav")
    with pytest.raises(SeldError, match=r"is mono"):
        read_int16(tmp_path / "m.wav")
    both = read_audio(tmp_path / "m.wav", mono="duplicate")
    assert both.shape == (2, 12_000) and np.array_equal(both[0], both[1])


def test_channel_counts(tmp_path):
    soundfile.write(tmp_path / "foa.wav", np.stack([tone(440)] * 4).T, RATE)
    with pytest.raises(SeldError, match=r"has 4 channels; 2 are needed.*data convert"):
        read_audio(tmp_path / "foa.wav")
    assert read_audio(tmp_path / "foa.wav", channels=None).shape[0] == 4
    assert read_audio(tmp_path / "foa.wav", channels=1).shape[0] == 1


@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000])
def test_other_rates_are_refused_or_resampled(tmp_path, rate):
    soundfile.write(tmp_path / "r.wav", np.stack([tone(440, 1.0, rate)] * 2).T, rate, subtype="PCM_16")
    with pytest.raises(SeldError, match=rf"sample rate of {rate} Hz; 24000 Hz is needed.*resample: true"):
        read_audio(tmp_path / "r.wav")
    back = read_audio(tmp_path / "r.wav", resample=True)
    assert back.shape == (2, RATE)
    assert np.abs(back[0][500:-500] - tone(440, 1.0)[500:-500]).max() < 2e-3


def test_resampling_keeps_silence_and_shape():
    assert not resample_audio(np.zeros((3, 441), np.float32), 44_100, 24_000).any()


@pytest.mark.parametrize("keep", [5000, 44, 30, 10, 0])
def test_truncated_wav(stereo, keep):
    path, _ = stereo
    path.write_bytes(path.read_bytes()[:keep])
    for function in (read_audio, read_int16, audio_info):
        with pytest.raises(SeldError, match=r"cut short|cannot be read as sound"):
            function(path)


def test_streamed_wav_of_unknown_length_is_read(stereo):
    path, _ = stereo
    whole = read_audio(path)
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff" * 4
    data[4:8] = b"\xff" * 4
    path.write_bytes(bytes(data))
    assert np.array_equal(read_audio(path), whole)


def test_not_a_number_is_refused(tmp_path):
    soundfile.write(tmp_path / "n.wav", np.full((10, 2), np.nan, np.float32), RATE, subtype="FLOAT")
    with pytest.raises(SeldError, match="not numbers"):
        read_audio(tmp_path / "n.wav")


def test_missing_folder_and_garbage(tmp_path):
    with pytest.raises(SeldError, match="does not exist"):
        read_audio(tmp_path / "no.wav")
    with pytest.raises(SeldError, match="is a folder"):
        read_audio(tmp_path)
    (tmp_path / "t.wav").write_text("not a sound")
    (tmp_path / "t.mp4").write_text("not a sound")
    for name in ("t.wav", "t.mp4"):
        with pytest.raises(SeldError, match="cannot be read as sound"):
            read_audio(tmp_path / name)
    for content, said in ((b"", "it is empty"), (bytes(5_000), "no sound is found in it")):
        (tmp_path / "t.mp3").write_bytes(content)
        with pytest.raises(SeldError, match=said):
            read_audio(tmp_path / "t.mp3")


def test_full_disk_leaves_the_old_file(stereo):
    import resource
    import signal

    path, _ = stereo
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(SeldError, match=r"a.wav cannot be written: File too large\. "):  # the path is said once
            write_wav(path, np.zeros((2, 100_000), np.int16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["a.wav"]
