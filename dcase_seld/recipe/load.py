"""Reading a recipe: strict YAML, `${VAR}` from the environment, a line number for every key; nothing is executed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcase_seld.core import old_formats
from dcase_seld.core.errors import SeldError, nearest
from dcase_seld.core.reading import MERGE_KEY, KeyPath, YamlReader, parse_yaml, read_text

TOP_LEVEL = ("about", "plugins", "steps")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}\n]*))?\}")

_MARK = re.compile("\ue000([0-9]+)\ue001")

_STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass
class Recipe:
    """A recipe as written: plain data with the places it came from."""

    name: str  # the file's name without its ending; results are linked under `work/<name>/`
    path: Path  # the file
    about: str = ""  # what the recipe is for, or ""
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)  # step name → plain data, `stage` included
    # path of a key (("steps", "train", "lr")) → line number; 0 where `--set` gave the value
    lines: dict[KeyPath, int] = field(default_factory=dict)
    # what is wrong so far, one line each; `graph.build` adds to it and raises them together
    problems: list[str] = field(default_factory=list)
    unknown: set[KeyPath] = field(default_factory=set)  # places whose value is not known, since a variable is not set
    plugins: tuple[str, ...] = ()  # names of the plug-ins that the recipe needs; the user himself must have named them
    # keys of 0.1 that were read under their new names, and variables that were recalled, one line each
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
        """Drop the lines of a key and of what is inside it, and what was said of variables in its value."""
        for known in [known for known in self.lines if known[: len(where)] == where]:
            del self.lines[known]
        self.unknown = {known for known in self.unknown if known[: len(where)] != where}
        said = re.compile(rf"line \d+: {re.escape('.'.join(map(str, where)))}[.:].*the environment variable ")
        self.problems = [problem for problem in self.problems if not said.match(problem)]


def parse_value(text: str) -> Any:
    """Return a value written in a recipe's YAML, as `--set` takes it. Raises SeldError: the text is not YAML."""
    try:
        return parse_yaml(text, "--set")
    except SeldError as error:
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
    name = str(place).removeprefix("recipes/").removesuffix(".yaml")  # as the documents write them, in a clone
    return Path(place) if Path(place).exists() else shipped_recipes().get(name, Path(place))


def load_recipe(
    path: Path | str,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    recall: Callable[[str, KeyPath], Any] | None = None,
) -> Recipe:
    """Return the recipe of a YAML file, or of one that the package carries, with `step.key=value` overrides applied.

    Problems that leave the rest readable (duplicate or unknown keys, unset variables, wrong overrides) are kept in
    `Recipe.problems`, so that they are reported together with those of the steps' configurations. `recall`: (recipe's
    name, key's path) → the value that an earlier result has there, or None; asked where a variable is not set. Raises
    SeldError: the file cannot be read, or is not YAML.
    """
    path = find_recipe(path)
    text = _read(path)
    # A folder that begins with a dot would be none of the recipes' (work/.results, work/.outside).
    recipe = Recipe(name=f"dot_{path.stem.lstrip('.')}" if path.stem.startswith(".") else path.stem, path=path)
    reader = _Reader(recipe, os.environ if environment is None else environment, recall)
    data = reader.read(text)
    if not isinstance(data, dict):
        raise SeldError(f"{path}: a recipe is a mapping with the keys about and steps.", "See recipes/quickstart.yaml.")
    for key in data:
        if key not in TOP_LEVEL:
            recipe.complain((key,), "unknown key" + nearest(str(key), TOP_LEVEL, "; ", "", "; steps go under steps"))
    recipe.about = str(data.get("about") or "").strip()
    wanted = data.get("plugins") or []
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, list):
        recipe.complain(("plugins",), f"expected a list of files or modules, got {wanted!r}")
        wanted = []
    recipe.plugins = tuple(map(str, wanted))
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
    recipe.steps, renamed = old_formats.recipe_steps(recipe.steps)
    recipe.notes = [*dict.fromkeys(recipe.notes), *renamed]
    return recipe


