"""Reading pictures and videos: frames at requested times, exact to the frame; the one place that seeks and decodes."""

from __future__ import annotations

import bisect
import contextlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import read_bytes
from dcase_seld.media.containers import open_container

Image = npt.NDArray[np.uint8]
"""(height, width, 3), blue, green, red."""

END_TOLERANCE_S = 0.25
"""A time at most this far before the first or after the last frame still gets that frame: recorders round lengths."""


class VideoReader:
    """An open video with the sorted presentation times of its frames; decodes frames by their place in that order.

    The times come from reading the packets once without decoding them, which costs about a hundredth of decoding.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            found = "is no regular file" if path.is_symlink() or path.exists() else "does not exist"
            raise SeldError(f"The video {path} {found}.", "Give an existing video file.")
        with contextlib.ExitStack() as stack:
            self.container: Any = stack.enter_context(open_container(path, "video"))
            if not self.container.streams.video:
                raise SeldError(f"{path} holds no picture.", "Give a video file.")
            self.stream: Any = self.container.streams.video[0]
            if self.stream.codec_context is None:
                raise SeldError(f"{path} holds pictures in a coding that is not known.", "Write them as H.264.")
            self.stream.thread_type = "AUTO"
            self._index()
            self._stack = stack.pop_all()
        self._packets: Iterator[Any] = iter(())
        self._decoded: deque[Any] = deque()
        self._next = math.inf

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _index(self) -> None:
        import av

        stamps: dict[int, float] = {}
        keys: list[int] = []
        # A cut-off file ends in an error here; what came before it is good.
        with contextlib.suppress(av.FFmpegError):
            for packet in self.container.demux(self.stream):
                if packet.pts is None or packet.is_discard:
                    continue
                stamps[packet.pts] = float(packet.duration or 0)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        if not stamps:
            raise SeldError(f"The video {self.path} holds no frames.", "Check or replace the file.")
        base = float(self.stream.time_base)
        start = (self.container.start_time or 0) / av.time_base
        self.stamps = sorted(stamps)
        self.keys = sorted(keys) or self.stamps[:1]
        self.times = np.asarray(self.stamps, dtype=np.float64) * base - start
        gap = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        self.end_s = float(self.times[-1]) + (stamps[self.stamps[-1]] * base or gap)

    def rotation(self) -> int:
        """Return by how many degrees frames must be turned counter-clockwise to be shown upright (phones)."""
        frame = self.decode(0)
        return 0 if frame is None else int(frame.rotation) % 360

    def index_at(self, time_s: float) -> int | None:
        """Return the place of the frame shown at a time, or None before the first or after the last."""
        if not self.times[0] - END_TOLERANCE_S <= time_s < self.end_s + END_TOLERANCE_S:
            return None
        # Half a clock tick of slack: 1/30 s is written as 0.033 in a container with a clock of milliseconds.
        slack = max(1e-6, 0.5 * float(self.stream.time_base))
        return max(0, int(np.searchsorted(self.times, time_s + slack, side="right")) - 1)

    def decode(self, index: int) -> Any | None:
        """Return the decoded frame at a place, or None where the data is damaged or missing.

        Frames that no other frame refers to are not decoded on the way, which changes nothing but the time taken.
        """
        target = self.stamps[index]
        key = self.keys[max(0, bisect.bisect_right(self.keys, target) - 1)]
        if self._next > target or self._next < key:
            self._seek(key)
        while True:
            while self._decoded:
                frame = self._decoded.popleft()
                if frame.pts is None:
                    continue
                self._next = frame.pts + 1
                if frame.pts == target:
                    return frame
                if frame.pts > target:
                    self._decoded.appendleft(frame)
                    self._next = frame.pts
                    return None
            if not self._decode_packet(target):
                self._next = math.inf
                return None

    def _decode_packet(self, target: int) -> bool:
        """Decode one more packet; return False after the last."""
        import av

        packet = next(self._packets, None)
        if packet is None:
            return False
        self.stream.codec_context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts >= target else "NONREF"
        with contextlib.suppress(av.FFmpegError):
            self._decoded.extend(packet.decode())
        return True

    def _seek(self, stamp: int) -> None:
        import av

        try:
            self.container.seek(stamp, stream=self.stream, backward=True)
        except (av.FFmpegError, OSError):
            # Some files cannot be sought in (a damaged index): read them from the start.
            self.container = self._stack.enter_context(open_container(self.path, "video"))
            self.stream = self.container.streams.video[0]
        self._packets = self.container.demux(self.stream)
        self._decoded.clear()
        self._next = stamp

    def to_image(self, frame: Any, size: tuple[int, int] | None) -> Image:
        """Return a decoded frame as an upright BGR image, scaled to (width, height) if given."""
        turns = int(frame.rotation) // 90 % 4
        scaled = None if size is None else (size[::-1] if turns % 2 else size)
        scale: dict[str, Any] = {} if scaled is None else {"width": scaled[0], "height": scaled[1]}
        image = frame.reformat(format="bgr24", **scale).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else np.asarray(image)


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video file.

    Attributes:
        width: columns of a frame as it is shown (after rotation).
        height: rows of a frame as it is shown.
        fps: mean frames per second.
        frames: number of frames whose data is in the file.
        duration_s: from the container's start to the end of the last frame, in seconds.
        variable_rate: some gaps between frames differ by more than a clock tick of rounding.
        has_audio: the file holds sound.
    """

    width: int
    height: int
    fps: float
    frames: int
    duration_s: float
    variable_rate: bool
    has_audio: bool


