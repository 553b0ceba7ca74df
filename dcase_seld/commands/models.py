"""`dcase-seld models`: which pre-trained models are needed, where they come from, and whether they are there."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dcase_seld.errors import SeldError
from dcase_seld.model.pull import check_model, pull_model, wanted_model
from dcase_seld.model.registry import KNOWN_MODELS, cache_folder, pulled_others
from dcase_seld.progress import say


@click.group()
def models() -> None:
    """List, fetch and check pre-trained models; make models with random weights for trials."""


@models.command("list")
@click.option("--kind", help="Only this kind: clap, vision, pose, ….")
def list_models(kind: str | None) -> None:
    """Show every known model: licence, size, whether it is there, what for, from where."""
    for model in KNOWN_MODELS:
        if kind not in (None, model.kind):
            continue
        state = check_model(model, contents=False).state
        click.echo(f"{model.name:20} {model.kind:8} {state:8} {model.size_bytes / 1e6:7,.0f} MB  {model.licence}")
        click.echo(f"{'':20} {model.about}\n{'':20} {model.source}")
    for name in pulled_others() if kind is None else ():
        click.echo(f"{name:20} {'pulled besides; check it with: dcase-seld models check ' + name}")
    click.echo(f"cache: {cache_folder()} (set DCASE_SELD_CACHE to move it)")


@models.command()
@click.argument("names", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def pull(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch known models, or any model OWNER/NAME of the model hub, into the cache."""
    for name in names:
        model = wanted_model(name)
        say(f"{model.name}: {model.source}, licence {model.licence}, about {model.size_bytes / 1e6:,.0f} MB")
        click.echo(pull_model(model, quiet))


@models.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Compare pulled models with the checksums of their pull: the NAMES given, or all that are there.

    Exit status 1 where a named model is missing, or one is broken.
    """
    bad = False
    for name in names or [*(model.name for model in KNOWN_MODELS), *pulled_others()]:
        model = wanted_model(name)
        found = check_model(model)
        bad = bad or found.state == "broken" or (found.state == "missing" and bool(names))
        click.echo(f"{model.name:20} {found.state:8} {found.size_bytes / 1e6:7,.0f} MB  {found.folder}")
        for problem in found.problems:
            click.echo(f"{'':20} {problem}")
        if found.state in ("missing", "broken") and names:
            click.echo(f"{'':20} fetch it with: dcase-seld models pull {model.name}")
    if bad:
        sys.exit(1)


@models.command("make-random")
@click.argument("kind", type=click.Choice(["clap", "owlvit"]))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tiny/--full", default=True, help="A tiny network (default), or one of the real size.")
@click.option("--seed", default=0, show_default=True, help="Seed of the weights.")
def make_random(kind: str, folder: Path, tiny: bool, seed: int) -> None:
    """Write a model with RANDOM weights to FOLDER, for trying the pipeline without a download.

    It is marked so, every receipt that it touches says so, and no submission is packaged from it.
    """
    try:
        from dcase_seld.model.semantic.random_models import make_random_model
    except ImportError as error:
        raise SeldError(f"Models cannot be made: {error}.", "Install the package with its dependencies.") from error
    make_random_model(kind, folder, tiny, seed)
    say("warning: these weights are random; what they say means nothing.")
    click.echo(folder)
