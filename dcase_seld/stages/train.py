"""The train stage: stores → a trained network; with `init` it goes on from another one (fine-tuning)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage
from dcase_seld.train.config import TrainConfig


class TrainStageConfig(TrainConfig):
    """A train step of a recipe."""

    data: Annotated[str | list[str], Ref("store")] = Field(description="the prepare step, or several that are mixed")
    init: Annotated[str | None, Ref("checkpoint")] = Field(default=None, description="a train step to start from")
    tokens: Annotated[str | list[str], Ref("tokens")] = Field(default=[], description="embed steps of the same stores")


def run(config: TrainStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write best/, last/, epochs.csv, curves.png, summary.json and return what summary.json holds."""
    from dcase_seld.train.loop import train

    return train(
        config,
        inputs["data"],
        out,
        tokens=inputs.get("tokens", []),
        init=next(iter(inputs.get("init", [])), None),
        device=context.device,
        quiet=context.quiet,
    )


STAGE = Stage("train", "checkpoint", TrainStageConfig, run, shared=True)
