"""`dcase-seld run`, `status`, and what recipes are written with: `recipes`, `stages`, `explain`, `schema`."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcase_seld.cli import (
    Commands,
    complete,
    complete_key,
    complete_recipe,
    complete_step,
    device_option,
    echo,
    filled,
    named_file,
    plugin_option,
    set_option,
    work_option,
)
from dcase_seld.core.errors import SeldError, near_names
from dcase_seld.core.work import say
from dcase_seld.recipe.load import shipped_recipes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dcase_seld.core.config import Config
    from dcase_seld.recipe.graph import Registry
    from dcase_seld.recipe.keys import Group, Key
    from dcase_seld.recipe.plan import Plan


def registry() -> Registry:
    """Return the stages of the package."""
    from dcase_seld.recipe.graph import Registry
    from dcase_seld.stages import load_stage, stage_names

    return Registry(stage_names(), load_stage)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), shell_complete=complete_recipe)
@click.option("--until", metavar="STEP", shell_complete=complete_step, help="Run only STEP and the steps it reads.")
@click.option("--from", "since", metavar="STEP", shell_complete=complete_step,
              help="Run only STEP and the steps that read it; others must be done.")  # fmt: skip
@click.option("--force", is_flag=True, help="Make the selected steps again, though they are done.")
@set_option
@click.option("--dry-run", is_flag=True, help="Say what would run, and why; run nothing.")
@device_option
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes a step may use; 0: one per core.")
@work_option
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
    from dcase_seld.recipe.run import RunOptions, choose, fetch_all, run_recipe, seconds, select

    options = RunOptions(until, since, force, device, workers, quiet)
    if dry_run:
        plan = make_plan(recipe, registry(), work, overrides, quiet)
        print_states(plan, select(plan, until, since), force)
        _, todo = choose(plan, options)
        for line in fetch_all(plan, todo, now=False):
            echo(f"would pull {line}")
        return
    plan, made = run_recipe(recipe, registry(), work, overrides, options)
    chosen = select(plan, until, since)
    if not made:
        say(f"all {len(chosen)} steps of {plan.name} are up to date")
    width = max(len(name) for name in chosen)
    for name in plan.steps:
        if name in chosen:
            state = "made in" if name in made else "up to date, took"
            link = plan.link(name)
            link = link.relative_to(Path.cwd()) if link.is_relative_to(Path.cwd()) else link
            page = "/report.html" if plan.steps[name].step.stage.produces == "report" else ""
            echo(f"{name:{width}}  {link}{page}  ({state} {duration(seconds(plan, name))})")
    for name in plan.steps:
        receipt = plan.steps[name].receipt if name in chosen else None
        text = (receipt or {}).get("facts", {}).get("show")
        if text:
            echo(f"\n{name}\n{text}")


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
        echo(f"{name:{width}}  {planned.step.stage.name:10}  {state}")
    echo(f"{len(rerun)} of {len(chosen)} steps would run" if rerun else f"all {len(chosen)} steps are up to date")


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), shell_complete=complete_recipe)
@set_option
@work_option
@plugin_option
def status(recipe: Path, overrides: tuple[str, ...], work: Path) -> None:
    """Say for every step of RECIPE whether it is done, and why it would run if not.

    The reason names the keys that differ from the step's most recent result: "epochs: 3 → 5". Variables of the
    environment that are not set have the values of the last run.
    """
    from dcase_seld.recipe.plan import make_plan
    from dcase_seld.recipe.run import fetch_all

    plan = make_plan(recipe, registry(), work, overrides, recall=True)
    if plan.about:
        echo(plan.about)
    for note in plan.notes:
        say(f"note: {note}")
    print_states(plan, set(plan.steps))
    try:
        for line in fetch_all(plan, [name for name, planned in plan.steps.items() if planned.receipt is None], False):
            echo(f"would pull {line}")
    except SeldError as error:
        say(f"note: {error}")


@click.group(cls=Commands, name="recipes", invoke_without_command=True)
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
            echo(filled(" ".join(about[1].split()) if about else "", f"{name:{width}}  ", " " * (width + 2)))
        echo("\n`dcase-seld run NAME` runs one, `dcase-seld recipes copy NAME` copies it here.")


@recipes.command(name="copy")
@click.argument("name", shell_complete=lambda ctx, param, text: complete(shipped_recipes(), text))
@click.argument("target", required=False, type=click.Path(path_type=Path))
def copy_recipe(name: str, target: Path | None) -> None:
    """Copy the recipe NAME to TARGET (default: NAME.yaml here), to be changed."""
    from dcase_seld.core.files import write_text

    shipped = shipped_recipes()
    if name not in shipped:
        raise SeldError(f"The package carries no recipe {name!r}.", near_names(name, shipped))
    target = Path(f"{Path(name).name}.yaml") if target is None else target
    target = target / f"{Path(name).name}.yaml" if target.is_dir() else target
    if target.exists():
        raise SeldError(f"{target} is there already.", "Give another place to copy to.")
    target.parent.mkdir(parents=True, exist_ok=True)
    schema_file = target.parent / SCHEMA_FILE
    text = re.sub(r"(\$schema=)\S+", rf"\1{SCHEMA_FILE}", shipped[name].read_text(encoding="utf-8"), count=1)
    write_text(target, text)
    if not schema_file.exists():
        _write_schema(schema_file)
    # Its first comment says what it needs: "# Run: SOUNDS=path/to/recordings dcase-seld run …", on one line or two.
    told = re.match(r"# Run: (.*?) *dcase-seld run ", re.sub(r"\\\n# *", "", text))
    echo(f"{target}    (run it with: {f'{told[1]} '.lstrip() if told else ''}dcase-seld run {target})")


SCHEMA_FILE = "recipe.schema.json"
"""Where a recipe's first comment looks for its schema: beside it."""


