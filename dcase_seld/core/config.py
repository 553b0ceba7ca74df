"""The base of every configuration class: no unknown keys, every error at once, a "did you mean" for a mistyped key."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dcase_seld.core.errors import SeldError


class Config(BaseModel):
    """A frozen configuration; subclasses declare fields with defaults and descriptions (`Field(description=)`).

    Numbers may be written as strings where they are unambiguous, because YAML reads `1e-3` as a string.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


LONGEST_VALUE = 80
"""Characters of a refused value that an error shows."""

ConfigType = TypeVar("ConfigType", bound=BaseModel)


def describe_errors(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """Return one line per validation error: path, what is wrong, what was got, and a near field name."""
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"]]
        path = ".".join(([where] if where else []) + location)
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _fields_at(model, item["loc"][:-1]), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{path}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{path}: required, but missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message[0].lower()}{message[1:]}, got {_short(item['input'])}")
    return lines


def parse_config(model: type[ConfigType], data: Any, where: str) -> ConfigType:
    """Return `model` built from plain data.

    Raises:
        SeldError: lists every error in `data` at once, each with its path.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = describe_errors(error, model)
        raise SeldError(f"{where} has {len(lines)} error(s):\n  " + "\n  ".join(lines)) from error


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the nested model at a location of an error."""
    current: Any = model
    choices: list[Any] = []
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part in fields:
            annotation = fields[part].annotation
            choices = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
            current = choices[0] if choices else current
        else:  # the tag of a union, which pydantic writes between a field and what is wrong inside it
            tagged = [c for c in choices if "kind" in c.model_fields and c.model_fields["kind"].default == part]
            current = tagged[0] if tagged else current
    return list(getattr(current, "model_fields", {}))


def _short(value: Any) -> str:
    """Return a value as it is written in Python; of a long one, its beginning."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


@dataclass(frozen=True)
class Ref:
    """Marks a config field that names a step or several: `Annotated[str, Ref("store")]`, `Annotated[list[str], ...]`.

    `kinds` are the kinds of folder that the named step may produce.
    """

    kinds: tuple[str, ...]

    def __init__(self, *kinds: str) -> None:
        object.__setattr__(self, "kinds", kinds)


@dataclass(frozen=True)
class Outside:
    """Marks a config field that is a path to data outside the work directory: `Annotated[Path, Outside()]`.

    Its names, sizes and mtimes (contents where an mtime changed) are part of the step's fingerprint.
    """


@dataclass(frozen=True)
class RunTime:
    """Marks a config field that does not change the result (workers, device) and is left out of the fingerprint."""
