"""A clip as a picture (azimuth over time and annotated frames) and as a video with sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.errors import shown as escaped
from dcase_seld.core.event_files import columns_without_header
from dcase_seld.core.events import Events
from dcase_seld.core.files import OutputFolder, visible_files, whole_file
from dcase_seld.core.task import LABEL_RATE, ONSCREEN_LIMIT_DEG, VIDEO_HEIGHT, VIDEO_WIDTH
from dcase_seld.core.work import progress
from dcase_seld.media.audio import VIDEOS
from dcase_seld.media.frames import Frames, iterate_frames, video_info
from dcase_seld.media.recordings import Clip
from dcase_seld.media.writing import open_pyplot, write_video
from dcase_seld.report.drawing import Image, Scene, class_colour, draw_body, draw_frame, draw_ruler, scale_of

if TYPE_CHECKING:
    import numpy as np

    from dcase_seld.core.classes import Taxonomy
    from dcase_seld.core.events import Events
    from dcase_seld.vision.keypoints import ClipPeople, Person
    from dcase_seld.vision.people import PeopleFinder

EMPTY_GREY = 40


def draw_picture(path: Path, scene: Scene, frames: Frames | None, seconds: float) -> None:
    """Write a PNG: a row of annotated frames above azimuth over time, reference and prediction per class."""
    plt = open_pyplot()
    shown = [] if frames is None else [i for i, image in enumerate(frames.images) if image is not None]
    columns = max(len(shown), 1)
    ratios = [*([1.0] if shown else []), 1.9, *([1.9] if scene.all_around else [])]
    figure = plt.figure(figsize=(15, (7.6 if shown else 5.6) + 5.0 * scene.all_around), layout="constrained")
    try:
        grid = figure.add_gridspec(len(ratios), columns, height_ratios=ratios)
        for place, index in enumerate(shown):
            assert frames is not None
            image = frames.images[index]
            assert image is not None
            axis = figure.add_subplot(grid[0, place])
            axis.imshow(draw_frame(image, scene, float(frames.times_s[index]))[:, :, ::-1])
            axis.set_title(f"{frames.times_s[index]:.2f} s", fontsize=9)
            axis.set_axis_off()
        axis = figure.add_subplot(grid[-2 if scene.all_around else -1, :])
        handles = _plot_events(axis, scene)
        if scene.all_around:
            _plot_sphere(figure.add_subplot(grid[-1, :]), scene)
        else:
            axis.axhspan(-ONSCREEN_LIMIT_DEG, ONSCREEN_LIMIT_DEG, color="0.94", zorder=0)
        axis.axhline(0, color="0.8", linewidth=0.8, zorder=1)
        if frames is not None:
            for time_s in frames.times_s:
                axis.axvline(float(time_s), color="0.8", linewidth=0.8, linestyle=":", zorder=1)
        _plot_people(axis, scene)
        reach = 180 if scene.all_around else 90
        axis.set(xlim=(0, seconds), ylim=(-reach - 2, reach + 2), yticks=range(-reach, reach + 1, reach // 3))
        axis.set(xlabel="time (s)", ylabel="azimuth (degrees, left is up)")
        marks = "" if scene.all_around else "; filled = on screen"
        axis.set_title(
            f"{escaped(scene.name, lines=False)}: wide pale = reference, dots = prediction{marks}", fontsize=10
        )
        if handles:
            axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
        with whole_file(path) as part:
            figure.savefig(part, dpi=110, format="png")
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
    quiet: bool = True,
) -> None:
    """Write an MP4 with sound: every frame annotated, below it a ruler of azimuth from 90° to -90°, or all around."""
    count = max(1, round(seconds * fps))

    def annotated() -> Iterator[Image]:
        times = (np.arange(count) + 0.5) / fps
        width, height = VIDEO_WIDTH, VIDEO_WIDTH // 2 if scene.all_around else VIDEO_HEIGHT
        source: Iterator[tuple[Image | None, float]] = ((None, 0.0) for _ in times)
        if video is not None:
            # Pictures may begin late, end early or change their size; all frames of the overlay have one.
            width, height = (info := video_info(video)).width, info.height
            source = iterate_frames(video, times.tolist(), size=(width, height))
        for time_s, (image, _) in zip(times.tolist(), source, strict=True):
            if image is None:
                image = np.full((height, width, 3), EMPTY_GREY, np.uint8)
            frame = draw_frame(image, scene, time_s)
            yield np.concatenate([frame, draw_ruler(frame.shape[1], scene, time_s, scale_of(height, width))])
            advance()

    with progress(f"drawing {path.name}", count, "frames", quiet) as advance:
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


def _plot_sphere(axis: Any, scene: Scene) -> None:
    """Draw all directions of a clip: azimuth to the left, elevation upwards."""
    for events, size, pale in ((scene.reference, 120, True), (scene.prediction, 20, False)):
        if events is None:
            continue
        height = np.zeros(len(events)) if events.elevation_deg is None else events.elevation_deg
        colours = [_rgb(index, len(scene.classes)) for index in events.class_index.tolist()]
        edge: dict[str, Any] = {"edgecolors": "none", "alpha": 0.25} if pale else {"edgecolors": "black"}
        axis.scatter(events.azimuth_deg, height, s=size, c=colours or None, linewidths=0.4, zorder=3 - pale, **edge)
    axis.set(xlim=(180, -180), ylim=(-90, 90), xticks=range(-180, 181, 30), yticks=range(-90, 91, 30), aspect="equal")
    axis.set(xlabel="azimuth (degrees, left is +)", ylabel="elevation (degrees)", title="The sphere")
    axis.grid(color="0.9")


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
    from dcase_seld.core.geometry import column_to_azimuth
    from dcase_seld.vision.keypoints import NOSE

    azimuth = column_to_azimuth(scene.people.keypoints[:, NOSE, 0], scene.people.width, scene.fov_deg)
    axis.scatter(scene.people.times_s[scene.people.frame], azimuth, marker="+", s=70, color="0.25", zorder=4)


def _rgb(index: int, count: int) -> tuple[float, float, float]:
    red, green, blue = class_colour(index, count)
    return red / 255, green / 255, blue / 255


def load_events(
    path: Path, name: str, classes: Taxonomy, reference: bool = False, task: str | None = None, form: str | None = None
) -> Events:
    """Return the events of one clip from events.npz, a step's folder, a folder of CSV files, or one CSV.

    Files without a header are of the editions before 2025; `task` and `form` say which and how they are written. Raises
    SeldError: there is nothing of this clip.
    """
    from dcase_seld.core.event_files import read_csv
    from dcase_seld.core.events import Events
    from dcase_seld.scoring.editions import events_of, read_sources

    for table in (path, path / "events.npz"):
        if table.suffix == ".npz" and table.is_file():
            events = Events.load(table)
            if name not in events.clips:
                raise SeldError(f"{table} has no clip {name!r}.", "Give the events of the split that the clip is in.")
            return events.select_clips([name])
    for file in (path, path / f"{name}.csv", path / "csv" / f"{name}.csv"):
        if file.suffix == ".csv" and file.is_file():
            if task is None and file.stat().st_size and not columns_without_header(file):
                return read_csv(file, n_classes=len(classes), frames=None)
            edition, files = _edition(file, reference, task), [(name, str(file))]
            return events_of(read_sources(files, edition, reference=reference, form=form), len(classes))
    raise SeldError(f"{path} holds no events of the clip {name!r}.", "Give events.npz, a CSV, or a folder with one.")


def _edition(file: Path, reference: bool, task: str | None) -> str:
    """Return the edition of a file without a header: the one that is named, or the only one that it can be of."""
    columns = columns_without_header(file)
    if task is None and columns == 6 and not reference:
        raise SeldError(
            f"{file} has no header and 6 columns: degrees and metres as in 2024, or x, y, z as in 2023.",
            "Say which: --task dcase2024, or --task dcase2023 --format cartesian.",
        )
    return task or ("dcase2023" if columns == 5 else "dcase2024")


def _from_store(folder: Path, name: str) -> tuple[Clip, Events | None, Taxonomy]:
    from dcase_seld.store.store import Store

    store = Store.open(folder)
    if name not in store.names:
        raise SeldError(f"{folder} has no clip {name!r}.", f"Its clips have names such as {store.names[0]}.")
    index = store.names.index(name)
    labels = store.events.select_clips([name]) if store.labelled[index] else None
    return Clip(name, store.videos[index], store.audio(index).T, store.sample_rate), labels, store.taxonomy


def _people(found: Clip, keypoints: Path | None, mode: str, times_s: np.ndarray) -> ClipPeople | None:
    from dcase_seld.core.work import say
    from dcase_seld.vision.keypoints import Keypoints, find_in_video

    if keypoints is not None:
        return Keypoints([keypoints]).get(found.name)
    if mode == "none" or found.video is None:
        return None
    from dcase_seld.core.config import parse_config
    from dcase_seld.vision.people import PeopleConfig, PeopleFinder

    try:
        with PeopleFinder(parse_config(PeopleConfig, {"mode": mode}, "the command line")) as finder:
            return find_in_video(finder, found.video, times_s)
    except SeldError as error:
        say(f"warning: people are not drawn: {error}")
        return None


PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def files_to_look_at(places: Sequence[Path], missing: list[Path]) -> list[Path]:
    """Return pictures and videos: the files given, and those in the folders given; `missing` receives what is not.

    Raises:
        SeldError: there is nothing to look at.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            missing.append(place)
            continue
        found += visible_files(place, PICTURES | VIDEOS) if place.is_dir() else [place]
    if not found:
        if missing:
            raise SeldError(f"{listing(missing)} does not exist.", "Give an existing picture, video or folder.")
        raise SeldError(f"There is no picture and no video in {listing(places)}.", "Give other files or folders.")
    return found


