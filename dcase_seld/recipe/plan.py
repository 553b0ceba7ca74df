"""What a recipe's steps are now: where each result belongs, whether it is done, and if not, why it would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dcase_seld.core.errors import listing
from dcase_seld.core.files import RESULTS, follow
from dcase_seld.core.reading import KeyPath
from dcase_seld.recipe.graph import Registry, Step, build
from dcase_seld.recipe.load import load_recipe
from dcase_seld.recipe.provenance import OutsideData, fingerprint, identity, outside_data
from dcase_seld.recipe.results import broken_files, held_by, read_receipt, refuse_other_recipe

MOST = 6

_ABSENT = object()


def latest_result(results: Path, recipe: str, step: str, stage: str) -> dict[str, Any] | None:
    """Return the most recent receipt of a step of a recipe, or None."""
    latest: dict[str, Any] | None = None
    for folder in results.glob(f"{stage}-*"):
        receipt = read_receipt(folder)
        if receipt is None or receipt.get("recipe") != recipe or receipt.get("step") != step:
            continue
        if latest is None or receipt["finished"] > latest["finished"]:
            latest = receipt
    return latest


def difference(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    inputs: Mapping[str, list[str]],
    step: Step,
    outside: Mapping[Path, OutsideData],
) -> str:
    """Return what changed since a receipt: "epochs: 3 → 5; reads another 'dev'", or "" when nothing did."""
    then = before.get("identity", {})
    said = []
    if then.get("version") != now["version"]:
        said.append(f"the stage's version: {then.get('version')} → {now['version']}")
    for name in sorted({*then.get("plugins", {}), *now.get("plugins", {})}):
        if then.get("plugins", {}).get(name) != now.get("plugins", {}).get(name):
            said.append(f"the plug-in {name} changed")
    old, new, chosen = dict(flatten(then.get("config", {}))), dict(flatten(now["config"])), _chosen(step)
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if a == b or (a is _ABSENT and key not in chosen):
            continue
        field = next((mark.name for mark in step.fields if key == mark.name or key.startswith(f"{mark.name}.")), "")
        if _is(a, "step:") and _is(b, "step:"):
            continue
        if _is(a, "outside:") and _is(b, "outside:"):
            said.append(_outside_change(field, before, step, outside))
        else:
            said.append(f"{key}: {_show(a)} → {_show(b)}")
    for field, folders in inputs.items():
        read = step.reads.get(field, ())
        if read and before.get("inputs", {}).get(field) != folders:
            said.append(f"{field}: another result of {', '.join(read)}")
    said = list(dict.fromkeys(said))
    return "; ".join(said[:MOST]) + (f"; and {len(said) - MOST} more" if len(said) > MOST else "")


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, leaf) of nested plain data; lists of plain values are leaves."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, (dict, list)) for item in tree):
        for index, value in enumerate(tree):
            yield from flatten(value, f"{prefix}.{index}")
    else:
        yield prefix, tree


def _chosen(step: Step) -> set[str]:
    """Return the dotted keys that are not at their defaults."""
    return set(dict(flatten(step.config.model_dump(mode="json", exclude_defaults=True))))


def _outside_change(field: str, before: Mapping[str, Any], step: Step, outside: Mapping[Path, OutsideData]) -> str:
    entries = before.get("outside", {}).get(field, [])
    files, size = sum(e["files"] for e in entries), sum(e["bytes"] for e in entries)
    paths = step.outside.get(field, ())
    files_now, size_now = sum(outside[p].files for p in paths), sum(outside[p].size for p in paths)
    if (files, size) == (files_now, size_now):
        return f"{field}: the content of a file of {', '.join(p.name for p in paths)} changed"
    return f"{field}: {files:,} files, {size:,} bytes → {files_now:,} files, {size_now:,} bytes"


def _is(value: Any, prefix: str) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, str) and first.startswith(prefix)


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "(not there)"
    if _is(value, "step:"):
        return "a step's result"
    if _is(value, "outside:"):
        return "outside data"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


OUTSIDE = ".outside"


@dataclass
class PlannedStep:
    """A step, its place and its state."""

    step: Step  # the step
    folder: Path  # its result folder, `work/.results/<stage>-<fingerprint>`
    identity: dict[str, Any]  # what the fingerprint was made of
    receipt: dict[str, Any] | None = None  # the receipt if the step is done, else None
    why: str = ""  # why it would run, or "" when it is done


@dataclass
class Plan:
    """A recipe with the state of every step, in running order."""

    name: str  # the recipe's name
    path: Path  # its file
    about: str  # what it is for
    work: Path  # the work directory
    notes: tuple[str, ...] = ()  # what its user should know of the recipe: keys of older versions
    steps: dict[str, PlannedStep] = field(default_factory=dict)  # step name → its state
    outside: dict[Path, OutsideData] = field(default_factory=dict)  # outside path → what is known of it

    def link(self, name: str) -> Path:
        """Return where the result of a step is linked: `work/<recipe>/<step>`."""
        return self.work / self.name / name

    def inputs(self, name: str) -> dict[str, list[Path]]:
        """Return the folders that a step reads, by field name; a field that takes data from outside too gives that."""
        step = self.steps[name].step
        folders: dict[str, list[Path]] = {}
        for mark in step.fields:
            if mark.ref is None:
                continue
            outside = iter(step.outside.get(mark.name, ()))
            read = step.reads.get(mark.name, ())
            values = [self.steps[text].folder if text in read else next(outside) for _, text in mark.items()]
            if values:
                folders[mark.name] = values
        return folders


def recorded_value(work: Path, recipe: str, where: KeyPath) -> Any:
    """Return what the last result of a step has at a key's path ("steps", step, key, …), or None."""
    receipt = read_receipt(follow(work / recipe / str(where[1]))) if len(where) > 2 else None
    value: Any = (receipt or {}).get("config")
    for key in where[2:]:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def make_plan(
    path: Path | str,
    registry: Registry,
    work: Path | str,
    overrides: Sequence[str] = (),
    quiet: bool = True,
    recall: bool = False,
) -> Plan:
    """Return the plan of a recipe; reads receipts and outside data, writes nothing but the cache of the latter.

    With `recall`, variables of the environment that are not set have the values of the last run. Raises SeldError: the
    recipe has errors, outside data is missing, or WORK has results of another recipe of its name.
    """
    recipe = load_recipe(path, overrides, recall=partial(recorded_value, Path(work)) if recall else None)
    steps = build(recipe, registry, check_outside=True)
    plan = Plan(recipe.name, recipe.path, recipe.about, Path(work).absolute(), tuple(recipe.notes))
    refuse_other_recipe(plan.work / plan.name, plan.path)
    plan.outside = _look_outside(steps, plan.work, quiet)
    fingerprints: dict[str, str] = {}
    for name, step in steps.items():
        what = identity(step, fingerprints, plan.outside)
        folder = plan.work / RESULTS / f"{step.stage.name}-{fingerprint(what)}"
        folder = folder if folder.exists() else made_before(folder, step, what) or folder
        fingerprints[name] = folder.name.rpartition("-")[2]
        plan.steps[name] = PlannedStep(step, folder, what)
        look(plan, name)
    return plan


