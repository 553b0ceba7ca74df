"""The stages `simulate`, `convert` and `prepare`: corpora made, converted, and made ready for training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dcase_seld.core.config import Config, Outside, Ref
from dcase_seld.corpus.splits import SplitConfig
from dcase_seld.recipe.stage import Context, Inputs, Stage
from dcase_seld.simulate.config import ClipCounts, PictureConfig, PolyphonyConfig, SceneConfig, SoundsConfig

if TYPE_CHECKING:
    from dcase_seld.store.store import Store


class SimulateConfig(SceneConfig):
    """Simulate labelled scenes of dry sounds in rooms; the defaults are a set for a first training on any machine."""

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
        "labels in STARSS23's layout, for the converter or for `prepare` with `task: dcase2024`",
    )
    responses: Annotated[Path | None, Outside()] = Field(
        default=None,
        description="folder of measured rooms (SOFA files, or wav files and responses.csv): the first rooms of every "
        "split, simulated ones follow up to `rooms`",
    )
    ambience: Annotated[Path | None, Outside()] = Field(
        default=None,
        description="folder of recordings of rooms and streets in which nothing of a class is heard, stereo or mono: a "
        "stretch of one lies under every other clip, in place of made noise",
    )
    video: bool = Field(default=False, description="compose a video of every clip")
    picture: PictureConfig = Field(default=PictureConfig(), description="what the video shows")
    pictures: Annotated[Path | None, Outside()] = Field(
        default=None,
        description="folder of pictures for the video: backgrounds, people and class sub-folders, with transparency "
        "or without; what is missing is drawn",
    )
    seed: int = Field(default=0, ge=0, description="decides everything; another seed is another set")

    @model_validator(mode="after")
    def _nothing_to_test_with(self) -> Self:
        if self.clips.test and not self.bank.test_fraction:
            raise ValueError("bank.test_fraction is 0, so no recording is left for clips.test; set clips.test to 0")
        return self


def run_simulate(config: SimulateConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write a corpus: stereo_dev, metadata_dev, splits.csv and balance.csv; return frames per class and notes."""
    from dcase_seld.core.classes import load_taxonomy
    from dcase_seld.core.work import say
    from dcase_seld.simulate.measured_rooms import load_rooms
    from dcase_seld.simulate.scenes import balanced, read_prior
    from dcase_seld.simulate.simulation import PARTS, SimulationPlan, open_material, simulate, write_balance

    taxonomy = load_taxonomy(config.taxonomy)
    scene = SceneConfig(**{name: getattr(config, name) for name in SceneConfig.model_fields})
    plan = SimulationPlan(
        out=out,
        taxonomy=taxonomy,
        sounds=config.sounds,
        sound_config=config.bank,
        scene=scene,
        clips=config.clips,
        seed=config.seed,
        prior=(),
        output=config.output,
        responses=config.responses,
        ambience=config.ambience,
        video=config.picture if config.video else None,
        pictures=config.pictures,
    )
    found = open_material(plan)
    measured = load_rooms(config.responses) if config.responses is not None else []
    notes = [*found.bank.notes, *(note for room in measured for note in room.notes)]
    notes += found.ambience.notes if found.ambience is not None else ()
    for note in notes:
        say(f"note: {note}")
    if config.like is None:
        prior = balanced(found.bank, len(taxonomy), scene.polyphony.event_s[1])
    else:
        real = read_prior(config.like, taxonomy)
        prior = real.classes
        if "polyphony" not in config.model_fields_set:
            scene = scene.model_copy(update={"polyphony": PolyphonyConfig(weights=real.layers)})
    plan = replace(plan, scene=scene, prior=prior)
    if config.taxonomy is not None:
        # Later stages find the classes beside the clips.
        (out / "taxonomy.yaml").write_bytes(config.taxonomy.read_bytes())
    simulate(plan, context.workers, context.quiet, found)
    facts = {"clips": config.clips.train + config.clips.test, "notes": notes}
    if config.output == "foa":
        return facts
    parts = [PARTS[fold] for fold in plan.folds]
    return {**facts, "frames": write_balance(out, parts, plan.room_splits(), taxonomy)}


SIMULATE_STAGE = Stage("simulate", "corpus", SimulateConfig, run_simulate)


class ConvertConfig(Config):
    """Make stereo clips with perspective video of first-order Ambisonics and 360° video."""

    source: Annotated[str, Ref("corpus"), Outside()] = Field(
        description="Recordings in STARSS23's layout (foa_dev, metadata_dev and, for videos, video_dev): a folder, or "
        "the name of a simulate step with `output: foa`."
    )
    count: int | None = Field(
        default=None, ge=1, le=10**6, description="Number of random clips; by default as densely as the official set."
    )
    seed: int = Field(default=0, ge=0, description="Which random clips.")
    clips: Annotated[Path | None, Outside()] = Field(
        default=None, description="CSV with the columns recording, angle_deg, start_frame: exactly these clips instead."
    )
    video: bool = Field(default=True, description="Make perspective video of the 360° video.")
    quality: int = Field(default=23, ge=0, le=51, description="Constant rate factor of the video; smaller is better.")


