"""The `export` stage: events as official CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage


class ExportConfig(Config):
    """Which events to write, for which track."""

    events: Annotated[str, Ref("events")] = Field(description="Step whose events are written.")
    track: Literal["a", "b"] = Field("b", description="b, or a (audio only): on-screen 0 in every row.")


def run(config: ExportConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write csv/NAME.csv for every clip, header only where nothing was detected."""
    from dcase_seld.task.dcase_csv import write_folder
    from dcase_seld.task.events import Events

    events = Events.load(inputs["events"][0] / "events.npz")
    write_folder(events, out / "csv", config.track)
    return {"track": config.track, "clips": len(events.clips), "events": len(events)}


STAGE = Stage("export", "csv", ExportConfig, run)