def _read(path: Path) -> str:
    if not os.path.lexists(path):
        beside = path.parent.glob("*.y*ml") if path.parent.is_dir() else ()
        names = [*map(str, beside), *shipped_recipes()]
        near = difflib.get_close_matches(str(path), names, n=1) or difflib.get_close_matches(path.stem, names, n=1)
        hint = f"Did you mean {near[0]}?" if near else "`dcase-seld recipes` lists those that the package carries."
        raise SeldError(f"There is no recipe {path}.", hint)
    return read_text(path, remedy="Give the path of a recipe in UTF-8.")


class _Reader(YamlReader):
    """The YAML reader of recipes, noting lines, duplicates and variables on the way."""

    def __init__(
        self, recipe: Recipe, environment: Mapping[str, str], recall: Callable[[str, KeyPath], Any] | None
    ) -> None:
        super().__init__(str(recipe.path))
        self.recipe = recipe
        self.environment = environment
        self.recall = recall
        self.variables: list[re.Match[str]] = []

    def read(self, text: str) -> Any:
        """Return the data of a recipe's text."""
        # YAML's flow mappings cannot hold the braces of ${VAR}: private characters stand for it while YAML is parsed.
        if "\ue000" in text:
            raise SeldError(f"{self.recipe.path} holds the private character U+E000.", "Remove it.")
        return super().read(_VARIABLE.sub(self._stand_in, text))

    def placed(self, where: KeyPath, line: int) -> None:
        """Note in which line a value is written; what a merge key takes over stands where it is taken over."""
        self.recipe.lines[tuple(key for key in where if key != MERGE_KEY)] = line

    def replaced(self, where: KeyPath, old: Any) -> None:
        """Drop the lines of what is no longer there."""
        self.recipe.lines.pop(tuple(key for key in where if key != MERGE_KEY), None)
        for key, value in old.items() if isinstance(old, dict) else enumerate(old) if isinstance(old, list) else ():
            self.replaced((*where, key), value)

    def twice(self, where: KeyPath, line: int) -> None:
        """Note a key that is given again."""
        first = self.recipe.lines.get(where)
        self.recipe.problems.append(f"line {line}: {'.'.join(map(str, where))}: given twice (first in line {first})")

    def text(self, value: str, where: KeyPath) -> str:
        """Return a text with its variables filled in."""
        return self._substitute(value, tuple(key for key in where if key != MERGE_KEY))

    def _stand_in(self, match: re.Match[str]) -> str:
        self.variables.append(match)
        return f"\ue000{len(self.variables) - 1}\ue001"

    def _substitute(self, text: str, where: KeyPath) -> str:
        def value_of(mark: re.Match[str]) -> str:
            name, default = self.variables[int(mark[1])].groups()
            value = self.environment.get(name) or default
            if value is None and (value := self._recalled(mark, where)) is not None:
                self.recipe.notes.append(f"{name} is not set: {value!r}, as in the last run, is taken for it")
            if value is None:
                self.recipe.complain(where, f"the environment variable {name} is not set (export {name}=…)")
                self.recipe.unknown.add(where)
                return ""
            return value

        text = _MARK.sub(value_of, text)
        if "${" in text:
            self.recipe.complain(where, f"a variable is written ${{NAME}} or ${{NAME:-default}}, got {text!r}")
        return text

    def _recalled(self, mark: re.Match[str], where: KeyPath) -> str | None:
        """Return what a variable must have been for the value that an earlier result has, if that can be told."""
        before, after = mark.string[: mark.start()], mark.string[mark.end() :]
        value = None if self.recall is None or _MARK.search(before + after) else self.recall(self.recipe.name, where)
        if value is None or not (str(value).startswith(before) and str(value).endswith(after)):
            return None
        return str(value)[len(before) : len(str(value)) - len(after)] or None


def _apply(recipe: Recipe, override: str) -> None:
    """Put one `step.key=value` into the recipe."""
    target, equals, text = override.partition("=")
    keys = target.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise SeldError(f"--set {override}: expected step.key=value.", "For example --set train.epochs=3.")
    if keys[0] not in recipe.steps:
        hint = nearest(keys[0], recipe.steps, otherwise=f"there are {', '.join(recipe.steps)}")
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
