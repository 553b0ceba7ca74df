import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import write_wav
from dcase_seld.media.frames import read_frames, video_info
from dcase_seld.media.writing import VideoWriter, mp3_bytes


def plain(blue, green, red):
    return np.full((90, 160, 3), (blue, green, red), np.uint8)


def test_two_videos_at_a_time(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 30_000 / 1_001) as first, VideoWriter(tmp_path / "b.mp4", 10) as second:
        for number in range(20):
            first.write(plain(5 * number, 0, 200))
            second.write(plain(0, 5 * number, 0))
    info = video_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.frames, info.has_audio) == (160, 90, 20, False)
    assert info.fps == pytest.approx(30_000 / 1_001, rel=1e-3)
    image = read_frames(tmp_path / "a.mp4", [10.5 * 1_001 / 30_000]).images[0]
    assert np.abs(image.reshape(-1, 3).mean(0) - (50, 0, 200)).max() < 6
    assert video_info(tmp_path / "b.mp4").fps == pytest.approx(10)


def test_an_exception_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(plain(1, 2, 3))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_no_frame(tmp_path):
    with pytest.raises(SeldError, match="No frame was given"), VideoWriter(tmp_path / "a.mp4", 10):
        pass


def test_missing_folder(tmp_path):
    with pytest.raises(SeldError, match="cannot be written"), VideoWriter(tmp_path / "no" / "a.mp4", 10) as writer:
        writer.write(plain(1, 2, 3))


def test_full_disk(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    rng = np.random.default_rng(0)
    try:
        with pytest.raises(SeldError, match="cannot be written"), VideoWriter(tmp_path / "a.mp4", 10) as writer:
            for _ in range(30):
                writer.write(rng.integers(0, 255, (90, 160, 3)).astype(np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [lambda path, x: path.write_bytes(mp3_bytes(x.T, 24_000)), write_wav])
def test_ctrl_c_while_sound_is_written_is_not_lost(write, tmp_path, monkeypatch):
    """Libraries that call Python back swallow what a signal raises there, and the file goes on, cut or whole."""
    swallowed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda said: swallowed.append(said.exc_value))

    def end(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, end)
    sound = np.zeros((2, 1_200_000), np.float32)
    try:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                for _ in range(50):
                    write(tmp_path / "a.wav", sound)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not swallowed


def test_pictures_are_drawn_whatever_a_notebook_chose_to_draw_with():
    code = "from dcase_seld.media.writing import open_pyplot; print(open_pyplot().get_backend())"
    chosen = {**os.environ, "MPLBACKEND": "nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=chosen, capture_output=True, text=True)
    assert done.stdout.strip().lower() == "agg", done.stderr
