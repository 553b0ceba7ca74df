"""`dcase-seld show`, one clip as a picture and a film, and `people`, who is in pictures and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dcase_seld.cli import Number, answer, echo, named_file
from dcase_seld.media.recordings import _from_path
from dcase_seld.report.clip_view import _from_store, _people, files_to_look_at, load_events, look_at, pictures_in, told


@click.command()
@click.argument("clip")
@click.option("--data", type=click.Path(path_type=Path), help="A prepare step's folder; CLIP is then a clip's name.")
@click.option("--pred", type=click.Path(path_type=Path), help="Predictions: events.npz or CSV, or the folder of it.")
@click.option("--ref", type=click.Path(path_type=Path), help="References, likewise. Default: the labels of --data.")
@click.option(
    "--task", type=click.Choice(["dcase2024", "dcase2023"]), help="The edition of CSV files without a header."
)
@click.option("--format", "form", type=click.Choice(["polar", "polar-cm", "cartesian"]),
              help="How predictions of these editions are written, as for score.")  # fmt: skip
@click.option("--video", type=click.Path(path_type=Path), help="The clip's video, where CLIP is a sound file.")
@click.option("--keypoints", type=click.Path(path_type=Path), help="A keypoints step's folder; else people are "
              "looked for.")  # fmt: skip
@click.option("--detections", type=click.Path(path_type=Path), help="A detections step's folder.")
@click.option("--mode", type=click.Choice(["accurate", "fast", "none"]), default="fast", show_default=True,
              help="How people are looked for.")  # fmt: skip
@click.option("--taxonomy", type=click.Path(path_type=Path), help="YAML file with the classes, if they are your own.")
@click.option("--fov", default=100.0, show_default=True, type=Number(1, 179),
              help="Horizontal field of view of the video in degrees; a phone held level has about 65 to 70 (main "
              "camera), 100 to 110 (ultra-wide), held upright 40 to 50.")  # fmt: skip
@click.option("--frames", default=5, show_default=True, type=click.IntRange(1, 12), help="Frames in the picture.")
@click.option("--fps", default=15.0, show_default=True, type=Number(1, 60), help="Of the video.")
@click.option("--no-overlay", is_flag=True, help="Write the picture only.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="shown", show_default=True,
              help="Folder to write to.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files in --out that an earlier show did not write.")
def show(
    clip: str,
    data: Path | None,
    pred: Path | None,
    ref: Path | None,
    task: str | None,
    form: str | None,
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
    overwrite: bool,
) -> None:
    """Draw CLIP (a video, a sound file, or a name in --data): NAME.png, and NAME.mp4 with sound.

    The picture has azimuth over time, reference and prediction per class, and video frames with people, boxes and
    predicted directions. Events with elevations are drawn on the whole sphere, over 360° pictures.
    """
    from dcase_seld.core.classes import load_taxonomy
    from dcase_seld.core.errors import SeldError
    from dcase_seld.core.files import OutputFolder
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
        reference = load_events(ref, found.name, classes, True, task)
    prediction = load_events(pred, found.name, classes, False, task, form) if pred is not None else None

    if found.sound is not None:
        seconds = found.sound.shape[1] / found.rate
    else:
        assert found.video is not None
        seconds = video_info(found.video).duration_s
    if not seconds > 0:
        raise SeldError(f"{clip} holds no sound and no pictures.", "Give a longer clip.")

    pictures = None
    if found.video is not None:
        pictures = read_frames(found.video, sample_times(seconds, frames / seconds).tolist())
        if pictures.problem:
            say(f"warning: {pictures.problem}")
    around = any(events is not None and events.elevation_deg is not None for events in (prediction, reference))
    # Bodies bend in 360° pictures, and the finder was not made for them.
    people = None if around else _people(found, keypoints, mode, sample_times(seconds, max(2.0, frames / seconds)))
    objects = read_detections([detections], classes).get(found.name) if detections is not None else None
    scene = Scene(found.name, classes.classes, prediction, reference, people, objects, fov)
    read = [Path(clip), *(place for place in (found.video, pred, ref) if place is not None)]
    with OutputFolder(out, read, overwrite) as folder:
        picture = folder.file(f"{found.name}.png")
        draw_picture(picture, scene, pictures, seconds)
        echo(picture)
        if not no_overlay:
            film = folder.file(f"{found.name}.mp4")
            readable = found.video if pictures is not None and any(i is not None for i in pictures.images) else None
            write_overlay(film, scene, readable, seconds, fps, found.sound, found.rate, quiet=False)
            echo(film)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option("--mode", type=click.Choice(["accurate", "fast"]), default="accurate", show_default=True,
              help="accurate finds smaller people, and takes about six times as long.")  # fmt: skip
@click.option("--fps", type=Number(0, 1_000, min_open=True), default=2.0, show_default=True, help="Of videos.")
@click.option("--model", default="pose", show_default=True, help="pose, pose-lite, pose-heavy, or a model's folder.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Also write all keypoints to this file; -: "
              "print them as JSON.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="people", show_default=True,
              help="Folder for the pictures with people drawn in.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files in --out that an earlier run did not write.")
def people(
    files: tuple[Path, ...], mode: str, fps: float, model: str, target: Path | None, out: Path, overwrite: bool
) -> None:
    """Find people in pictures and videos (files or folders), say where their noses are, and draw pictures.

    --json writes a list of {file, time_s, width, height, people: [{nose_x, nose_y, score, keypoints}]}, in pixels. A
    file that cannot be used is named, the others are looked at, and the exit status is 1.
    """
    from dcase_seld.core.config import parse_config
    from dcase_seld.core.errors import SeldError
    from dcase_seld.core.files import OutputFolder
    from dcase_seld.core.work import progress
    from dcase_seld.vision.people import PeopleConfig, PeopleFinder

    missing: list[Path] = []
    pictures = files_to_look_at(files, missing)
    named_file(target, r'\A\[\s*(\]|\{\s*"file":)', pictures)
    alone = str(target) == "-"
    config = parse_config(PeopleConfig, {"mode": mode, "model": model}, "the command line")
    entries: list[dict[str, Any]] = []
    counts = {path: pictures_in(path, fps) for path in pictures}
    failed = len(missing)
    total = len(pictures) + failed
    for path in missing:
        echo(f"error: {path} does not exist.", err=True)
    with (
        PeopleFinder(config) as finder,
        OutputFolder(out, pictures, overwrite) as folder,
        progress("people", sum(counts.values()), "pictures", quiet=False) as advance,
    ):
        for path in pictures:
            found: list[dict[str, Any]] = []
            try:
                for entry in look_at(finder, path, fps, folder):
                    found.append(entry)
                    advance(1, path.name)
            except SeldError as error:
                if total == 1:
                    raise
                echo(f"error: {error}", err=True)
                failed += 1
                continue
            finally:
                advance(counts[path] - len(found))
            entries += found
            if len(pictures) <= MOST_TOLD and not alone:
                for line in told(path, found):
                    echo(line)
    count = sum(len(entry["people"]) for entry in entries)
    answer(f"{count} people in {len(entries)} frames of {total - failed} files → {out}", entries, target)
    if failed:
        raise SeldError(f"{failed} of {total} files could not be used (see above).")


MOST_TOLD = 20
"""With more files than this, who is in them stands in the pictures and the file alone."""
