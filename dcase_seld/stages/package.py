"""The `package` stage: exported systems → the submission zip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Outside, Ref, Stage


class PackageConfig(Config):
    """Which systems are packaged, of whom, and with which report."""

    csv: Annotated[list[str], Ref("csv")] = Field(
        description="Export steps, one per system, in the order of the systems' numbers.", min_length=1
    )
    tracks: list[Literal["a", "b"]] = Field(description="Track of each export step.", min_length=1)
    scores: Annotated[list[str], Ref("scores")] = Field(
        default=[], description="Score step of each system's networks on the development test set, in the same order."
    )
    members: Annotated[list[str], Ref("checkpoint", "ensemble")] = Field(
        default=[], description="Steps whose networks are counted where the export steps do not come from any."
    )
    team: Annotated[Path | None, Outside()] = Field(
        default=None, description="Team file (see submission/team.yaml); by default the example that comes along."
    )
    report: Annotated[Path | None, Outside()] = Field(
        default=None, description="Technical report as a PDF; without it a skeleton is written beside the zip."
    )
    templates: Annotated[Path | None, Outside()] = Field(
        default=None, description="Folder whose layout.yaml, meta.yaml, report.md and report.tex replace the own ones."
    )
    name: str = Field(default="submission", description="Name of the zip.", pattern=r"^[\w-]+$")
    force_random_weights: bool = Field(default=False, description="Package networks that were never trained.")

    @model_validator(mode="after")
    def _one_track_per_system(self) -> Self:
        if len(self.tracks) != len(self.csv):
            raise ValueError(f"tracks must name one track per csv step: {len(self.csv)}, got {len(self.tracks)}")
        if self.scores and len(self.scores) != len(self.csv):
            raise ValueError(f"scores must name one step per csv step: {len(self.csv)}, got {len(self.scores)}")
        return self


def run(config: PackageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write NAME.zip (and NAME_report/ where no report is given) and say what is missing; return labels and findings.

    Raises:
        SeldError: a system cannot be packaged.
    """
    from dcase_seld.submission.deliver import deliver
    from dcase_seld.submission.runs import collect

    scores: list[Path | None] = [*inputs.get("scores", [])] or [None] * len(config.csv)
    members = inputs.get("members", [])
    runs = [
        (collect(csv, score, members, track), track)
        for csv, score, track in zip(inputs["csv"], scores, config.tracks, strict=True)
    ]
    zip_file = out / f"{config.name}.zip"
    findings, lines = deliver(
        zip_file,
        runs,
        config.team,
        reports={} if config.report is None else dict.fromkeys(config.tracks, config.report),
        templates=config.templates,
        force_random_weights=config.force_random_weights,
        quiet=context.quiet,
    )
    return {
        "zip": zip_file.name,
        "errors": sorted(findings.rules("error")),
        "warnings": sorted(findings.rules("warning")),
        "show": "\n".join(lines),
    }


STAGE = Stage("package", "package", PackageConfig, run)
