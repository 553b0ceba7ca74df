"""Reading and writing sound: the one place that knows soundfile and PyAV's audio.

Inside the package sound is float32 in [-1, 1] shaped (channels, S), or int16 in the same shape. A file with another
sample rate or channel count is refused unless the caller, and so the user, asked for the conversion.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, reason
from dcase_seld.core.files import write_bytes
from dcase_seld.core.task import SAMPLE_RATE
from dcase_seld.core.work import say
from dcase_seld.media.containers import (
    bytes_on_disk,
    end_of_stream,
    open_container,
    read_track,
    sound_track,
    track_end_s,
    wav_of_unknown_length,
)

VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})
"""Suffixes of files that may hold pictures."""

CONTAINERS = VIDEOS | {".m4a", ".aac"}
"""Suffixes that are opened with PyAV; everything else is opened with libsndfile."""

SOUNDS = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"})
"""Suffixes that libsndfile opens."""

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Sample rates that a recording can have; a header that says something else is damaged."""

LOUDEST = 8.0
"""Largest sample, as a multiple of full scale, that a recording can have: floats go a little above 1 at most."""

MOST_BYTES, MOST_UNPACKED = 1 << 29, 5_000
"""Memory that any file's sound may take, and that it may take as a multiple of the file: digital silence packs well."""

PIECE = 1 << 20
"""Samples read at once where a header cannot be believed."""

CUT_S = 0.1
"""A file that ends so much before its header promises was cut off."""

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
    with _open_sound(path) as file:
        return AudioInfo(int(file.samplerate), int(file.channels), int(file.frames), str(file.subtype))


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
    sound = _checked(np.ascontiguousarray(raw, dtype=np.float32), path)
    sound = match_channels(sound, channels, mono, path)
    _check_rate(file_rate, rate, resample, path)
    return sound if file_rate == rate else resample_audio(sound, file_rate, rate)


def read_pieces(path: Path, size: int = PIECE, tell: bool = False) -> Iterator[Float32]:
    """Yield the sound of a file that libsndfile opens, (channels, at most `size`) at its own rate, front to back.

    With `tell`, what is missing at its end is said, as `read_audio` does.

    Raises:
        SeldError: the file is missing or broken.
    """
    _require(path)
    with _open_sound(path) as file:
        done = 0
        while len(piece := file.read(size, dtype="float32", always_2d=True)):
            done += len(piece)
            yield _checked(np.ascontiguousarray(piece.T), path)
        if tell:
            _tell_end(path, int(file.frames), done, int(file.samplerate))


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
    pcm = audio if audio.dtype == np.int16 else to_int16(np.asarray(audio, dtype=np.float32))
    try:
        # Coded in memory: libsndfile does not report a full disk as an error, Python's own writing does.
        # Not by libsndfile's calls back into Python: Ctrl-C in one of these is swallowed, and the file is cut.
        coded = io.BytesIO()
        with wave.open(coded, "wb") as stream:
            stream.setparams((len(pcm), 2, rate, pcm.shape[1], "NONE", ""))
            stream.writeframes(np.stack(list(pcm), axis=1).astype("<i2").tobytes())
        with coded.getbuffer() as content:
            write_bytes(path, content)
    except (OSError, RuntimeError, wave.Error) as error:
        raise SeldError(
            f"{path} cannot be written: {reason(error)}.", "Check the folder and the free space."
        ) from error


def _read(path: Path, start: int, samples: int | None, dtype: str) -> tuple[npt.NDArray[Any], int]:
    """Return ((channels, S), rate) as the file holds it."""
    _require(path)
    if path.suffix.lower() in CONTAINERS:
        sound, rate, missing = read_track(path)
        if missing:
            say(f"note: {path} is cut short or damaged: {missing}; what is there is used")
        return sound[:, start : None if samples is None else start + samples], rate
    with _open_sound(path) as file:
        rate, frames = int(file.samplerate), int(file.frames)
        if start:
            if start > frames:
                raise SeldError(f"{path} has {frames} samples; sample {start} was asked for.", "Start earlier.")
            file.seek(start)
        wanted = frames - start if samples is None else samples
        if wanted * file.channels * 4 > max(MOST_BYTES, MOST_UNPACKED * path.stat().st_size):
            raise SeldError(
                f"{path} promises {wanted / rate / 3600:,.1f} hours of sound in {path.stat().st_size:,} bytes.",
                "Its header is damaged, or it is hours of silence: write the part that is wanted.",
            )
        # A header may promise what no disk could hold: such files are read piece by piece, as far as they go.
        piece = wanted if wanted <= 64 * path.stat().st_size + PIECE else PIECE
        parts = [file.read(min(piece, wanted), dtype=dtype, always_2d=True)]
        while 0 < sum(map(len, parts)) < wanted and len(parts[-1]) == piece:
            parts.append(file.read(min(piece, wanted - sum(map(len, parts))), dtype=dtype, always_2d=True))
    sound = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if samples is None:
        _tell_end(path, wanted, len(sound), rate)
    return sound.T, rate


