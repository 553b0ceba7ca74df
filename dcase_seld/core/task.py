"""Constants of DCASE 2025 Challenge Task 3, stereo SELD in regular video. Source: the challenge's task description."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

SAMPLE_RATE = 24_000
"""Samples per second of every clip."""

LABEL_RATE = 10
"""Label frames per second (one frame is 100 ms)."""

CLIP_SECONDS = 5
"""Length of a challenge clip in seconds."""

CLIP_FRAMES = CLIP_SECONDS * LABEL_RATE
"""Label frames of a challenge clip, 50."""

CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE
"""Samples per channel of a challenge clip, 120,000."""

SAMPLES_PER_FRAME = SAMPLE_RATE // LABEL_RATE
"""Samples of one label frame, 2,400."""

MAX_TRACKS = 3
"""Tracks (N) of the multi-ACCDOA output: simultaneous sources of one class that it can tell."""

VIDEO_WIDTH, VIDEO_HEIGHT = 640, 360
"""Size of the perspective video in pixels."""

VIDEO_FPS = 30_000 / 1_001
"""Frames per second of the perspective video, 29.97."""

HORIZONTAL_FOV_DEG = 100.0
"""Horizontal field of view of the perspective video in degrees."""

VERTICAL_FOV_DEG = 67.67
"""Vertical field of view of the perspective video in degrees, rounded as published."""

ONSCREEN_LIMIT_DEG = 51.0
"""No source whose folded |azimuth| is above this is ever labelled on screen (degrees)."""

DOA_THRESHOLD_DEG = 20.0
"""Largest azimuth error of a true positive (degrees, inclusive)."""

RELATIVE_DISTANCE_THRESHOLD = 1.0
"""Largest relative distance error of a true positive (inclusive)."""


def window_starts(frames: int, window: int, hop: int) -> list[int]:
    """Return the first label frame of each window that covers a recording.

    The last window ends with the recording (it overlaps the one before it more than the others do), so that no window
    but that of a recording shorter than one window is padded with silence.

    Args:
        frames: label frames of the recording, at least 1.
        window: label frames of a window.
        hop: label frames from one window to the next, 1 … window.
    """
    if not 1 <= hop <= window:
        raise ValueError(f"hop must be 1 … {window}, got {hop}")
    last = max(0, frames - window)
    return [*range(0, last, hop), last]


def sample_times(seconds: float, fps: float) -> npt.NDArray[np.float64]:
    """Return the times of sampled frames in a clip: the middles of steps of 1 / fps seconds."""
    count = max(1, round(seconds * fps))
    return np.asarray((np.arange(count) + 0.5) * (seconds / count))


def label_times(frames: int) -> npt.NDArray[np.float64]:
    """Return (T,) the middle of each label frame in seconds."""
    return np.asarray((np.arange(frames) + 0.5) / LABEL_RATE)


def frames_of(samples: npt.ArrayLike, sample_rate: int) -> Ints:
    """Return the label frames of sounds of `samples` samples, rounded to the nearest, at least 1."""
    per_frame = sample_rate // LABEL_RATE
    return np.maximum((np.asarray(samples, np.int64) + per_frame // 2) // per_frame, 1)


def frame_times(seconds: float, fps: float) -> list[float]:
    """Return the times in seconds at which a clip's frames are taken: the middle of each of its V intervals."""
    return [(position + 0.5) / fps for position in range(max(1, round(seconds * fps)))]
