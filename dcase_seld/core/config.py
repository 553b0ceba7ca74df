"""The base of every configuration class (no unknown keys, every error at once, near names), and where networks lie."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, core_schema

from dcase_seld.core.errors import SeldError, nearest
from dcase_seld.core.files import follow
from dcase_seld.core.registry import Registry


def _guard_numbers(schema: Any, union: bool = False) -> None:
    """Put a look for `true` and `false` before every number in a part of a schema."""
    for key, inner in list(schema.items() if isinstance(schema, dict) else enumerate(schema)):
        if isinstance(inner, dict) and inner.get("type") in ("int", "float"):
            guarded = core_schema.no_info_before_validator_function(_no_truth, inner)
            schema[key] = (guarded, inner["type"]) if union else guarded  # errors tell a union's choice by its type
        elif isinstance(inner, (dict, list)) and key not in ("metadata", "serialization", "default"):
            _guard_numbers(inner, key == "choices" and isinstance(inner, list))


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


class Config(BaseModel):
    """A frozen configuration; subclasses declare fields with defaults and descriptions (`Field(description=)`).

    Numbers may be written as strings where they are unambiguous, because YAML reads `1e-3` as a string; `true` and
    `false`, which Python counts as 1 and 0, are none.

    Attributes:
        more_keys: a registry whose names are keys too, each with a probability.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    more_keys: ClassVar[Registry | None] = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of this class, whose numbers are not taken from `true` and `false`."""
        found = handler(source)
        _guard_numbers(handler.resolve_ref_schema(found))
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema of this class, with the keys that plug-ins brought."""
        found = handler(schema)
        if cls.more_keys is not None:
            inner = handler.resolve_ref_schema(found)
            inner["additionalProperties"] = False
            inner["properties"] |= {
                name: {"type": "number", "minimum": 0, "maximum": 1} for name in cls.more_keys.names
            }
        return found


LONGEST_VALUE = 80
"""Characters of a refused value that an error shows."""

ConfigType = TypeVar("ConfigType", bound=BaseModel)


def located_errors(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[int | str, ...], str]]:
    """Return per validation error its keys as the user wrote them, and what is wrong, was got, or was meant."""
    found = []
    for item in error.errors():
        place, fields = _place_in(model, item["loc"])
        if item["type"] == "extra_forbidden":
            text = "unknown key" + nearest(str(place[-1]), fields, "; ")
        elif item["type"] == "missing":
            text = "required, but missing"
        else:
            message = item["msg"].removeprefix("Value error, ")
            text = f"{message[:1].lower()}{message[1:]}, got {_short(item['input'])}"
        found.append((place, text))
    return found


