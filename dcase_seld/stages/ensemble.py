"""The ensemble stage: checkpoints → their average, chosen and tuned on validation clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcase_seld.post.settings import EnsembleConfig
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage


class EnsembleStageConfig(EnsembleConfig):
    """An ensemble step of a recipe."""

    members: Annotated[str | list[str], Ref("checkpoint")] = Field(description="train steps")
    data: Annotated[str | None, Ref("store")] = Field(
        default=None, description="the prepare step whose validation clips decide; null: nothing is tuned"
    )
    settings_of: Annotated[str | None, Ref("ensemble")] = Field(
        default=None,
        description="an ensemble step whose thresholds, angle and tta are taken over; nothing is tuned then (for "
        "networks that were trained on the validation clips too)",
    )
    tokens: Annotated[str | list[str], Ref("tokens")] = Field(default=[], description="embed steps of the same store")


def run(config: EnsembleStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write ensemble.json and members/ and return facts: members, weights, validation scores, thresholds."""
    from dcase_seld.data.store import Store
    from dcase_seld.post.make_ensemble import make_ensemble
    from dcase_seld.train.devices import single_device

    stores = inputs.get("data", [])
    twin = next(iter(inputs.get("settings_of", [])), None)
    if not stores or twin is not None:
        config = config.model_copy(update={"select": "all", "thresholds": "none"})
    return make_ensemble(
        config,
        inputs["members"],
        Store.open(stores[0]) if stores else None,
        out,
        twin=twin,
        tokens=inputs.get("tokens", []),
        device=single_device(context.device),
        quiet=context.quiet,
    )


STAGE = Stage("ensemble", "ensemble", EnsembleStageConfig, run)