def _tell_end(path: Path, wanted: int, got: int, rate: int) -> None:
    """Say where a file ends before its header promises, or goes on with another recording."""
    if got + CUT_S * rate < wanted:
        missing = f"its header promises {wanted / rate:,.1f} s, {got / rate:,.1f} s are there"
        say(f"note: {path} is cut short: {missing}")
    elif problem := end_of_stream(path):
        say(f"note: {path} {problem}; {got / rate:,.1f} s are there")


def _checked(sound: Float32, path: Path) -> Float32:
    """Return sound whose samples are numbers of a believable size, or refuse."""
    if not np.isfinite(sound).all():
        raise SeldError(f"{path} holds samples that are not numbers.", "Write the file again.")
    if sound.size and (peak := float(np.abs(sound).max())) > LOUDEST:
        raise SeldError(
            f"{path} has samples up to {f'{peak:,.0f}' if peak < 1e12 else f'{peak:.1e}'} times full scale.",
            "Write it with samples in [-1, 1]: where they are 16-bit numbers stored as float, divide by 32768 (of 24 "
            "bits by 8388608, of 32 bits by 2147483648).",
        )
    return sound


@contextmanager
def _open_sound(path: Path) -> Iterator[Any]:
    """Open a file with libsndfile; a wav that was written to a pipe is read to its end.

    Raises:
        SeldError: it is damaged, cut short, or has a sample rate that no sound has.
    """
    import soundfile

    try:
        unknown = wav_of_unknown_length(path)
        with bytes_on_disk(unknown) as number, soundfile.SoundFile(_name(path) if number is None else number) as file:
            if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
                raise SeldError(
                    f"{path} says that it has {file.samplerate:,} samples per second; {LOWEST_RATE:,} to "
                    f"{HIGHEST_RATE:,} can be.",
                    "Mend its header, or write the file again.",
                )
            yield file
    except (soundfile.LibsndfileError, RuntimeError, OSError, MemoryError, ValueError) as error:
        raise _unreadable(path, error) from error


def _container_info(path: Path) -> AudioInfo:
    """Return the sound track's figures of a video container."""
    with open_container(path, "sound") as container:
        stream = sound_track(container, path)
        end = track_end_s(container, stream)
        seconds = (container.duration or 0) / 1e6 if end is None else end
        return AudioInfo(
            int(stream.rate), int(stream.channels), round(seconds * stream.rate), str(stream.codec_context.name)
        )


def equal_channels(sound: npt.NDArray[np.floating]) -> bool:
    """Return whether sound (channels, S) has several channels and all are the same: nothing tells a direction."""
    return len(sound) > 1 and all(np.array_equal(sound[0], other) for other in sound[1:])


def match_channels(sound: Float32, channels: int | None, mono: Mono, path: Path) -> Float32:
    """Return sound with `channels` channels (None: as it is), or refuse."""
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
            "nothing then tells a direction.",
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


def _name(path: Path) -> str | bytes:
    """Return a file's name for libsndfile: where names are bytes, those of the system, which need be no text."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def _require(path: Path) -> None:
    """Refuse a path that is no file."""
    try:
        present = path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not present:
        kind = "is no regular file" if path.is_symlink() or path.exists() else "does not exist"
        if path.is_dir():
            try:
                kind = "is a folder"
                next(path.iterdir(), None)
            except OSError:
                kind = "is a folder that may not be looked into"
        raise SeldError(f"The sound file {path} {kind}.", "Check the path.")


def _unreadable(path: Path, error: Exception) -> SeldError:
    """Return the error of a file that a decoder refuses."""
    reason = str(error).removeprefix(f"Error opening {_name(path)!r}: ").strip().rstrip(".") or type(error).__name__
    if "File does not exist" in reason and path.is_file():  # said of an MP3 file in which no frame is found
        reason = "it is empty" if path.stat().st_size == 0 else "no sound is found in it"
    return SeldError(f"{path} cannot be read as sound: {reason}.", "Give a readable wav, flac, ogg, mp3 or mp4 file.")
