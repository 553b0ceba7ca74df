"""The keys that recipes may hold, as people and editors look them up: by stage, by name, and as a JSON schema."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticUndefined, to_jsonable_python

from dcase_seld.core.config import Choice, Names, Outside, Ref, RunTime, Short, settings_of
from dcase_seld.recipe.graph import Registry
from dcase_seld.recipe.stage import Stage, field_marks, first_line

ANY_NAME, ANY_NUMBER = "NAME", "N"
"""What stands in a path for the user's own name in a mapping, and for the place in a list."""

NEAR = 6

_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

_TYPES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}


@dataclass(frozen=True)
class Key:
    """A key of a stage."""

    path: str  # where it stands in a step, with ANY_NAME and ANY_NUMBER for what users choose, as model.encoder.kind
    kind: str  # what it may hold, in words
    default: str  # its default as YAML writes it, "" where it is required
    about: str  # what it means
    choices: tuple[str, ...] = ()  # the values that it may have, where they can be named
    run_time: bool = False  # it does not change the result
    when: str = ""  # the `kind` of the mapping around it, where only some have this key


@dataclass(frozen=True)
class Group:
    """Keys that stand in one mapping."""

    place: str  # path of the mapping in a step, "" for the step itself
    when: str  # the `kind` that has these keys, "" where there is no choice
    about: str  # what they are for
    model: type[BaseModel]  # the class that they are the fields of
    keys: tuple[Key, ...]  # the keys


def groups(model: type[BaseModel], place: str = "", when: str = "", kind: Key | None = None) -> Iterator[Group]:
    """Yield the keys of a configuration class, then those of the classes inside it, those of plug-ins too.

    `place`: where in a step the mapping stands; `when`: the kinds that have these keys; `kind`: its key of that name.
    """
    path = f"{place}." if place else ""
    keys = [replace(_key(f"{path}{name}", info), when=when) for name, info in model.model_fields.items()]
    if kind is not None:
        keys = [kind if key.path == kind.path else key for key in keys]
    more: Any = getattr(model, "more_keys", None)
    for name in () if more is None else more.names:
        keys.append(Key(f"{path}{name}", "number, ≥ 0, ≤ 1", "0.0", f"{more.what} of a plug-in", when=when))
    yield Group(place, when, first_line(model), model, tuple(keys))
    for name, info in model.model_fields.items():
        inner = list(_classes(info, f"{path}{name}"))
        for where, one in inner:
            kinds = " or ".join(_kinds(one)) if len(inner) > 1 else ""
            yield from groups(one, where, kinds, _kind_key(info, where, [one for _, one in inner]))


def _kind_key(info: FieldInfo, place: str, models: list[type[BaseModel]]) -> Key | None:
    """Return the key that chooses between classes, with what each is; None where there is one class."""
    if len(models) < 2:
        return None
    kinds = [kind for model in models for kind in _kinds(model)]
    # A class with several kinds says itself what they are.
    said = [
        model.model_fields["kind"].description or ""
        if len(_kinds(model)) > 1
        else f"{kind}: {first_line(model) or 'of a plug-in'}"
        for model in models
        for kind in _kinds(model)[:1]
    ]
    default = getattr(info.get_default(call_default_factory=True), "kind", "")
    return Key(f"{place}.kind", " or ".join(kinds), default, "; ".join(line.rstrip(".") for line in said), tuple(kinds))


def find_keys(query: str, registry: Registry) -> list[tuple[str, Key]]:
    """Return (stage, key) of all keys that a query means: the last parts of a path, or a value of a choice.

    `train.model.encoder.kind`, `encoder.kind` and `kind` all mean a key. Where no key has the name, those are given
    whose description has all its words.
    """
    found: list[list[tuple[str, Key]]] = [[], [], []]
    words = re.findall(r"\w+", query.lower().replace("_", " "))
    for stage, key in dict.fromkeys(all_keys(registry)):
        if _means(query, f"{stage}.{key.path}"):
            found[0].append((stage, key))
        elif query in key.choices:
            found[1].append((stage, key))
        elif words and all(word in key.about.lower() for word in words):
            found[2].append((stage, key))
    return found[0] or found[1] or found[2]