def told(path: Path, entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines that say who is in a file: of a picture everybody's nose, of a video the numbers of people."""
    if len(entries) == 1 and entries[0]["time_s"] is None:
        noses = [f"nose at column {p['nose_x']:.0f}, row {p['nose_y']:.0f} ({p['score']:.0%} sure)"
                 for p in entries[0]["people"]]  # fmt: skip
        size = f"{entries[0]['width']} × {entries[0]['height']}"
        return [f"{path} ({size}): {_people_said(len(noses))}", *(f"  {nose}" for nose in noses)]
    counts = [len(entry["people"]) for entry in entries]
    fewest, most = min(counts, default=0), max(counts, default=0)
    said = _people_said(most) if fewest == most else f"{fewest} to {_people_said(most)}"
    return [f"{path}: {said} in {len(counts)} frames"]


def _people_said(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def look_at(finder: PeopleFinder, path: Path, fps: float, out: OutputFolder) -> Iterator[dict[str, Any]]:
    """Yield who is in each picture of a file, in pixels, and write the picture with them drawn in."""
    from dcase_seld.media.writing import write_png

    for time_s, image in _images(path, fps):
        people = finder.find(image)
        drawn = image.copy()
        for person in people:
            draw_body(drawn, person.keypoints)
        write_png(out.file(f"{path.stem}{'' if time_s is None else f'_{time_s:06.2f}s'}.png"), drawn)
        yield {
            "file": str(path),
            "time_s": time_s,
            "width": image.shape[1],
            "height": image.shape[0],
            "people": [_plain(person) for person in people],
        }


def pictures_in(path: Path, fps: float) -> int:
    """Return how many pictures of a file are looked at; 1 too where it cannot be read."""
    from dcase_seld.core.task import sample_times
    from dcase_seld.media.frames import video_info

    try:
        return 1 if path.suffix.lower() in PICTURES else len(sample_times(video_info(path).duration_s, fps))
    except SeldError:
        return 1


def _images(path: Path, fps: float) -> Iterator[tuple[float | None, Image]]:
    """Yield (time in seconds, picture); a still picture has no time."""
    from dcase_seld.core.task import sample_times
    from dcase_seld.core.work import say
    from dcase_seld.media.frames import iterate_frames, read_picture, video_info

    if path.suffix.lower() in PICTURES:
        yield None, read_picture(path)
        return
    times = sample_times(video_info(path).duration_s, fps)
    missing = 0
    for time_s, (image, _) in zip(times.tolist(), iterate_frames(path, times.tolist()), strict=True):
        if image is None:
            missing += 1
        else:
            yield round(time_s, 3), image
    if missing:
        say(f"warning: {path} has no readable frame at {missing} of {len(times)} times")


def _plain(person: Person) -> dict[str, Any]:
    from dcase_seld.vision.keypoints import LANDMARKS

    rounded = [[round(float(v), 2) for v in point] for point in person.keypoints]
    return {
        "nose_x": round(float(person.nose[0]), 2),
        "nose_y": round(float(person.nose[1]), 2),
        "score": round(person.score, 4),
        "keypoints": {
            name: {"x": x, "y": y, "visibility": seen}
            for name, (x, y, seen) in zip(LANDMARKS, rounded, strict=True)
        },
    }  # fmt: skip
