"""Writing the packed audio of a store: threads, marks of progress that survive a kill, disk space reserved first."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.task import SAMPLE_RATE
from dcase_seld.core.work import progress, run_threads, say
from dcase_seld.corpus.layout import Clip
from dcase_seld.media.audio import Mono, read_int16

CHUNK = 32
"""Clips that are written between two marks of progress: what a kill can lose."""

SILENT = 4
"""A clip whose samples are all below this (of 32,768) is silent."""


@dataclass(frozen=True)
class AudioOptions:
    """What to do with sound that is not as the store needs it; by default it is refused."""

    rate: int = SAMPLE_RATE  # samples per second of the store
    channels: int = 2  # channels of the store
    resample: bool = False  # convert other sample rates
    mono: Mono = "refuse"  # "duplicate" copies mono sound to both channels

    def read(self, path: Path) -> npt.NDArray[np.int16]:
        """Return the sound of a file as the store keeps it, (channels, S)."""
        return read_int16(path, rate=self.rate, channels=self.channels, resample=self.resample, mono=self.mono)


def pack_audio(
    clips: Sequence[Clip],
    samples: npt.NDArray[np.int64],
    out: Path,
    audio: AudioOptions,
    skip_broken: bool,
    workers: int,
    quiet: bool,
) -> list[tuple[str, str]]:
    """Write audio.i16; return (clip, problem) of sounds that broke off, for which the caller packs again."""
    first = np.concatenate([[0], np.cumsum(samples)]) * 2 * audio.channels
    target, journal = out / "audio.i16", out / "pack.done"
    chunks = [range(start, min(start + CHUNK, len(clips))) for start in range(0, len(clips), CHUNK)]
    done = _resume(out, clips, audio, len(chunks), int(first[-1]))
    broken: list[tuple[str, str]] = []
    silent: list[str] = []

    with (
        closing(_Descriptor(target)) as pcm,
        closing(_Descriptor(journal)) as marks,
        progress("packing audio", len(clips), "clips", quiet) as advance,
    ):
        advance(sum(len(chunks[index]) for index in np.flatnonzero(done)))

        def write(chunk: int) -> None:
            for index in chunks[chunk]:
                clip = clips[index]
                assert clip.audio is not None
                try:
                    sound = audio.read(clip.audio)
                    if sound.shape[1] != samples[index]:
                        raise SeldError(f"{clip.audio} changed, or its sound breaks off.", "Check the file.")
                except SeldError as error:
                    if not skip_broken:
                        raise
                    broken.append((clip.name, error.problem))
                    continue
                if int(sound.max()) < SILENT and int(sound.min()) > -SILENT:
                    silent.append(clip.name)
                pcm.write(np.ascontiguousarray(sound.T).tobytes(), int(first[index]))
            marks.write(b"\1", chunk)
            advance(len(chunks[chunk]))

        run_threads(write, np.flatnonzero(~done).tolist(), workers, "", True)
    if silent:
        say(f"note: {len(silent)} of {len(clips)} clips are silent: {listing(sorted(silent))}")
    return broken


class _Descriptor:
    """An open file that several threads write at positions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        self._moving = Lock()

    def write(self, content: bytes, offset: int) -> None:
        try:
            while content:
                wrote = self._write_some(content, offset)
                content, offset = content[wrote:], offset + wrote
        except OSError as error:
            raise _no_room(self.path, len(content), error) from error

    def _write_some(self, content: bytes, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self.number, content, offset)
        with self._moving:  # Windows
            os.lseek(self.number, offset, os.SEEK_SET)
            return os.write(self.number, content)

    def close(self) -> None:
        os.close(self.number)


def _resume(out: Path, clips: Sequence[Clip], audio: AudioOptions, chunks: int, size: int) -> npt.NDArray[np.bool_]:
    """Return which chunks an interrupted attempt of the very same plan has finished; reserve the disk space."""
    stamps = [(str(clip.audio), *_stamp(clip.audio)) for clip in clips]
    plan = hashlib.sha256(json.dumps([stamps, vars(audio), CHUNK, size]).encode()).hexdigest()
    target, journal, plan_file = out / "audio.i16", out / "pack.done", out / "pack.json"
    same = plan_file.exists() and plan_file.read_text(encoding="utf-8") == plan
    if same and target.exists() and target.stat().st_size == size and journal.exists():
        marks = np.frombuffer(journal.read_bytes(), np.uint8)
        if len(marks) == chunks:
            return np.asarray(marks == 1)
    plan_file.unlink(missing_ok=True)
    try:
        with target.open("wb") as stream:
            _reserve(stream.fileno(), size)
        journal.write_bytes(bytes(chunks))
        plan_file.write_text(plan, encoding="utf-8")
    except OSError as error:
        target.unlink(missing_ok=True)
        raise _no_room(target, size, error) from error
    return np.zeros(chunks, np.bool_)


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the disk space of a whole file: a full disk is told before an hour of work, not after."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            # Some file systems cannot reserve.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.ftruncate(descriptor, size)


def _stamp(path: Path | None) -> tuple[int, int]:
    assert path is not None
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _no_room(path: Path, size: int, error: OSError) -> SeldError:
    return SeldError(
        f"{path} cannot be written: {error.strerror}; {size:,} more bytes are needed.",
        "Make room, or choose another --work folder; finished parts are kept.",
    )
