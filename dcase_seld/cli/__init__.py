"""The commands; here what several of them share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from dcase_seld.core.errors import shown


def _load(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Load the plug-ins that are named, before any other option is looked at."""
    if value:
        from dcase_seld.core.registry import load_plugins

        load_plugins(value)
    return value


plugin_option: Callable[[Any], Any] = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE|MODULE",
    is_eager=True,
    expose_value=False,
    callback=_load,
    help="Python file, or installed module, with encoders, stages and the like of your own. May be given several "
    "times; DCASE_SELD_PLUGINS names them too.",
)


def own_place(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    """Return where a command is to write, which is never a recipe's result."""
    from dcase_seld.core.files import refuse_results

    refuse_results(value)
    return value


class Commands(click.Group):
    """A group whose help has the first sentence of every command, however long."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; click's own cuts each to one line."""
        with formatter.section("Commands"):
            formatter.write_dl([(n, command.get_short_help_str(1_000)) for n, command in sorted(self.commands.items())])


class Number(click.FloatRange):
    """A number within limits; click's own takes nan, which is within all, and infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        return super()._describe_range() if (self.min, self.max) != (None, None) else ""


def _device(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return a device's name; one that cannot be used is told now, not hours later at the first step that computes."""
    if not re.fullmatch(r"(auto|cpu|cuda|gpu|mps)(:[0-9]{1,3})?", value):
        raise click.BadParameter(f"{value!r} is no device; there are auto, cpu, cuda, cuda:1.")
    if value not in ("auto", "cpu"):
        from dcase_seld.infer.devices import single_device

        single_device(value)
    return value


device_option: Callable[[Any], Any] = click.option(
    "--device", default="auto", show_default=True, callback=_device, help="auto (CUDA, else CPU), cpu, cuda, cuda:1, …"
)


work_option: Callable[[Any], Any] = click.option(
    "--work", type=click.Path(path_type=Path), default=Path("work"), show_default=True, help="The folder of results."
)


def complete(names: Iterable[str], text: str) -> list[str]:
    """Return the names that begin with what was typed, for the shell's completion."""
    return [name for name in names if name.startswith(text)]


def complete_recipe(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    """Return the names of the package's recipes that begin so; the shell adds files."""
    from dcase_seld.recipe.load import shipped_recipes

    return [CompletionItem(text, type="file"), *map(CompletionItem, complete(shipped_recipes(), text))]


def complete_step(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    """Return the steps of the recipe on the line that begin so; for --set with their keys."""
    from dcase_seld.core.errors import SeldError
    from dcase_seld.recipe.load import load_recipe

    # Where the option's value is still to come, click leaves the line's arguments in `args`.
    named = ctx.params.get("recipe") or ctx.params.get("source") or next(iter(ctx.args), None)
    try:
        steps = load_recipe(named).steps if named is not None else {}
    except SeldError:
        return []
    if param.name != "overrides":
        return complete(steps, text)
    from dcase_seld.recipe.keys import groups
    from dcase_seld.stages import load_stage, stage_names

    step = steps.get(text.partition(".")[0], {}).get("stage") if "." in text else None
    if step not in stage_names():
        return complete((f"{name}." for name in steps), text)
    paths = (key.path for group in groups(load_stage(step).config) for key in group.keys)
    return complete(dict.fromkeys(f"{text.partition('.')[0]}.{path}=" for path in paths), text)


def complete_key(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    """Return the keys of all stages, and the steps of the recipe on the line, that begin so."""
    from dcase_seld.recipe.graph import Registry
    from dcase_seld.recipe.keys import all_keys
    from dcase_seld.stages import load_stage, stage_names

    keys = (f"{stage}.{key.path}" for stage, key in all_keys(Registry(stage_names(), load_stage)))
    return [*(complete_step(ctx, param, text) if ctx.params.get("recipe") else ()), *complete(keys, text)]


set_option: Callable[[Any], Any] = click.option(
    "--set",
    "overrides",
    metavar="STEP.KEY=VALUE",
    multiple=True,
    shell_complete=complete_step,
    help="Change a value (YAML) of the recipe.",
)


def filled(text: str, first: str, rest: str) -> str:
    """Return a paragraph for the terminal's width, its first line and its other lines begun as said."""
    import shutil
    import textwrap

    width = min(shutil.get_terminal_size().columns, 100)
    words = {"initial_indent": first, "subsequent_indent": rest, "break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, width, **words)  # type: ignore[arg-type]


def echo(text: object = "", err: bool = False) -> None:
    """Print lines; what a stranger's names would make a terminal do is escaped."""
    click.echo(shown(str(text)), err=err)


def named_file(path: Path | None, sign: str, inputs: Iterable[Path]) -> None:
    """Look at a file that a command is to write, before anything is computed.

    `sign`: pattern in the first bytes of what the command writes; a file that lacks it is somebody's own. Raises
    SeldError: an input lies there, a recipe's result, or a file that no such command wrote.
    """
    from dcase_seld.core.errors import SeldError
    from dcase_seld.core.files import refuse_inputs, refuse_results, remove_left_behind

    if path is None or str(path) == "-":
        return
    refuse_results(path)
    remove_left_behind(path.parent, [path.name])
    if not path.is_file():
        return
    refuse_inputs(path, inputs)
    if (path.resolve().parent / "receipt.json").exists():
        raise SeldError(f"{path} belongs to a recipe's result.", "Write to another place.")
    with path.open("rb") as stream:
        head = stream.read(4096)
    if head and not re.search(sign.encode(), head, re.DOTALL):
        raise SeldError(
            f"{path} is there already, and is none that this command wrote.", "Write to another place, or move it away."
        )


def answer(text: str, content: Any, json_file: Path | None) -> None:
    """Print a text and write the same as JSON to a file (see `named_file`); `-`: the JSON alone is printed."""
    import json

    from dcase_seld.core.files import write_json

    if json_file is not None and str(json_file) == "-":
        plain = json.loads(json.dumps(content), parse_constant=lambda name: None)  # NaN and infinities
        click.echo(json.dumps(plain, indent=1))
        return
    if json_file is not None:
        write_json(json_file, content)
    if text:
        echo(text)
