"""The stage `simulate`: dry sounds in simulated rooms → a corpus of labelled stereo clips in the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcase_seld.recipe.stage import Context, Inputs, Outside, Stage
from dcase_seld.synth.config import ClipCounts, SceneConfig, SoundsConfig


class SimulateConfig(SceneConfig):
    """What to simulate; the defaults are a set for a first training on any machine."""

    sounds: Annotated[Path | None, Outside()] = Field(
        default=None, description="folder of dry recordings, one sub-folder per class; without it the sounds are made"
    )
    taxonomy: Annotated[Path | None, Outside()] = Field(
        default=None, description="YAML file of a list of classes; without it the challenge's 13"
    )
    clips: ClipCounts = Field(default=ClipCounts(), description="how many 5-second clips")
    bank: SoundsConfig = Field(default=SoundsConfig(), description="how the recordings are divided")
    seed: int = Field(default=0, ge=0, description="decides everything; another seed is another set")


def run(config: SimulateConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write a corpus: stereo_dev, metadata_dev and splits.csv; return counts and the bank's notes."""
    from dcase_seld.progress import say
    from dcase_seld.synth.simulate import Job, open_bank, simulate
    from dcase_seld.task.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(config.taxonomy)
    job = Job(
        out=out,
        taxonomy=taxonomy,
        sounds=config.sounds,
        sound_config=config.bank,
        scene=SceneConfig(**{name: getattr(config, name) for name in SceneConfig.model_fields}),
        clips=config.clips,
        seed=config.seed,
        prior=(1.0,) * len(taxonomy),
    )
    notes = open_bank(job).notes
    for note in notes:
        say(f"note: {note}")
    simulate(job, context.workers, context.quiet)
    return {"clips": config.clips.train + config.clips.test, "classes": len(taxonomy), "notes": list(notes)}


STAGE = Stage("simulate", "corpus", SimulateConfig, run)
