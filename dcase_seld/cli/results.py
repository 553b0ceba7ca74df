"""`dcase-seld score`, `report` and `ensemble`: what finished predictions and trainings are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcase_seld.cli import plugin_option
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.task import CLIP_FRAMES

if TYPE_CHECKING:
    from dcase_seld.store.store import Store


class FrameCount(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of label frames, or "any" (None)."""

    name = "N|any"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or "any"."""
        if value == "any" or (isinstance(value, int) and value > 0):
            return value
        if isinstance(value, str) and value.isdecimal() and int(value) > 0:
            return int(value)
        self.fail(f"{value!r} is neither a number of frames (100 ms each) nor 'any'.", param, ctx)


@click.command()
@click.option("--pred", "pred", type=click.Path(path_type=Path), required=True, help="Folder of predicted CSV files.")
@click.option(
    "--ref",
    "ref",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of reference CSV files; flat, or with one sub-folder per split.",
)
@click.option(
    "--task",
    type=click.Choice(["dcase2025", "dcase2024", "dcase2023"]),
    default="dcase2025",
    show_default=True,
    help="The challenge's edition, see below.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["polar", "polar-cm", "cartesian"]),
    help="How predictions of 2024 and 2023 are written, where their number of columns does not tell.",
)
@click.option("--track", type=click.Choice(["a", "b"]), default="b", show_default=True, help="a: audio only (2025).")
@click.option(
    "--average",
    type=click.Choice(["macro", "micro"]),
    default="macro",
    show_default=True,
    help="macro: mean over classes; micro: all classes pooled.",
)
@click.option(
    "--protocol",
    type=click.Choice(["official", "complete"]),
    default="official",
    show_default=True,
    help="Which frames and clips count, see above.",
)
@click.option("--jackknife", "with_jackknife", is_flag=True, help="Add 95 % confidence intervals.")
@click.option(
    "--jackknife-by",
    type=click.Choice(["clip", "recording"]),
    default="clip",
    show_default=True,
    help="What is left out at a time: one clip, as the challenge does, or all windows of one recording, which is the "
    "honest interval where clips overlap in time.",
)
@click.option("--allow-missing", is_flag=True, help="Leave out clips without a prediction file, as the challenge does.")
@click.option("--taxonomy", type=click.Path(path_type=Path), help="YAML file with your own list of classes.")
@click.option(
    "--frames",
    type=FrameCount(),
    default=CLIP_FRAMES,
    show_default=True,
    help="Label frames (100 ms) of a clip; 'any' for longer recordings.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the scores to this file.")
def score(
    pred: Path,
    ref: Path,
    task: str,
    form: str | None,
    track: str,
    average: str,
    protocol: str,
    with_jackknife: bool,
    jackknife_by: str,
    allow_missing: bool,
    taxonomy: Path | None,
    frames: int | str,
    json_file: Path | None,
) -> None:
    """Score predictions against references with the challenge's metrics.

    F20/1 is the ranking score of track a (audio only): a source counts if its class is right, its azimuth is off by at
    most 20° and its distance by at most the reference distance. F20/1/on-off, the score of track b, also asks for the
    right on-screen flag. Errors of direction and distance and the on/off accuracy are means over all matched sources.

    Protocol OFFICIAL is the challenge's own scorer, to the last digit: in each clip only the frames before the last
    annotated one count, so clips without reference events never count. A missing prediction file is an error here;
    with --allow-missing it counts nothing, as in the challenge's scorer.

    Protocol COMPLETE counts every frame of every clip, also false alarms where nothing is annotated; all sources of a
    clip without a prediction file are missed.

    Tasks DCASE2024 and DCASE2023 (2022 counts alike) are the editions on the full sphere, scored as their programs do,
    to 1e-8: error rate ER20, F20, DOA or localization error, distance errors (2024), localization recall, SELD score.
    References have no header: frame,class,source,azimuth,elevation,cm (2023: with or without cm). Predictions of 2024:
    frame,class,source,azimuth,elevation,METRES or frame,class,source,x,y,z,METRES; of 2023:
    frame,class,source,azimuth,elevation or frame,class,source,x,y,z,METRES.
    Quirks that are part of these numbers: 2024 leaves out the last annotated frame and what follows, 2023 a last second
    of which only its first frame is annotated; an error of exactly 20° never passes in 2024; classes without a match
    have 180° in 2023; predicted sources that share a second but no frame with references count as misses in 2023; a
    missing prediction file counts nothing; classes that do not exist are left out. One quirk is not kept: the value
    beside a jackknife interval is the real one.
    """
    if task != "dcase2025":
        _score_edition(pred, ref, task, form, average, protocol, with_jackknife, allow_missing, taxonomy, json_file)
        return
    if form is not None:
        raise SeldError("--format is for the editions before 2025.", "Leave it out, or add --task dcase2024.")
    from dcase_seld.core.classes import load_taxonomy
    from dcase_seld.core.csv_rows import Limits
    from dcase_seld.core.event_files import list_csv
    from dcase_seld.core.files import write_json
    from dcase_seld.scoring.intervals import jackknife
    from dcase_seld.scoring.official import check_clips, count_files, format_scores, scores_of

    classes = load_taxonomy(taxonomy)
    limits = Limits(len(classes), None if isinstance(frames, str) else frames)
    predicted, annotated = list_csv(pred), list_csv(ref)
    given, known = (tuple(name for name, _ in files) for files in (predicted, annotated))
    missing = check_clips(given, known, pred, ref, allow_missing or protocol == "complete")
    if missing:
        click.echo(f"warning: {len(missing)} clip(s) have no prediction file: {listing(missing)}.", err=True)
    counts = count_files(predicted, annotated, limits, protocol)  # type: ignore[arg-type]
    intervals = None
    if with_jackknife:
        intervals = jackknife(counts, average=average, track=track, by=jackknife_by)  # type: ignore[arg-type]
    scores = scores_of(counts, average=average, protocol=protocol, track=track, jackknife=intervals)  # type: ignore[arg-type]
    if json_file is not None:
        write_json(json_file, scores.to_json())
    click.echo(format_scores(scores, classes.classes))


def _score_edition(
    pred: Path,
    ref: Path,
    task: str,
    form: str | None,
    average: str,
    protocol: str,
    with_jackknife: bool,
    allow_missing: bool,
    taxonomy: Path | None,
    json_file: Path | None,
) -> None:
    """Score predictions of an edition before 2025."""
    from dcase_seld.core.classes import load_taxonomy
    from dcase_seld.core.files import write_json
    from dcase_seld.scoring.editions import count_sources, read_sources
    from dcase_seld.scoring.official import EDITION_FIGURES, check_clips, edition_scores, format_scores

    classes = load_taxonomy(taxonomy)
    prediction = read_sources(pred, task, form=form)
    reference = read_sources(ref, task, reference=True)
    missing = check_clips(prediction.clips, reference.clips, pred, ref, allow_missing or protocol == "complete")
    if missing:
        click.echo(f"warning: {len(missing)} clip(s) have no prediction file: {listing(missing)}.", err=True)
    for table in (prediction, reference):
        for note in table.notes_of(len(classes)):
            click.echo(f"note: {note}", err=True)
    clips, sums = count_sources(prediction, reference, task=task, n_classes=len(classes), protocol=protocol)
    scores = edition_scores(clips, sums, task=task, average=average, protocol=protocol, jackknife=with_jackknife)
    if json_file is not None:
        write_json(json_file, scores.to_json())
    click.echo(format_scores(scores, classes.classes, EDITION_FIGURES[task]))


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="The page."
)
@click.option(
    "--examples", type=click.IntRange(0, 50), default=3, show_default=True, help="Best and worst clips shown."
)
@click.option("--title", default="", help="Heading; the runs' names by default.")
@click.option("--ref", type=click.Path(path_type=Path), help="Reference CSVs, where a RUN is a folder of CSV files.")
@click.option("--track", type=click.Choice(["a", "b"]), default="b", show_default=True, help="Of folders of CSV files.")
def report(runs: tuple[Path, ...], out: Path, examples: int, title: str, ref: Path | None, track: str) -> None:
    """Write one self-contained HTML page on one or more runs.

    RUN is a recipe's folder in the work directory (work/quickstart), the result of a score step
    (work/quickstart/score), or, with --ref, a folder of official CSV files. Further runs are compared with the first,
    clip by clip.
    """
    if out.is_dir():
        raise SeldError(f"{out} is a folder.", f"Give a file, e.g. --out {out / 'report.html'}.")
    from dcase_seld.report.gather import gather
    from dcase_seld.report.page import write_report

    found = gather(runs, ref, track)
    write_report(found, out, examples, title)
    click.echo(f"{out}  ({out.stat().st_size / 1e6:.1f} MB; {', '.join(run.name for run in found)})")


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(item) for item in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,1,0.5") from None


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CKPT...")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Store, or a folder in the official layout, whose validation clips decide; without it nothing is tuned.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the ensemble.")
@plugin_option
@click.option("--weights", callback=_numbers, help="Share of each member, as 1,1,0.5.")
@click.option(
    "--tta",
    type=click.Choice(["none", "swap"]),
    default="none",
    show_default=True,
    help="swap: average with the left-right mirrored input.",
)
@click.option(
    "--select",
    type=click.Choice(["all", "greedy"]),
    default="all",
    show_default=True,
    help="greedy: add members while the validation score rises.",
)
@click.option(
    "--soup",
    type=click.Choice(["none", "top", "all"]),
    default="none",
    show_default=True,
    help="Average weights: of each step's top/, or of all checkpoints.",
)
@click.option(
    "--thresholds",
    type=click.Choice(["per-class", "common", "none"]),
    default="per-class",
    show_default=True,
    help="Activity thresholds that are tuned.",
)
@click.option("--criterion", type=click.Choice(["f_score", "f_score_onscreen"]), default="f_score", show_default=True)
@click.option(
    "--split",
    type=click.Choice(["val", "train", "test", "eval"]),
    default="val",
    show_default=True,
    help="Clips to choose and tune on; test and eval are refused.",
)
@click.option("--tokens", multiple=True, type=click.Path(path_type=Path), help="Folder of an embed step (repeat).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, …")
@click.option("--quiet", is_flag=True, help="No live progress.")
def ensemble(
    checkpoints: tuple[Path, ...],
    data: Path | None,
    out: Path,
    tokens: tuple[Path, ...],
    device: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Average several checkpoints, and tune the ensemble on validation data.

    Members may be of different architectures and tracks; their tracks are aligned per frame and class before they are
    averaged. The folder OUT can be given wherever a checkpoint is wanted.
    """
    if options["split"] in ("test", "eval"):
        raise SeldError(
            f"--split {options['split']}: an ensemble that is tuned on the clips it will be judged by proves nothing.",
            "Tune on val; make a store with held-out rooms (prepare, split) if there is no validation split.",
        )
    from dcase_seld.core.config import parse_config
    from dcase_seld.infer.devices import single_device
    from dcase_seld.infer.ensemble import make_ensemble
    from dcase_seld.infer.settings import EnsembleConfig

    if data is None:
        options |= {"select": "all", "thresholds": "none"}
    if (out / "ensemble.json").exists() or (out.exists() and any(out.iterdir()) and not (out / ".store").exists()):
        raise SeldError(f"{out} is not empty.", "Give another --out, or remove it.")
    config = parse_config(EnsembleConfig, options, "The command")
    out.mkdir(parents=True, exist_ok=True)
    facts = make_ensemble(
        config,
        checkpoints,
        None if data is None else _store(data, out, quiet),
        out,
        tokens=tokens,
        device=single_device(device),
        quiet=quiet,
    )
    _show(facts, checkpoints, out)


