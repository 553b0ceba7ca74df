"""Reading and writing video: frames at requested times, exact to the frame, and MP4 files with sound.

Time 0 is the start of the container, so that sound and picture share one clock. The frame "at" a time is the one that a
player would show then: the last frame whose presentation time is not after it. Frames are found by presentation time,
never by counting, hence constant and variable frame rates are the same thing here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError
from dcase_seld.media.video_reader import Image, VideoReader

__all__ = ["Frames", "Image", "VideoInfo", "iterate_frames", "read_frames", "video_info", "write_video"]


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


def write_video(
    path: Path,
    frames: Iterable[Image],
    fps: float,
    audio: npt.NDArray[np.floating | np.int16] | None = None,
    rate: int | None = None,
    *,
    quality: int = 23,
    preset: str = "veryfast",
) -> None:
    """Write an MP4 (H.264 and AAC where the codec library has them, so that browsers play it), atomically.

    Args:
        path: the file, written under a temporary name first.
        frames: (H, W, 3) uint8 BGR images of one size; odd sizes lose their last row or column, as the format demands.
            The same array twice in a row is taken for the same picture: do not paint over one that was given.
        fps: frames per second.
        audio: (channels, S) float in [-1, 1] or int16, or None.
        rate: samples per second of `audio`.
        quality: constant rate factor of H.264, smaller is better and larger files.
        preset: how long H.264 searches: "ultrafast" takes a third of the time of "veryfast", for twice the size.

    Raises:
        SeldError: no frame was given, or frames differ in size.
    """
    import av

    path = Path(path)
    if audio is not None and rate is None:
        raise ValueError("audio needs its sample rate")
    h264 = "libx264" in av.codecs_available
    temporary = path.with_name(path.name + ".part")
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: temporary.unlink(missing_ok=True))
        container = stack.enter_context(av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}))
        video: Any = container.add_stream("libx264" if h264 else "mpeg4", rate=Fraction(fps).limit_denominator(1001))
        video.pix_fmt = "yuv420p"
        if h264:
            # A key frame a second keeps seeking cheap.
            video.options = {"crf": str(quality), "preset": preset, "g": str(max(1, round(fps)))}
        else:
            video.bit_rate = 2_000_000
        sound: Any = None if audio is None else container.add_stream("aac", rate=rate)
        if audio is not None:
            sound.layout = _layout(audio)
        size = None
        previous, picture = None, None
        for number, image in enumerate(frames):
            height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
            if size is None:
                video.width, video.height = size = (width, height)
            elif size != (width, height):
                raise SeldError(
                    f"A frame for {path} is {width}x{height}, the first was {size[0]}x{size[1]}.",
                    "Give frames of one size.",
                )
            # The very same picture again, as in a still scene, need not be converted again.
            if image is not previous or picture is None:
                bgr = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="bgr24")
                picture, previous = bgr.reformat(format="yuv420p"), image
            picture.pts, picture.time_base = number, 1 / video.codec_context.rate
            container.mux(video.encode(picture))
        if size is None:
            raise SeldError(f"No frame was given for {path}.", "Give at least one frame.")
        container.mux(video.encode(None))
        if audio is not None:
            for block in _sound_blocks(audio, rate, sound.layout.name):
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
        container.close()
        temporary.replace(path)


def _layout(audio: npt.NDArray[Any]) -> str:
    layouts = {1: "mono", 2: "stereo"}
    if audio.ndim != 2 or audio.shape[0] not in layouts:
        raise ValueError(f"audio must be (1 or 2 channels, samples), got shape {audio.shape}")
    return layouts[audio.shape[0]]


def _sound_blocks(audio: npt.NDArray[Any], rate: int | None, layout: str, block: int = 1024) -> Iterator[Any]:
    import av

    samples = audio.astype(np.float32) / 32768.0 if audio.dtype == np.int16 else audio.astype(np.float32)
    samples = np.clip(samples, -1.0, 1.0)
    for start in range(0, samples.shape[1], block):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start : start + block]), "fltp", layout)
        frame.sample_rate = rate or 1
        frame.pts = start
        frame.time_base = Fraction(1, rate or 1)
        yield frame


def _seconds(times: list[float]) -> str:
    shown = ", ".join(f"{t:.2f} s" for t in times[:3])
    return shown if len(times) <= 3 else f"{shown} and {len(times) - 3} more times"
