"""`dcase-seld show`: one clip as an annotated picture and as a video with sound."""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from dcase_seld.errors import SeldError

if TYPE_CHECKING:
    import numpy as np

    from dcase_seld.post.keypoints import ClipPeople
    from dcase_seld.task.events import Events
    from dcase_seld.task.taxonomy import Taxonomy


class Clip(NamedTuple):
    """The parts of a clip; `sound` is (channels, S), float or int16, or None."""

    name: str
    video: Path | None
    sound: np.ndarray | None
    rate: int


@click.command()
@click.argument("clip")
@click.option("--data", type=click.Path(path_type=Path), help="A prepare step's folder; CLIP is then a clip's name.")
@click.option("--pred", type=click.Path(path_type=Path), help="Predictions: events.npz or CSV, or the folder of it.")
@click.option("--ref", type=click.Path(path_type=Path), help="References, likewise. Default: the labels of --data.")
@click.option("--video", type=click.Path(path_type=Path), help="The clip's video, where CLIP is a sound file.")
@click.option(
    "--keypoints", type=click.Path(path_type=Path), help="A keypoints step's folder; else people are looked for."
)
@click.option("--detections", type=click.Path(path_type=Path), help="A detections step's folder.")
@click.option("--mode", type=click.Choice(["accurate", "fast", "none"]), default="fast", show_default=True,
              help="How people are looked for.")  # fmt: skip
