"""A clip as a picture (azimuth over time and annotated frames) and as a video with sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.media.video import Frames, iterate_frames, write_video
from dcase_seld.post.drawing import Image, Scene, class_colour, draw_frame, draw_ruler
from dcase_seld.task.events import Events
from dcase_seld.task.facts import LABEL_RATE, ONSCREEN_LIMIT_DEG, VIDEO_HEIGHT, VIDEO_WIDTH

EMPTY_GREY = 40


def draw_picture(path: Path, scene: Scene, frames: Frames | None, seconds: float) -> None:
    """Write a PNG: a row of annotated frames above azimuth over time, reference and prediction per class."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [] if frames is None else [i for i, image in enumerate(frames.images) if image is not None]
    columns = max(len(shown), 1)
    figure = plt.figure(figsize=(15, 7.6 if shown else 5.6), layout="constrained")
    try:
        grid = figure.add_gridspec(2 if shown else 1, columns, height_ratios=[1.0, 1.9] if shown else [1.0])
        for place, index in enumerate(shown):
            assert frames is not None
            image = frames.images[index]
            assert image is not None
            axis = figure.add_subplot(grid[0, place])
            axis.imshow(draw_frame(image, scene, float(frames.times_s[index]))[:, :, ::-1])
            axis.set_title(f"{frames.times_s[index]:.2f} s", fontsize=9)
            axis.set_axis_off()
        axis = figure.add_subplot(grid[-1, :])
        handles = _plot_events(axis, scene)
        axis.axhspan(-ONSCREEN_LIMIT_DEG, ONSCREEN_LIMIT_DEG, color="0.94", zorder=0)
        axis.axhline(0, color="0.8", linewidth=0.8, zorder=1)
        if frames is not None:
            for time_s in frames.times_s:
                axis.axvline(float(time_s), color="0.8", linewidth=0.8, linestyle=":", zorder=1)
        _plot_people(axis, scene)
        axis.set(xlim=(0, seconds), ylim=(-92, 92), yticks=range(-90, 91, 30))
        axis.set(xlabel="time (s)", ylabel="azimuth (degrees, left is up)")
        axis.set_title(f"{scene.name}: wide pale = reference, dots = prediction; filled = on screen", fontsize=10)
        if handles:
            axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
        part = path.with_name(path.name + ".part")
        figure.savefig(part, dpi=110, format="png")
        part.replace(path)
    finally:
        plt.close(figure)


def write_overlay(
    path: Path,
    scene: Scene,
    video: Path | None,
    seconds: float,
    fps: float,
    audio: npt.NDArray[np.floating | np.int16] | None,
    rate: int,
) -> None:
    """Write an MP4 with sound: every frame annotated, below it a ruler of azimuth from 90° to -90°."""
    count = max(1, round(seconds * fps))

    def annotated() -> Iterator[Image]:
        times = (np.arange(count) + 0.5) / fps
        size: tuple[int, int] = (VIDEO_HEIGHT, VIDEO_WIDTH)
        source = iterate_frames(video, times.tolist()) if video is not None else ((None, 0.0) for _ in times)
        for time_s, (image, _) in zip(times.tolist(), source, strict=True):
            if image is None:
                image = np.full((*size, 3), EMPTY_GREY, np.uint8)
            size = (image.shape[0], image.shape[1])
            frame = draw_frame(image, scene, time_s)
            yield np.concatenate([frame, draw_ruler(frame.shape[1], scene, time_s)])

    write_video(path, annotated(), fps, audio, rate)


def _plot_events(axis: Any, scene: Scene) -> list[Any]:
    from matplotlib.lines import Line2D

    used: set[int] = set()
    for events, reference in ((scene.reference, True), (scene.prediction, False)):
        if events is None:
            continue
        for index in np.unique(events.class_index).tolist():
            used.add(index)
            rows = events.class_index == index
            _plot_class(axis, events, rows, _rgb(index, len(scene.classes)), reference)
    return [
        Line2D([], [], color=_rgb(i, len(scene.classes)), marker="o", linestyle="", label=scene.classes[i])
        for i in sorted(used)
    ]


def _plot_class(
    axis: Any, events: Events, rows: npt.NDArray[np.bool_], colour: tuple[float, float, float], reference: bool
) -> None:
    time_s = (events.frame[rows] + 0.5) / LABEL_RATE
    azimuth, on = events.azimuth_deg[rows], events.onscreen[rows]
    if reference:
        half = 0.5 / LABEL_RATE
        axis.hlines(azimuth, time_s - half, time_s + half, color=colour, alpha=0.35, linewidth=9, zorder=2)
        axis.scatter(time_s[on], azimuth[on], s=10, color="white", edgecolors="none", zorder=3)
    else:
        axis.scatter(time_s[on], azimuth[on], s=20, color=colour, edgecolors="black", linewidths=0.4, zorder=5)
        axis.scatter(time_s[~on], azimuth[~on], s=20, facecolors="none", edgecolors=colour, linewidths=1.2, zorder=5)


def _plot_people(axis: Any, scene: Scene) -> None:
    """Mark where noses were seen."""
    if scene.people is None or not len(scene.people.frame):
        return
    from dcase_seld.post.landmarks import NOSE
    from dcase_seld.task.angles import column_to_azimuth

    azimuth = column_to_azimuth(scene.people.keypoints[:, NOSE, 0], scene.people.width, scene.fov_deg)
    axis.scatter(scene.people.times_s[scene.people.frame], azimuth, marker="+", s=70, color="0.25", zorder=4)


def _rgb(index: int, count: int) -> tuple[float, float, float]:
    red, green, blue = class_colour(index, count)
    return red / 255, green / 255, blue / 255
