"""What a stage is: a config class, what it reads, what it writes, and a function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcase_seld.config import Config


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


@dataclass(frozen=True)
class Context:
    """What the runner tells a stage beside its config.

    Attributes:
        device: "auto", "cpu", "cuda", … as Lightning Fabric's accelerator names them.
        workers: processes that a stage may use, at least 1.
        quiet: no live progress (not a terminal, or asked for).
    """

    device: str = "auto"
    workers: int = 1
    quiet: bool = True


Inputs = Mapping[str, list[Path]]
"""Folders of the steps that the config's Ref fields name, by field name, in the field's order (a single ref: one)."""

Run = Callable[[Any, Inputs, Path, Context], Mapping[str, Any] | None]
"""run(config, inputs, out, context) → facts for the receipt (JSON-able, e.g. {"parameters": 734261}) or None."""


Ready = Callable[[Any], None]
"""ready(config) raises SeldError where what the step needs beside its inputs (weights, a package) is not there."""


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
        ready: asked for every step that is to run before the first one starts, so it must be quick.
    """

    name: str
    produces: str
    config: type[Config]
    run: Run
    version: int = 1
    shared: bool = False
    ready: Ready | None = None
