"""Reading a recipe: strict YAML, `${VAR}` from the environment, a line number for every key; nothing is executed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dcase_seld.core import old_formats
from dcase_seld.core.errors import SeldError

KeyPath = tuple[str | int, ...]

LARGEST_RECIPE = 1_000_000

MOST_VALUES = 100_000

TOP_LEVEL = ("about", "plugins", "steps")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}\n]*))?\}")

_MARK = re.compile("\ue000([0-9]+)\ue001")

_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}

MERGE_KEY = "<<"
"""YAML's key for taking over another mapping's keys; those written beside it win."""

_STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass
class Recipe:
    """A recipe as written: plain data with the places it came from.

    Attributes:
        name: the file's name without its ending; results are linked under `work/<name>/`.
        path: the file.
        about: what the recipe is for, or "".
        steps: step name → plain data, `stage` included.
        lines: path of a key (("steps", "train", "lr")) → line number; 0 where `--set` gave the value.
        problems: what is wrong so far, one line each; `graph.build` adds to it and raises them together.
        unknown: places whose value is not known, since a variable is not set.
        plugins: names of the plug-ins that the recipe needs; the user himself must have named them.
        notes: keys of 0.1 that were read under their new names, one line each.
    """

    name: str
    path: Path
    about: str = ""
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unknown: set[KeyPath] = field(default_factory=set)
    plugins: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def complain(self, where: KeyPath, problem: str) -> None:
        """Add a problem at a key, with the line of the key or of the nearest key around it."""
        place = where
        while place and place not in self.lines:
            place = place[:-1]
        line = self.lines.get(place)
        prefix = "" if line is None else "--set: " if line == 0 else f"line {line}: "
        self.problems.append(f"{prefix}{'.'.join(map(str, where))}: {problem}")

    def forget(self, where: KeyPath) -> None:
        """Drop the lines of a key and of what is inside it."""
        for known in [known for known in self.lines if known[: len(where)] == where]:
            del self.lines[known]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars on a safe loader: `1e-3` is a number, `off` a word, `010` ten."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's own way to change them


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _firsts: list[Any] = [*_first, ""] if _tag == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _firsts)

_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value, 10))


def parse_value(text: str) -> Any:
    """Return a value written in a recipe's YAML, as `--set` takes it.

    Raises:
        SeldError: the text is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SeldError(f"--set: {text!r} is not a YAML value.", "Quote it, e.g. --set 'step.key=\"a: b\"'.") from error


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that the package carries: name → file ("ablations/small" for one in a sub-folder)."""
    package = Path(__file__).parent.parent
    # In a wheel they lie in the package, in a clone beside it.
    folder = next((place for place in (package / "recipes", package.parent / "recipes") if place.is_dir()), None)
    files = sorted(folder.rglob("*.yaml")) if folder is not None else []
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files if folder is not None}


def find_recipe(place: Path | str) -> Path:
    """Return the file of a recipe: a path, or the name of a recipe that the package carries."""
    if not Path(place).exists() and (shipped := shipped_recipes().get(str(place).removesuffix(".yaml"))) is not None:
        return shipped
    return Path(place)


def load_recipe(
    path: Path | str, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Recipe:
    """Return the recipe of a YAML file, or of one that the package carries, with `step.key=value` overrides applied.

    Problems that leave the rest readable (duplicate or unknown keys, unset variables, wrong overrides) are kept in
    `Recipe.problems`, so that they are reported together with those of the steps' configurations.

    Raises:
        SeldError: the file cannot be read, or is not YAML.
    """
    path = find_recipe(path)
    text = _read(path)
    # A folder that begins with a dot would be none of the recipes' (work/.results, work/.outside).
    recipe = Recipe(name=f"dot_{path.stem.lstrip('.')}" if path.stem.startswith(".") else path.stem, path=path)
    reader = _Reader(recipe, os.environ if environment is None else environment)
    data = reader.read(text)
    if not isinstance(data, dict):
        raise SeldError(f"{path}: a recipe is a mapping with the keys about and steps.", "See recipes/quickstart.yaml.")
    for key in data:
        if key not in TOP_LEVEL:
            near = difflib.get_close_matches(str(key), TOP_LEVEL, n=1)
            recipe.complain(
                (key,), "unknown key" + (f"; did you mean {near[0]!r}?" if near else "; steps go under steps")
            )
    recipe.about = str(data.get("about") or "").strip()
    wanted = data.get("plugins") or ()
    recipe.plugins = (wanted,) if isinstance(wanted, str) else tuple(map(str, wanted))
    steps = data.get("steps")
    if not isinstance(steps, dict) or not steps:
        recipe.complain(("steps",), "required: a mapping of step names to {stage: …}")
        steps = {}
    for name, value in steps.items():
        if not isinstance(name, str) or not _STEP_NAME.fullmatch(name):
            recipe.complain(("steps", name), "a step's name is letters, digits, _ and -, beginning with a letter")
        elif not isinstance(value, dict):
            recipe.complain(("steps", name), f"expected a mapping with the key stage, got {value!r}")
        else:
            recipe.steps[name] = value
    for override in overrides:
        _apply(recipe, override)
    recipe.steps, recipe.notes = old_formats.recipe_steps(recipe.steps)
    return recipe


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_RECIPE:
            raise SeldError(f"{path} is larger than {LARGEST_RECIPE:,} bytes: not a recipe.", "Give a recipe's YAML.")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        names = [*(str(p) for p in path.parent.glob("*.y*ml")), *shipped_recipes()]
        near = difflib.get_close_matches(str(path), names, n=1) or difflib.get_close_matches(path.stem, names, n=1)
        hint = f"Did you mean {near[0]}?" if near else "`dcase-seld recipes` lists those that the package carries."
        raise SeldError(f"There is no recipe {path}.", hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SeldError(f"{path} cannot be read as text: {error}.", "Give the path of a recipe in UTF-8.") from error


class _Reader:
    """Turns YAML nodes into plain data, noting lines, duplicates and variables on the way."""

    def __init__(self, recipe: Recipe, environment: Mapping[str, str]) -> None:
        self.recipe = recipe
        self.environment = environment
        self.variables: list[re.Match[str]] = []
        self.values = 0

    def read(self, text: str) -> Any:
        # YAML's flow mappings cannot hold the braces of ${VAR}: private characters stand for it while YAML is parsed.
        if "\ue000" in text:
            raise SeldError(f"{self.recipe.path} holds the private character U+E000.", "Remove it.")
        text = _VARIABLE.sub(self._stand_in, text)
        loader: Any = None
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, ())
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
            raise SeldError(f"{self.recipe.path}{line}: not readable as YAML: {error.problem}.", "Mend it.") from error
        except yaml.YAMLError as error:
            raise SeldError(f"{self.recipe.path}: not readable as YAML: {error}.", "Mend it.") from error
        except RecursionError as error:
            raise SeldError(f"{self.recipe.path} is nested too deeply for a recipe.", "Mend it.") from error
        finally:
            if loader is not None:
                loader.dispose()

    def _stand_in(self, match: re.Match[str]) -> str:
        self.variables.append(match)
        return f"\ue000{len(self.variables) - 1}\ue001"

    def _value(self, loader: Any, node: yaml.Node, where: KeyPath) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:  # aliases of aliases grow without bound
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES:,} values", problem_mark=node.start_mark)
        self.recipe.lines.setdefault(where, node.start_mark.line + 1)
        if node.tag not in _PLAIN:
            raise yaml.MarkedYAMLError(problem="recipes use no tags (!…)", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            inherited = self._inherited(loader, node, where)
            mapping: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else str(key_node.tag)
                if key == MERGE_KEY:
                    continue
                place = (*where, key)
                if key in inherited:
                    del inherited[key]
                    self.recipe.forget(place)
                if key in mapping:
                    first = self.recipe.lines.get(place)
                    self.recipe.problems.append(
                        f"line {key_node.start_mark.line + 1}: {'.'.join(map(str, place))}: "
                        f"given twice (first in line {first})"
                    )
                    continue
                self.recipe.lines[place] = key_node.start_mark.line + 1
                mapping[key] = self._value(loader, value_node, place)
            return {**inherited, **mapping}
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*where, index)) for index, item in enumerate(node.value)]
        value = loader.construct_object(node)
        return self._substitute(value, where) if isinstance(value, str) else value

    def _inherited(self, loader: Any, node: yaml.MappingNode, where: KeyPath) -> dict[Any, Any]:
        """Return what a mapping takes over by `<<: *other` or `<<: [*one, *other]`, of which the first named wins."""
        inherited: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.value != MERGE_KEY:
                continue
            given = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for other in reversed(given):
                if not isinstance(other, yaml.MappingNode):
                    raise yaml.MarkedYAMLError(problem="<< takes mappings", problem_mark=other.start_mark)
                inherited |= self._value(loader, other, where)
        return inherited

    def _substitute(self, text: str, where: KeyPath) -> str:
        def value_of(mark: re.Match[str]) -> str:
            name, default = self.variables[int(mark[1])].groups()
            value = self.environment.get(name) or default
            if value is None:
                self.recipe.complain(where, f"the environment variable {name} is not set (export {name}=…)")
                self.recipe.unknown.add(where)
                return ""
            return value

        text = _MARK.sub(value_of, text)
        if "${" in text:
            self.recipe.complain(where, f"a variable is written ${{NAME}} or ${{NAME:-default}}, got {text!r}")
        return text


def _apply(recipe: Recipe, override: str) -> None:
    """Put one `step.key=value` into the recipe."""
    target, equals, text = override.partition("=")
    keys = target.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise SeldError(f"--set {override}: expected step.key=value.", "For example --set train.epochs=3.")
    if keys[0] not in recipe.steps:
        near = difflib.get_close_matches(keys[0], recipe.steps, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(recipe.steps)}"
        recipe.problems.append(f"--set {override}: no step {keys[0]!r}; {hint}")
        return
    current: Any = recipe.steps[keys[0]]
    for key in keys[1:-1]:
        if isinstance(current, list) and key.isdecimal() and int(key) < len(current):
            current = current[int(key)]
        elif isinstance(current, dict):
            if not isinstance(current.get(key), (dict, list)):
                current[key] = {}
            current = current[key]
        else:
            recipe.problems.append(f"--set {override}: {key!r} is not inside a mapping or list")
            return
    place: KeyPath = ("steps", *(int(k) if k.isdecimal() else k for k in keys))
    recipe.forget(place)
    recipe.lines[place] = 0
    if isinstance(current, dict):
        current[keys[-1]] = parse_value(text)
    elif isinstance(current, list) and keys[-1].isdecimal() and int(keys[-1]) < len(current):
        current[int(keys[-1])] = parse_value(text)
    else:
        recipe.problems.append(f"--set {override}: {keys[-1]!r} is not a place in a list of {len(current)}")
