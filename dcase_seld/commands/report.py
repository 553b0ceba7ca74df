"""`dcase-seld report`: one HTML page of scores, errors and examples of one or more runs."""

from __future__ import annotations

from pathlib import Path

import click

from dcase_seld.errors import SeldError


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
