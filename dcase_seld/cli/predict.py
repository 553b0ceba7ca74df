"""`dcase-seld predict`: events of any sound or video file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import Field

from dcase_seld.cli import Number, device_option, echo, filled, plugin_option
from dcase_seld.core.config import find_network
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.reading import Facts, read_json
from dcase_seld.core.work import say

if TYPE_CHECKING:
    from dcase_seld.core.events import Events
    from dcase_seld.core.files import OutputFolder
    from dcase_seld.infer.predictor import Predictor
    from dcase_seld.media.recordings import Recording


def _named(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=WEIGHTS options as a mapping."""
    pairs = [text.partition("=") for text in value]
    for name, sign, weights in pairs:
        if not (name and sign and weights):
            raise click.BadParameter(f"{name + sign + weights!r} is not of the form NAME=WEIGHTS, as clap=FOLDER")
    return {name: weights for name, _, weights in pairs}


FORMATS = ("csv", "json", "audacity")

OVERLAY_FPS = 15.0
"""Frames per second of the annotated video."""

MOST_TABLES = 5
"""With more recordings than this, what was heard stands in the files alone."""


@click.command(name="predict")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option("--checkpoint", "checkpoints", multiple=True, type=click.Path(path_type=Path),
              help="A trained network: a train step's folder, or the name of one that the package carries; several "
              "are averaged. Default: the package's network.")  # fmt: skip
@click.option("--ensemble", type=click.Path(path_type=Path), help="An ensemble folder with its tuned settings.")
@click.option("--out", default="predicted", show_default=True, type=click.Path(path_type=Path),
              help="Folder to write to.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files in --out that an earlier predict did not write.")
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), default=("csv", "json"),
              show_default=True, help="csv: the challenge's rows per 100 ms; json: events with onset and offset; "
              "audacity: a label track. May be given several times.")  # fmt: skip
@click.option("--overlap", default=0.5, show_default=True, type=Number(0, 0.9),
              help="Share of a window that the next one covers too.")  # fmt: skip
@click.option("--mono", default="refuse", show_default=True, type=click.Choice(["refuse", "duplicate"]),
              help="What to do with one channel. Duplicated, it is heard as from the front of a small room: what "
              "sounds can be believed, where it is cannot.")  # fmt: skip
@click.option("--foa", "foa_angle", type=Number(), metavar="DEGREES",
              help="The files are first-order Ambisonics (W, Y, Z, X); listen at this viewing angle.")  # fmt: skip
