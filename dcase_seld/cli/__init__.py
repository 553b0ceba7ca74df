"""The commands; here what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click


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


def complete(names: Iterable[str], text: str) -> list[str]:
    """Return the names that begin with what was typed, for the shell's completion."""
    return [name for name in names if name.startswith(text)]


def answer(text: str, content: Any, json_file: Path | None) -> None:
    """Print a text and write the same as JSON to a file; with `-` as its name the JSON alone is printed."""
    import json

    from dcase_seld.core.files import write_json

    if json_file is not None and str(json_file) == "-":
        plain = json.loads(json.dumps(content), parse_constant=lambda name: None)  # NaN and infinities
        click.echo(json.dumps(plain, indent=1))
        return
    if json_file is not None:
        write_json(json_file, content)
    if text:
        click.echo(text)
