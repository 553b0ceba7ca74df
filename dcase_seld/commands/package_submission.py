"""`dcase-seld package-submission`: runs → the zip that the challenge takes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

HARMLESS = {"report-missing", "clip-count"}
"""What may be left open when a package is written: the report comes last."""


@click.command("package-submission")
@click.option("--team", type=click.Path(path_type=Path), help="Team file; default: the example, for trials.")
@click.option(
    "--system",
    "systems",
    multiple=True,
    required=True,
    metavar="RUN[:a|b]",
    help="A recipe's folder below work/, an export or score step of one, or a folder of CSV files; :a or :b is the "
    "track (by default what the run was exported for, else b). Repeat it for up to 4 systems per track.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The zip to write.")
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="PDF[:a|b]",
    help="Technical report, of both tracks or of one; without it a skeleton is written beside the zip.",
)
@click.option(
    "--eval", "evaluation", type=click.Path(path_type=Path), help="Folder of the evaluation set, to compare names with."
)
@click.option("--templates", type=click.Path(path_type=Path), help="Folder with your own layout.yaml, meta.yaml, …")
@click.option("--force-random-weights", is_flag=True, help="Package networks that were never trained.")
def package_submission(
    team: Path | None,
    systems: tuple[str, ...],
    out: Path,
    reports: tuple[str, ...],
    evaluation: Path | None,
    templates: Path | None,
    force_random_weights: bool,
) -> None:
    """Make the zip that the challenge takes, and check it.

    Per system the zip holds one CSV file per clip and a meta file filled from the receipts of the run (parameters,
    features, augmentation, data, development scores) and from the team file; per track a technical report.
    """
    from dcase_seld.submission.deliver import deliver, split_track
    from dcase_seld.submission.layout import Track
    from dcase_seld.submission.runs import find_run, stated_track

    chosen: list[tuple[Path, Track | None]] = [split_track(text) for text in systems]
    by_track: dict[Track, Path] = {}
    for text in reports:
        path, track = split_track(text)
        for one in ("a", "b") if track is None else (track,):
            by_track[one] = path
    runs = []
    for path, track in chosen:
        known = track or stated_track(path)
        runs.append((find_run(path, known), known))
    findings, lines = deliver(
        out,
        runs,
        team,
        reports=by_track,
        evaluation=evaluation,
        templates=templates,
        force_random_weights=force_random_weights,
        quiet=False,
    )
    for line in lines:
        click.echo(line)
    if findings.rules("error") - HARMLESS:
        click.echo(f"{out} is written, but has {findings.errors} error(s).", err=True)
        sys.exit(1)