@click.option("--taxonomy", type=click.Path(path_type=Path), help="YAML file with the classes, if they are your own.")
@click.option("--fov", default=100.0, show_default=True, type=click.FloatRange(1, 179), help="Field of view (degrees).")
@click.option("--frames", default=5, show_default=True, type=click.IntRange(1, 12), help="Frames in the picture.")
@click.option("--fps", default=15.0, show_default=True, type=click.FloatRange(1, 60), help="Of the video.")
@click.option("--no-overlay", is_flag=True, help="Write the picture only.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=".", help="Folder to write to.")
def show(
    clip: str,
    data: Path | None,
    pred: Path | None,
    ref: Path | None,
    video: Path | None,
    keypoints: Path | None,
    detections: Path | None,
    mode: str,
    taxonomy: Path | None,
    fov: float,
    frames: int,
    fps: float,
    no_overlay: bool,
    out: Path,
) -> None:
    """Draw CLIP (a video, a sound file, or a name in --data): NAME.png, and NAME.mp4 with sound.

    The picture has azimuth over time, reference and prediction per class, and video frames with people, boxes and
    predicted directions.
    """
    from dcase_seld.media.video import read_frames, video_info
    from dcase_seld.post.detections import read_detections
    from dcase_seld.post.drawing import Scene
    from dcase_seld.post.keypoints import sample_times
    from dcase_seld.post.show import draw_picture, write_overlay
    from dcase_seld.progress import say
    from dcase_seld.task.taxonomy import load_taxonomy

    classes = load_taxonomy(taxonomy)
    reference = None
    if data is not None:
        found, reference, classes = _from_store(data, clip)
    else:
        found = _from_path(Path(clip), video)
    if ref is not None:
        reference = load_events(ref, found.name, classes)
    prediction = load_events(pred, found.name, classes) if pred is not None else None

    if found.sound is not None:
        seconds = found.sound.shape[1] / found.rate
    else:
        assert found.video is not None
        seconds = video_info(found.video).duration_s

    pictures = None
    if found.video is not None:
        pictures = read_frames(found.video, sample_times(seconds, frames / seconds).tolist())
        if pictures.problem:
            say(f"warning: {pictures.problem}")
    people = _people(found, keypoints, mode, sample_times(seconds, max(2.0, frames / seconds)))
    objects = read_detections([detections], classes).get(found.name) if detections is not None else None
    scene = Scene(found.name, classes.classes, prediction, reference, people, objects, fov)
    out.mkdir(parents=True, exist_ok=True)
    draw_picture(out / f"{found.name}.png", scene, pictures, seconds)
    click.echo(out / f"{found.name}.png")
    if not no_overlay:
        readable = found.video if pictures is not None and any(i is not None for i in pictures.images) else None
        write_overlay(out / f"{found.name}.mp4", scene, readable, seconds, fps, found.sound, found.rate)
        click.echo(out / f"{found.name}.mp4")


def load_events(path: Path, name: str, classes: Taxonomy) -> Events:
    """Return the events of one clip from events.npz, a step's folder, a folder of CSV files, or one CSV.

    Raises:
        SeldError: there is nothing of this clip.
    """
    from dcase_seld.task.dcase_csv import read_csv
    from dcase_seld.task.events import Events

    for table in (path, path / "events.npz"):
        if table.suffix == ".npz" and table.is_file():
            events = Events.load(table)
            if name not in events.clips:
                raise SeldError(f"{table} has no clip {name!r}.", "Give the events of the split that the clip is in.")
            return events.select_clips([name])
    for file in (path, path / f"{name}.csv", path / "csv" / f"{name}.csv"):
        if file.suffix == ".csv" and file.is_file():
            return read_csv(file, n_classes=len(classes), frames=None)
    raise SeldError(f"{path} holds no events of the clip {name!r}.", "Give events.npz, a CSV, or a folder with one.")


def _from_store(folder: Path, name: str) -> tuple[Clip, Events | None, Taxonomy]:
    from dcase_seld.data.store import Store

    store = Store.open(folder)
    index = int(store.position([name])[0])
    labels = store.events.select_clips([name]) if store.labelled[index] else None
    return Clip(name, store.videos[index], store.audio(index).T, store.sample_rate), labels, store.taxonomy


def _from_path(path: Path, video: Path | None) -> Clip:
    """Return the clip of a video or sound file; its other half lies beside it or in the official folders."""
    if not path.is_file():
        raise SeldError(f"{path} does not exist.", "Give a video, a sound file, or a clip's name with --data.")
    if video is not None and not video.is_file():
        raise SeldError(f"The video {video} does not exist.", "Leave out --video, or give an existing file.")
    from dcase_seld.media.audio import CONTAINERS, SOUNDS, VIDEOS, read_audio
    from dcase_seld.media.video import video_info
    from dcase_seld.task.facts import SAMPLE_RATE

    audio: Path | None = path
    if path.suffix.lower() in VIDEOS:
        video = path
        audio = _sibling(path, SOUNDS | (CONTAINERS - VIDEOS), ("video_", "stereo_")) or (
            path if video_info(path).has_audio else None
        )
    else:
        video = video or _sibling(path, VIDEOS, ("stereo_", "video_"))
    sound = None if audio is None else read_audio(audio, rate=SAMPLE_RATE, resample=True, mono="duplicate")
    return Clip(path.stem, video, sound, SAMPLE_RATE)


def _sibling(path: Path, suffixes: frozenset[str], swap: tuple[str, str]) -> Path | None:
    folders = [path.parent]
    if path.parent.parent.name.startswith(swap[0]):
        other = path.parent.parent.name.replace(swap[0], swap[1], 1)
        folders.append(path.parent.parent.parent / other / path.parent.name)
    beside = (file for folder in folders if folder.is_dir() for file in sorted(folder.glob(f"{escape(path.stem)}.*")))
    return next((file for file in beside if file.suffix.lower() in suffixes and file.stem == path.stem), None)


def _people(found: Clip, keypoints: Path | None, mode: str, times_s: np.ndarray) -> ClipPeople | None:
    from dcase_seld.post.keypoints import Keypoints, find_in_video
    from dcase_seld.progress import say

    if keypoints is not None:
        return Keypoints([keypoints]).get(found.name)
    if mode == "none" or found.video is None:
        return None
    from dcase_seld.config import parse_config
    from dcase_seld.post.people import PeopleConfig, PeopleFinder

    try:
        with PeopleFinder(parse_config(PeopleConfig, {"mode": mode}, "the command line")) as finder:
            return find_in_video(finder, found.video, times_s)
    except SeldError as error:
        say(f"warning: people are not drawn: {error}")
        return None
