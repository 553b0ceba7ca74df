"""The `report` stage: one HTML page on one or several scored predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage


class ReportConfig(Config):
    """What is reported."""

    scores: Annotated[list[str], Ref("scores")] = Field(
        min_length=1, description="Score steps; the first is the one that the others are compared with."
    )
    examples: int = Field(3, ge=0, le=50, description="How many of the best and of the worst clips are shown.")
    title: str = Field("", description="Heading; the names of the runs by default.")


def run(config: ReportConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write report.html, which needs no other file."""
    from dcase_seld.report.gather import gather
    from dcase_seld.report.page import write_report

    runs = gather(inputs["scores"])
    write_report(runs, out / "report.html", config.examples, config.title)
    return {"runs": [one.name for one in runs]}


STAGE = Stage("report", "report", ReportConfig, run)
