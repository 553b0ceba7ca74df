"""What a SELD task is: its classes, rates, windows, channels and directions, and the challenge's constants.

The constants are those of DCASE 2025 Challenge Task 3, stereo SELD in regular video (source: its task description).
What may differ, `Task` carries, from the store into the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError, listing

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

ONSCREEN_LIMIT_DEG = 51.0
"""No source whose folded |azimuth| is above this is ever labelled on screen (degrees)."""

DOA_THRESHOLD_DEG = 20.0
"""Largest azimuth error of a true positive (degrees, inclusive)."""

RELATIVE_DISTANCE_THRESHOLD = 1.0
"""Largest relative distance error of a true positive (inclusive)."""

TITLES = {
    "f_score": "F20/1 %", "f_score_onscreen": "F20/1/on-off %", "doa_error_deg": "DOA error °",
    "F": "F20 %", "DOAE_deg": "DOA error °",
}  # fmt: skip
"""Figures that are given per class, as tables head them, those of earlier editions last; "%": a share times 100."""


FARTHEST_M = 1_000.0
"""Farthest that a source can be, in metres; what is farther is another unit, or nonsense."""

LONGEST_WINDOW_S = 60.0
"""Longest window of a network in seconds."""


@dataclass(frozen=True)
class Task:
    """What a store holds and a network answers.

    Attributes:
        name: "dcase2025", or a name of the user's own.
        classes: the list of sound classes.
        sample_rate: samples per second.
        window_s: seconds that a network hears at a time; whole label frames.
        channels: "stereo" or "foa", see `geometry.CHANNELS`.
        geometry: "half_circle" or "sphere", see `geometry.GEOMETRIES`.
        tracks: sources of one class and frame that can be told.
    """

    name: str = "dcase2025"
    classes: Taxonomy = DCASE2025
    sample_rate: int = SAMPLE_RATE
    window_s: float = CLIP_SECONDS
    channels: str = "stereo"
    geometry: str = "half_circle"
    tracks: int = MAX_TRACKS

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and isinstance(self.channels, str) and isinstance(self.geometry, str)):
            raise SeldError("A task's name, channels and geometry are words.", "Change it in the task.")
        frames = self.window_s * LABEL_RATE if math.isfinite(self.window_s) else 0.0
        wrong = [
            (abs(frames - round(frames)) > 1e-6 or not 1 <= frames <= LONGEST_WINDOW_S * LABEL_RATE,
             f"window_s is {self.window_s}", f"tenths of a second from 0.1 to {LONGEST_WINDOW_S:g}"),
            (self.channels not in ("stereo", "foa"), f"channels is {self.channels!r}", "stereo or foa"),
            (self.geometry not in ("half_circle", "sphere"), f"geometry is {self.geometry!r}", "half_circle or sphere"),
            (self.channels == "stereo" and self.geometry == "sphere", "geometry is sphere",
             "half_circle for stereo: two channels cannot tell front from back, nor heights"),
            (not 1 <= self.tracks <= MAX_TRACKS, f"tracks is {self.tracks}", f"1 to {MAX_TRACKS}"),
            (not 4_000 <= self.sample_rate <= 192_000 or bool(self.sample_rate % LABEL_RATE),
             f"sample_rate is {self.sample_rate}", f"4,000 to 192,000 Hz, a multiple of {LABEL_RATE}"),
        ]  # fmt: skip
        for refused, got, expected in wrong:
            if refused:
                raise SeldError(f"The task {self.name!r}: {got}; {expected} is possible.", "Change it in the task.")

    @property
    def window_frames(self) -> int:
        """Return the label frames T of a window."""
        return round(self.window_s * LABEL_RATE)

    @property
    def samples_per_frame(self) -> int:
        """Return the samples of one label frame."""
        return self.sample_rate // LABEL_RATE

    @property
    def window_samples(self) -> int:
        """Return the samples per channel of a window."""
        return self.window_frames * self.samples_per_frame

    def frames_of(self, samples: npt.ArrayLike) -> Ints:
        """Return the label frames of sounds of `samples` samples, rounded to the nearest, at least 1."""
        return frames_of(samples, self.sample_rate)

    def hop_frames(self, overlap: float) -> int:
        """Return the label frames between windows of which a share `overlap` in [0, 0.9] is covered twice."""
        return max(1, round(self.window_frames * (1 - overlap)))

    def to_json(self) -> dict[str, Any]:
        """Return the task as plain data."""
        return {**asdict(self), "classes": self.classes.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Task:
        """Return the task that `to_json` wrote, or one from a user's keys; what is missing is dcase2025's.

        Raises:
            SeldError: a key is unknown, or a value is not possible.
        """
        unknown = sorted(set(data) - set(Task.__dataclass_fields__))
        if unknown:
            raise SeldError(
                f"A task has no {listing(unknown)}.", f"Its keys are {', '.join(Task.__dataclass_fields__)}."
            )
        fields = dict(data)
        if "classes" in fields and not isinstance(fields["classes"], Taxonomy):
            known = fields["classes"]
            fields["classes"] = Taxonomy.from_json(known if isinstance(known, dict) else {"classes": known})
        try:
            for name in filter(fields.__contains__, _NUMBERS):
                given, fields[name] = fields[name], _NUMBERS[name](fields[name])
                if isinstance(given, bool) or float(given) != fields[name]:
                    raise ValueError(f"{name} is {given!r}")
        except (TypeError, ValueError, OverflowError) as error:
            raise SeldError(f"A task's numbers cannot be read: {error}.", "Write numbers without units.") from error
        return Task(**fields)

    def differences(self, other: Task) -> list[str]:
        """Return what keeps two tasks from being mixed, as sentences' parts; empty where nothing does."""
        found = [
            f"{name} {getattr(self, name)} and {getattr(other, name)}"
            for name in ("sample_rate", "window_s", "channels", "geometry", "tracks")
            if getattr(self, name) != getattr(other, name)
        ]
        if self.classes.classes != other.classes.classes:
            found.append(f"the classes {listing(self.classes.classes)} and {listing(other.classes.classes)}")
        return found


_NUMBERS = {"sample_rate": int, "window_s": float, "tracks": int}

TASKS = {
    "dcase2025": Task(),
    "dcase2024": Task("dcase2024", channels="foa", geometry="sphere"),
    "dcase2023": Task("dcase2023", channels="foa", geometry="sphere"),
}
"""Tasks that are known by name: the challenge's editions."""


def load_task(name: str, **changes: Any) -> Task:
    """Return a known task, or the one in a YAML file, with `changes` to its fields (None: unchanged).

    Raises:
        SeldError: there is neither a task nor a file of this name, or a field is wrong.
    """
    task = TASKS.get(name)
    if task is None:
        path = Path(name)
        if not path.is_file():
            raise SeldError(
                f"There is no task {name!r}, and no file of this name.", f"Tasks: {', '.join(TASKS)}; or a YAML file."
            )
        from dcase_seld.core.reading import read_yaml

        data = read_yaml(path, "The task file", "Write name:, window_s: and the like in it.")
        task = Task.from_json({"name": path.stem, **data})
    return replace(task, **{key: value for key, value in changes.items() if value is not None})


def window_starts(frames: int, window: int, hop: int) -> list[int]:
    """Return the first label frame of each window that covers a recording.

    The last window ends with the recording (it overlaps the one before it more than the others do), so that no window
    but that of a recording shorter than one window is padded with silence. `frames` (≥ 1), `window` and `hop` (1 …
    window) are label frames.
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
