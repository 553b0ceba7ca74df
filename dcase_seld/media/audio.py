"""Reading and writing sound: the one place that knows soundfile and PyAV's audio.

Inside the package sound is float32 in [-1, 1] shaped (channels, S), or int16 in the same shape. A file with another
sample rate or channel count is refused unless the caller, and so the user, asked for the conversion.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import write_bytes
from dcase_seld.core.task import SAMPLE_RATE

VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})
"""Suffixes of files that may hold pictures."""

CONTAINERS = VIDEOS | {".m4a", ".aac"}
"""Suffixes that are opened with PyAV; everything else is opened with libsndfile."""

SOUNDS = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"})
"""Suffixes that libsndfile opens."""

Mono = Literal["refuse", "duplicate"]

Float32 = npt.NDArray[np.float32]

Int16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file's header says.

    Attributes:
        rate: samples per second and channel.
        channels: number of channels.
        samples: samples per channel (containers: estimated from the duration).
        subtype: coding, as "PCM_16".
    """

    rate: int
    channels: int
    samples: int
    subtype: str

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return self.samples / self.rate


def audio_info(path: Path) -> AudioInfo:
    """Return what the header of a sound or video file says; a wav that ends before its header promises is an error.

    Raises:
        SeldError: the file is missing, holds no sound or is cut short.
    """
    _require(path)
    if path.suffix.lower() in CONTAINERS:
        return _container_info(path)
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise _unreadable(path, error) from error
    _refuse_truncated(path)
    return AudioInfo(int(info.samplerate), int(info.channels), int(info.frames), str(info.subtype))


def read_audio(
    path: Path,
    *,
    rate: int = SAMPLE_RATE,
    channels: int | None = 2,
    resample: bool = False,
    mono: Mono = "refuse",
    start_sample: int = 0,
    samples: int | None = None,
) -> Float32:
    """Return the sound of a file, float32 in [-1, 1], (channels, S).

    Args:
        path: wav, flac, ogg or mp3 file, or the sound track of an mp4, mkv, mov or m4a file.
        rate: samples per second to return.
        channels: channels to return; 1 averages several, None keeps what the file has.
        resample: convert another sample rate (polyphase filter) instead of refusing it.
        mono: "duplicate" copies a mono sound to all channels instead of refusing it.
        start_sample: first sample, counted at the file's own rate.
        samples: how many samples of the file to read; None reads to its end.

    Raises:
        SeldError: the file is missing, broken, cut short, or has another rate or channel count and no option allows it.
    """
    raw, file_rate = _read(path, start_sample, samples, "float32")
    sound = np.ascontiguousarray(raw, dtype=np.float32)
    if not np.isfinite(sound).all():
        raise SeldError(f"{path} holds samples that are not numbers.", "Write the file again.")
    sound = _match_channels(sound, channels, mono, path)
    _check_rate(file_rate, rate, resample, path)
    return sound if file_rate == rate else resample_audio(sound, file_rate, rate)


def read_int16(
    path: Path, *, rate: int = SAMPLE_RATE, channels: int = 2, resample: bool = False, mono: Mono = "refuse"
) -> Int16:
    """Return the sound of a file as int16, (channels, S); a 16-bit file comes back bit for bit.

    Raises:
        SeldError: as `read_audio`.
    """
    if path.suffix.lower() not in CONTAINERS:
        info = audio_info(path)
        if info.subtype == "PCM_16" and info.rate == rate and info.channels == channels:
            return np.asarray(_read(path, 0, None, "int16")[0], dtype=np.int16)
    return to_int16(read_audio(path, rate=rate, channels=channels, resample=resample, mono=mono))