def near_keys(query: str, registry: Registry) -> list[str]:
    """Return names that are like a query that means nothing: paths, and their last parts."""
    paths = [[stage, *key.path.split(".")] for stage, key in all_keys(registry)]
    names = dict.fromkeys(".".join(path[first:]) for path in paths for first in range(len(path)))
    near = difflib.get_close_matches(query, names, n=NEAR)
    # What is mistyped is often the last name alone.
    return near or difflib.get_close_matches(query.rpartition(".")[2], names, n=NEAR)


def all_keys(registry: Registry) -> Iterator[tuple[str, Key]]:
    """Yield (stage, key) of all keys of all stages."""
    for name in registry.names:
        for group in groups(registry.load(name).config):
            yield from ((name, key) for key in group.keys)


def _means(query: str, path: str) -> bool:
    """Return whether a query is the last parts of a path; a user's own name or number in between may be left out."""
    parts, own = path.split("."), (ANY_NAME, ANY_NUMBER)
    wanted = [r"(?:[^.]+\.)?" if part in own else rf"{re.escape(part)}\." for part in parts]
    starts = [first for first, part in enumerate(parts) if part not in own]
    return any(re.fullmatch("".join(wanted[first:]), f"{query}.") for first in starts)


def _key(path: str, info: FieldInfo) -> Key:
    marks = field_marks(info)
    refs = [mark for mark in marks if isinstance(mark, Ref)]
    outside = any(isinstance(mark, Outside) for mark in marks)
    kind = _type(info.annotation)
    if refs or outside:
        several = "list" in str(info.annotation)
        words = [f"step → {' or '.join(mark.kinds)}" for mark in refs] + ["path"] * outside
        kind = " or ".join(words) + (", or a list of such" if several else "")
    limits = [
        f"{sign} {getattr(mark, name)}" for name, sign in _LIMITS.items() for mark in marks if hasattr(mark, name)
    ]
    kind = ", ".join([kind, *limits[:2]])
    kind += "".join(f" or {mark.words}" for mark in marks if isinstance(mark, Short))
    about = " ".join((info.description or "").split())
    return Key(path, kind, _default(info), about, _choices(info), any(isinstance(mark, RunTime) for mark in marks))


