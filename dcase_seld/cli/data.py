"""`dcase-seld data`: download, check, count, convert, import and simulate data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dcase_seld.cli import Commands, Number, answer, echo, named_file, own_place
from dcase_seld.core.errors import SeldError

FOLDER = click.Path(file_okay=False, path_type=Path)

FILE = click.Path(dir_okay=False, path_type=Path)

EXISTING = click.Path(exists=True, path_type=Path)

LONGEST_S = 1_000_000
"""Seconds of a clip."""

taxonomy_option = click.option(
    "--taxonomy",
    type=EXISTING,
    help="YAML file of the classes; default: the corpus' taxonomy.yaml, else the 13 classes.",
)


def _cores() -> int:
    from dcase_seld.core.work import core_count

    return core_count()


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=_cores,
    help="Files worked on at a time; default: the cores that this process may use.",
)

quiet_option = click.option("-q", "--quiet", is_flag=True, help="No live progress.")


@click.group(cls=Commands)
def data() -> None:
    """Download, check, count, convert, import and simulate data in the challenge's official layout."""


@data.command()
@click.option("--out", type=FOLDER, required=True, callback=own_place, help="Folder for the data set.")
@click.option("--only", multiple=True, help="Only files that begin so, as metadata_dev; may be repeated.")
@click.option("--record", default=None, help="Address of the record; default: the challenge's stereo data set.")
@click.option("--no-unpack", is_flag=True, help="Leave the zips as they are.")
@click.option("--keep-zips", is_flag=True, help="Keep the zips after unpacking.")
@click.option("--list", "list_only", is_flag=True, help="Only list the files and their sizes.")
@quiet_option
def download(
    out: Path, only: tuple[str, ...], record: str | None, no_unpack: bool, keep_zips: bool, list_only: bool, quiet: bool
) -> None:
    """Fetch the official data set (about 28 GB), check it, and unpack it.

    Broken off, the same command goes on where it was. The disk space is checked first.
    """
    from dcase_seld.corpus.download import RECORD, list_files
    from dcase_seld.corpus.download import download as fetch

    address = record or RECORD
    if list_only:
        for file in list_files(address):
            echo(f"{file.size / 1e9:8.3f} GB  {file.name}")
        return
    names = fetch(out, record=address, only=only, unpack=not no_unpack, keep_zips=keep_zips, quiet=quiet)
    echo(f"{out}: {', '.join(names)}. Next: dcase-seld data check {out}")


@data.command()
@click.argument("folder", type=EXISTING)
@click.option("--json", "json_file", type=FILE, help="Write the whole report to this file too; -: print it as JSON.")
@click.option("--seconds", help="Length of every clip, or 'any'; default: 5 in the challenge's parts, any in others.")
@click.option("--no-video", is_flag=True, help="Do not open the videos, only pair them.")
@click.option("--most", default=5, show_default=True, help="Cases shown of each kind of problem.")
@taxonomy_option
@workers_option
@quiet_option
def check(
    folder: Path,
    json_file: Path | None,
    seconds: str | None,
    no_video: bool,
    most: int,
    taxonomy: Path | None,
    workers: int,
    quiet: bool,
) -> None:
    """Look at every clip of a corpus: layout, pairs, formats, durations, label ranges.

    Ambisonic recordings (foa_dev, metadata_dev, video_dev: STARSS22 and 23) are known by their folders: four channels,
    any length, labels with elevations and with or without distances, videos twice as wide as high.

    Prints one report of two lists. Problems break a rule, and give exit status 1. Suspicious things break none and are
    hardly meant: silent clips, equal or dead channels, clipping, an offset; azimuths behind or beyond a circle,
    distances of 0, of less than 20 cm throughout, or of more than 100 m, on-screen events beyond the camera's view,
    doubled rows, azimuths that look like radians, frames that look like seconds.
    """
    from dcase_seld.corpus.check import Wanted, check_corpus

    try:
        length: Any = "official" if seconds is None else None if seconds == "any" else float(seconds)
        if isinstance(length, float) and not 0 < length <= LONGEST_S:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{seconds!r} is neither a number nor 'any'.", param_hint="--seconds") from None
    wanted = Wanted(_taxonomy(taxonomy, folder), length, look_into_videos=not no_video)
    named_file(json_file, r'\A\{\s*"root":', ())
    report = check_corpus(folder, wanted, workers, quiet)
    answer("\n".join(report.lines(most)), report.to_json(), json_file)
    sys.exit(0 if report.ok else 1)


