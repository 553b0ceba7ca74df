"""Any recording that a user names, and its other half: the video beside a sound, the sound beside a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import escape
from math import ceil, gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import visible_files
from dcase_seld.core.geometry import foa_to_stereo
from dcase_seld.media.audio import (
    CONTAINERS,
    MOST_UNPACKED,
    SOUNDS,
    VIDEOS,
    Float32,
    Int16,
    Mono,
    audio_info,
    match_channels,
    read_audio,
    read_pieces,
    resample_audio,
    to_int16,
)

SILENT = 1e-4
"""A recording whose largest sample is below this share of full scale is silent."""

LONG_BYTES = 1 << 26
"""Sound that would take more memory as floats is decoded window by window."""

PIECE = 1 << 17
"""Samples of a long file that are decoded at once."""


class LongSound:
    """The sound of a long file, decoded anew front to back as windows ask for it: memory holds the windows alone.

    Attributes:
        shape: channels and samples at the networks' rate, as of an array.
        peak: largest sample as a share of full scale.
        powers: (channels, channels) sums of products of the channels.
    """

    def __init__(
        self, path: Path, from_rate: int, rate: int, channels: int, mono: Mono, foa_angle_deg: float | None
    ) -> None:
        """Read the file once, to its real end.

        Raises:
            SeldError: it is broken or has another number of channels.
        """
        self.path, self._channels, self._mono, self._angle = path, channels, mono, foa_angle_deg
        common = gcd(from_rate, rate)
        self._up, self._down = rate // common, from_rate // common
        self._pieces: Iterator[Float32] | None = None
        self._kept, self._first = np.zeros((channels, 0), np.float32), 0
        self.peak, self.powers, self._count = 0.0, np.zeros((channels, channels)), 0
        for piece in read_pieces(path, PIECE, tell=True):
            sound = self._heard(piece)
            self.peak = max(self.peak, float(np.abs(sound).max()))
            self.powers += sound @ sound.T
            self._count += sound.shape[1]
        self.shape = (channels, ceil(self._count * self._up / self._down))

    def read(self, start: int, samples: int) -> Int16:
        """Return (channels, at most `samples`) from sample `start` on; going back costs reading from the beginning."""
        stop = min(start + samples, self.shape[1])
        if self._up == self._down:
            return to_int16(self._between(start, stop))
        # A margin of the filter's length on both sides: what stands beyond it has no part in these samples.
        margin = 10 * max(self._up, self._down) // self._up + 2
        block = max(0, start // self._up - ceil(margin / self._down))
        raw = self._between(block * self._down, min(self._count, ceil(stop * self._down / self._up) + margin))
        return to_int16(
            resample_audio(raw, self._down, self._up)[:, start - block * self._up : stop - block * self._up]
        )

    def whole(self) -> Float32:
        """Return all of it in memory, float32 in [-1, 1]."""
        return np.asarray(self.read(0, self.shape[1]) / 32768.0, np.float32)

    def _heard(self, sound: Float32) -> Float32:
        if self._angle is not None:
            return _at_angle(sound, self._angle, self.path)
        return match_channels(sound, self._channels, self._mono, self.path)

    def _between(self, start: int, stop: int) -> Float32:
        """Return samples at the file's own rate; what is before `start` is forgotten."""
        if self._pieces is None or start < self._first:
            self._pieces, self._kept, self._first = read_pieces(self.path, PIECE), self._kept[:, :0], 0
        parts, end = [self._kept], self._first + self._kept.shape[1]
        while end < stop and (piece := next(self._pieces, None)) is not None:
            end += piece.shape[1]
            parts.append(self._heard(piece))
            while len(parts) > 1 and self._first + parts[0].shape[1] <= start:
                self._first += parts.pop(0).shape[1]
        joined = np.concatenate(parts, axis=1)
        drop = min(max(0, start - self._first), joined.shape[1])
        self._kept, self._first = joined[:, drop:].copy(), self._first + drop
        return self._kept[:, : max(0, stop - self._first)]


