"""`dcase-seld show`, one clip as a picture and a film, and `people`, who is in pictures and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcase_seld.media.recordings import _from_path
from dcase_seld.report.clip_view import _from_store, _people, load_events
from dcase_seld.vision.keypoints import _look

if TYPE_CHECKING:
    pass


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
    from dcase_seld.core.classes import load_taxonomy
    from dcase_seld.core.task import sample_times
    from dcase_seld.core.work import say
    from dcase_seld.media.frames import read_frames, video_info
    from dcase_seld.report.clip_view import draw_picture, write_overlay
    from dcase_seld.report.drawing import Scene
    from dcase_seld.vision.objects import read_detections

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


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--mode", type=click.Choice(["accurate", "fast"]), default="accurate", show_default=True)
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True, help="Of videos.")
@click.option("--model", default="pose", show_default=True, help="pose, pose-lite, pose-heavy, or a model's folder.")
@click.option("--json", "target", required=True, type=click.Path(path_type=Path), help="File to write.")
def people(files: tuple[Path, ...], mode: str, fps: float, model: str, target: Path) -> None:
    """Find people's keypoints in pictures and videos.

    Writes a list of {file, time_s, width, height, people: [{nose_x, nose_y, score, keypoints}]}, in pixels.
    """
    from dcase_seld.core.config import parse_config
    from dcase_seld.core.errors import SeldError
    from dcase_seld.core.files import write_json
    from dcase_seld.core.work import progress, say
    from dcase_seld.vision.people import PeopleConfig, PeopleFinder

    for path in files:
        if not path.is_file():
            raise SeldError(f"{path} does not exist.", "Give an existing picture or video.")
    config = parse_config(PeopleConfig, {"mode": mode, "model": model}, "the command line")
    entries: list[dict[str, Any]] = []
    with PeopleFinder(config) as finder, progress("people", len(files), "files", quiet=False) as advance:
        for path in files:
            entries += _look(finder, path, fps)
            advance(1)
    write_json(target, entries)
    say(f"{sum(len(e['people']) for e in entries)} people in {len(entries)} frames of {len(files)} files → {target}")
