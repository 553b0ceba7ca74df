"""Running a recipe: every selected step that is not done, in order, resumable after any kind of end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcase_seld.core.errors import SeldError, near_names
from dcase_seld.core.files import remove_unfinished
from dcase_seld.core.work import core_count, duration, launcher_rank, plain_lines, say
from dcase_seld.recipe import results
from dcase_seld.recipe.graph import Registry, ancestors, descendants
from dcase_seld.recipe.plan import Plan, look, make_plan
from dcase_seld.recipe.provenance import listing_of
from dcase_seld.recipe.stage import Context, Fetch

PAUSE_S = 0.2


def follow_step(plan: Plan, name: str, context: Context) -> None:
    """Wait until the first process has made a step; help, where its work is shared.

    Whether the first process failed is the launcher's to see: it then ends the others.
    """
    planned = plan.steps[name]
    stage, config = planned.step.stage, planned.step.config
    shared = stage.shared and getattr(config, "devices", 1) * getattr(config, "nodes", 1) > 1
    while not look(plan, name):
        if shared and planned.folder.is_dir() and results.held_by(planned.folder):
            stage.run(config, plan.inputs(name), planned.folder, context)
            shared = False
        time.sleep(PAUSE_S)


@dataclass(frozen=True)
class RunOptions:
    """How to run."""

    until: str | None = None  # run only this step and what it reads
    since: str | None = None  # run only this step and what reads it; the rest must be done
    force: bool = False  # make the selected steps again though they are done
    device: str = "auto"  # what stages compute on ("auto", "cpu", "cuda", …)
    workers: int = 0  # processes a stage may use; 0 means one per core
    quiet: bool = False  # no progress


def run_recipe(
    path: Path | str,
    registry: Registry,
    work: Path | str = "work",
    overrides: Sequence[str] = (),
    options: RunOptions | None = None,
) -> tuple[Plan, list[str]]:
    """Return the plan with every selected step done, and the names of the steps that ran.

    Raises:
        SeldError: the recipe has errors, outside data, weights or a package is missing, another process is at work,
            or a step refused.
    """
    options = options or RunOptions()
    plan = make_plan(path, registry, work, overrides, options.quiet)
    chosen, todo = choose(plan, options)
    if not launcher_rank():
        fetch_all(plan, todo)
    context = Context(options.device, options.workers or core_count(), options.quiet)
    if launcher_rank():
        for name in todo:
            follow_step(plan, name, replace(context, quiet=True))
        return plan, todo
    results.note_recipe(plan.work / plan.name, plan.path)
    for note in plan.notes if not options.quiet else ():
        say(f"note: {note}")
    for name in plan.steps:
        if name in chosen and name not in todo:
            results.link(plan.link(name), plan.steps[name].folder)
            results.drop_stale_lock(plan.steps[name].folder)
    for number, name in enumerate(todo, 1):
        if not options.quiet:
            planned = plan.steps[name]
            say(f"[{number}/{len(todo)}] {name} ({planned.step.stage.name}): {planned.why or 'forced'}")
        make_step(plan, name, context, options.force)
        if not options.quiet:
            say(f"[{number}/{len(todo)}] {name}: done in {duration(seconds(plan, name))}")
    if len(chosen) == len(plan.steps):
        _unlink_old(plan)
    return plan, todo


def choose(plan: Plan, options: RunOptions) -> tuple[set[str], list[str]]:
    """Return the selected steps, and those of them that would run, in order; `--dry-run` and a run ask alike.

    Raises:
        SeldError: a step reads one that is neither done nor selected, or weights or a package are missing.
    """
    chosen = select(plan, options.until, options.since)
    _require_inputs(plan, chosen)
    todo = [name for name in plan.steps if name in chosen and (options.force or plan.steps[name].receipt is None)]
    _require_ready(plan, todo)
    return chosen, todo


def fetch_all(plan: Plan, names: Sequence[str], now: bool = True) -> list[str]:
    """Fetch what steps need from elsewhere; return in words what was fetched, or with `now` False would be.

    Raises:
        SeldError: something is missing and cannot be fetched.
    """
    said = [
        fetch([plan.steps[name].step.config for name in steps], now) for fetch, steps in _fetching(plan, names).items()
    ]
    return [line for line in said if line]


def _fetching(plan: Plan, names: Sequence[str]) -> dict[Fetch, list[str]]:
    """Return the steps that may need something from elsewhere, by what fetches it."""
    wanting: dict[Fetch, list[str]] = {}
    for name in names:
        if (fetch := plan.steps[name].step.stage.fetch) is not None:
            wanting.setdefault(fetch, []).append(name)
    return wanting


def select(plan: Plan, until: str | None, since: str | None) -> set[str]:
    """Return the steps that `--until` and `--from` choose: all, where neither is given.

    Raises:
        SeldError: a name is not a step's, or the two choose nothing.
    """
    steps = {name: planned.step for name, planned in plan.steps.items()}
    for option, name in (("--until", until), ("--from", since)):
        if name is not None and name not in steps:
            raise SeldError(f"{option} {name}: {plan.path} has no such step.", near_names(name, steps))
    chosen = set(steps) if until is None else ancestors(steps, [until])
    chosen = chosen if since is None else chosen & descendants(steps, [since])
    if not chosen:
        raise SeldError(f"--until {until} does not read --from {since}: nothing is selected.", "Give one of the two.")
    return chosen


def make_step(plan: Plan, name: str, context: Context, force: bool = False) -> None:
    """Make one step's result: hold its folder, run the stage in it, write the receipt last.

    A folder without a receipt belongs to exactly this configuration, so it is given to the stage again as it is. Raises
    SeldError: another process holds the folder, or the stage refused.
    """
    planned = plan.steps[name]
    folder, stage = planned.folder, planned.step.stage
    with results.locked(folder):
        if look(plan, name) and not force:  # another process finished it while this one was at earlier steps
            results.link(plan.link(name), folder)
            return
        if force:
            results.remove_result(folder)
            shutil.rmtree(results.curves_folder(plan.work, plan.name, name, folder), ignore_errors=True)
        (folder / results.NAME).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        results.link(plan.link(name), folder)
        inputs = plan.inputs(name)
        context = replace(context, curves=results.curves_folder(plan.work, plan.name, name, folder))
        began = time.time()
        # Where nobody watches a terminal, a step that says nothing of its own is heard of all the same.
        silent = context.quiet or sys.stderr.isatty()
        try:
            with nullcontext() if silent else plain_lines(f"{name} ({stage.name})"):
                facts = stage.run(planned.step.config, inputs, folder, context)
        except SeldError as error:
            raise SeldError(f"step {name} ({stage.name}): {error.problem}", error.remedy) from error
        except Exception as error:
            error.add_note(f"in step {name} ({stage.name}) of {plan.path}; its unfinished folder is {folder}")
            raise
        _require_unchanged(plan, name)
        finished = time.time()
        planned.receipt = results.write_receipt(
            folder,
            {
                "stage": stage.name,
                "produces": stage.produces,
                "recipe": plan.name,
                "about": plan.about,
                "step": name,
                "fingerprint": folder.name.rpartition("-")[2],
                "config": planned.step.config.model_dump(mode="json"),
                "identity": planned.identity,
                "plugins": planned.identity.get("plugins", {}),
                "inputs": {field: [path.name for path in paths] for field, paths in inputs.items()},
                "outside": _outside_entries(plan, name),
                "facts": dict(facts or {}),
                "finished": finished,
                "seconds": round(finished - began, 3),
            },
        )
        planned.why = ""


def _require_unchanged(plan: Plan, name: str) -> None:
    """Refuse to call a result done whose outside data changed meanwhile; nobody knows what it is of: it is removed.

    Raises:
        SeldError: sizes or times of files are not what they were when the run began.
    """
    planned = plan.steps[name]
    for path in {path for paths in planned.step.outside.values() for path in paths if path in plan.outside}:
        try:
            same = listing_of(path) == plan.outside[path].listing
        except SeldError:
            same = False
        if not same:
            results.remove_result(planned.folder)
            raise SeldError(
                f"step {name} ({planned.step.stage.name}): {path} changed while the recipe ran; nothing was kept.",
                "Run the recipe again when the data no longer changes.",
            )


def seconds(plan: Plan, name: str) -> float:
    """Return how long a done step took."""
    receipt = plan.steps[name].receipt
    return float(receipt["seconds"]) if receipt else 0.0


def _require_inputs(plan: Plan, chosen: set[str]) -> None:
    """Refuse to start where a chosen step reads one that is neither chosen nor done."""
    for name in plan.steps:
        for needed in plan.steps[name].step.needs if name in chosen else ():
            if needed not in chosen and plan.steps[needed].receipt is None:
                raise SeldError(
                    f"step {name} reads {needed}, which is not done ({plan.steps[needed].why}) and not selected.",
                    f"Run without --from, or with --from {needed}.",
                )


def _require_ready(plan: Plan, todo: Sequence[str]) -> None:
    """Refuse to start where a step would find out later that weights or a package are missing."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in todo:
        step = plan.steps[name].step
        try:
            if step.stage.ready is not None:
                step.stage.ready(step.config)
        except SeldError as error:
            found.setdefault((error.problem, error.remedy), []).append(f"{name} ({step.stage.name})")
    for fetch, names in _fetching(plan, todo).items():
        try:
            fetch([plan.steps[name].step.config for name in names], False)
        except SeldError as error:
            own = {name: _lacks(fetch, plan, name) for name in names}
            alike = [name for name in names if own[name] == error.problem] or [name for name in names if own[name]]
            where = [f"{name} ({plan.steps[name].step.stage.name})" for name in alike]
            found[error.problem, error.remedy] = where
    if found:
        lines = [f"step {', '.join(names)}: {problem}" for (problem, _), names in found.items()]
        remedies = dict.fromkeys(f"{remedy.rstrip('.')}." for _, remedy in found)
        raise SeldError("\n  ".join(lines), " ".join([*remedies, "Nothing was run."]))


def _lacks(fetch: Fetch, plan: Plan, name: str) -> str:
    """Return what a step by itself misses and cannot be fetched, or ""."""
    try:
        fetch([plan.steps[name].step.config], False)
    except SeldError as error:
        return error.problem
    return ""


def _outside_entries(plan: Plan, name: str) -> dict[str, list[dict[str, Any]]]:
    known = plan.outside
    return {
        field: [
            {"path": str(p), "files": known[p].files, "bytes": known[p].size, "digest": known[p].digest}
            for p in paths
            if p in known
        ]
        for field, paths in plan.steps[name].step.outside.items()
    }


def _unlink_old(plan: Plan) -> None:
    """Remove the links of steps that the recipe no longer has."""
    folder = plan.work / plan.name
    for place in folder.iterdir() if folder.is_dir() else ():
        if place.name not in plan.steps and results.is_link(place):
            place.unlink()
