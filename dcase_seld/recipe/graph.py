"""The graph of a recipe: typed steps in an order in which they can run, or every error at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from dcase_seld.core.config import Config, known_networks, located_errors
from dcase_seld.core.errors import SeldError, nearest
from dcase_seld.core.registry import loaded_plugins
from dcase_seld.recipe.load import Recipe
from dcase_seld.recipe.stage import KeyPath, MarkedField, Stage, marked_fields, replace_values, written_fields


@dataclass(frozen=True)
class Registry:
    """The stages that recipes may name."""

    names: tuple[str, ...]  # all stage names, known without loading any
    load: Callable[[str], Stage]  # name → Stage, imported when a recipe uses it


@dataclass(frozen=True)
class Step:
    """A step ready to run."""

    name: str  # what the recipe calls it
    stage: Stage  # what it does
    config: Config  # its configuration; outside paths are absolute
    fields: tuple[MarkedField, ...]  # the marked fields of `config`
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)  # field name → names of the steps it names there
    outside: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # field name → the outside paths it names there

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the steps it reads, each once."""
        return tuple(dict.fromkeys(name for names in self.reads.values() for name in names))


def build(recipe: Recipe, registry: Registry, *, check_outside: bool = False) -> dict[str, Step]:
    """Return the recipe's steps, each after those it reads.

    Without `check_outside` paths of outside data need not exist yet. Raises SeldError: lists every error of the recipe
    at once: keys, values, names, kinds of folder, cycles, missing data.
    """
    missing: _Missing = {} if check_outside else None
    there = {plugin.name for plugin in loaded_plugins()}
    for name in recipe.plugins:
        if Path(name).name not in there:
            # A recipe may say what it needs; code is loaded only where the user names it.
            recipe.complain(("plugins",), f"the plug-in {name} is needed; name it yourself with --plugin {name}")
    stages: dict[str, Stage] = {}
    for name, data in recipe.steps.items():
        wanted = data.get("stage")
        if wanted is None:
            recipe.complain(("steps", name), f"the key stage is missing; stages: {', '.join(registry.names)}")
        elif wanted not in registry.names:
            recipe.complain(("steps", name, "stage"), f"no stage {wanted!r}{_near(str(wanted), registry.names)}")
        else:
            stages[name] = registry.load(str(wanted))
    steps: dict[str, Step] = {}
    for name, stage in stages.items():
        data = {str(key): value for key, value in recipe.steps[name].items() if key != "stage"}
        try:
            config = stage.config.model_validate(data)
        except ValidationError as error:
            for place, said in located_errors(error, stage.config):
                recipe.complain(("steps", name, *place), said)
            _look_up(recipe, name, tuple(written_fields(stage.config, data)), stages, missing)
            continue
        steps[name] = _connect(recipe, name, stage, config, stages, missing)
    order = _order(recipe, steps)
    for users in (missing or {}).values():
        where, problem = users[0]
        others = [".".join(map(str, other)) for other, _ in users[1:]]
        recipe.complain(where, problem + (f" (also read by {', '.join(others)})" if others else ""))
    if recipe.problems:
        count = len(recipe.problems)
        raise SeldError(
            f"{recipe.path} has {count} error{'s' if count > 1 else ''}:\n  " + "\n  ".join(recipe.problems),
            "Mend them in the recipe or with --set step.key=value; nothing was run.",
        )
    return {name: steps[name] for name in order}


