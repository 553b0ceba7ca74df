"""The stage `simulate`: dry sounds in simulated rooms → a corpus of labelled stereo clips in the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.recipe.stage import Context, Inputs, Outside, Stage
from dcase_seld.synth.config import ClipCounts, PictureConfig, PolyphonyConfig, SceneConfig, SoundsConfig


class SimulateConfig(SceneConfig):
    """What to simulate; the defaults are a set for a first training on any machine."""

    sounds: Annotated[Path | None, Outside()] = Field(
        default=None, description="folder of dry recordings, one sub-folder per class; without it the sounds are made"
    )
    taxonomy: Annotated[Path | None, Outside()] = Field(
        default=None, description="YAML file of a list of classes; without it the challenge's 13"
    )
    like: Annotated[Path | None, Outside()] = Field(
        default=None,
        description="folder of label files of a real set: its class shares and overlaps are imitated (an explicit "
        "`polyphony` still decides the overlaps); without it all classes sound for equally long",
    )
    clips: ClipCounts = Field(default=ClipCounts(), description="how many 5-second clips")
    bank: SoundsConfig = Field(default=SoundsConfig(), description="how the recordings are divided")
    output: Literal["stereo", "foa"] = Field(
        default="stereo",
        description="stereo: clips in the challenge's layout; foa: first-order Ambisonics, 360° video and unfolded "
        "labels in STARSS23's layout, for the converter",
    )
    responses: Annotated[Path | None, Outside()] = Field(
        default=None,
        description="folder of measured rooms (SOFA files, or wav files and responses.csv): the first rooms of every "
        "split, simulated ones follow up to `rooms`",
    )
    video: bool = Field(default=False, description="compose a video of every clip")
    picture: PictureConfig = Field(default=PictureConfig(), description="what the video shows")
    pictures: Annotated[Path | None, Outside()] = Field(
        default=None,
        description="folder of pictures for the video: backgrounds, people and class sub-folders, with transparency "
        "or without; what is missing is drawn",
    )
    seed: int = Field(default=0, ge=0, description="decides everything; another seed is another set")


def run(config: SimulateConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write a corpus: stereo_dev, metadata_dev, splits.csv and balance.csv; return frames per class and notes."""
    from dcase_seld.progress import say
    from dcase_seld.synth.balance import write_balance
    from dcase_seld.synth.job import PARTS, Job
    from dcase_seld.synth.maker import open_bank
    from dcase_seld.synth.measured import load_rooms
    from dcase_seld.synth.prior import balanced, read_prior
    from dcase_seld.synth.simulate import simulate
    from dcase_seld.task.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(config.taxonomy)
    scene = SceneConfig(**{name: getattr(config, name) for name in SceneConfig.model_fields})
    bank = open_bank(config.sounds, taxonomy, config.bank, config.seed)
    measured = load_rooms(config.responses) if config.responses is not None else []
    notes = [*bank.notes, *(note for room in measured for note in room.notes)]
    for note in notes:
        say(f"note: {note}")
    if config.like is None:
        prior = balanced(bank, len(taxonomy), scene.polyphony.event_s[1])
    else:
        real = read_prior(config.like, taxonomy)
        prior = real.classes
        if "polyphony" not in config.model_fields_set:
            scene = scene.model_copy(update={"polyphony": PolyphonyConfig(weights=real.layers)})
    job = Job(
        out=out,
        taxonomy=taxonomy,
        sounds=config.sounds,
        sound_config=config.bank,
        scene=scene,
        clips=config.clips,
        seed=config.seed,
        prior=prior,
        output=config.output,
        responses=config.responses,
        video=config.picture if config.video else None,
        pictures=config.pictures,
    )
    if config.taxonomy is not None:
        # Later stages find the classes beside the clips.
        (out / "taxonomy.yaml").write_bytes(config.taxonomy.read_bytes())
    simulate(job, context.workers, context.quiet)
    facts = {"clips": config.clips.train + config.clips.test, "notes": notes}
    if config.output == "foa":
        return facts
    parts = [PARTS[fold] for fold in job.folds]
    return {**facts, "frames": write_balance(out, parts, job.room_splits(), taxonomy)}


STAGE = Stage("simulate", "corpus", SimulateConfig, run)
