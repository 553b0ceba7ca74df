"""Sound tracks of video containers, in time with the pictures; opening containers; what headers of sound files promise.

A container's zero is where its first track begins; pictures (`media.frames`) and sound are counted from there.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import say

JOINED_S = 0.05
"""Blocks whose presentation times are this near to the end of the block before follow on it: clocks are rounded."""

LONGEST_HOLE_S = 3600.0
"""More silence between the blocks of a track is a damaged clock, not a recording."""

CUT_S = 0.5
"""A track that ends so much before its container promises was cut off."""


@contextmanager
def open_container(path: Path, what: str) -> Iterator[Any]:
    """Open a container with PyAV.

    Args:
        path: the file.
        what: "sound" or "video", for the error.

    Raises:
        SeldError: the file, or what is read of it within the block, is damaged.
    """
    import av

    try:
        with ExitStack() as stack:
            # PyAV wants names in UTF-8; what is none is opened here.
            named = str(path).isprintable() or os.name != "posix"
            file: Any = str(path) if named else stack.enter_context(path.open("rb"))
            yield stack.enter_context(av.open(file, metadata_errors="replace"))
    # Streams without a known codec have no context (AttributeError); tags and numbers may be anything (ValueError).
    except (av.FFmpegError, OSError, ValueError, AttributeError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).strip().rstrip(".") or type(error).__name__
        raise SeldError(f"{path} cannot be read as {what}: {reason}.", f"Give a readable {what} file.") from error


def sound_track(container: Any, path: Path) -> Any:
    """Return the first sound track of an open container.

    Raises:
        SeldError: there is none, or nothing here decodes it.
    """
    if not container.streams.audio:
        raise SeldError(f"{path} has no sound track.", "Give a file with sound.")
    stream = container.streams.audio[0]
    if stream.codec_context is None or not stream.rate:
        raise SeldError(f"{path} has a sound track of an unknown coding.", "Convert it to wav, flac or mp4 with AAC.")
    return stream


def track_end_s(container: Any, stream: Any) -> float | None:
    """Return where a track says that it ends, in seconds from the container's zero, or None where it does not say."""
    if stream.duration is None or stream.time_base is None:
        return None
    start, duration = stream.start_time or 0, stream.duration
    index = list(stream.index_entries)[-2:] if start > 0 else []
    if len(index) > 1:
        # Where an edit list delays a track, FFmpeg counts the delay into the duration, or does not: the blocks tell.
        before, last = (block.timestamp for block in index)
        if 0 < duration - last <= 1.5 * (last - before):
            start = 0
    return float((start + duration) * stream.time_base) - _zero_s(container)


def riff_bytes(path: Path) -> int:
    """Return how many bytes the header of an AVI file promises; 0: it does not say, or it is another container."""
    with path.open("rb") as stream:
        head = stream.read(12)
    return 8 + int.from_bytes(head[4:8], "little") if head[:4] == b"RIFF" and head[4:8] != b"\xff" * 4 else 0


def _zero_s(container: Any) -> float:
    import av

    return float((container.start_time or 0) / av.time_base)


def read_track(path: Path) -> tuple[npt.NDArray[np.float32], int, str | None]:
    """Return ((channels, S), rate, what is missing or None) of a container's sound, from its zero on.

    Blocks stand where their presentation times say, with silence where there is none, and the sound ends where the
    track says that it does: coders fill their last block up.

    Raises:
        SeldError: no sound track, or it cannot be decoded.
    """
    import av

    blocks: list[tuple[int, npt.NDArray[Any]]] = []
    end, silence, reached, damaged = 0, 0, 0.0, 0
    with open_container(path, "sound") as container:
        stream = sound_track(container, path)
        rate, zero, promised = int(stream.rate), _zero_s(container), track_end_s(container, stream)
        planar, form = av.AudioResampler(format="fltp"), None
        # Packets of all tracks, since a container that was cut off ends early in each of them.
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base) - zero)
            if packet.stream.index != stream.index:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                kind = (int(frame.sample_rate), len(frame.layout.channels))
                form = form or kind
                if kind != form:
                    raise SeldError(
                        f"{path} changes its sound at {end / rate:.1f} s, from {form[1]} channels at {form[0]:,} Hz to "
                        f"{kind[1]} at {kind[0]:,} Hz.",
                        "Cut it there, or write it again with one format.",
                    )
                rate = form[0]
                at = end if frame.pts is None else round((float(frame.pts * frame.time_base) - zero) * rate)
                if blocks and abs(at - end) <= JOINED_S * rate:
                    at = end
                silence += max(0, at - end)
                if silence > LONGEST_HOLE_S * rate:
                    raise SeldError(
                        f"{path} has holes of {silence / rate:.0f} s in its sound: its clock is damaged.",
                        "Write the file again.",
                    )
                for block in planar.resample(frame):
                    samples = block.to_ndarray()
                    blocks.append((at, samples))
                    at += samples.shape[1]
                end = max(end, at)
        told = promised if promised is not None else float((container.duration or 0) / av.time_base)
    if not blocks:
        raise SeldError(f"{path} has a sound track without a single sample that can be decoded.", "Write it again.")
    length = end if promised is None else max(1, min(end, round(promised * rate)))
    sound = np.zeros((blocks[0][1].shape[0], length), np.float32)
    for at, samples in blocks:
        part = samples[:, max(0, -at) :]
        place = sound[:, max(0, at) : max(0, at) + part.shape[1]]
        place[:] = part[:, : place.shape[1]]
    got = length / rate if promised is not None else reached
    if path.stat().st_size < (size := riff_bytes(path)):
        return sound, rate, f"its header promises {size:,} bytes, {path.stat().st_size:,} are there"
    if got < told - CUT_S:
        return sound, rate, f"its header promises {told:.1f} s, {got:.1f} s are there"
    return sound, rate, f"{damaged} blocks of its sound are damaged" if damaged else None