def _choices(info: FieldInfo) -> tuple[str, ...]:
    """Return the values that a field may have, or the kinds of the mapping in it."""
    named = [mark.registry.names for mark in field_marks(info) if isinstance(mark, (Choice, Names))]
    if named:
        return tuple(dict.fromkeys(name for names in named for name in names))
    inner = [kind for _, one in _classes(info, "") for kind in _kinds(one)]
    return tuple(dict.fromkeys([*_literals(info.annotation), *inner]))


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
        return
    for inner in get_args(annotation):
        yield from _literals(inner)


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    info = model.model_fields.get("kind")
    return tuple(_literals(info.annotation)) if info is not None else ()


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys("null" if item is type(None) else _type(item) for item in inner))
    if origin in (list, tuple):
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping of names to {_type(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        return _type(inner[0])
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "mapping"
    return _TYPES.get(getattr(annotation, "__name__", ""), str(annotation))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True) if info.default is PydanticUndefined else info.default
    if isinstance(value, BaseModel):
        kind = getattr(value, "kind", None)
        return f"{{kind: {kind}, …}}" if kind else "{…}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, BaseModel) for item in value):
        return "[…]"
    return value if isinstance(value, str) and value else json.dumps(to_jsonable_python(value), ensure_ascii=False)


def _classes(info: FieldInfo, place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield (path, class) of the mappings that a field may hold, those of plug-ins last."""
    yield from _classes_in(info.annotation, place)
    for mark in field_marks(info):
        if isinstance(mark, Choice):
            for name in mark.registry.names:
                if mark.registry.plugin_of(name) is not None:
                    yield place, settings_of(mark.registry[name], name)


def _classes_in(annotation: Any, place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield place, annotation
    origin, inner = get_origin(annotation), get_args(annotation)
    inside = {dict: ANY_NAME, list: ANY_NUMBER, tuple: ANY_NUMBER}.get(origin)
    for one in inner if origin is not Literal else ():
        yield from _classes_in(one, f"{place}.{inside}" if inside else place)


VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""What may stand in place of any value: a text with a variable of the environment."""

SCHEMA_TITLE = "Recipe of dcase-seld"


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON schema of recipes (draft 7, which editors know), with the names that plug-ins bring."""
    stages = [registry.load(name) for name in registry.names]
    models = {stage.name: stage.config for stage in stages}
    of_model, whole = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models.values())],
        ref_template="#/definitions/{model}",
    )
    defs = {name: _tidied(schema, whole["$defs"]) for name, schema in whole["$defs"].items()}
    steps = {}
    for stage in stages:
        own = of_model[models[stage.name], "validation"]["$ref"].rpartition("/")[2]
        steps[f"step {stage.name}"] = _step(stage, defs[own])
    used = json.dumps([defs, steps])
    defs = {name: schema for name, schema in defs.items() if f'"#/definitions/{name}"' in used}
    step = {
        "type": "object",
        "required": ["stage"],
        "properties": {"stage": {"enum": list(models), "description": "the kind of work"}},
        "allOf": [_when("stage", name, {"$ref": f"#/definitions/step {name}"}) for name in models],
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": SCHEMA_TITLE,
        "type": "object",
        "required": ["steps"],
        "additionalProperties": False,
        "properties": {
            "about": {"type": "string", "description": "what the recipe is for; reports show it"},
            "plugins": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "description": "plug-ins that must be named with --plugin",
            },
            "steps": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]*$"},
                "additionalProperties": {"$ref": "#/definitions/step"},
            },
        },
        "definitions": {"variable": VARIABLE, "step": step, **steps, **defs},
    }


def _step(stage: Stage, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        **schema,
        "description": stage.about,
        "properties": {"stage": {"const": stage.name}, **schema["properties"]},
    }


def _when(key: str, value: str, then: dict[str, Any]) -> dict[str, Any]:
    """Return the rule that a mapping whose `key` is `value` fits another schema."""
    return {"if": {"required": [key], "properties": {key: {"const": value}}}, "then": then}


def _tidied(schema: Any, defs: dict[str, Any]) -> Any:
    """Return a schema as editors read it best: no made-up titles, choices by `kind`, variables in place of values."""
    if isinstance(schema, list):
        return [_tidied(item, defs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {}
    for key, value in schema.items():
        if key == "properties":
            tidied[key] = {name: _tidied(inner, defs) for name, inner in value.items()}
        elif key == "default":
            # Defaults of whole mappings stand at their keys.
            tidied |= {} if isinstance(value, dict) and value else {key: value}
        elif key not in ("title", "discriminator"):
            tidied["items" if key == "prefixItems" else key] = _tidied(value, defs)
    union = tidied.get("oneOf", tidied.get("anyOf", ()))
    kinds = [defs.get(str(one.get("$ref")).rpartition("/")[2], one).get("properties", {}).get("kind") for one in union]
    if len(kinds) > 1 and all(kinds):
        return _by_kind(tidied, list(zip(kinds, union, strict=True)), schema.get("default"))
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        kept = {key: tidied.pop(key) for key in ("description", "default") if key in tidied}
        return {**kept, "anyOf": [tidied, {"$ref": "#/definitions/variable"}]}
    return tidied


def _by_kind(tidied: dict[str, Any], members: list[tuple[dict[str, Any], dict[str, Any]]], default: Any) -> Any:
    """Return a union of mappings as one mapping whose `kind` says which it is, so that errors name the wrong key."""
    usual = default.get("kind") if isinstance(default, dict) else None
    rules, kinds = [], []
    for kind, member in members:
        for value in kind.get("enum", [kind.get("const")]):
            kinds.append(value)
            rules.append(_when("kind", value, member))
            if value == usual:
                rules.append({"if": {"not": {"required": ["kind"]}}, "then": member})
    return {
        **{key: tidied[key] for key in ("description",) if key in tidied},
        "type": "object",
        **({} if usual else {"required": ["kind"]}),
        "properties": {"kind": {"enum": kinds}},
        "allOf": rules,
    }