def _write_schema(path: Path) -> None:
    from dcase_seld.core.files import write_text
    from dcase_seld.recipe.keys import recipe_schema

    write_text(path, json.dumps(recipe_schema(registry()), indent=1, ensure_ascii=False) + "\n")


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path, dir_okay=False))
@plugin_option
def schema(target: Path | None) -> None:
    """Print the JSON schema of recipes, or write it to TARGET.

    An editor with a YAML language server (VS Code: the extension "YAML" by Red Hat) completes and checks the keys of
    a recipe that names the schema in a comment: "# yaml-language-server: $schema=recipe.schema.json". With --plugin
    the names that plug-ins bring are known too.
    """
    from dcase_seld.recipe.keys import recipe_schema

    if target is None:
        echo(json.dumps(recipe_schema(registry()), indent=1, ensure_ascii=False))
    else:
        named_file(target, r'\A\{\s*"\$schema":', ())
        _write_schema(target)
        echo(str(target))


@click.command()
@click.argument("stage", required=False, shell_complete=lambda ctx, param, text: complete(registry().names, text))
@plugin_option
def stages(stage: str | None) -> None:
    """List the stages that a recipe's steps may name; with STAGE, its keys, what they mean and their defaults."""
    known = registry()
    if stage is None:
        width = max(map(len, known.names))
        for name in known.names:
            echo(filled(known.load(name).about, f"{name:{width}}  ", " " * (width + 2)))
        echo("\n`dcase-seld stages STAGE` shows the keys of one; `dcase-seld explain KEY` looks a key up.")
        return
    if stage not in known.names:
        raise SeldError(f"There is no stage {stage!r}.", near_names(stage, known.names))
    _tell_stage(known, stage)


@click.command()
@click.argument("key", shell_complete=complete_key)
@click.option("--recipe", type=click.Path(path_type=Path), shell_complete=complete_recipe,
              help="Where KEY is a step of this recipe, or a key of one: also what it has there.")  # fmt: skip