def resample_audio(sound: Float32, from_rate: int, to_rate: int) -> Float32:
    """Return sound (..., S) at another rate, by a polyphase low-pass filter; ceil(S · to / from) samples."""
    from scipy.signal import resample_poly

    common = gcd(from_rate, to_rate)
    return np.asarray(resample_poly(sound, to_rate // common, from_rate // common, axis=-1), dtype=np.float32)


def to_int16(sound: npt.NDArray[np.floating[Any]]) -> Int16:
    """Return sound in [-1, 1] as int16 (x · 32768, rounded, clipped); the inverse of reading 16-bit files."""
    return np.asarray(np.clip(np.rint(sound * 32768.0), -32768, 32767), dtype=np.int16)


def write_wav(path: Path, audio: Float32 | Int16, rate: int = SAMPLE_RATE) -> None:
    """Write sound (channels, S), float in [-1, 1] or int16, as a 16-bit wav: temporary name first, then renamed.

    Raises:
        SeldError: the folder is missing or the disk is full.
    """
    import soundfile

    pcm = audio if audio.dtype == np.int16 else to_int16(np.asarray(audio, dtype=np.float32))
    try:
        # Coded in memory: libsndfile does not report a full disk as an error, Python's own writing does.
        coded = io.BytesIO()
        soundfile.write(coded, np.ascontiguousarray(pcm.T), rate, format="WAV", subtype="PCM_16")
        write_bytes(path, coded.getbuffer())
    except (OSError, RuntimeError) as error:
        raise SeldError(f"{path} cannot be written: {error}.", "Check the folder and the free space.") from error


def _read(path: Path, start: int, samples: int | None, dtype: str) -> tuple[npt.NDArray[Any], int]:
    """Return ((channels, S), rate) as the file holds it."""
    _require(path)
    if path.suffix.lower() in CONTAINERS:
        sound, rate = _read_container(path)
        return sound[:, start : None if samples is None else start + samples], rate
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as file:
            _refuse_truncated(path)
            rate = int(file.samplerate)
            if start:
                if start > file.frames:
                    raise SeldError(
                        f"{path} has {file.frames} samples; sample {start} was asked for.", "Start earlier."
                    )
                file.seek(start)
            sound = file.read(-1 if samples is None else samples, dtype=dtype, always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise _unreadable(path, error) from error
    return sound.T, rate


def _container_info(path: Path) -> AudioInfo:
    """Return the sound track's figures of a video container."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise _no_sound(path)
            stream = container.streams.audio[0]
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = (container.duration or 0) / 1e6
            coding = str(stream.codec_context.name)
            return AudioInfo(int(stream.rate), int(stream.channels), round(seconds * stream.rate), coding)
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _read_container(path: Path) -> tuple[Float32, int]:
    """Return ((channels, S), rate) of the first sound track of a video container."""
    import av

    blocks: list[npt.NDArray[Any]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise _no_sound(path)
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                blocks += [block.to_ndarray() for block in planar.resample(frame)]
            blocks += [block.to_ndarray() for block in planar.resample(None)]
            rate = int(stream.rate)
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error
    if not blocks:
        raise SeldError(f"{path} has a sound track without a single sample.", "Write the file again.")
    return np.concatenate(blocks, axis=1).astype(np.float32, copy=False), rate


def _match_channels(sound: Float32, channels: int | None, mono: Mono, path: Path) -> Float32:
    """Return sound with `channels` channels, or refuse."""
    got = sound.shape[0]
    if channels is None or got == channels:
        return sound
    if channels == 1:
        return np.asarray(sound.mean(axis=0, keepdims=True), dtype=np.float32)
    if got == 1 and mono == "duplicate":
        return np.repeat(sound, channels, axis=0)
    if got == 1:
        raise SeldError(
            f"{path} is mono; {channels} channels are needed.",
            "Ask for `mono: duplicate` (command line: --mono duplicate) to copy it to all channels: "
            "its direction is then always the front.",
        )
    hint = " If they are Ambisonics: `predict --foa DEGREES`, or `data convert` to make stereo." if got == 4 else ""
    raise SeldError(
        f"{path} has {got} channels; {channels} are needed.", f"Give a file with {channels} channels.{hint}"
    )


def _check_rate(got: int, want: int, resample: bool, path: Path) -> None:
    """Refuse another sample rate unless resampling was asked for."""
    if got != want and not resample:
        raise SeldError(
            f"{path} has a sample rate of {got} Hz; {want} Hz is needed.",
            "Ask for `resample: true` (command line: --resample) to convert it.",
        )


def _refuse_truncated(path: Path) -> None:
    """Refuse a RIFF wav whose data chunk is longer than the file: libsndfile would return the rest silently."""
    with path.open("rb") as stream:
        head = stream.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return
        size = os.fstat(stream.fileno()).st_size
        position = 12
        while position + 8 <= size:
            stream.seek(position)
            chunk = stream.read(8)
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                # A program that wrote to a pipe could not know the length and left all bits set.
                if length != 0xFFFFFFFF and position + 8 + length > size:
                    raise SeldError(
                        f"{path} is cut short: its header promises {length:,} bytes of sound, "
                        f"{size - position - 8:,} are there.",
                        "Copy or unpack the file again.",
                    )
                return
            position += 8 + length + (length & 1)
    raise SeldError(f"{path} is cut short: it holds a wav header and no sound.", "Copy or unpack the file again.")


def _require(path: Path) -> None:
    """Refuse a path that is no file."""
    try:
        present = path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not present:
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise SeldError(f"The sound file {path} {kind}.", "Check the path.")


def _no_sound(path: Path) -> SeldError:
    """Return the error of a video without a sound track."""
    return SeldError(f"{path} has no sound track.", "Give a file with sound.")


def _unreadable(path: Path, error: Exception) -> SeldError:
    """Return the error of a file that a decoder refuses."""
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return SeldError(f"{path} cannot be read as sound: {reason}.", "Give a readable wav, flac, ogg, mp3 or mp4 file.")
