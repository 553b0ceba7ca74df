"""Sound tracks of video containers, in time with the pictures; and opening containers at all.

A container's zero is where its first track begins; pictures (`media.frames`) and sound are counted from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError

JOINED_S = 0.05
"""Blocks whose presentation times are this near to the end of the block before follow on it: clocks are rounded."""

LONGEST_HOLE_S = 3600.0
"""A longer silence between two blocks is a damaged clock, not a recording."""

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
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
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
    start = float((stream.start_time or 0) * stream.time_base)
    return start + float(stream.duration * stream.time_base) - _zero_s(container)


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
    end, reached, damaged = 0, 0.0, 0
    with open_container(path, "sound") as container:
        stream = sound_track(container, path)
        rate, zero, promised = int(stream.rate), _zero_s(container), track_end_s(container, stream)
        planar = av.AudioResampler(format="fltp")
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
                at = end if frame.pts is None else round((float(frame.pts * frame.time_base) - zero) * rate)
                if blocks and abs(at - end) <= JOINED_S * rate:
                    at = end
                if at - end > LONGEST_HOLE_S * rate:
                    raise SeldError(
                        f"{path} has a hole of {(at - end) / rate:.0f} s in its sound: its clock is damaged.",
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
    if got < told - CUT_S:
        return sound, rate, f"its header promises {told:.1f} s, {got:.1f} s are there"
    return sound, rate, f"{damaged} blocks of its sound are damaged" if damaged else None
