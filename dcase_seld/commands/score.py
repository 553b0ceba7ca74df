"""`dcase-seld score`: a folder of predictions against a folder of references."""

from __future__ import annotations

from pathlib import Path

import click

from dcase_seld.errors import listing
from dcase_seld.task.facts import CLIP_FRAMES


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
@click.option("--track", type=click.Choice(["a", "b"]), default="b", show_default=True, help="a: audio only.")
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
    """
    from dcase_seld.metrics.counts import count_events
    from dcase_seld.metrics.jackknife import jackknife
    from dcase_seld.metrics.official import scores_of
    from dcase_seld.metrics.scorefile import check_clips, write_json
    from dcase_seld.metrics.table import format_scores
    from dcase_seld.task.dcase_csv import read_folder
    from dcase_seld.task.taxonomy import load_taxonomy

    classes = load_taxonomy(taxonomy)
    length = None if isinstance(frames, str) else frames
    prediction = read_folder(pred, n_classes=len(classes), frames=length)
    reference = read_folder(ref, n_classes=len(classes), frames=length)
    missing = check_clips(prediction.clips, reference.clips, pred, ref, allow_missing or protocol == "complete")
    if missing:
        click.echo(f"warning: {len(missing)} clip(s) have no prediction file: {listing(missing)}.", err=True)
    counts = count_events(prediction, reference, n_classes=len(classes), protocol=protocol)  # type: ignore[arg-type]
    intervals = None
    if with_jackknife:
        intervals = jackknife(counts, average=average, track=track, by=jackknife_by)  # type: ignore[arg-type]
    scores = scores_of(counts, average=average, protocol=protocol, track=track, jackknife=intervals)  # type: ignore[arg-type]
    if json_file is not None:
        write_json(json_file, scores.to_json())
    click.echo(format_scores(scores, classes.classes))
