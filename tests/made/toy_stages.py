"""Small real stages that know nothing of sound: numbers are written, added up, and slowly counted."""

import json
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dcase_seld.core.config import Config, Outside, Ref, RunTime
from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.graph import Registry
from dcase_seld.recipe.stage import Stage


class Scale(Config):
    factor: float = Field(1.0, description="what numbers are multiplied by")
    threads: Annotated[int, RunTime()] = Field(1, description="changes no result")


class NumbersConfig(Config):
    values: list[int] = Field([1, 2], description="numbers to write")
    scale: Scale = Field(Scale(), description="nested")
    source: Annotated[Path, Outside()] | None = Field(None, description="a folder of text files with a number each")
    mode: str = Field("on", description="a word that YAML 1.1 would take for a truth value")


class SumConfig(Config):
    numbers: Annotated[list[str], Ref("numbers")] = Field(description="steps to add up")
    extra: Annotated[str, Ref("numbers"), Outside()] | None = Field(None, description="a step or a folder")
    start: Annotated[str, Ref("sum")] | None = Field(None, description="an earlier sum")
    workers: Annotated[int, RunTime()] = Field(1, description="changes no result")
    rate: float = Field(1.0, gt=0, description="a number")


class SlowConfig(Config):
    numbers: Annotated[str, Ref("numbers")] = Field(description="what is read")
    steps: int = Field(5, description="lines to write")
    pause: Annotated[float, RunTime()] = Field(0.0, description="seconds between lines")
    tool: Annotated[str, RunTime()] = Field("", description="what must be there; nothing ever is")
    fail_at: Annotated[int | None, RunTime()] = Field(None, description="line before which it refuses")


def write_numbers(config, inputs, out, context):
    values = [value * config.scale.factor for value in config.values]
    if config.source is not None:
        values += [float(path.read_text()) for path in sorted(config.source.glob("*.txt"))]
    (out / "numbers.json").write_text(json.dumps(values))
    return {"count": len(values)}


def add_up(config, inputs, out, context):
    folders = inputs["numbers"] + inputs.get("extra", [])
    total = sum(sum(json.loads((folder / "numbers.json").read_text())) for folder in folders)
    if "start" in inputs:
        total += json.loads((inputs["start"][0] / "sum.json").read_text())
    (out / "sum.json").write_text(json.dumps(total))
    return {"total": total, "show": f"the total is {total}"}


def count_slowly(config, inputs, out, context):
    path = out / "lines.txt"
    done = path.read_text().splitlines() if path.exists() else []
    for number in range(len(done), config.steps):
        if number == config.fail_at:
            raise SeldError("the line is too long.", "Shorten it.")
        with path.open("a") as file:
            file.write(f"{number}\n")
        time.sleep(config.pause)
    return {"resumed_at": len(done)}


def has_tool(config):
    if config.tool:
        raise SeldError(f"there is no {config.tool}.", f"fetch the {config.tool}")


STAGES = {
    "numbers": Stage("numbers", "numbers", NumbersConfig, write_numbers),
    "sum": Stage("sum", "sum", SumConfig, add_up),
    "slow": Stage("slow", "lines", SlowConfig, count_slowly, ready=has_tool),
}
REGISTRY = Registry(tuple(STAGES), STAGES.__getitem__)

RECIPE = """
about: adds numbers
steps:
  a: {stage: numbers, values: [1, 2, 3]}
  b: {stage: numbers, values: [10], scale: {factor: 2}}
  total: {stage: sum, numbers: [a, b], rate: 1e-3}
  more: {stage: sum, numbers: [a], start: total}
"""