UNKNOWN_LENGTHS = frozenset({0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFF000})
"""Lengths that programs write in a wav's header when they write to a pipe."""


def wav_of_unknown_length(path: Path) -> bytes | None:
    """Return a wav whose writer could not know its length (a pipe), with its length filled in; else None.

    RF64 and BW64, which count with 64 bits, are wav files too; of AIFF files the length is looked at.

    Raises:
        SeldError: the header promises more than the file has: libsndfile would return the rest silently.
    """
    with path.open("rb") as stream:
        head = stream.read(12)
        size = os.fstat(stream.fileno()).st_size
        promised = 8 + int.from_bytes(head[4:8], "big") if head[:4] == b"FORM" else 0
        if promised > size:
            raise _cut(path, promised, size)
        if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
            return None
        position, long = 12, 0
        while position + 8 <= size:
            stream.seek(position)
            chunk = stream.read(24)
            length = int.from_bytes(chunk[4:8], "little")
            if chunk[:4] == b"ds64":
                long = int.from_bytes(chunk[16:24], "little")
            if chunk[:4] == b"data":
                there = size - position - 8
                if head[:4] != b"RIFF" and length == 0xFFFFFFFF:
                    length = long
                if there and (length == 0 or (length in UNKNOWN_LENGTHS and length > there)):
                    stream.seek(0)
                    content = bytearray(stream.read())
                    content[:4], content[4:8], content[position + 4 : position + 8] = (
                        b"RIFF",
                        _word(size - 8),
                        _word(there),
                    )
                    return bytes(content).replace(b"ds64", b"JUNK", 1) if head[:4] != b"RIFF" else bytes(content)
                if length > there:
                    raise _cut(path, length, there)
                stream.seek(position + 8 + length + (length & 1))
                if len(rest := stream.read(8)) == 8 and not (rest[:4].isascii() and rest[:4].decode().isprintable()):
                    say(f"note: {path}: its header counts {length:,} bytes of sound; {there - length:,} are left out")
                return None
            position += 8 + length + (length & 1)
    raise SeldError(f"{path} is cut short: it holds a wav header and no sound.", "Copy or unpack the file again.")


def _cut(path: Path, promised: int, there: int) -> SeldError:
    problem = f"{path} is cut short: its header promises {promised:,} bytes of sound, {there:,} are there."
    return SeldError(problem, "Copy or unpack the file again.")


def _word(number: int) -> bytes:
    return min(number, 0xFFFFFFFF).to_bytes(4, "little")


def end_of_stream(path: Path) -> str | None:
    """Return what is odd about the end of an Ogg or MP3 file, or None: it was cut off, or others were joined to it."""
    joined = "holds several recordings one after the other; only the first is read"
    with path.open("rb") as stream:
        head = stream.read(4096)
        if head[:4] != b"OggS":
            place = max(head.find(b"Xing"), head.find(b"Info")) + 4
            flags = head[place + 3] if path.suffix.lower() == ".mp3" and 4 < place < len(head) - 12 else 0
            count = int.from_bytes(head[place + 4 * (1 + flags % 2) :][:4], "big") if flags & 2 else 0
            # Covers and tags may follow, lyrics too: a tenth more is none of them twice.
            return (
                joined if 0 < 1.1 * count + 1_000_000 * (b"APIC" in head) < os.fstat(stream.fileno()).st_size else None
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            place, kinds = 0, b""
            while place >= 0 and place + 6 <= len(pages):
                kinds += pages[place + 5 : place + 6]  # of each page: 2 is the first of a stream, 4 its last
                place = pages.find(b"OggS", place + 27)
    if any(kind & 2 for kind in kinds.lstrip(bytes((2, 3, 6, 7)))):
        return joined
    return None if kinds[-1] & 4 else "is cut short: its last page is not marked as the end"


@contextmanager
def bytes_on_disk(content: bytes | None) -> Iterator[int | None]:
    """Yield the number of an open file with this content: calls back into Python would swallow Ctrl-C."""
    if content is None:
        yield None
        return
    with tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.seek(0)
        yield os.dup(stream.fileno())  # which the reader closes
