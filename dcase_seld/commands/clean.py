"""`dcase-seld clean`: list, and with --yes remove, results that no recipe uses."""

from __future__ import annotations

from pathlib import Path

import click

from dcase_seld.errors import SeldError


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("work"), show_default=True, help="Where results are."
)
@click.option("--forget", "recipe", metavar="NAME", help="First give up the recipe NAME: its results count as unused.")
@click.option("--yes", is_flag=True, help="Remove what is listed.")
def clean(work: Path, recipe: str | None, yes: bool) -> None:
    """List the results under WORK that no recipe uses any more.

    In use is what WORK/<recipe>/<step> leads to, and everything that was made from, unfinished results included.
    Nothing is removed without --yes.
    """
    from dcase_seld.recipe.clean import forget, leftovers, remove

    if not work.is_dir():
        raise SeldError(f"There is no work directory {work}.", "Give it with --work.")
    if recipe is not None:
        click.echo(f"gave up {forget(work, recipe)} links of {recipe}")
    found = leftovers(work)
    for item in found:
        click.echo(f"{item.size / 1e6:10,.1f} MB  {item.folder.name}  {item.step or '(unfinished)'}")
    total = sum(item.size for item in found) / 1e6
    if yes:
        remove(found)
        click.echo(f"removed {len(found)} results, {total:,.1f} MB")
    else:
        click.echo(f"{len(found)} unused results, {total:,.1f} MB" + ("; --yes removes them" if found else ""))
