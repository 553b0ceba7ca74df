"""`dcase-seld people`: people's keypoints in pictures and videos, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dcase_seld.post.landmarks import Person
    from dcase_seld.post.people import Image, PeopleFinder

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


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
    import json

    from dcase_seld.config import parse_config
    from dcase_seld.errors import SeldError
    from dcase_seld.post.people import PeopleConfig, PeopleFinder
    from dcase_seld.progress import progress, say

    for path in files:
        if not path.is_file():
            raise SeldError(f"{path} does not exist.", "Give an existing picture or video.")
    config = parse_config(PeopleConfig, {"mode": mode, "model": model}, "the command line")
    entries: list[dict[str, Any]] = []
    with PeopleFinder(config) as finder, progress("people", len(files), "files", quiet=False) as advance:
        for path in files:
            entries += _look(finder, path, fps)
            advance(1)
    part = target.with_name(target.name + ".part")
    part.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    part.replace(target)
    say(f"{sum(len(e['people']) for e in entries)} people in {len(entries)} frames of {len(files)} files → {target}")


def _look(finder: PeopleFinder, path: Path, fps: float) -> Iterator[dict[str, Any]]:
    for time_s, image in _images(path, fps):
        yield {
            "file": str(path),
            "time_s": time_s,
            "width": image.shape[1],
            "height": image.shape[0],
            "people": [_plain(person) for person in finder.find(image)],
        }


def _images(path: Path, fps: float) -> Iterator[tuple[float | None, Image]]:
    """Yield (time in seconds, picture); a still picture has no time."""
    from dcase_seld.media.picture import read_picture
    from dcase_seld.media.video import iterate_frames, video_info
    from dcase_seld.post.keypoints import sample_times
    from dcase_seld.progress import say

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
    from dcase_seld.post.landmarks import LANDMARKS

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
