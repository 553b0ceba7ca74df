"""Frames at times: exact on constant and variable rate, whole or damaged files; writing with sound."""

from __future__ import annotations

import time
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.media.frames import Image, iterate_frames, read_frames, read_picture, video_info
from dcase_seld.media.writing import write_video

FPS = 30000 / 1001


def numbered(number: int, width: int = 160, height: int = 96) -> Image:
    """Return a picture that carries its number as eight black or white bars, which survive lossy coding."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    row = np.repeat(np.array(bits, np.uint8) * 255, width // 8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_of(image: Image | None) -> int:
    assert image is not None
    bars = image.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1) > 127
    return int(sum(1 << bit for bit, on in enumerate(bars) if on))


def write_stamped(path: Path, stamps_ms: list[int], options: dict[str, str] | None = None) -> None:
    """Write picture i at the i-th time in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, 1), options=options or {})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, stamp in enumerate(stamps_ms):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, (numbered(i) for i in range(150)), FPS)
    return path


def test_info_of_a_constant_rate(clip: Path) -> None:
    info = video_info(clip)
    assert (info.width, info.height, info.frames) == (160, 96, 150)
    assert info.fps == pytest.approx(FPS, abs=1e-3)
    assert info.duration_s == pytest.approx(150 / FPS, abs=1e-3)
    assert not info.variable_rate and not info.has_audio


def test_every_frame_is_exact_in_any_order(clip: Path) -> None:
    order = np.random.default_rng(1).permutation(150)
    frames = read_frames(clip, (order + 0.5) / FPS)
    assert [number_of(image) for image in frames.images] == order.tolist()
    assert frames.problem is None
    np.testing.assert_allclose(frames.shown_s, order / FPS, atol=1e-3)


def test_a_frame_is_shown_from_its_own_time_on(clip: Path) -> None:
    frames = read_frames(clip, [40 / FPS, 40 / FPS - 0.002, 0.0])
    assert [number_of(image) for image in frames.images] == [40, 39, 0]


def test_single_requests_equal_joint_ones(clip: Path) -> None:
    times = [4.5, 0.5, 2.5, 2.5]
    joint = read_frames(clip, times).images
    for time_s, image in zip(times, joint, strict=True):
        single = read_frames(clip, [time_s]).images[0]
        assert single is not None and image is not None
        np.testing.assert_array_equal(single, image)


@pytest.mark.parametrize("options", [{"g": "250", "bf": "3"}, {"g": "12", "bf": "0"}, {"g": "30", "b-pyramid": "none"}])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_is_exact(tmp_path: Path, options: dict[str, str], suffix: str) -> None:
    rng = np.random.default_rng(3)
    stamps = np.concatenate([[0], np.cumsum(rng.integers(11, 190, 60))]).tolist()
    path = tmp_path / f"variable{suffix}"
    write_stamped(path, stamps, options)
    assert video_info(path).variable_rate
    times = np.sort(rng.uniform(0, stamps[-1] / 1000, 40))
    expected = np.searchsorted(np.asarray(stamps) / 1000, times, side="right") - 1
    assert [number_of(image) for image in read_frames(path, times).images] == expected.tolist()
    backwards = read_frames(path, times[::-1]).images
    assert [number_of(image) for image in backwards] == expected[::-1].tolist()


def test_size_scales_and_odd_sizes_are_trimmed(clip: Path, tmp_path: Path) -> None:
    image = read_frames(clip, [1.0], size=(80, 60)).images[0]
    assert image is not None and image.shape == (60, 80, 3)
    odd = tmp_path / "odd.mp4"
    write_video(odd, [np.zeros((41, 33, 3), np.uint8)] * 3, 10)
    assert (video_info(odd).width, video_info(odd).height) == (32, 40)