@dataclass(frozen=True)
class Recording:
    """A file that was read.

    Attributes:
        name: the file's stem.
        path: the file.
        sound: (channels, S) float32 at the networks' sample rate, or a long file's, which is read as windows need it.
        rate: that sample rate.
        video: the file with its pictures, or None.
    """

    name: str
    path: Path
    sound: Float32 | LongSound
    rate: int
    video: Path | None

    def read(self, start: int, samples: int) -> Int16:
        """Return (channels, at most `samples`) from sample `start` on, as a store keeps sound."""
        if isinstance(self.sound, LongSound):
            return self.sound.read(start, samples)
        return to_int16(self.sound[:, start : start + samples])

    @cached_property
    def one_sound(self) -> OneSound | None:
        """Return how its channels hold one sound and no direction, or None: they are stereo, or more than two."""
        sound = self.sound
        return one_sound(sound.powers if isinstance(sound, LongSound) else sound @ sound.T)

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return float(self.sound.shape[1] / self.rate)

    @property
    def without_direction(self) -> str | None:
        """Return why no direction can be heard in it, or None."""
        sound = self.sound
        peak = sound.peak if isinstance(sound, LongSound) else float(np.abs(sound).max())
        if not peak > SILENT:
            return "silence"
        if self.one_sound is None:
            return None
        return (
            f"{self.one_sound.why}: nothing tells a direction or a distance. It was heard as from the front of a small "
            "room; what sounds, and when, is all that can be believed"
        )


class OneSound(NamedTuple):
    """Two channels that hold one sound, without the difference that every place gives to two microphones."""

    why: str  # in words
    left: float  # what of the left and of the right channel makes up the sound
    right: float


ALIKE, DEAD = 1e-3, 1e-5
"""Power of what two channels differ in, against what they share, and of one against the other, below which they hold
one sound: networks' answer to mono with noise of its own in each channel at -30 dB is hardly better than to mono."""


def one_sound(powers: npt.NDArray[np.floating]) -> OneSound | None:
    """Return how two channels hold one sound, of their powers and product (2, 2) over all of a recording."""
    if powers.shape != (2, 2):
        return None
    left, right, product = float(powers[0, 0]), float(powers[1, 1]), float(powers[0, 1])
    mid, side = left + right + 2 * product, left + right - 2 * product
    if right <= DEAD * left:
        return OneSound("only its left channel holds sound", 1.0, 0.0)
    if left <= DEAD * right:
        return OneSound("only its right channel holds sound", 0.0, 1.0)
    if side <= ALIKE * mid:
        return OneSound("its channels are the same (mono)", 0.5, 0.5)
    if mid <= ALIKE * side:
        return OneSound("one channel is the other turned over (a plug with exchanged poles)", 0.5, -0.5)
    return None


def find_recordings(
    inputs: Sequence[Path], videos: Path | None = None, problems: list[SeldError] | None = None
) -> list[tuple[Path, Path | None]]:
    """Return (file with the sound, file with the pictures or None) of every recording among the inputs, by name.

    A folder stands for the files in it. Where sound and video files of one name are given (as the challenge's data
    are), they are one recording.

    Args:
        inputs: sound or video files, or folders of them.
        videos: a further folder to look for videos of the same names in.
        problems: receives what is wrong with single inputs, so that the others go on; None: the first is raised.

    Raises:
        SeldError: an input is missing or of another kind, nothing is found, or two sound files have one name.
    """
    found: list[Path] = []
    for path in inputs:
        try:
            found += _sounds_of(path)
        except SeldError as error:
            if problems is None or len(inputs) == 1:
                raise
            problems.append(error)
    if not found:
        raise SeldError(f"There is no sound or video file in {listing(inputs)}.", "Give other files or folders.")
    beside = visible_files(videos, VIDEOS) if videos else []
    pictures = {p.stem: p for p in [*beside, *found] if p.suffix.lower() in VIDEOS}
    sounds: dict[str, Path] = {}
    for path in sorted(found, key=lambda p: p.suffix.lower() in CONTAINERS):
        first = sounds.setdefault(path.stem, path)
        if first != path and not (first.suffix.lower() in SOUNDS and path.suffix.lower() in CONTAINERS):
            raise SeldError(
                f"{first} and {path} have one name, and so would their predictions.",
                "Predict them into different folders.",
            )
    return [(sound, pictures.get(name)) for name, sound in sorted(sounds.items())]


def _sounds_of(path: Path) -> list[Path]:
    """Return a file, or the sound and video files of a folder."""
    if path.is_dir():
        return visible_files(path, SOUNDS | CONTAINERS)
    if not path.exists():
        raise SeldError(f"{path} does not exist.", "Give sound or video files, or folders of them.")
    if path.suffix.lower() not in SOUNDS | CONTAINERS:
        raise SeldError(
            f"{path} is no sound or video file that is known here ({listing(sorted(SOUNDS | CONTAINERS), 20)}).",
            "Convert it to one of these.",
        )
    return [path]