def _store(data: Path, out: Path, quiet: bool) -> Store:
    """Return the store in a folder, or one made of a folder in the official layout."""
    from dcase_seld.store.store import Store

    if (data / "store.json").is_file():
        return Store.open(data)
    from dcase_seld.recipe.stage import Context
    from dcase_seld.stages.data import PREPARE_STAGE as STAGE
    from dcase_seld.stages.data import PrepareConfig

    STAGE.run(PrepareConfig(corpus=str(data)), {}, out / ".store", Context(quiet=quiet))
    return Store.open(out / ".store")


def _show(facts: dict[str, Any], checkpoints: tuple[Path, ...], out: Path) -> None:
    """Print the members, their validation scores and what was tuned."""
    scores = facts["scores"]
    if scores:
        click.echo(f"{scores['criterion']} on {facts['tuned_clips']} {scores['split']} clips (in %):")
        names = [str(path) for path in checkpoints] if len(scores["single"]) == len(checkpoints) else ["soup"]
        for name, score in zip(names, scores["single"], strict=False):
            click.echo(f"  {100 * score:5.1f}  {name}")
        click.echo(f"  {100 * scores['average']:5.1f}  average")
        if "tuned" in scores:
            click.echo(f"  {100 * scores['tuned']:5.1f}  with tuned thresholds (flattered: these clips chose them)")
    click.echo(
        f"{facts['members']} member(s), {facts['parameters']:,} parameters, tta {facts['tta']}, unify "
        f"{facts['unify_deg']:.0f}°, thresholds {', '.join(f'{limit:.2f}' for limit in facts['thresholds'])}"
    )
    click.echo(str(out))