@data.command()
@click.argument("folder", type=EXISTING)
@click.option("--picture", type=FILE, help="Write a picture (PNG) to this file.")
@click.option("--json", "json_file", type=FILE, help="Write all figures to this file; -: print them as JSON.")
@click.option("--split", default="all", show_default=True, help="Of a store only: train, val, test, eval or all.")
@taxonomy_option
def stats(folder: Path, picture: Path | None, json_file: Path | None, split: str, taxonomy: Path | None) -> None:
    """Count the labels of a corpus, a store or a folder of CSV files.

    Per class: source frames (one source in one label frame of 100 ms), clips, share on screen, distances.
    """
    from rich.console import Console
    from rich.table import Table

    from dcase_seld.corpus.stats import draw, label_stats, read_labels, summary, table_rows

    named_file(json_file, r'"silent_clips":', (folder,))
    named_file(picture, "dcase-seld", (folder,))
    if picture is not None and json_file is not None and picture.resolve() == json_file.resolve():
        raise SeldError(f"{picture} is to be the picture and the JSON file.", "Give them two names.")
    events, classes = read_labels(folder, _taxonomy(taxonomy, folder), (split,))
    found = label_stats(events, classes)
    table = Table(box=None)
    for title in ("", "class", "source frames", "share", "clips", "on screen", "distance quartiles, m"):
        table.add_column(title, justify="left" if title == "class" else "right")
    for row in table_rows(found):
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 110, color_system=None, markup=False)
    with console.capture() as drawn:
        console.print(table)
    answer(drawn.get() + summary(found), found.to_json(), json_file)
    if picture is not None:
        draw(found, picture)
        echo(f"picture: {picture}", err=str(json_file) == "-")


