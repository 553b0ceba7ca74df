"""`dcase-seld score`: a folder of predictions against a folder of references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dcase_seld.cli import answer, echo, named_file
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.task import CLIP_FRAMES


class FrameCount(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of label frames, or "any" (None)."""

    name = "N|any"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or "any"."""
        if value == "any" or (isinstance(value, int) and value > 0):
            return value
        # Longer numbers are of no recording, and Python refuses thousands of digits.
        if isinstance(value, str) and value.isdecimal() and len(value) <= 9 and int(value) > 0:
            return int(value)
        self.fail(f"{value!r} is neither a number of frames (100 ms each) nor 'any'.", param, ctx)


@click.command()
@click.option("--pred", "pred", type=click.Path(path_type=Path), required=True, help="Folder of predicted CSV files.")
@click.option("--ref", "ref", type=click.Path(path_type=Path), required=True, help="Folder of reference CSV files, "
              "flat or with one sub-folder per split; or a corpus in the official layout.")  # fmt: skip
@click.option("--task", type=click.Choice(["dcase2025", "dcase2024", "dcase2023"]), default="dcase2025",
              show_default=True, help="The challenge's edition, see below.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["polar", "polar-cm", "cartesian"]),
              help="How predictions of 2024 and 2023 are written, where their number of columns does not "
              "tell.")  # fmt: skip
@click.option("--track", type=click.Choice(["a", "b"]), default="b", show_default=True, help="a: audio only (2025).")
@click.option("--average", type=click.Choice(["macro", "micro"]), default="macro", show_default=True,
              help="macro: mean over classes; micro: all classes pooled.")  # fmt: skip
@click.option("--protocol", type=click.Choice(["official", "complete"]), default="official", show_default=True,
              help="Which frames and clips count, see above.")  # fmt: skip
@click.option("--jackknife", "with_jackknife", is_flag=True, help="Add 95 % confidence intervals.")
@click.option("--jackknife-by", type=click.Choice(["clip", "recording"]), default="clip", show_default=True,
              help="What is left out at a time: one clip, as the challenge does, or all windows of one recording, "
              "which is the honest interval where clips overlap in time (2025).")  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Leave out clips without a prediction file, as the challenge does.")
@click.option("--taxonomy", type=click.Path(path_type=Path), help="YAML file of the classes; by default the "
              "taxonomy.yaml of REF's corpus, else the 13.")  # fmt: skip
@click.option("--frames", type=FrameCount(), default=CLIP_FRAMES, show_default=True,
              help="Label frames (100 ms) of a clip; 'any' for longer recordings (2025; any length "
              "before).")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the scores to this file; -: "
              "print them as JSON.")  # fmt: skip
def score(
    pred: Path,
    ref: Path,
    task: str,
    form: str | None,
    track: str,
    average: Any,
    protocol: Any,
    with_jackknife: bool,
    jackknife_by: Any,
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
    from dcase_seld.core.classes import load_taxonomy, taxonomy_beside
    from dcase_seld.core.event_files import labels_in, list_csv, names_of
    from dcase_seld.core.work import say
    from dcase_seld.scoring.figures import EDITION_FIGURES
    from dcase_seld.scoring.official import check_clips, format_scores, score_clips

    named_file(json_file, r'"protocol":', (pred, ref))
    ref = labels_in(ref)
    own = taxonomy_beside(ref) if taxonomy is None else None
    if own is not None:
        echo(f"note: the classes are those of {own}.", err=True)
    classes = load_taxonomy(taxonomy or own)
    if form is not None and task == "dcase2025":
        raise SeldError("--format is for the editions before 2025.", "Leave it out, or add --task dcase2024.")
    predicted, annotated = list_csv(pred), list_csv(ref)
    nothing = "a file with the header alone" if task == "dcase2025" else "an empty file"
    remedy = f"Write {nothing} where nothing was detected, or pass --allow-missing to leave them out."
    allowed = allow_missing or protocol == "complete"
    missing = check_clips(names_of(predicted), names_of(annotated), pred, ref, None if allowed else remedy)
    how: dict[str, Any] = {"average": average, "protocol": protocol, "track": track, "form": form}
    try:
        scores, notes = score_clips(
            predicted,
            annotated,
            task=task,
            n_classes=len(classes),
            frames=None if isinstance(frames, str) else frames,
            jackknife=jackknife_by if with_jackknife else None,
            **how,
        )
    except SeldError as error:
        remedy = next((mend for words, mend in MENDS.items() if words in error.problem), error.remedy)
        raise SeldError(error.problem, remedy) from error
    if missing:
        say(f"warning: {len(missing)} clip(s) have no prediction file: {listing(missing)}.")
    for note in notes:
        say(f"note: {note}")
    columns = EDITION_FIGURES.get(task)
    answer(format_scores(scores, classes.classes, columns), scores.to_json(), json_file)


MENDS = {
    "is outside the clip": "Add --frames any, or --frames N, for recordings of other lengths than 5 s.",
    "is outside the list": "Name other classes with --taxonomy FILE (classes: [...]).",
}
"""What a CSV file's fault says → what the user of a command can do about it."""
