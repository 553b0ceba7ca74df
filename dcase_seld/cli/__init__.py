"""The commands; here what several of them share."""

from __future__ import annotations

from collections.abc import Callable
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
