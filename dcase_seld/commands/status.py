"""`dcase-seld status`: what of a recipe is done, what would run, and why."""

from __future__ import annotations

from pathlib import Path

import click

from dcase_seld.commands.run import print_states, registry


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", metavar="STEP.KEY=VALUE", multiple=True, help="Change a value (YAML) of the recipe."
)
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("work"), show_default=True, help="Where results are."
)
def status(recipe: Path, overrides: tuple[str, ...], work: Path) -> None:
    """Say for every step of RECIPE whether it is done, and why it would run if not.

    The reason names the keys that differ from the step's most recent result: "epochs: 3 → 5".
    """
    from dcase_seld.recipe.plan import make_plan

    plan = make_plan(recipe, registry(), work, overrides)
    if plan.about:
        click.echo(plan.about)
    print_states(plan, set(plan.steps))