def run_convert(config: ConvertConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write the corpus into `out`; return counts and notes."""
    from dcase_seld.corpus.convert import Job, convert

    source = inputs["source"][0] if inputs.get("source") else Path(config.source)
    job = Job(source, out, config.count, config.seed, config.clips, config.video, config.quality)
    facts = convert(job, context.workers, context.quiet)
    return {name: value for name, value in facts.items() if name != "made_now"}


CONVERT_STAGE = Stage("convert", "corpus", ConvertConfig, run_convert)

MOST_PROBLEMS = 50
"""Problems that a receipt spells out; store.json has all."""


class PrepareConfig(Config):
    """Make a corpus ready for training: sound, labels and splits in one store."""

    corpus: Annotated[str, Ref("corpus"), Outside()] = Field(
        description="A corpus in the official layout: a step's name, or a folder outside the work directory."
    )
    task: str = Field(
        default="dcase2025", description="What networks shall answer: dcase2025, dcase2024, dcase2023, or a YAML file."
    )
    window_s: float | None = Field(
        default=None, gt=0, le=60, description="Seconds that networks hear at a time; null: the task's (5)."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="What is held out of the training folds.")
    taxonomy: Annotated[Path | None, Outside()] = Field(
        default=None, description="YAML file of the classes; by default the corpus' taxonomy.yaml, else the task's."
    )
    parts: list[str] | None = Field(
        default=None, description="Only these parts (dev-train-tau, eval, …); by default all that are there."
    )
    sample_rate: int | None = Field(
        default=None, ge=8_000, le=192_000, description="Samples per second of the store; null: the task's (24,000)."
    )
    resample: bool = Field(default=False, description="Convert sounds of another sample rate instead of refusing them.")
    mono: Literal["refuse", "duplicate"] = Field(
        default="refuse", description="duplicate: copy mono sounds to both channels instead of refusing them."
    )
    video: Literal["if_there", "required"] = Field(
        default="if_there", description="required: every clip must have its video."
    )
    broken: Literal["refuse", "skip"] = Field(
        default="refuse", description="skip: leave out clips that cannot be read, and list them in the receipt."
    )


def run_prepare(config: PrepareConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write the store of a corpus into `out`; return its counts, splits and problems."""
    from dataclasses import replace

    from dcase_seld.core.errors import SeldError, listing
    from dcase_seld.core.geometry import CHANNELS
    from dcase_seld.core.task import load_task
    from dcase_seld.core.work import say
    from dcase_seld.corpus.audio_pack import AudioOptions
    from dcase_seld.corpus.layout import index_corpus, usable_clips
    from dcase_seld.corpus.prepare import build_store
    from dcase_seld.corpus.splits import assign

    root = inputs["corpus"][0] if inputs.get("corpus") else Path(config.corpus)
    task = load_task(config.task, sample_rate=config.sample_rate, window_s=config.window_s)
    classes = _taxonomy(config, root)
    task = task if classes is None else replace(task, classes=classes)
    if task.channels == "stereo" and (root / "foa_dev").is_dir() and not (root / "stereo_dev").is_dir():
        raise SeldError(
            f"{root} holds Ambisonic recordings (foa_dev); the task {task.name} is of stereo clips.",
            "Set task: dcase2024, or make stereo clips of them with a convert step.",
        )
    corpus = index_corpus(root, task.channels)
    clips, problems = usable_clips(
        corpus, parts=config.parts, need_video=config.video == "required", skip_broken=config.broken == "skip"
    )
    facts = build_store(
        clips,
        out,
        root=root,
        splits=assign(clips, config.split, root),
        task=task,
        audio=AudioOptions(task.sample_rate, CHANNELS[task.channels].count, config.resample, config.mono),
        skip_broken=config.broken == "skip",
        workers=context.workers,
        quiet=context.quiet,
        facts={"problems": problems},
    )
    found = facts["problems"]
    if found:
        say(f"note: {len(found)} problem(s) in {root}: {listing(found, 3)} (`dcase-seld data check` lists all)")
    if facts["dropped_sources"]:
        say(
            f"note: {facts['dropped_sources']} of {facts['events']} label rows are a fourth or later source "
            "of one class in one frame: training leaves them out."
        )
    shown = ("clips", "hours", "labelled", "videos", "events", "dropped_sources", "splits")
    return {**{key: facts[key] for key in shown}, "problems": found[:MOST_PROBLEMS], "problem_count": len(found)}


def _taxonomy(config: PrepareConfig, root: Path) -> Any:
    """Return the taxonomy of the config, or of the corpus, or None: the task's."""
    from dcase_seld.core.classes import load_taxonomy

    if config.taxonomy is not None:
        return load_taxonomy(config.taxonomy)
    own = root / "taxonomy.yaml"
    return load_taxonomy(own) if own.is_file() else None


PREPARE_STAGE = Stage("prepare", "store", PrepareConfig, run_prepare)


def store_of(data: Path, out: Path, quiet: bool) -> Store:
    """Return the store in a folder, or one that is made in `out` of a folder in the official layout."""
    from dcase_seld.store.store import Store

    if not (data / "store.json").is_file():
        run_prepare(PrepareConfig(corpus=str(data)), {}, out, Context(quiet=quiet))
        return Store.open(out)
    return Store.open(data)
