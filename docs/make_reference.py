"""Write docs/recipe_reference.md from the configuration classes of the stages: `python docs/make_reference.py`."""

from __future__ import annotations

import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dcase_seld.core.config import Outside, Ref, RunTime
from dcase_seld.recipe.stage import Stage, field_marks
from dcase_seld.stages import STAGE_MODULES, load_stage

HEAD = """# Recipe reference

Every stage with its keys. Generated from the configuration classes by `docs/make_reference.py`.

**Kind** says what a key may hold: *step → store* names a step that makes a store; *outside* is a path to data outside
the work directory; *run time* does not change the result, and so re-makes nothing.

"""


def reference() -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    stages = [load_stage(name) for name in STAGE_MODULES]
    parts.append("| stage | makes | in one line |\n|---|---|---|\n")
    parts += [f"| [{s.name}](#{s.name}) | {s.produces} | {_first_line(s.run)} |\n" for s in stages]
    parts += [_stage(stage) for stage in stages]
    return "".join(parts)


def _stage(stage: Stage) -> str:
    text = [f"\n## {stage.name}\n\n{_first_line(stage.config)} Makes: {stage.produces}.\n\n"]
    text.append(f"{_first_line(stage.run)}\n\n")
    text += _tables(stage.config, "", set())
    return "".join(text)


def _tables(model: type[BaseModel], prefix: str, seen: set[type]) -> list[str]:
    """Return one table for a class, then one for each class inside it."""
    rows, nested = ["| key | kind | default | |\n|---|---|---|---|\n"], []
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        rows.append(f"| `{key}` | {_kind(info)} | {_default(info)} | {_cell(info.description or '')} |\n")
        for inner in _classes(info.annotation):
            if inner not in seen:
                seen.add(inner)
                about = f"\n`{key}`: {_first_line(inner)}\n\n"
                nested += [about, *_tables(inner, f"{key}.", seen)]
    return [*rows, *nested]


def _kind(info: FieldInfo) -> str:
    words = []
    for mark in field_marks(info):
        if isinstance(mark, Ref):
            words.append(f"step → {' or '.join(mark.kinds)}")
        elif isinstance(mark, Outside):
            words.append("outside")
        elif isinstance(mark, RunTime):
            words.append("run time")
    if any(word.startswith("step") or word == "outside" for word in words):
        several = "several: " if "list" in str(info.annotation) else ""
        return _cell(several + ", ".join(words))
    return _cell(", ".join([_type(info.annotation), *words]))


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{item}`" for item in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("`null`" if item is type(None) else _type(item) for item in inner)
    if origin in (list, tuple):
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        return _type(inner[0])
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "mapping"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True) if info.default is PydanticUndefined else info.default
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, (list, tuple)) and any(isinstance(item, BaseModel) for item in value):
        return "see below"
    return f"`{_cell(json.dumps(value, default=str))}`"


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _classes(inner)]


def _first_line(thing: Any) -> str:
    return _cell((inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " "))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "recipe_reference.md"
    target.write_text(reference(), encoding="utf-8")
    print(f"{target} is written")