def made_before(folder: Path, step: Step, what: Mapping[str, Any]) -> Path | None:
    """Return the result that an older version of the package made where it now would make `folder`, or None.

    Its identity lacks keys that have come since, and those are at their defaults. A new key whose default changes a
    result comes with a new version of its stage.
    """
    now, chosen = dict(flatten(what["config"])), _chosen(step)
    for found in sorted(folder.parent.glob(f"{step.stage.name}-*")):
        then = (read_receipt(found) or {}).get("identity", {})
        before = dict(flatten(then.get("config", {})))
        same = {**then, "config": None} == {**what, "config": None}
        if same and before.items() <= now.items() and not (now.keys() - before.keys()) & chosen:
            return found
    return None


def look(plan: Plan, name: str) -> bool:
    """Bring a step's `receipt` and `why` up to date and return whether it is done."""
    planned = plan.steps[name]
    receipt = read_receipt(planned.folder)
    planned.receipt, planned.why = None, ""
    if receipt is not None:
        broken = broken_files(planned.folder, receipt)
        moved = _moved(receipt)
        if broken:
            planned.why = f"files of its result are missing or changed: {listing(broken)}"
        elif moved:
            planned.why = f"its data is no longer at {moved}"
        else:
            planned.receipt = receipt
            return True
    elif (holder := held_by(planned.folder)) is not None:
        planned.why = f"process {holder.pid} on {holder.host} is making it"
    elif planned.folder.exists():
        planned.why = "it was interrupted and will be resumed"
    else:
        planned.why = _why_new(plan, name)
    return False


def _why_new(plan: Plan, name: str) -> str:
    planned = plan.steps[name]
    before = latest_result(plan.work / RESULTS, plan.name, name, planned.step.stage.name)
    if before is None:
        return "it was never made"
    inputs = {field: [folder.name for folder in folders] for field, folders in plan.inputs(name).items()}
    return difference(before, planned.identity, inputs, planned.step, plan.outside) or "it was removed"


def _look_outside(steps: dict[str, Step], work: Path, quiet: bool) -> dict[Path, OutsideData]:
    wanted: dict[Path, None] = {}
    for step in steps.values():
        timeless = {mark.name for mark in step.fields if mark.run_time}
        wanted |= {path: None for key, paths in step.outside.items() if key not in timeless for path in paths}
    return {path: outside_data(path, work / OUTSIDE, quiet) for path in wanted}


def _moved(receipt: dict[str, Any]) -> str:
    """Return the outside path of a result that has gone, since results may point to it (videos), or ""."""
    for entries in receipt.get("outside", {}).values():
        for entry in entries:
            if not Path(entry["path"]).exists():
                return str(entry["path"])
    return ""