@click.option("--videos", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder with the videos of sound files, by name.")  # fmt: skip
@click.option("--people", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
              help="Whether people in the pictures decide what is on screen and refine where it is; auto: where the "
              "pose model is there (dcase-seld models pull pose).")  # fmt: skip
@click.option("--no-video", is_flag=True, help="Do not look at the pictures.")
@click.option("--encoder", "encoders", multiple=True, metavar="NAME=WEIGHTS", callback=_named,
              help="Weights of an encoder (folder, file or known name) in place of those of the training, as "
              "clap=FOLDER. May be given several times.")  # fmt: skip
@click.option("--min-event", type=Number(0), default=0.0, show_default=True, metavar="SECONDS",
              help="Drop events that are shorter. For the challenge leave it off.")  # fmt: skip
@click.option("--bridge", type=Number(0), default=0.0, show_default=True, metavar="SECONDS",
              help="Fill pauses within an event up to this long. For the challenge leave it off.")  # fmt: skip
@click.option("--tta", type=click.Choice(["none", "swap", "rotate"]), help="swap: average with the left-right "
              "mirrored input; rotate: over 16 turns of the sphere (Ambisonics).")  # fmt: skip
@click.option("--threshold", type=Number(0, 1, min_open=True, max_open=True),
              help="Activity threshold. Default: what the ensemble says, else 0.5.")  # fmt: skip
@click.option("--overlay", is_flag=True, help="Also write NAME.mp4: the video, or a plain ground, with the events "
              "drawn in.")  # fmt: skip
@click.option("--fov", default=100.0, show_default=True, type=Number(1, 179),
              help="Horizontal field of view of the video in degrees, for --overlay; a phone held level has about 65 "
              "to 70 (main camera), 100 to 110 (ultra-wide), held upright 40 to 50.")  # fmt: skip
@plugin_option
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1), help="Windows computed at once.")
@device_option
@click.option("--quiet", is_flag=True, help="No live progress.")
def predict(
    inputs: tuple[Path, ...],
    checkpoints: tuple[Path, ...],
    ensemble: Path | None,
    out: Path,
    overwrite: bool,
    formats: tuple[str, ...],
    overlap: float,
    mono: str,
    foa_angle: float | None,
    videos: Path | None,
    people: str,
    no_video: bool,
    encoders: dict[str, str],
    min_event: float,
    bridge: float,
    tta: str | None,
    threshold: float | None,
    overlay: bool,
    fov: float,
    batch_size: int,
    device: str,
    quiet: bool,
) -> None:
    """Predict events of sound and video files (wav, flac, mp3, mp4, mkv, mov, …) of any length and sample rate.

    INPUTS are files or folders. Without --checkpoint or --ensemble the package's own network listens, which needs no
    download. Recordings longer than a network's window are cut into windows that overlap; their outputs are averaged.
    A file that cannot be used is named, the others are predicted, and the exit status is 1.
    """
    from dcase_seld.core.files import OutputFolder
    from dcase_seld.core.segments import heard_table, link, tidy
    from dcase_seld.core.task import LABEL_RATE
    from dcase_seld.infer.devices import single_device
    from dcase_seld.infer.predictor import Predictor, read_for
    from dcase_seld.infer.recording_source import ComputeTime, open_embedders
    from dcase_seld.media.recordings import find_recordings
    from dcase_seld.stages.pictures import people_correction

    if checkpoints and ensemble is not None:
        raise click.UsageError("Give --checkpoint or --ensemble, not both.")
    refused: list[SeldError] = []
    recordings = find_recordings(inputs, videos, refused)
    place = single_device(device)
    folders = [ensemble] if ensemble is not None else list(checkpoints) or [Path("default")]
    predictor = Predictor.load(folders, place, tta).with_threshold(threshold)  # type: ignore[arg-type]
    correct = people_correction(predictor.task.classes, "off" if no_video else people, quiet=quiet)  # type: ignore[arg-type]
    predictor = replace(predictor, correct=correct)
    embedders = open_embedders(predictor.specs, predictor.needs, predictor.task, str(place), encoders)
    hop = predictor.task.hop_frames(overlap)
    for error in refused:
        echo(f"error: {error}", err=True)
    spent, heard, failed = ComputeTime(), 0.0, len(refused)
    total = len(recordings) + failed
    read = [path for pair in recordings for path in pair if path is not None]
    notes: dict[str, list[str]] = {}
    unseen = False
    with OutputFolder(out, read, overwrite) as folder:
        for path, video in recordings:
            try:
                recording = read_for(predictor, path, video, mono=mono, foa_angle_deg=foa_angle)  # type: ignore[arg-type]
                recording = replace(recording, video=None) if no_video else recording
                events = predictor.predict(
                    recording, embedders, hop_frames=hop, batch_size=batch_size, quiet=quiet, spent=spent
                )
                if min_event or bridge:
                    events = tidy(events, round(min_event * LABEL_RATE), round(bridge * LABEL_RATE))
                _write(events, predictor, folder, formats)
                if overlay:
                    _overlay(events, predictor, recording, folder, fov, quiet)
                heard += recording.seconds
                unseen = unseen or (people == "auto" and correct is None and recording.video is not None)
                if total <= MOST_TABLES:
                    echo(f"{path}: {recording.seconds:,.1f} s")
                    echo("\n".join(heard_table(link(events), predictor.task.classes)))
                if recording.without_direction:
                    notes.setdefault(recording.without_direction, []).append(path.name)
            except SeldError as error:
                if total == 1:
                    raise
                echo(f"error: {error}", err=True)
                failed += 1
    for maker in embedders.values():
        for problem in maker.problems.values():
            say(f"warning: {problem}")
    echo(f"{total - failed} of {total} recordings ({heard:,.1f} s of sound) → {out}")
    for what, names in notes.items():
        echo(f"note: {listing(names)}: {what}")
    if unseen:
        echo(filled("note: people in the pictures were not looked for; that takes the pose model: dcase-seld models "
                    "pull pose", "", "  "))  # fmt: skip
    for heading, *sentences in _belief([find_network(folder) for folder in folders]) if failed < total else ():
        echo("\n".join([heading, *(filled(sentence, "  - ", "    ") for sentence in sentences)]))
    if heard:
        parts = [f"network {heard / spent.network:,.1f}× real time (overlap {overlap:.0%} counted in)"]
        parts += [f"{kind} encoder {heard / seconds:,.1f}×" for kind, seconds in spent.tokens.items()]
        echo(f"speed: {heard / spent.total:,.1f}× real time; " + ", ".join(parts))
    if failed:
        raise SeldError(f"{failed} of {total} files could not be used (see above).", "Mend these or leave them out.")


class AboutJson(Facts):
    """What the card of a network must say here."""

    believe: list[str] = Field(min_length=1)


def _belief(folders: list[Path]) -> list[list[str]]:
    """Return how far networks that the package carries can be believed, as their about.json says."""
    lines = []
    for folder in folders:
        if (folder / "about.json").is_file():
            lines.append(["how far to believe it:", *read_json(folder / "about.json", AboutJson)["believe"]])
    return lines


def _write(events: Events, predictor: Predictor, out: OutputFolder, formats: tuple[str, ...]) -> None:
    """Write the events of one recording in each format."""
    from dcase_seld.core.event_files import write_csv
    from dcase_seld.core.files import write_text
    from dcase_seld.core.segments import link, to_audacity, to_json

    taxonomy, name = predictor.networks[0].taxonomy, events.clips[0]
    if "csv" in formats:
        sees = events.onscreen_probability is not None
        write_csv(out.file(f"{name}.csv"), events, track="b" if sees else "a")
    segments = link(events)
    for form, suffix, text in (("json", "json", to_json), ("audacity", "txt", to_audacity)):
        if form in formats:
            write_text(out.file(f"{name}.{suffix}"), text(segments, taxonomy))


def _overlay(
    events: Events, predictor: Predictor, recording: Recording, out: OutputFolder, fov: float, quiet: bool
) -> None:
    """Write the recording as a video with its events drawn in, and its sound."""
    from dcase_seld.media.recordings import LongSound
    from dcase_seld.report.clip_view import write_overlay
    from dcase_seld.report.drawing import Scene

    path = out.file(f"{recording.name}.mp4")
    scene = Scene(recording.name, predictor.networks[0].taxonomy.classes, events, None, None, None, fov)
    sound = recording.sound.whole() if isinstance(recording.sound, LongSound) else recording.sound
    write_overlay(path, scene, recording.video, recording.seconds, OVERLAY_FPS, sound, recording.rate, quiet)
