"""`dcase-seld check-submission`: every rule, all findings at once."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("check-submission")
@click.argument("zip_file", metavar="ZIP", type=click.Path(path_type=Path))
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    help="Folder of the evaluation set: every clip in it must have a CSV file, and no other.",
)
@click.option("--templates", type=click.Path(path_type=Path), help="Folder with your own layout.yaml.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the findings to this file.")
def check_submission(zip_file: Path, evaluation: Path | None, templates: Path | None, json_file: Path | None) -> None:
    """Check a submission zip against every rule.

    All findings are printed at once, errors first, each with file, line and the name of its rule. Exit status: 0 if
    there is no error (warnings do not count), 1 if there is one. The zip is read as a stream, so it may be large, and
    nothing is unpacked to disk.
    """
    from dcase_seld.metrics.scorefile import write_json
    from dcase_seld.submission.check import check_submission as check
    from dcase_seld.submission.layout import load_layout

    findings, summary = check(zip_file, load_layout(templates), evaluation)
    for line in findings.lines():
        click.echo(line)
    for label, system in summary.items():
        click.echo(f"{label}: {system['clips']:,} clips, {system['events']:,} rows")
    verdict = "ready to submit" if findings.errors == 0 else "not ready"
    click.echo(f"{zip_file}: {verdict}; {findings.errors} error(s), {findings.warnings} warning(s)")
    if json_file is not None:
        write_json(json_file, {"zip": str(zip_file), **findings.to_json(), "systems": summary})
    if findings.errors:
        sys.exit(1)
