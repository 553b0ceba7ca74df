"""Long files: decoded as windows ask for them, the same sound, in memory that does not grow with their length."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import MODEL

from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import TASKS, Task
from dcase_seld.infer.recording_source import heard_piece
from dcase_seld.media import recordings
from dcase_seld.media.audio import to_int16
from dcase_seld.media.recordings import LongSound, read_recording
from dcase_seld.model.network import build_model
from dcase_seld.model.weights import save_model
from dcase_seld.train.config import TrainConfig


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "options"),
    [
        (".wav", 24_000, 4, {"channels": 4}),
        (".flac", 44_100, 2, {}),
        (".wav", 48_000, 4, {"foa_angle_deg": 70.0}),
        (".ogg", 16_000, 1, {"mono": "duplicate"}),
    ],
)
def test_a_long_file_is_heard_as_a_short_one(tmp_path, monkeypatch, suffix, rate, channels, options) -> None:
    path = tmp_path / f"sound{suffix}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((12 * rate + 7, channels)), rate)
    whole = read_recording(path, None, 24_000, **options)
    monkeypatch.setattr(recordings, "LONG_BYTES", 1000)
    long = read_recording(path, None, 24_000, **options)
    assert isinstance(long.sound, LongSound) and long.sound.shape == whole.sound.shape
    assert long.without_direction == whole.without_direction and long.seconds == whole.seconds
    expected = to_int16(whole.sound)
    # Front to back with overlaps, beyond the end, and back to the beginning.
    for start, samples in ((0, 1), (0, 120_000), (60_000, 120_000), (230_001, 49_999), (287_900, 120_000), (17, 50)):
        got = long.read(start, samples)
        assert got.shape == expected[:, start : start + samples].shape
        # Another order of sums may round one sample in a million the other way.
        assert np.abs(got.astype(int) - expected[:, start : start + samples]).max(initial=0) <= (rate != 24_000)


@pytest.mark.parametrize("long", [False, True])
def test_one_sound_in_both_channels_is_heard_as_from_the_front_of_a_room(tmp_path, monkeypatch, long) -> None:
    monkeypatch.setattr(recordings, "LONG_BYTES", 1000 if long else 2**40)
    rng = np.random.default_rng(0)
    path, sound, other = tmp_path / "x.wav", np.zeros(48_000), rng.standard_normal(48_000)
    sound[10_000:] = 0.2 * rng.standard_normal(38_000)

    def opened(left, right):
        soundfile.write(path, np.stack([left, right], 1), 24_000)
        return read_recording(path, None, 24_000)

    heard = []
    for right, why in (
        (sound, "the same"), (0 * sound, "only its left"), (-sound, "turned over"), (0.98 * sound, "the same"),
        (sound + 0.003 * other, "the same"),
    ):  # fmt: skip
        recording = opened(sound, right)
        assert recording.without_direction and why in recording.without_direction
        heard.append(heard_piece(recording, 0, 48_000) / 32768.0)
        # Later windows hear what sounded before them.
        parts = [heard_piece(recording, start, 8_000) for start in range(0, 48_000, 8_000)]
        assert np.abs(np.concatenate(parts, 1) / 32768.0 - heard[-1]).max() < 1e-4
    left, right = heard[0]
    assert all(np.abs(one - heard[0]).max() < 0.02 for one in heard)
    assert not heard[0][:, :10_000].any() and np.square(heard[0]).mean() == pytest.approx(
        np.square(sound).mean(), rel=0.1
    )
    assert 0.01 < np.square(left - right).sum() / np.square(left + right).sum() < 0.5
    assert abs(left @ left - right @ right) < 0.2 * (left @ left)

    # Stereo is heard as it is: also what is panned, nearly all on one side, or later on the right.
    for right in (0.8 * sound, 0.01 * sound, np.roll(sound, 12), sound + 0.02 * other, 0.2 * other):
        recording = opened(sound, right)
        assert recording.without_direction is None
        assert np.array_equal(heard_piece(recording, 0, 48_000), recording.read(0, 48_000))
    soundfile.write(path, np.repeat(sound[:, None], 4, 1), 24_000)
    assert read_recording(path, None, 24_000, channels=4).one_sound is None


def test_what_is_wrong_with_a_long_file_is_told_as_of_a_short_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recordings, "LONG_BYTES", 1000)
    path = tmp_path / "loud.wav"
    sound = np.zeros((50_000, 4), np.float32)
    sound[40_000] = 30_000
    soundfile.write(path, sound, 24_000, subtype="FLOAT")
    with pytest.raises(SeldError, match="30,000 times full scale"):
        read_recording(path, None, 24_000, channels=4)
    with pytest.raises(SeldError, match="has 4 channels; 2 are needed"):
        soundfile.write(path, np.zeros((50_000, 4)), 24_000)
        read_recording(path, None, 24_000)


PROGRAM = """
import resource, sys
from pathlib import Path
import numpy, soundfile, torch
from dcase_seld.infer.predictor import Predictor, read_for
torch.set_num_threads(1)
folder, channels, minutes = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
path = folder / f"{channels}_{minutes}.wav"
noise = 0.1 * numpy.random.default_rng(0).standard_normal((24_000 * 60, channels))
with soundfile.SoundFile(path, "w", 24_000, channels) as file:
    for _ in range(int(minutes)):
        file.write(noise)
predictor = Predictor.load([folder / f"net{channels}"]).with_threshold(0.2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
events = predictor.predict(read_for(predictor, path), hop_frames=50, quiet=len(sys.argv) < 5)
path.unlink()
assert int(events.frame.max()) > 600 * minutes - 60
print(before // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(folder: Path, channels: int, minutes: int) -> int:
    """Return the peak memory of a process that predicts noise of so many minutes."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(channels), str(minutes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[1])


@pytest.mark.parametrize("channels", [4, 2])
def test_memory_does_not_grow_with_the_length_of_a_recording(tmp_path: Path, channels: int) -> None:
    features = ["log_mel", "intensity_vector"] if channels == 4 else ["log_mel"]
    model = {**MODEL, "track": "a", "frontend": {"features": features, "hop": 600, "mels": 16}}
    task = TASKS["dcase2024"] if channels == 4 else Task()
    network = build_model(TrainConfig(model=model).model, task, seed=1)
    with torch.no_grad():
        network.head.out.weight.mul_(0.3)
    save_model(network, tmp_path / f"net{channels}")
    short, long = peak_mb(tmp_path, channels, 4), peak_mb(tmp_path, channels, 12)
    # As floats 8 more minutes of four channels take 184 MB.
    assert long - short < 80, (short, long)
