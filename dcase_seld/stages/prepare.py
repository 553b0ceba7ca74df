"""The stage `prepare`: a corpus folder → a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.data.splits import SplitConfig
from dcase_seld.recipe.stage import Context, Inputs, Outside, Ref, Stage

MOST_PROBLEMS = 50
"""Problems that a receipt spells out; store.json has all."""


class PrepareConfig(Config):
    """What of a corpus goes into the store, and how."""

    corpus: Annotated[str, Ref("corpus"), Outside()] = Field(
        description="A corpus in the official layout: a step's name, or a folder outside the work directory."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="What is held out of the training folds.")
    taxonomy: Annotated[Path | None, Outside()] = Field(
        default=None, description="YAML file of the classes; by default the corpus' taxonomy.yaml, else the 13 classes."
    )
    parts: list[str] | None = Field(
        default=None, description="Only these parts (dev-train-tau, eval, …); by default all that are there."
    )
    sample_rate: int = Field(default=24_000, ge=8_000, description="Samples per second of the store.")
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


def run(config: PrepareConfig, inputs: Inputs, out: Path, context: Context) -> Mapping[str, Any]:
    """Write the store of a corpus into `out`; return its counts, splits and problems."""
    from dcase_seld.data.pack import AudioOptions
    from dcase_seld.data.splits import assign
    from dcase_seld.data.store_builder import build_store
    from dcase_seld.data.usable import usable_clips
    from dcase_seld.errors import listing
    from dcase_seld.progress import say
    from dcase_seld.task.corpus import index_corpus

    root = inputs["corpus"][0] if inputs.get("corpus") else Path(config.corpus)
    corpus = index_corpus(root)
    clips, problems = usable_clips(
        corpus, parts=config.parts, need_video=config.video == "required", skip_broken=config.broken == "skip"
    )
    facts = build_store(
        clips,
        out,
        root=root,
        splits=assign(clips, config.split, root),
        taxonomy=_taxonomy(config, root),
        audio=AudioOptions(config.sample_rate, config.resample, config.mono),
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
    """Return the taxonomy of the config, of the corpus, or the challenge's."""
    from dcase_seld.task.taxonomy import load_taxonomy

    if config.taxonomy is not None:
        return load_taxonomy(config.taxonomy)
    own = root / "taxonomy.yaml"
    return load_taxonomy(own if own.is_file() else None)


STAGE = Stage("prepare", "store", PrepareConfig, run)