@plugin_option
def explain(key: str, recipe: Path | None) -> None:
    """Say what KEY of a recipe means, what it may hold, and its default.

    KEY is a path, as train.model.encoder.kind, or its end: encoder.kind, kind. A stage's name shows all its keys; a
    value, as resnet_conformer, the keys that may have it. With --recipe, a step's name shows what is set there.
    """
    from dcase_seld.recipe.keys import find_keys, near_keys
    from dcase_seld.recipe.load import load_recipe

    known = registry()
    steps = {} if recipe is None else load_recipe(recipe).steps
    step, _, path = key.partition(".")
    if step in steps and steps[step].get("stage") in known.names:
        if _tell_step(known, step, steps[step], path):
            return
        key = f"{steps[step]['stage']}.{path}"
    if key in known.names:
        _tell_stage(known, key)
        return
    found = find_keys(key, known)
    if not found:
        near = [*difflib.get_close_matches(step, steps, n=2)] * (step not in steps) + near_keys(key, known)
        hint = f"Near: {', '.join(near)}." if near else "`dcase-seld stages STAGE` lists the keys of a stage."
        raise SeldError(f"{f'{recipe} has no step, and no' if steps else 'No'} stage has a key {key!r}.", hint)
    meanings: dict[Key, dict[str, list[str]]] = {}
    for stage, one in found:
        places = meanings.setdefault(replace(one, path="", when=""), {})
        places.setdefault(f"{stage}.{one.path}", []).extend([one.when] if one.when else [])
    for one, places in meanings.items():
        names = [f"{place} (kind {' or '.join(kinds)})" if kinds else place for place, kinds in places.items()]
        _tell_key(", ".join(names), one, "")


def _tell_step(known: Registry, name: str, step: dict[str, Any], path: str) -> bool:
    """Print what a step of a recipe sets, at a path or at all, each with what it means; whether there is such a key."""
    from dcase_seld.recipe.keys import find_keys
    from dcase_seld.recipe.plan import flatten

    stage = known.load(step["stage"])
    values = {place: value for place, value in flatten(step) if place != "stage"}
    keys = {place: [one for which, one in find_keys(f"{stage.name}.{place}", known) if which == stage.name]
            for place in ([path] if path else values)}  # fmt: skip
    if path and not keys[path]:
        return False
    if not path:
        echo(filled(f"{name}: a step of the stage {stage.name}. {stage.about}", "", ""))
    inside = {place: value for place, value in values.items() if place == path or place.startswith(f"{path}.")}
    for place, found in keys.items():
        shown = {place: values[place]} if place in values else inside
        for one in found[:1]:
            said = ", ".join(f"{where} = {json.dumps(value, ensure_ascii=False)}" for where, value in shown.items())
            _tell_key(f"{f'{name}: ' * bool(path)}{said or f'{place} is not set'}", one, "" if path else "  ")
    if not path:
        echo(f"\n`dcase-seld stages {stage.name}` shows all keys that it may have.")
    return True


def groups_once(config: type[Config]) -> Iterator[tuple[Group, str | None]]:
    """Yield the groups of a configuration class, each with the place where the same keys were told before, or None."""
    from dcase_seld.recipe.keys import groups

    told: dict[type, str] = {}
    for group in groups(config):
        before = told.get(group.model)
        if before is None:
            told[group.model] = group.place
        elif before == group.place:
            continue
        yield group, before


def _tell_stage(known: Registry, name: str) -> None:
    """Print the keys of a stage, those of each mapping inside it under a heading."""
    stage = known.load(name)
    echo(filled(f"{name}: {stage.about}", "", ""))
    kinds: set[str] = set()
    for group, told in groups_once(stage.config):
        if group.place:
            kind = f" with kind {group.when}" if group.when else ""
            same = "" if told is None else f" The keys are those of {told}."
            echo("\n" + filled(f"{group.place}{kind}: {group.about}{same}", "", "  "))
        if told is not None:
            continue
        for key in group.keys:
            if key.path not in kinds:
                _tell_key(key.path, key, "  ")
        kinds |= {key.path for key in group.keys if key.path.endswith(".kind")}


def _tell_key(name: str, key: Key, indent: str) -> None:
    """Print a key: what it may hold, its default, what it means."""
    default = f"; default {key.default}" if key.default else "; required"
    hidden = [name for name in key.choices if name not in key.kind.split()]
    values = f": {', '.join(key.choices)}" if hidden else ""
    free = "; does not change the result" if key.run_time else ""
    echo(filled(f"{name}    {key.kind}{values}{default}{free}", indent, f"{indent}    "))
    values = "|".join(map(re.escape, (*key.choices, "null")))
    for line in re.split(rf"; (?=(?:{values})(?::|$))", key.about) if key.about else ():
        echo(filled(line, f"{indent}    ", f"{indent}      "))