def describe_errors(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one line per validation error, which begins with its keys."""
    return [f"{'.'.join(map(str, place))}: {text}" for place, text in located_errors(error, model)]


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


def _place_in(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[tuple[int | str, ...], list[str]]:
    """Return the keys that a user wrote at the location of an error, and the fields that could stand for the last."""
    current: Any = model
    choices: list[Any] = []
    place: list[int | str] = []
    fields: dict[str, Any] = {}
    for part in location:
        fields = getattr(current, "model_fields", {})
        place.append(part)
        if part in fields:
            annotation = fields[str(part)].annotation
            choices = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
            current = choices[0] if choices else current
        else:  # the tag of a union, which pydantic writes between a field and what is wrong inside it
            tagged = [c for c in choices if "kind" in c.model_fields and c.model_fields["kind"].default == part]
            if tagged:
                current, choices = tagged[0], []
                place.pop()
    return tuple(place), list(fields)


def _short(value: Any) -> str:
    """Return a value as it is written in Python; of a long one, its beginning."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


class Choice:
    """Marks a field whose `kind` may also name an entry of a registry that a plug-in brought.

    `Annotated[SerializeAsAny[BuiltIn], Choice(ENCODERS)]`: a mapping whose `kind` a plug-in registered becomes an
    instance of that entry's `Settings`, with the kind; everything else is left to the built-in class.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the built-in class' schema, with plug-ins asked first."""
        return core_schema.no_info_wrap_validator_function(self._validated, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the built-in class' JSON schema, or those of plug-ins."""
        found = handler(schema)
        added = [name for name in self.registry.names if self.registry.plugin_of(name) is not None]
        others = [handler(settings_of(self.registry[name], name).__pydantic_core_schema__) for name in added]
        return {"oneOf": [*found.get("oneOf", [found]), *others]} if others else found

    def _validated(self, value: Any, handler: Callable[[Any], Any]) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        if isinstance(kind, str) and self.registry.plugin_of(kind) is not None:
            model = settings_of(self.registry[kind], kind)
            if isinstance(value, BaseModel):
                return value
            try:
                return model.model_validate(value)
            except ValidationError as error:
                raise ValueError("; ".join(describe_errors(error, model))) from error
        if isinstance(kind, str) and kind not in self.registry:
            raise ValueError(self.registry.unknown(kind))
        return handler(value)


class Names:
    """Marks a list, or the keys of a mapping, as names of entries of a registry, those of plug-ins too."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the field's own schema; then every name is looked up."""
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the field's JSON schema with the names that there are."""
        found = handler(schema)
        if "items" in found:
            return {**found, "items": {"enum": list(self.registry.names)}}
        keys = dict.fromkeys(self.registry.names, found["additionalProperties"])
        return {**found, "properties": keys, "additionalProperties": False}

    def _known(self, value: Any) -> Any:
        for name in value:
            if name not in self.registry:
                raise ValueError(self.registry.unknown(name))
        return value


class Short:
    """Marks a mapping that may be written shorter: how, as a JSON schema, and in words."""

    def __init__(self, schema: dict[str, Any], words: str) -> None:
        self.schema, self.words = schema, words

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema of both."""
        return {"anyOf": [handler(schema), self.schema]}


LIST_OF_NAMES = Short({"type": "array", "items": {"type": "string"}}, "list of names")

_SETTINGS: dict[type, type[Config]] = {}


def settings_of(entry: type, kind: str) -> type[Config]:
    """Return the class of an entry's `Settings` (none: without keys), with the field `kind`."""
    if entry not in _SETTINGS:
        own = getattr(entry, "Settings", Config)
        fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
        said = own.__doc__ if own is not Config and own.__doc__ else entry.__doc__ or ""
        _SETTINGS[entry] = create_model(f"{entry.__name__}Settings", __base__=own, __doc__=said, **fields)
    return _SETTINGS[entry]


@dataclass(frozen=True)
class Ref:
    """Marks a config field that names a step or several: `Annotated[str, Ref("store")]`, `Annotated[list[str], ...]`.

    `kinds` are the kinds of folder that the named step may produce. With `Outside` beside it, a path to such a folder
    will do, or the name of a network that the package carries; its contents are then part of the fingerprint.
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


def ref(*kinds: str) -> Any:
    """Return the type of a field that names a step, or a folder of a result, of one of the kinds."""
    return Annotated[str, Ref(*kinds)]


def names_in(data: Any) -> Iterator[str]:
    """Yield every text in plain data, keys too: where an entry of a registry may be named."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield str(key)
            yield from names_in(value)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from names_in(value)


NETWORKS = Path(__file__).parent.parent / "networks"
"""Networks that the package carries, a folder each."""


def known_networks() -> dict[str, Path]:
    """Return the networks that the package carries: name → folder."""
    found = sorted(NETWORKS.iterdir()) if NETWORKS.is_dir() else []
    return {folder.name: folder for folder in found if (folder / "model.json").is_file()}


def find_network(place: str | Path) -> Path:
    """Return a folder that holds networks: a path, or the name of a network that the package carries.

    Raises:
        SeldError: neither is there.
    """
    known = known_networks()
    if str(place) in known and not Path(place).exists():
        return known[str(place)]
    if not Path(place).exists():
        raise SeldError(
            f"{place} is no folder, and no network that the package carries ({', '.join(known) or 'there is none'}).",
            networks_of_run(place) or "Give the folder of a train or ensemble step, or one of these names.",
        )
    return Path(place)


def networks_of_run(place: str | Path) -> str:
    """Return a sentence on the networks of a run's folder, or of a recipe's results here; "" where there are none."""
    run = Path(place) if Path(place).is_dir() else Path("work") / Path(place).stem
    holding = ("model.safetensors", "best/model.safetensors", "ensemble.json")
    steps = sorted(run.iterdir()) if run.is_dir() else []
    found = [str(follow(step)) if step.is_file() else str(step) for step in steps]
    found = [step for step in found if any((Path(step) / name).is_file() for name in holding)]
    return f"Networks of {run}: {', '.join(found)}." if found else ""


def refuse_no_weights(path: Path, remedy: str = "Fetch the weights again from their publisher.") -> None:
    """Look at the head of a file that should hold weights: say what it is where it is something else.

    Raises:
        SeldError: it is missing, empty, no regular file, a Git LFS pointer, a web page or another text.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise SeldError(f"{path} is no regular file; weights are expected.", remedy)
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise SeldError(f"{path} cannot be read: {error.strerror}.", remedy) from error
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        raise SeldError(f"{path} is empty: a download broke off, or a disk was full.", remedy)
    if start.startswith(b"version https://git-lfs"):
        raise SeldError(
            f"{path} is a Git LFS pointer, not weights: the repository was cloned without its large files.",
            "Run `git lfs pull` there, or download the file itself.",
        )
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        raise SeldError(f"{path} is a web page (HTML), not weights: a link to a page was saved.", remedy)
    if start.startswith(b'{"') and b"error" in start:
        said = start[:80].decode(errors="replace")
        raise SeldError(f"{path} is a server's error message, not weights: {said}", remedy)


def cache_folder() -> Path:
    """Return the folder of pulled models and compiled kernels.

    It is $DCASE_SELD_CACHE, else dcase-seld in $XDG_CACHE_HOME, else in ~/.cache.
    """
    if own := os.environ.get("DCASE_SELD_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "dcase-seld"