@data.command()
@click.option("--source", type=EXISTING, required=True, help="Folder with foa_dev, metadata_dev and video_dev.")
@click.option("--out", type=FOLDER, required=True, callback=own_place, help="Folder for the corpus.")
@click.option("--clips", type=EXISTING, help="CSV with recording,angle_deg,start_frame: exactly these clips.")
@click.option(
    "--count", type=click.IntRange(1, 1_000_000), help="Random clips; default: as densely as the official set."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which random clips.")
@click.option("--no-video", is_flag=True, help="Sound and labels only.")
@workers_option
@quiet_option
def convert(
    source: Path, out: Path, clips: Path | None, count: int | None, seed: int, no_video: bool, workers: int, quiet: bool
) -> None:
    """Make stereo clips with perspective video of Ambisonics recordings with 360° video (STARSS23's layout).

    Broken off, the same command goes on where it was.
    """
    from dcase_seld.corpus.convert import Job, convert

    if clips is not None and count is not None:
        raise click.UsageError("--clips lists exactly the clips to make; --count does not go with it.")
    facts = convert(Job(source, out, count, seed, clips, not no_video), workers, quiet)
    echo(
        f"{out}: {facts['clips']:,} clips ({facts['hours']} hours) of {facts['recordings']} recordings, "
        f"{facts['made_now']:,} of them made now, {facts['discarded_for_peak']} discarded for their peak. "
        f"Next: dcase-seld data check {out}"
    )


@data.command()
@click.option("--out", type=FOLDER, required=True, callback=own_place, help="Folder for the corpus.")
@click.option(
    "--sounds", type=EXISTING, help="Folder of dry recordings, one sub-folder per class; default: made sounds."
)
@click.option("--taxonomy", type=EXISTING, help="YAML file of the classes; default: the challenge's 13.")
@click.option("--train", type=click.IntRange(min=0), help="Clips for training, validation included.")
@click.option("--test", type=click.IntRange(min=0), help="Clips of the test fold.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed is another set.")
@click.option("--config", type=EXISTING, help="YAML file with any fields of a recipe's simulate step.")
@workers_option
@quiet_option
def simulate(
    out: Path,
    sounds: Path | None,
    taxonomy: Path | None,
    train: int | None,
    test: int | None,
    seed: int,
    config: Path | None,
    workers: int,
    quiet: bool,
) -> None:
    """Make labelled stereo clips of dry sounds in simulated rooms, in the official layout.

    Broken off, the same command goes on where it was.
    """
    from dcase_seld.core.config import parse_config
    from dcase_seld.core.files import refuse_folder, write_json
    from dcase_seld.core.reading import read_json
    from dcase_seld.recipe.stage import Context
    from dcase_seld.stages.data import SIMULATE_STAGE as STAGE

    fields: dict[str, Any] = _read_yaml(config) if config is not None else {}
    fields |= {"seed": seed, **{k: str(v) for k, v in (("sounds", sounds), ("taxonomy", taxonomy)) if v is not None}}
    counts = {name: value for name, value in (("train", train), ("test", test)) if value is not None}
    if counts and isinstance(fields.get("clips", {}), dict):
        fields["clips"] = {**fields.get("clips", {}), **counts}
    parsed = parse_config(STAGE.config, fields, str(config or "the options"))
    settings = parsed.model_dump(mode="json")
    plan = out / "simulate.json"
    refuse_folder(out, plan.is_file())
    refuse_folder(out, not plan.is_file() or read_json(plan) == settings, "clips of other options")
    out.mkdir(parents=True, exist_ok=True)
    write_json(plan, settings)
    facts = STAGE.run(parsed, {}, out, Context(workers=workers, quiet=quiet)) or {}
    echo(f"{out}: {facts['clips']:,} clips. What sounds in them: dcase-seld data stats {out}")


@data.command("import")
@click.argument("tables", type=EXISTING, nargs=-1, required=True)
@click.option("--audio", type=EXISTING, required=True, help="Folder of the recordings, sub-folders included.")
@click.option("--out", type=FOLDER, required=True, callback=own_place, help="Folder for the corpus; made.")
@click.option("--time", type=click.Choice(["seconds", "milliseconds", "frames"]), help="Unit of onset and offset.")
@click.option(
    "--frame-length", type=Number(0, min_open=True), default=0.1, show_default=True, help="Of --time frames: seconds."
)
@click.option(
    "--direction", type=click.Choice(["degrees", "radians", "xy"]), help="Unit of azimuth; xy: columns x (front), y."
)
@click.option("--positive", type=click.Choice(["left", "right"]), help="The side of positive azimuths, or of y.")
@click.option("--distance", type=click.Choice(["metres", "centimetres"]), help="Unit of distance, or of x and y.")
@click.option("--column", "columns", multiple=True, metavar="NAME=THEIRS", help="Their column of a name: label=class.")
@click.option("--value", "values", multiple=True, metavar="NAME=VALUE", help="What holds for all rows: distance=1.5.")
@click.option(
    "--map", "labels", multiple=True, metavar="LABEL=CLASS|FILE", help="A label's class (none: leave out), or YAML."
)
@click.option("--taxonomy", type=EXISTING, help="YAML file of the classes; default: the 13 classes.")
@click.option("--own-classes", is_flag=True, help="The labels are the classes; taxonomy.yaml is written.")
@click.option("--decimal-comma", is_flag=True, help="Numbers are written as 0,5.")
@click.option(
    "--resample", is_flag=True, help="Convert recordings of other rates than 24 kHz instead of refusing them."
)
@click.option("--mono", type=click.Choice(["refuse", "duplicate"]), default="refuse", show_default=True)
@click.option("--link", is_flag=True, help="Link to recordings that are 24 kHz stereo wav, instead of copying them.")
@click.option(
    "--rest",
    type=click.Choice(["leave", "empty"]),
    default="leave",
    show_default=True,
    help="Recordings that no table names: leave them out, or take them as recordings without any event.",
)
@click.option("--test", type=Number(0, 0.9), default=0.0, help="Share of the recordings to test with.")
@workers_option
@quiet_option
def import_(
    tables: tuple[Path, ...],
    audio: Path,
    out: Path,
    columns: tuple[str, ...],
    values: tuple[str, ...],
    labels: tuple[str, ...],
    taxonomy: Path | None,
    own_classes: bool,
    resample: bool,
    mono: Any,
    link: bool,
    rest: str,
    test: float,
    workers: int,
    quiet: bool,
    frame_length: float,
    **units: Any,
) -> None:
    """Make a corpus of recordings and event tables of your own.

    TABLES have a header and the columns file, onset, offset, label, azimuth, distance; onscreen, source and split if
    there. CSV, TSV and semicolons are read, and label tracks of Audacity, which are named after their recordings.
    Units are declared, never guessed; what cannot be is refused by file, line and column before anything is written.
    Recordings stay whole, however long: training and prediction go over them in windows.
    """
    from dcase_seld.core.classes import load_taxonomy
    from dcase_seld.core.work import duration
    from dcase_seld.corpus.audio_pack import AudioOptions
    from dcase_seld.corpus.own_data import Job, import_tables, read_pairs
    from dcase_seld.corpus.tables import TableFormat

    if own_classes and taxonomy is not None:
        raise click.UsageError("--own-classes takes the labels as classes; --taxonomy does not go with it.")
    form = TableFormat(
        **units, frame_s=frame_length, columns=read_pairs("--column", columns), values=read_pairs("--value", values)
    )
    job = Job(
        tables,
        audio,
        out,
        form,
        read_pairs("--map", labels),
        None if own_classes else load_taxonomy(taxonomy),
        AudioOptions(resample=resample, mono=mono),
        link,
        rest == "empty",
        test,
    )
    facts = import_tables(job, workers, quiet)
    for note in facts["notes"]:
        echo(f"note: {note}", err=True)
    echo(
        f"{out}: {facts['recordings']:,} recordings ({duration(facts['seconds'])}), {facts['events']:,} events of "
        f"{len(facts['classes'])} classes. Next: dcase-seld data check {out}"
    )


def _taxonomy(path: Path | None, folder: Path) -> Any:
    """Return the taxonomy in a file, else the corpus' own, else the challenge's."""
    from dcase_seld.core.classes import load_taxonomy

    own = folder / "taxonomy.yaml"
    return load_taxonomy(path or (own if own.is_file() else None))


def _read_yaml(path: Path) -> dict[str, Any]:
    from dcase_seld.core.reading import read_yaml

    return read_yaml(path, "The configuration", "Write one `field: value` a line.")
