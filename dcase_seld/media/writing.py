"""Writing pictures, MP4 files with sound, and MP3.

Time 0 is the start of the container, so that sound and picture share one clock. The frame "at" a time is the one that a
player would show then: the last frame whose presentation time is not after it. Frames are found by presentation time,
never by counting, hence constant and variable frame rates are the same thing here.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, reason
from dcase_seld.core.files import whole_file, write_bytes
from dcase_seld.core.geometry import foa_to_stereo
from dcase_seld.media.frames import Image


def open_pyplot() -> Any:
    """Return matplotlib's pyplot for pictures that are written and not shown; a dollar in a name is a dollar."""
    os.environ["MPLBACKEND"] = "agg"  # what a notebook or a desktop set need not be there, and its import would fail
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False
    from matplotlib import pyplot

    return pyplot


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
        audio: (channels, S) float in [-1, 1] or int16, or None; four channels are heard as two, see `for_ears`.
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
    audio = None if audio is None else for_ears(audio)
    h264 = "libx264" in av.codecs_available
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(whole_file(path))
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


def for_ears(audio: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return sound (channels, S) as it can be listened to: Ambisonics as two cardioids to the left and right."""
    if audio.ndim != 2 or len(audio) != 4:
        return audio
    sound = audio.astype(np.float32) / 32768.0 if audio.dtype == np.int16 else audio.astype(np.float32)
    stereo = foa_to_stereo(sound, 0)
    return np.asarray(stereo / max(1.0, float(np.abs(stereo).max(initial=0.0))))


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


def write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) uint8 BGR picture as PNG, atomically."""
    import cv2

    good, data = cv2.imencode(".png", image)
    if not good:
        raise ValueError(f"a picture of shape {image.shape} cannot be encoded")
    write_bytes(path, data.tobytes())


class VideoWriter:
    """Writes a silent MP4 (H.264) frame by frame; the file takes its name when it is complete.

    Use it as a context manager: leaving it by an exception leaves no file.

    Args:
        path: the file.
        fps: frames per second.
        quality: constant rate factor of H.264, smaller is better and larger.
        threads: of the encoder; 1 where several videos are written at a time.
    """

    def __init__(self, path: Path, fps: float, *, quality: int = 23, threads: int = 1) -> None:
        self.path, self.fps, self.quality, self.threads = path, fps, quality, threads
        self._whole = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Add a frame (H, W, 3), uint8 BGR; all frames have the first one's size, even in both directions."""
        import av
        import cv2

        try:
            if self._container is None:
                self._open(image.shape[1], image.shape[0])
            # OpenCV changes the colours many times faster than the codec library does.
            planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
            frame = av.VideoFrame.from_ndarray(np.asarray(planes, dtype=np.uint8), format="yuv420p")
            self._container.mux(self._stream.encode(frame))
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Finish the file and give it its name."""
        import av

        if self._container is None:
            raise SeldError(f"No frame was given for {self.path}.", "Give at least one frame.")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            self._whole.close()
        except (OSError, av.FFmpegError) as error:
            self.discard()
            raise self._failed(error) from error

    def discard(self) -> None:
        """Give up an unfinished file."""
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()
            self._container = None
        given_up = InterruptedError()
        with contextlib.suppress(InterruptedError):
            self._whole.__exit__(type(given_up), given_up, None)

    def _open(self, width: int, height: int) -> None:
        import av

        temporary = self._whole.enter_context(whole_file(self.path))
        self._container = av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"})
        h264 = "libx264" in av.codecs_available
        stream: Any = self._container.add_stream(
            "libx264" if h264 else "mpeg4", rate=Fraction(self.fps).limit_denominator(1001)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = self.threads
        if h264:
            # A key frame a second keeps seeking cheap; "superfast" takes 40 % less time than "veryfast" for files
            # that are 30 % larger at the same error.
            stream.options = {"crf": str(self.quality), "preset": "superfast", "g": str(max(1, round(self.fps)))}
        else:
            stream.bit_rate = 2_000_000
        self._stream = stream

    def _failed(self, error: Exception) -> SeldError:
        return SeldError(f"{self.path} cannot be written: {reason(error)}.", "Check the folder and the free space.")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def mp3_bytes(audio: npt.NDArray[Any], rate: int) -> bytes:
    """Return sound (S, channels), int16 or float in [-1, 1], as an MP3 file of variable rate."""
    import soundfile

    audio = for_ears(audio.T).T if audio.ndim == 2 else audio
    sound = audio.astype(np.float32) / 32768.0 if audio.dtype == np.int16 else audio
    buffer = io.BytesIO()
    # The library calls Python back to write, where Ctrl-C is swallowed; signals reach the main thread alone.
    with ThreadPoolExecutor(1) as other:
        other.submit(soundfile.write, buffer, sound, rate, format="MP3", subtype="MPEG_LAYER_III").result()
    return buffer.getvalue()


def jpeg_bytes(image: npt.NDArray[np.uint8], quality: int = 80) -> bytes:
    """Return a picture (H, W, 3), blue, green, red, as a JPEG file."""
    import cv2

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be written as JPEG")
    return bytes(data)