def read_recording(
    path: Path,
    video: Path | None,
    rate: int,
    *,
    mono: Mono = "refuse",
    foa_angle_deg: float | None = None,
    channels: int = 2,
) -> Recording:
    """Return a recording as the networks hear it; Ambisonics may be turned to a viewing angle, as stereo.

    Args:
        path: sound or video file of any length and sample rate.
        video: the file with its pictures, or None.
        rate: samples per second of the networks.
        mono: what to do with one channel.
        foa_angle_deg: the file is first-order Ambisonics (W, Y, Z, X); view it at this angle in degrees, as stereo.
        channels: channels that the networks hear.

    Raises:
        SeldError: the file is broken, mono, or has another number of channels.
    """
    sound: Float32 | LongSound
    if (info := _long(path, 4 if foa_angle_deg is not None else channels, rate)) is not None:
        sound = LongSound(path, info, rate, channels, mono, foa_angle_deg)
    elif foa_angle_deg is None:
        sound = read_audio(path, rate=rate, channels=channels, resample=True, mono=mono)
    else:
        sound = _at_angle(read_audio(path, rate=rate, channels=None, resample=True), foa_angle_deg, path)
    if not sound.shape[1]:
        raise SeldError(f"{path} holds no sound (0 samples).", "Give a longer recording.")
    return Recording(path.stem, path, sound, rate, video)


def _at_angle(sound: Float32, angle_deg: float, path: Path) -> Float32:
    if len(sound) != 4:
        raise SeldError(
            f"{path} has {len(sound)} channel(s); first-order Ambisonics (--foa) has 4: W, Y, Z, X.",
            "Leave --foa out for stereo; of higher orders give the first four channels.",
        )
    return foa_to_stereo(sound, angle_deg)


def _long(path: Path, channels: int, rate: int) -> int | None:
    """Return the sample rate of a file whose sound is not to be held in memory as a whole; None: it may be.

    Sound tracks of containers are held; so is what a small file cannot promise, and is then refused.
    """
    if path.suffix.lower() in CONTAINERS:
        return None
    info = audio_info(path)
    held = 4 * info.samples * max(info.channels, channels * rate // info.rate)
    return info.rate if LONG_BYTES < held <= MOST_UNPACKED * path.stat().st_size else None


class Clip(NamedTuple):
    """The parts of a clip; `sound` is (channels, S), float or int16, or None."""

    name: str
    video: Path | None
    sound: np.ndarray | None
    rate: int


def _from_path(path: Path, video: Path | None) -> Clip:
    """Return the clip of a video or sound file; its other half lies beside it or in the official folders."""
    if not path.is_file():
        raise SeldError(f"{path} does not exist.", "Give a video, a sound file, or a clip's name with --data.")
    if video is not None and not video.is_file():
        raise SeldError(f"The video {video} does not exist.", "Leave out --video, or give an existing file.")
    from dcase_seld.core.task import SAMPLE_RATE
    from dcase_seld.media.audio import CONTAINERS, SOUNDS, VIDEOS, audio_info, read_audio
    from dcase_seld.media.frames import video_info

    folder = path.parent.parent.name
    kind = "foa_" if folder.startswith("foa_") or list(path.parent.parent.parent.glob("foa_*")) else "stereo_"
    audio: Path | None = path
    if path.suffix.lower() in VIDEOS:
        video = path
        audio = _sibling(path, SOUNDS | (CONTAINERS - VIDEOS), ("video_", kind)) or (
            path if video_info(path).has_audio else None
        )
    else:
        video = video or _sibling(path, VIDEOS, (kind, "video_"))
    sound = None
    if audio is not None:
        channels = 4 if audio_info(audio).channels == 4 else 2
        sound = read_audio(audio, rate=SAMPLE_RATE, channels=channels, resample=True, mono="duplicate")
    return Clip(path.stem, video, sound, SAMPLE_RATE)


def _sibling(path: Path, suffixes: frozenset[str], swap: tuple[str, str]) -> Path | None:
    folders = [path.parent]
    if path.parent.parent.name.startswith(swap[0]):
        other = path.parent.parent.name.replace(swap[0], swap[1], 1)
        folders.append(path.parent.parent.parent / other / path.parent.name)
    beside = (file for folder in folders if folder.is_dir() for file in sorted(folder.glob(f"{escape(path.stem)}.*")))
    return next((file for file in beside if file.suffix.lower() in suffixes and file.stem == path.stem), None)
