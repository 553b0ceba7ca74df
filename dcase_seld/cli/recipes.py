"""`dcase-seld run`, `status` and `clean`: a recipe's steps made, looked at, and results taken away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcase_seld.cli import plugin_option
from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import say

if TYPE_CHECKING:
    from dcase_seld.recipe.graph import Registry
    from dcase_seld.recipe.plan import Plan


def registry() -> Registry:
    """Return the stages of the package."""
    from dcase_seld.recipe.graph import Registry
    from dcase_seld.stages import load_stage, stage_names

    return Registry(stage_names(), load_stage)


def _device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return a device's name; a typing error is told now, not hours later at the first step that computes."""
    if not re.fullmatch(r"(auto|cpu|cuda|mps|xpu|hpu|tpu)(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is no device; there are auto, cpu, cuda, cuda:1, mps.")
    return value


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--until", metavar="STEP", help="Run only STEP and the steps it reads.")
@click.option("--from", "since", metavar="STEP", help="Run only STEP and the steps that read it; others must be done.")
@click.option("--force", is_flag=True, help="Make the selected steps again, though they are done.")
@click.option(
    "--set", "overrides", metavar="STEP.KEY=VALUE", multiple=True, help="Change a value (YAML) of the recipe."
)
@click.option("--dry-run", is_flag=True, help="Say what would run, and why; run nothing.")
@click.option("--device", default="auto", show_default=True, callback=_device, help="auto, cpu, cuda, cuda:1, mps, …")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes a step may use; 0: one per core.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("work"), show_default=True, help="Results go here."
)
@plugin_option
@click.option("--quiet", is_flag=True, help="No progress, only the results.")
def run(
    recipe: Path,
    until: str | None,
    since: str | None,
    force: bool,
    overrides: tuple[str, ...],
    dry_run: bool,
    device: str,
    workers: int,
    work: Path,
    quiet: bool,
) -> None:
    """Run RECIPE: every step that is not up to date.

    A result is found again by what it depends on (configuration, steps read, outside data), so that a second run does
    nothing, a changed value re-makes exactly what depends on it, and an interrupted run goes on where it was.
    Results are linked under WORK/<recipe>/<step>.
    """
    from dcase_seld.core.work import duration
    from dcase_seld.recipe.plan import make_plan
    from dcase_seld.recipe.run import RunOptions, run_recipe, seconds, select

    if dry_run:
        plan = make_plan(recipe, registry(), work, overrides, quiet)
        print_states(plan, select(plan, until, since), force)
        return
    options = RunOptions(until, since, force, device, workers, quiet)
    plan, made = run_recipe(recipe, registry(), work, overrides, options)
    chosen = select(plan, until, since)
    if not made:
        say(f"all {len(chosen)} steps of {plan.name} are up to date")
    width = max(len(name) for name in chosen)
    for name in plan.steps:
        if name in chosen:
            state = "made in" if name in made else "up to date, took"
            click.echo(f"{name:{width}}  {_short(plan.link(name))}  ({state} {duration(seconds(plan, name))})")
    for name in plan.steps:
        receipt = plan.steps[name].receipt if name in chosen else None
        text = (receipt or {}).get("facts", {}).get("show")
        if text:
            click.echo(f"\n{name}\n{text}")


def print_states(plan: Plan, chosen: set[str], force: bool = False) -> None:
    """Print one line per step: done, or that it would run and why."""
    from dcase_seld.core.work import duration
    from dcase_seld.recipe.run import seconds

    width = max(len(name) for name in plan.steps)
    rerun: set[str] = set()
    for name, planned in plan.steps.items():
        if name not in chosen:
            state = "done" if planned.receipt else f"not selected; not done: {planned.why}"
        elif planned.receipt is None or force:
            rerun.add(name)
            fresh = [needed for needed in planned.step.needs if needed in rerun]
            reason = planned.why or "forced"
            state = f"would run: {reason}" + (f" (after {', '.join(fresh)})" if fresh else "")
        else:
            state = f"done ({duration(seconds(plan, name))})"
        click.echo(f"{name:{width}}  {planned.step.stage.name:10}  {state}")
    click.echo(f"{len(rerun)} of {len(chosen)} steps would run" if rerun else f"all {len(chosen)} steps are up to date")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", metavar="STEP.KEY=VALUE", multiple=True, help="Change a value (YAML) of the recipe."
)
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("work"), show_default=True, help="Where results are."
)
@plugin_option
def status(recipe: Path, overrides: tuple[str, ...], work: Path) -> None:
    """Say for every step of RECIPE whether it is done, and why it would run if not.

    The reason names the keys that differ from the step's most recent result: "epochs: 3 → 5".
    """
    from dcase_seld.recipe.plan import make_plan

    plan = make_plan(recipe, registry(), work, overrides)
    if plan.about:
        click.echo(plan.about)
    print_states(plan, set(plan.steps))


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
    from dcase_seld.recipe.results import forget, leftovers, remove

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
