"""The stages `train`, `ensemble`, `predict` and `export`: from stores to networks, events and official CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.core.config import Config, Outside, Ref, RunTime
from dcase_seld.infer.settings import EnsembleConfig
from dcase_seld.recipe.stage import Context, Inputs, Stage
from dcase_seld.train.config import TrainConfig


class TrainStageConfig(TrainConfig):
    """Train a network on one store or several; with `init`, fine-tune one."""

    data: Annotated[str | list[str], Ref("store")] = Field(description="the prepare step, or several that are mixed")
    init: Annotated[str | None, Ref("checkpoint"), Outside()] = Field(
        default=None,
        description="where to start from: a train step, the folder of one, or the name of a network that the package "
        "carries (default)",
    )
    teacher: Annotated[str | None, Ref("checkpoint"), Outside()] = Field(
        default=None,
        description="a train step whose network, with tokens or larger, this one learns to answer like, beside the "
        "labels (loss.teacher_weight); the step needs the tokens of both",
    )
    tokens: Annotated[str | list[str], Ref("tokens")] = Field(default=[], description="embed steps of the same stores")


def run_train(config: TrainStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write best/, last/, epochs.csv, curves, summary.json, TensorBoard's files; return what summary.json holds."""
    from dcase_seld.train.loop import train

    return train(
        config,
        inputs["data"],
        out,
        tokens=inputs.get("tokens", []),
        init=next(iter(inputs.get("init", [])), None),
        teacher=next(iter(inputs.get("teacher", [])), None),
        device=context.device,
        quiet=context.quiet,
        curves=context.curves,
    )


TRAIN_STAGE = Stage("train", "checkpoint", TrainStageConfig, run_train, shared=True)


class EnsembleStageConfig(EnsembleConfig):
    """Average several networks, and tune their thresholds on validation clips."""

    members: Annotated[str | list[str], Ref("checkpoint"), Outside()] = Field(
        description="train steps, folders of such, or names of networks that the package carries"
    )
    data: Annotated[str | None, Ref("store")] = Field(
        default=None, description="the prepare step whose validation clips decide; null: nothing is tuned"
    )
    settings_of: Annotated[str | None, Ref("ensemble")] = Field(
        default=None,
        description="an ensemble step whose thresholds, angle and tta are taken over; nothing is tuned then (for "
        "networks that were trained on the validation clips too)",
    )
    tokens: Annotated[str | list[str], Ref("tokens")] = Field(default=[], description="embed steps of the same store")


def run_ensemble(config: EnsembleStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write ensemble.json and members/ and return facts: members, weights, validation scores, thresholds."""
    from dcase_seld.infer.devices import single_device
    from dcase_seld.infer.ensemble import make_ensemble
    from dcase_seld.store.store import Store

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


ENSEMBLE_STAGE = Stage("ensemble", "ensemble", EnsembleStageConfig, run_ensemble)


class PredictStageConfig(Config):
    """Predict the events of a store's clips with networks or an ensemble."""

    data: Annotated[str, Ref("store")] = Field(description="the prepare step")
    members: Annotated[str | list[str], Ref("checkpoint", "ensemble"), Outside()] = Field(
        description="train steps whose outputs are averaged, or one ensemble step; folders of such, or names of "
        "networks that the package carries, too"
    )
    split: Literal["train", "val", "test", "eval", "all"] = Field(
        default="test", description="which clips of the store"
    )
    tokens: Annotated[str | list[str], Ref("tokens")] = Field(default=[], description="embed steps of the same store")
    tta: Literal["none", "swap", "rotate"] | None = Field(
        default=None,
        description="swap: average with the left-right mirrored input; rotate: over the 16 turns and mirrorings of the "
        "sphere (Ambisonics); null: what the ensemble says, else none",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="activity threshold; null: what the ensemble says, else 0.5"
    )
    hop_frames: int | None = Field(
        default=None,
        ge=1,
        le=600,
        description="label frames between windows of clips longer than one; overlapping windows are averaged; null: as "
        "long as a window",
    )
    video: bool = Field(default=True, description="false: predict as if no clip had a video, whatever the tokens say")
    purpose: Literal["judge", "tune"] = Field(
        default="judge",
        description="tune: for the tuning of a later step, not for scores; only then may clips be predicted that the "
        "ensemble itself was tuned on",
    )
    batch_size: Annotated[int, RunTime()] = Field(default=32, ge=1, le=65_536, description="clips computed at once")


def run_predict(config: PredictStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write events.npz and return facts: clips, events, members, parameters, random_weights."""
    from dcase_seld.infer.devices import single_device
    from dcase_seld.infer.predictor import Predictor
    from dcase_seld.store.store import Store

    predictor = Predictor.load(inputs["members"], single_device(context.device), config.tta)
    predictor = predictor.with_threshold(config.threshold)
    source = predictor.open_store(
        Store.open(inputs["data"][0]),
        config.split,
        inputs.get("tokens", []),
        video=config.video,
        hop_frames=config.hop_frames,
        allow_tuned=config.purpose == "tune",
    )
    events = predictor.events(source, config.batch_size, context.quiet)
    events.save(out / "events.npz")
    return {
        "clips": len(events.clips),
        "events": len(events),
        "members": len(predictor.networks),
        "parameters": predictor.parameters,
        "tracks": sorted({network.config.track for network in predictor.networks}),
        "tta": predictor.settings.tta,
        "random_weights": sorted(reader.spec.name for reader in source.readers if reader.spec.random_weights),
    }


PREDICT_STAGE = Stage("predict", "events", PredictStageConfig, run_predict)


class ExportConfig(Config):
    """Write events as the challenge's CSV files, one per clip."""

    events: Annotated[str, Ref("events")] = Field(description="Step whose events are written.")
    track: Literal["a", "b"] = Field("b", description="b, or a (audio only): on-screen 0 in every row.")


def run_export(config: ExportConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write csv/NAME.csv for every clip, header only where nothing was detected."""
    from dcase_seld.core.event_files import write_folder
    from dcase_seld.core.events import Events

    events = Events.load(inputs["events"][0] / "events.npz")
    write_folder(events, out / "csv", config.track)
    return {"track": config.track, "clips": len(events.clips), "events": len(events)}


EXPORT_STAGE = Stage("export", "csv", ExportConfig, run_export)
