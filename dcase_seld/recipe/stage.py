"""What a stage is: a config class, what it reads, what it writes, and a function that does it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dcase_seld.core.config import Config, Outside, Ref, RunTime


@dataclass(frozen=True)
class Context:
    """What the runner tells a stage beside its config.

    Attributes:
        device: "auto", "cpu", "cuda", … as Lightning Fabric's accelerator names them.
        workers: processes that a stage may use, at least 1.
        quiet: no live progress (not a terminal, or asked for).
        curves: folder for what is looked at while a step runs (TensorBoard), outside of its result, to which several
            ways lead; None: it may lie in the result.
    """

    device: str = "auto"
    workers: int = 1
    quiet: bool = True
    curves: Path | None = None


Inputs = Mapping[str, list[Path]]
"""Folders of the steps that the config's Ref fields name, by field name, in the field's order (a single ref: one)."""

Run = Callable[[Any, Inputs, Path, Context], Mapping[str, Any] | None]
"""run(config, inputs, out, context) → facts for the receipt (JSON-able, e.g. {"parameters": 734261}) or None."""

Ready = Callable[[Any], None]
"""ready(config) raises SeldError where what the step needs beside its inputs (a package, a program) is not there."""

Fetch = Callable[[Sequence[Any], bool], str]
"""fetch(configs, now) fetches what the steps need from elsewhere and returns in words what it fetched, "" nothing.

With `now` False it only says it. Where something is missing and cannot be fetched it raises one SeldError for all.
"""


@dataclass(frozen=True)
class Stage:
    """A kind of step.

    Attributes:
        name: what a recipe calls it.
        produces: the kind of folder it writes ("store", "checkpoint", "events", "csv", "scores", "package", …).
        config: its config class.
        run: reads folders and outside data, writes the folder `out` (exists, may hold an interrupted attempt of
            the very same config: resume from it or overwrite it).
        version: raise it when the same config gives another result.
        shared: run() divides its work over the processes that torchrun or SLURM started, where the config's `devices`
            and `nodes` say so; it is then called in each of them.
        fetch: given the configs of all steps that are to run, of all stages that have the same function.
        measures: it shows figures, those of plug-ins among them.
        ready: asked for every step that is to run before the first one starts, so it must be quick.
    """

    name: str
    produces: str
    config: type[Config]
    run: Run
    version: int = 1
    shared: bool = False
    ready: Ready | None = None
    fetch: Fetch | None = None
    measures: bool = False

    @property
    def about(self) -> str:
        """Return what it is for and what it makes, in a sentence each, as its config class or its function says."""
        return f"{first_line(self.config) or first_line(self.run)} Makes: {self.produces}.".strip()


def first_line(thing: Any) -> str:
    """Return the first paragraph of what something says of itself, in one line."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())


KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class MarkedField:
    """A field that the runner has to know about."""

    path: KeyPath  # where it is, e.g. ("model", "weights") or ("systems", 0, "csv").
    ref: Ref | None  # the kinds of step it may name, or None
    outside: bool  # whether it may be a path to outside data
    run_time: bool  # whether it is left out of the fingerprint
    value: Any  # what the configuration holds there

    @property
    def name(self) -> str:
        """Return the path with dots, the key of `inputs`."""
        return ".".join(map(str, self.path))

    def items(self) -> list[tuple[KeyPath, str]]:
        """Return every name or path in the value with its place: one for text, several for a list or mapping."""
        return [(place, str(leaf)) for place, leaf in _all_of((str, Path), self.value, self.path)]


def marked_fields(config: BaseModel, prefix: KeyPath = ()) -> Iterator[MarkedField]:
    """Yield the marked fields of a configuration and of the configurations inside it."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        marks = field_marks(info)
        ref = next((mark for mark in marks if isinstance(mark, Ref)), None)
        outside = any(isinstance(mark, Outside) for mark in marks)
        run_time = any(isinstance(mark, RunTime) for mark in marks)
        if ref is not None or outside or run_time:
            yield MarkedField((*prefix, name), ref, outside, run_time, value)
        else:
            for place, inner in _all_of(BaseModel, value, (*prefix, name)):
                yield from marked_fields(inner, place)


def written_fields(model: type[BaseModel], data: dict[str, Any]) -> Iterator[MarkedField]:
    """Yield the names and paths at the top of plain data that `model` refused: they can be looked up all the same."""
    for name, info in model.model_fields.items():
        marks = field_marks(info)
        ref = next((mark for mark in marks if isinstance(mark, Ref)), None)
        outside = any(isinstance(mark, Outside) for mark in marks)
        run_time = any(isinstance(mark, RunTime) for mark in marks)
        if (ref is not None or outside) and name in data:
            yield MarkedField((name,), ref, outside, run_time, data[name])


def replace_values(config: BaseModel, new: Callable[[KeyPath], Any], prefix: KeyPath = ()) -> Any:
    """Return a copy in which `new(place)`, where it is not None, replaces the leaf at a place."""

    def replaced(value: Any, place: KeyPath) -> Any:
        if isinstance(value, BaseModel):
            return replace_values(value, new, place)
        if isinstance(value, (list, tuple)):
            return type(value)(replaced(item, (*place, index)) for index, item in enumerate(value))
        if isinstance(value, dict):
            return {key: replaced(item, (*place, key)) for key, item in value.items()}
        other = new(place)
        return value if other is None else type(value)(other)

    update = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        after = replaced(value, (*prefix, name))
        if after is not value and after != value:
            update[name] = after
    return config.model_copy(update=update) if update else config


def field_marks(info: FieldInfo) -> list[Any]:
    """Return the marks (and other metadata) of a field, also those inside a union or a list."""
    return [*info.metadata, *_marks(info.annotation)]


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield what Annotated carries anywhere inside a type, e.g. in `Annotated[str, Ref("store")] | None`."""
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        if not isinstance(inner, (str, int, Ref, Outside, RunTime)):
            yield from _marks(inner)


def _all_of(kinds: type | tuple[type, ...], value: Any, place: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield what is of these kinds in lists and mappings, however deep, with its place."""
    if isinstance(value, kinds):
        yield place, value
    elif isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _all_of(kinds, item, (*place, key))
