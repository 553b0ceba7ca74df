"""Writing several videos at a time, frame by frame: what a conversion with one decode for many clips needs."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError


class VideoWriter:
    """Writes a silent MP4 (H.264) frame by frame; the file takes its name when it is complete.

    Use it as a context manager: leaving it by an exception leaves no file.

    Args:
        path: the file; it is written as `.NAME.part` beside it.
        fps: frames per second.
        quality: constant rate factor of H.264, smaller is better and larger.
        threads: of the encoder; 1 where several videos are written at a time.
    """

    def __init__(self, path: Path, fps: float, *, quality: int = 23, threads: int = 1) -> None:
        self.path, self.fps, self.quality, self.threads = path, fps, quality, threads
        self._temporary = path.with_name(f".{path.name}.part")
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
            self._temporary.replace(self.path)
        except (OSError, av.FFmpegError) as error:
            self.discard()
            raise self._failed(error) from error

    def discard(self) -> None:
        """Give up an unfinished file."""
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()
            self._container = None
        self._temporary.unlink(missing_ok=True)

    def _open(self, width: int, height: int) -> None:
        import av

        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "faststart"})
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
        return SeldError(f"{self.path} cannot be written: {error}.", "Check the folder and the free space.")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
