"""The stage `convert`: FOA recordings with 360° video → a corpus of stereo clips with perspective video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Outside, Ref, Stage


class ConvertConfig(Config):
    """Which clips to make of which recordings."""

    source: Annotated[str, Ref("corpus"), Outside()] = Field(
        description="Recordings in STARSS23's layout (foa_dev, metadata_dev and, for videos, video_dev): a folder, or "
        "the name of a simulate step with `output: foa`."
    )
    count: int | None = Field(
        default=None, ge=1, description="Number of random clips; by default about as densely as the official set."
    )
    seed: int = Field(default=0, ge=0, description="Which random clips.")
    clips: Annotated[Path | None, Outside()] = Field(
        default=None, description="CSV with the columns recording, angle_deg, start_frame: exactly these clips instead."
    )
    video: bool = Field(default=True, description="Make perspective video of the 360° video.")
    quality: int = Field(default=23, ge=0, le=51, description="Constant rate factor of the video; smaller is better.")


def run(config: ConvertConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write the corpus into `out`; return counts and notes."""
    from dcase_seld.synth.convert import Job, convert

    source = inputs["source"][0] if inputs.get("source") else Path(config.source)
    job = Job(source, out, config.count, config.seed, config.clips, config.video, config.quality)
    facts = convert(job, context.workers, context.quiet)
    return {name: value for name, value in facts.items() if name != "made_now"}


STAGE = Stage("convert", "corpus", ConvertConfig, run)
