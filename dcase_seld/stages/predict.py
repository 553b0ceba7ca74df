"""The predict stage: checkpoints or an ensemble, and a split of a store → events.npz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Ref, RunTime, Stage


class PredictStageConfig(Config):
    """A predict step of a recipe."""

    data: Annotated[str, Ref("store")] = Field(description="the prepare step")
    members: Annotated[str | list[str], Ref("checkpoint", "ensemble")] = Field(
        description="train steps whose outputs are averaged, or one ensemble step"
    )
    split: Literal["train", "val", "test", "eval", "all"] = Field(
        default="test", description="which clips of the store"
    )
    tokens: Annotated[str | list[str], Ref("tokens")] = Field(default=[], description="embed steps of the same store")
    tta: Literal["none", "swap"] | None = Field(
        default=None,
        description="swap: average with the left-right mirrored input; null: what the ensemble says, else none",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="activity threshold; null: what the ensemble says, else 0.5"
    )
    hop_frames: int | None = Field(
        default=None,
        ge=1,
        le=50,
        description="label frames between windows of clips longer than 5 s; overlapping windows are averaged",
    )
    video: bool = Field(default=True, description="false: predict as if no clip had a video, whatever the tokens say")
    purpose: Literal["judge", "tune"] = Field(
        default="judge",
        description="tune: for the tuning of a later step, not for scores; only then may clips be predicted that the "
        "ensemble itself was tuned on",
    )
    batch_size: Annotated[int, RunTime()] = Field(default=32, ge=1, description="clips computed at once")


def run(config: PredictStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write events.npz and return facts: clips, events, members, parameters, random_weights."""
    from dcase_seld.data.store import Store
    from dcase_seld.data.tokens import TokenReader
    from dcase_seld.post.predict import Predictor, predict_store
    from dcase_seld.train.devices import single_device

    predictor = Predictor.load(inputs["members"], single_device(context.device), config.tta)
    if config.threshold is not None:
        settings = predictor.settings.model_copy(update={"thresholds": (config.threshold,)})
        predictor = replace(predictor, settings=settings)
    tokens = inputs.get("tokens", [])
    events = predict_store(
        predictor,
        Store.open(inputs["data"][0]),
        config.split,
        tokens=tokens,
        batch_size=config.batch_size,
        hop_frames=config.hop_frames,
        video=config.video,
        allow_tuned=config.purpose == "tune",
        quiet=context.quiet,
    )
    events.save(out / "events.npz")
    used = [TokenReader.open(folder).spec for folder in tokens]
    return {
        "clips": len(events.clips),
        "events": len(events),
        "members": len(predictor.networks),
        "parameters": predictor.parameters,
        "tracks": sorted({network.config.track for network in predictor.networks}),
        "tta": predictor.settings.tta,
        "random_weights": sorted({spec.kind for spec in used if spec.random_weights}),
    }


STAGE = Stage("predict", "events", PredictStageConfig, run)
