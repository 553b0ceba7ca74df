"""`dcase-seld run`, `status`, `clean` and `runs`: recipes made, looked at, taken away, and their trainings compared."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcase_seld.cli import plugin_option
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.reading import Facts, read_json
from dcase_seld.core.work import say
from dcase_seld.recipe.load import shipped_recipes

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
    for note in plan.notes:
        say(f"note: {note}")
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


@click.group(name="recipes", invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the recipes that the package carries; each can be run by its name, or copied to be changed."""
    if context.invoked_subcommand is None:
        shipped = shipped_recipes()
        width = max(map(len, shipped), default=0)
        for name, file in shipped.items():
            about = re.search(
                r"^about:\s*(?:>-?\s*)?(.+?)(?=\n\S|\n\n|\Z)", file.read_text(encoding="utf-8"), re.M | re.S
            )
            click.echo(f"{name:{width}}  {' '.join(about[1].split()) if about else ''}")


@recipes.command(name="copy")
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
def copy_recipe(name: str, target: Path | None) -> None:
    """Copy the recipe NAME to TARGET (default: NAME.yaml here), to be changed."""
    import difflib

    from dcase_seld.core.files import write_text

    shipped = shipped_recipes()
    if name not in shipped:
        near = difflib.get_close_matches(name, shipped, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(shipped)}."
        raise SeldError(f"The package carries no recipe {name!r}.", hint)
    target = Path(f"{Path(name).name}.yaml") if target is None else target
    target = target / f"{Path(name).name}.yaml" if target.is_dir() else target
    if target.exists():
        raise SeldError(f"{target} is there already.", "Give another place to copy to.")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, shipped[name].read_text(encoding="utf-8"))
    click.echo(f"{target}    (run it with: dcase-seld run {target})")


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sort", type=click.Choice(["name", "score", "time"]), default="score", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def runs(folders: tuple[Path, ...], sort: str, as_json: bool) -> None:
    """Compare finished training runs in one table.

    FOLDERS are work directories, or folders of train steps (default: ./work). Scores are those of the best epoch on the
    validation clips; "differs" names the settings of a run that are not what most of the others use.
    """
    places = folders or (Path("work"),)
    missing = [folder for folder in places if not folder.is_dir()]
    if missing:
        raise SeldError(f"There is no folder {listing(missing)}.", "Name a work directory or folders of train steps.")
    found = [run for folder in places for run in find_runs(folder)]
    if not found:
        raise SeldError(f"There is no finished training in {listing(places)}.", "Run a recipe with a train step first.")
    _add_differences(found)
    keys = {
        "name": lambda run: run["run"],
        "score": lambda run: -(run["val"].get(run["criterion"]) or -1.0),
        "time": lambda run: run["seconds"],
    }
    found.sort(key=keys[sort])
    if as_json:
        click.echo(json.dumps([{key: run[key] for key in run if key != "settings"} for run in found], indent=1))
    else:
        _print_table(found)


class TrainingJson(Facts):
    """What the table of trainings needs of a summary.json."""

    val: dict[str, Any]
    criterion: str
    seconds: float
    parameters: int
    epochs: int


def find_runs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what each finished training in a folder says of itself, its name under "run", settings under "settings".

    A result that links lead to (work/RECIPE/STEP) is named by its first link.
    """
    names: dict[Path, str] = {}
    results: list[Path] = []
    for root, directories, files in os.walk(folder):
        here = Path(root)
        for name in sorted(directories):
            path = here / name
            if path.is_symlink():
                names.setdefault(path.resolve(), str(path.relative_to(folder)))
        if {"summary.json", "epochs.csv"} <= set(files):
            results.append(here)
            directories.clear()
        directories[:] = sorted(name for name in directories if not (here / name).is_symlink())
    for result in sorted(results):
        summary = read_json(result / "summary.json", TrainingJson, "Remove that folder.")
        own = str(result.relative_to(folder)) if result != folder else folder.name
        yield {"run": names.get(result.resolve(), own), "folder": str(result), **summary, "settings": _settings(result)}


def _settings(result: Path) -> dict[str, Any]:
    """Return the flat settings in a step's receipt, if it has one."""
    try:
        config = read_json(result / "receipt.json")["config"]
    except (SeldError, KeyError):
        return {}
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        else:
            flat[path] = value

    walk(config, "")
    return flat


def _add_differences(found: list[dict[str, Any]]) -> None:
    """Give every run, under "differs", its settings that are not what most of the runs that have them use."""
    keys = sorted({key for run in found for key in run["settings"]})
    for run in found:
        run["differs"] = {}
    for key in keys:
        having = [run for run in found if key in run["settings"]]
        counts = Counter(json.dumps(run["settings"][key]) for run in having)
        if len(counts) < 2:
            continue
        (usual, times), (_, second), *_ = counts.most_common()
        for run in having:
            # Where no value is more usual than the others, all are shown.
            if json.dumps(run["settings"][key]) != usual or times == second:
                run["differs"][key] = run["settings"][key]


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from dcase_seld.report.gather import brief_figures

    # Names and settings are long: they follow below, by the number of the row, so that 80 columns are enough.
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [brief_figures(run["val"]) for run in found]
    for heading in ("", "epochs", *shown[0], "parameters", "clips/s", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, run in enumerate(found, 1):
        seconds = int(run["seconds"])
        table.add_row(
            str(number),
            f"{run.get('best_epoch', 0)}/{run['epochs']}",
            *shown[number - 1].values(),
            f"{run['parameters']:,}",
            f"{run.get('clips_per_second', 0):,.0f}",
            f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        )
    names = Table(box=None, header_style="bold", pad_edge=False)
    names.add_column("", justify="right", no_wrap=True)
    names.add_column("run, and in what it differs", overflow="fold")
    for number, run in enumerate(found, 1):
        differs = ", ".join(f"{key} {json.dumps(value)}" for key, value in run["differs"].items())
        names.add_row(str(number), run["run"] + (f"\n  {differs}" if differs else ""))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print()
    console.print(names)
    console.print("\nScores: validation clips, each training's best epoch by them; test scores are those of `score`.")
