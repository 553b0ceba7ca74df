"""Templates with ${names}: filled as YAML, as Markdown or as LaTeX, comments and all else kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from dcase_seld.errors import SeldError

_NAME = re.compile(r"\$\{(\w+)\}")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "°": r"\textdegree{}", "–": "--",
}  # fmt: skip


def fill_yaml(text: str, values: Mapping[str, Any], where: str) -> str:
    """Return a YAML template with its names replaced by values; None becomes `!!null`.

    Raises:
        SeldError: the template uses a name that is not known.
    """
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)

        def written(value: Any, indent: str = indent) -> str:
            return yaml_value(value, indent)

        filled = line if line.lstrip().startswith("#") else fill_text(line, values, where, written)
        lines.append(filled.replace(": \n", ":\n"))
    return "\n".join(lines)


def fill_text(text: str, values: Mapping[str, Any], where: str, written: Callable[[Any], str] = str) -> str:
    """Return a template with its names replaced by `written(value)`.

    Raises:
        SeldError: the template uses a name that is not known.
    """
    unknown = sorted({name for name in _NAME.findall(text) if name not in values})
    if unknown:
        raise SeldError(
            f"The template {where} uses ${{{unknown[0]}}}, which is not known.",
            f"Use one of: {', '.join(sorted(values))}.",
        )
    return _NAME.sub(lambda found: written(values[found.group(1)]), text)


def yaml_value(value: Any, indent: str) -> str:
    """Return a value as it stands behind a YAML key; tables go to lines of their own, indented."""
    if value is None:
        return "!!null"
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    if nested and value:
        block = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1_000)
        return "\n" + "\n".join(indent + line for line in block.rstrip("\n").split("\n"))
    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=100_000)
    return flow.removesuffix("\n").removesuffix("\n...")


def latex(text: str) -> str:
    """Return a text with LaTeX's special characters written so that they show."""
    return "".join(_LATEX.get(character, character) for character in text)