def ancestors(steps: dict[str, Step], names: Iterable[str]) -> set[str]:
    """Return the named steps and all that they read, directly or not."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(steps[name].needs)
    return found


def descendants(steps: dict[str, Step], names: Iterable[str]) -> set[str]:
    """Return the named steps and all that read them, directly or not (`steps` in running order)."""
    found = set(names)
    for name, step in steps.items():
        if found & set(step.needs):
            found.add(name)
    return found


_Missing = dict[Path, list[tuple[KeyPath, str]]] | None
"""Outside path that does not exist → the places that name it and what is said there; None: nobody looks."""


def _connect(
    recipe: Recipe, name: str, stage: Stage, config: Config, stages: dict[str, Stage], missing: _Missing
) -> Step:
    """Return the step with its references and outside paths looked up; complain of wrong ones."""
    fields = tuple(marked_fields(config))
    reads, outside, located = _look_up(recipe, name, fields, stages, missing)
    if located:
        config = replace_values(config, located.get)
        fields = tuple(marked_fields(config))
    return Step(name, stage, config, fields, reads, outside)


def _look_up(
    recipe: Recipe, name: str, fields: tuple[MarkedField, ...], stages: dict[str, Stage], missing: _Missing
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[Path, ...]], dict[KeyPath, Path]]:
    """Return the steps and the outside paths by field, and the latter by place; complain of names that are neither."""
    reads: dict[str, tuple[str, ...]] = {}
    outside: dict[str, tuple[Path, ...]] = {}
    located: dict[KeyPath, Path] = {}
    for mark in fields:
        if mark.ref is None and not mark.outside:
            continue
        for place, text in mark.items():
            where = ("steps", name, *place)
            if mark.ref is not None and text in recipe.steps:
                reads[mark.name] = (*reads.get(mark.name, ()), text)
                produced = stages[text].produces if text in stages else None
                if produced is not None and mark.ref.kinds and produced not in mark.ref.kinds:
                    fitting = [other for other, s in stages.items() if s.produces in mark.ref.kinds and other != name]
                    hint = f"; steps that do: {', '.join(fitting)}" if fitting else ""
                    kinds = " or ".join(mark.ref.kinds)
                    recipe.complain(where, f"step {text!r} makes {produced!r}, but {kinds!r} is read here{hint}")
            elif mark.outside and not text.strip():
                if where not in recipe.unknown:
                    recipe.complain(where, "the path is empty, as where a variable in it is; . is the folder here")
            elif mark.outside:
                located[place] = _locate(text, recipe.path.parent)
                if mark.ref is not None and not located[place].exists() and text in (known := known_networks()):
                    located[place] = known[text]
                outside[mark.name] = (*outside.get(mark.name, ()), located[place])
                path = located[place]
                if missing is not None and not mark.run_time and where not in recipe.unknown and not path.exists():
                    others = [other for other in recipe.steps if other != name] if mark.ref is not None else []
                    others += known_networks() if mark.ref is not None and "checkpoint" in mark.ref.kinds else []
                    missing.setdefault(path, []).append((where, _not_there(text, path, others)))
            else:
                recipe.complain(where, f"no step {text!r}{_near(text, [s for s in recipe.steps if s != name])}")
    return reads, outside, located


def _locate(text: str, recipe_folder: Path) -> Path:
    """Return an outside path, made absolute: looked for here, then beside the recipe."""
    path = Path(text).expanduser()
    beside = recipe_folder / path
    return beside.absolute() if not path.exists() and beside.exists() else path.absolute()


def _not_there(text: str, path: Path, steps: list[str]) -> str:
    """Return what is said of outside data that does not exist; `steps` (or networks) could have been meant."""
    where = "" if Path(text).is_absolute() else ", seen from the current directory, nor beside the recipe"
    near = difflib.get_close_matches(text, steps, n=1)
    what = "the network" if near and near[0] in known_networks() else "the step"
    hint = f"; did you mean {what} {near[0]!r}?" if near else ", and no step has this name" if steps else ""
    return f"there is no file or folder {path}{where}{hint}"


def _order(recipe: Recipe, steps: dict[str, Step]) -> list[str]:
    """Return the names so that each comes after what it reads; complain of a cycle."""
    order: dict[str, None] = {}
    for first in steps:
        # The way down, each step with those it reads that are still to be looked at: a recipe may be longer than Python
        # lets functions call each other.
        trail = {} if first in order else {first: iter(steps[first].needs)}
        while trail:
            name = next(reversed(trail))
            needed = next(trail[name], None)
            if needed is None:
                order[name] = None
                del trail[name]
            elif needed in trail:
                names = list(trail)
                circle = [*names[names.index(needed) :], needed]
                shown = circle if len(circle) <= MOST_IN_CIRCLE else [*circle[:MOST_IN_CIRCLE], "…", needed]
                recipe.complain(("steps", needed), f"the steps read each other in a circle: {' → '.join(shown)}")
            elif needed in steps and needed not in order:
                trail[needed] = iter(steps[needed].needs)
    return list(order)


MOST_IN_CIRCLE = 20
"""Steps of a circle that are named."""


def _near(name: str, names: Iterable[str]) -> str:
    names = list(names)
    return nearest(name, names, "; ", otherwise=f"; there are: {', '.join(names) or 'none'}")
