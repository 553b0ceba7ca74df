"""`dcase-seld package-submission` and `check-submission`: runs → the zip that the challenge takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcase_seld.cli import answer, echo, named_file

if TYPE_CHECKING:
    from dcase_seld.submission.layout import Edition

HARMLESS = {"report-missing", "clip-count"}
"""What may be left open when a package is written: the report comes last."""


layout_option = click.option(
    "--layout",
    "edition",
    type=click.Choice(["dcase2025", "dcase2024"]),
    default="dcase2025",
    show_default=True,
    help="The edition whose layout the zip has; a layout.yaml in --templates goes before it.",
)


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
    "--scores",
    "named_scores",
    multiple=True,
    metavar="PATH[:a|b]",
    help="Development scores where the run's own are not found: a scores.json, a score step, or the folder below work/ "
    "of the recipe that was scored. :a or :b: of that track's systems; or one per --system, in their order.",
)
@click.option(
    "--eval", "evaluation", type=click.Path(path_type=Path), help="Folder of the evaluation set, to compare names with."
)
@click.option("--templates", type=click.Path(path_type=Path), help="Folder with your own layout.yaml, meta.yaml, …")
@layout_option
@click.option("--force-random-weights", is_flag=True, help="Package networks that were never trained.")
def package_submission(
    team: Path | None,
    systems: tuple[str, ...],
    out: Path,
    reports: tuple[str, ...],
    named_scores: tuple[str, ...],
    evaluation: Path | None,
    templates: Path | None,
    edition: Edition,
    force_random_weights: bool,
) -> None:
    """Make the zip that the challenge takes, and check it.

    Per system the zip holds one CSV file per clip and a meta file filled from the receipts of the run (parameters,
    features, augmentation, data, development scores) and from the team file; per track a technical report. Networks
    for the evaluation set were trained on the development test set too: their development scores are those of the
    ensemble whose settings they took over (settings_of), or what --scores names.
    """
    from dcase_seld.submission.deliver import deliver, scores_of_systems, split_track
    from dcase_seld.submission.layout import Track
    from dcase_seld.submission.systems import find_run, stated_track, with_scores

    chosen: list[tuple[Path, Track | None]] = [split_track(text) for text in systems]
    by_track: dict[Track, Path] = {}
    for text in reports:
        path, track = split_track(text)
        for one in ("a", "b") if track is None else (track,):
            by_track[one] = path
    tracks: list[Track] = [track or stated_track(path) for path, track in chosen]
    named_file(out, r"\APK\x03\x04.{26}[^\x00]*\.yaml", filter(None, (team, *by_track.values())))
    runs = []
    places = scores_of_systems(named_scores, tracks)
    for (path, _), known, place in zip(chosen, tracks, places, strict=True):
        run = find_run(path, known)
        runs.append((run if place is None else with_scores(run, place, known), known))
    findings, lines = deliver(
        out,
        runs,
        team,
        reports=by_track,
        evaluation=evaluation,
        templates=templates,
        edition=edition,
        force_random_weights=force_random_weights,
        quiet=False,
    )
    for line in lines:
        echo(line)
    if findings.rules("error") - HARMLESS:
        echo(f"{out} is written, but has {findings.errors} error(s).", err=True)
        sys.exit(1)


@click.command("check-submission")
@click.argument("zip_file", metavar="ZIP", type=click.Path(path_type=Path))
@click.option("--eval", "evaluation", type=click.Path(path_type=Path),
              help="Folder of the evaluation set: every clip in it must have a CSV file, and no other.")  # fmt: skip
@click.option("--templates", type=click.Path(path_type=Path), help="Folder with your own layout.yaml.")
@layout_option
@click.option("--json", "json_file", type=click.Path(path_type=Path),
              help="Also write the findings to this file; -: print them as JSON.")  # fmt: skip
def check_submission(
    zip_file: Path, evaluation: Path | None, templates: Path | None, edition: Edition, json_file: Path | None
) -> None:
    """Check a submission zip against every rule.

    All findings are printed at once, errors first, each with file, line and the name of its rule. Exit status: 0 if
    there is no error (warnings do not count), 1 if there is one. The zip is read as a stream, so it may be large, and
    nothing is unpacked to disk.
    """
    from dcase_seld.submission.check import check_submission as check
    from dcase_seld.submission.layout import load_layout

    named_file(json_file, r'\A\{\s*"zip":', (zip_file,))
    findings, summary = check(zip_file, load_layout(templates, edition), evaluation)
    lines = list(findings.lines())
    lines += [f"{label}: {system['clips']:,} clips, {system['events']:,} rows" for label, system in summary.items()]
    verdict = "ready to submit" if findings.errors == 0 else "not ready"
    lines.append(f"{zip_file}: {verdict}; {findings.errors} error(s), {findings.warnings} warning(s)")
    answer("\n".join(lines), {"zip": str(zip_file), **findings.to_json(), "systems": summary}, json_file)
    if findings.errors:
        sys.exit(1)