def test_times_outside_the_video_have_no_frame(clip: Path) -> None:
    frames = read_frames(clip, [2.0, 9.0, -3.0, 5.1])
    assert frames.images[1] is None and frames.images[2] is None
    assert np.isnan(frames.shown_s[1]) and number_of(frames.images[0]) == 59
    assert number_of(frames.images[3]) == 149, "a length rounded by a tenth of a second still has its last frame"
    assert frames.problem is not None and "-3.00 s, 9.00 s" in frames.problem


def test_a_missing_or_foreign_file_is_told(tmp_path: Path) -> None:
    missing = read_frames(tmp_path / "no.mp4", [0.0, 1.0])
    assert missing.images == [None, None] and "does not exist" in str(missing.problem)
    foreign = tmp_path / "text.mp4"
    foreign.write_text("no video at all")
    assert "cannot be read" in str(read_frames(foreign, [0.0]).problem)
    with pytest.raises(SeldError, match="cannot be read"):
        video_info(foreign)
    with pytest.raises(SeldError, match="does not exist"):
        next(iterate_frames(tmp_path / "no.mp4", [0.0]))


def test_a_file_without_pictures_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=24000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 24000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "holds no picture" in str(read_frames(path, [0.0]).problem)


@pytest.mark.parametrize("kept", [0.35, 0.7])
def test_a_cut_off_video_gives_what_is_left(clip: Path, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "cut.mp4"
    data = clip.read_bytes()
    with av.open(str(clip)) as container:
        first = next(container.demux(video=0)).pos
    path.write_bytes(data[: first + int((len(data) - first) * kept)])
    times = (np.arange(150) + 0.5) / FPS
    frames = read_frames(path, times)
    assert frames.problem is not None
    there = [i for i, image in enumerate(frames.images) if image is not None]
    assert 20 < len(there) < 150, "the index leads the file, so its beginning can be read"
    # For a quarter of a second after its end a video still shows its last frame.
    exact = [number_of(frames.images[i]) == i for i in there if times[i] < times[there[-1]] - 0.25]
    assert np.mean(exact) > 0.9, "the last frames before the cut may be damaged"


def test_sound_is_written_beside_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "tone.mp4"
    time_s = np.arange(48000) / 24000
    tone = np.stack([0.5 * np.sin(2 * np.pi * 440 * time_s), np.zeros(48000)])
    write_video(path, (numbered(i) for i in range(60)), 30, audio=tone, rate=24000)
    assert video_info(path).has_audio
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    left = sound[0, 12000:36000]
    spectrum = np.abs(np.fft.rfft(left * np.hanning(len(left))))
    assert np.argmax(spectrum) == 440
    assert np.sqrt(np.mean(left**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert np.abs(sound[1]).max() < 0.02


def test_writing_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    with pytest.raises(SeldError, match="No frame"):
        write_video(path, [], 30)
    with pytest.raises(SeldError, match="first was 32x32"):
        write_video(path, [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)], 30)
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_claims_a_giant_picture_is_refused_without_decoding_it(tmp_path):
    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    path = tmp_path / "giant.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    begun = time.process_time()
    for alpha in (False, True):
        with pytest.raises(SeldError, match="no picture"):
            read_picture(path, alpha=alpha)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"\xff\xff\xff\xffIDAT" + bytes(50))
    with pytest.raises(SeldError, match="no picture"):
        read_picture(path)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(("shape", "kind"), [((4, 6), np.uint8), ((4, 6, 3), np.uint16), ((4, 6, 4), np.uint8)])
def test_pictures_with_transparency_have_four_channels_of_eight_bits(tmp_path, shape, kind):
    import cv2

    made = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", made)[1].tobytes())
    read = read_picture(tmp_path / "a.png", alpha=True)
    assert read.shape == (4, 6, 4) and read.dtype == np.uint8
    eight = made if kind is np.uint8 else (made / 257).astype(np.uint8)
    assert np.array_equal(read[..., : eight.shape[2]] if eight.ndim == 3 else read[..., 0], eight)
    assert (read[..., 3] == 255).all() or made.shape[-1] == 4