@dataclass(frozen=True)
class Frames:
    """Frames at requested times.

    Attributes:
        images: one (H, W, 3) uint8 BGR image per requested time, None where the video has none.
        times_s: (V,) requested times in seconds.
        shown_s: (V,) presentation times of the frames given, NaN where there is none.
        problem: what is missing or damaged, in words, or None.
    """

    images: list[Image | None]
    times_s: npt.NDArray[np.float64]
    shown_s: npt.NDArray[np.float64]
    problem: str | None = None


def video_info(path: Path) -> VideoInfo:
    """Return the facts of a video file.

    Raises:
        SeldError: the file is missing, unreadable or holds no picture.
    """
    with VideoReader(Path(path)) as reader:
        gaps = np.diff(reader.times)
        tick = float(reader.stream.time_base) + 1e-9
        # Containers round presentation times to their clock, which alone makes neighbouring gaps differ by a tick.
        variable = bool(gaps.size and gaps.max() - gaps.min() > 2.0 * tick + 0.02 * float(np.median(gaps)))
        width, height = reader.stream.codec_context.width, reader.stream.codec_context.height
        if reader.rotation() % 180:
            width, height = height, width
        return VideoInfo(
            width=width,
            height=height,
            fps=len(reader.times) / max(reader.end_s - float(reader.times[0]), 1e-9),
            frames=len(reader.times),
            duration_s=reader.end_s,
            variable_rate=variable,
            has_audio=bool(reader.container.streams.audio),
        )


def read_frames(path: Path, times_s: Sequence[float], *, size: tuple[int, int] | None = None) -> Frames:
    """Return the frames that are shown at times in seconds (any order); `size` is (width, height) to scale to.

    A missing, damaged or short video is no error here, since sound goes on without pictures: its frames are None and
    `problem` says why.
    """
    times = np.asarray(times_s, dtype=np.float64).reshape(-1)
    images: list[Image | None] = [None] * len(times)
    shown = np.full(len(times), np.nan)
    order = np.argsort(times, kind="stable")
    problem = None
    try:
        for position, (image, at) in zip(order, iterate_frames(path, times[order].tolist(), size=size), strict=False):
            images[position], shown[position] = image, at
        missing = [float(times[i]) for i in order if images[i] is None]
        if missing:
            problem = f"{path} has no readable frame at {_seconds(missing)}"
    except SeldError as error:
        problem = error.problem.rstrip(".")
    return Frames(images, times, shown, problem)


def iterate_frames(
    path: Path, times_s: Iterable[float], *, size: tuple[int, int] | None = None
) -> Iterator[tuple[Image | None, float]]:
    """Yield (image or None, its presentation time or NaN) for rising times in seconds; holds one frame at a time.

    Raises:
        SeldError: the file is missing, unreadable or holds no picture.
    """
    with VideoReader(Path(path)) as reader:
        previous_index, previous = -1, None
        for time_s in times_s:
            index = reader.index_at(time_s)
            if index is None:
                yield None, math.nan
                continue
            if index != previous_index:
                frame = reader.decode(index)
                previous = None if frame is None else reader.to_image(frame, size)
                previous_index = index
            yield previous, (math.nan if previous is None else float(reader.times[index]))


def _seconds(times: list[float]) -> str:
    shown = ", ".join(f"{t:.2f} s" for t in times[:3])
    return shown if len(times) <= 3 else f"{shown} and {len(times) - 3} more times"


def read_picture(path: Path, *, alpha: bool = False) -> npt.NDArray[np.uint8]:
    """Return a picture as (H, W, 3) uint8 BGR, turned upright as its file says; with `alpha` (H, W, 4), as it lies.

    Raises:
        SeldError: the file is missing or no picture.
    """
    import cv2

    content = read_bytes(path, LARGEST_PICTURE, "Give a picture.")
    data = np.frombuffer(content, np.uint8)
    try:
        flag = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR
        image = cv2.imdecode(data, flag) if data.size and not _claims_more(content) else None
    except cv2.error:  # larger than OPENCV_IO_MAX_IMAGE_PIXELS, see the package's first file
        image = None
    if image is None:
        raise SeldError(f"{path} is no picture that can be decoded.", "Give a JPEG, PNG, BMP, TIFF or WebP file.")
    if alpha and image.dtype != np.uint8:
        image = (image / 257).astype(np.uint8)
    if alpha and (image.ndim == 2 or image.shape[2] == 3):
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGRA if image.ndim == 2 else cv2.COLOR_BGR2BGRA)
    return np.asarray(image, dtype=np.uint8)


LARGEST_PICTURE = 2**28
"""Bytes of a file that may be one."""


def _claims_more(data: bytes) -> bool:
    """Return whether a part of a PNG file claims more bytes than the file has: OpenCV takes memory for all of them."""
    place = 8 if data.startswith(b"\x89PNG") else len(data)
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size > len(data):
            return True
        place += size + 12
    return False
