"""The `score` stage: official CSV files against the labels of one split of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage


class ScoreConfig(Config):
    """What is scored against what, and how."""

    csv: Annotated[str, Ref("csv")] = Field(description="Step whose CSV files are scored.")
    data: Annotated[str, Ref("store")] = Field(description="Step whose store holds the labels.")
    split: Literal["train", "val", "test", "all"] = Field("test", description="Clips of the store that are scored.")
    track: Literal["a", "b"] = Field("b", description="b, or a (audio only: no on-screen figures).")
    average: Literal["macro", "micro"] = Field("macro", description="Mean over classes, or all classes pooled.")
    protocol: Literal["official", "complete"] = Field(
        "official", description="The challenge's scorer exactly, or every frame of every clip."
    )
    jackknife: Literal["none", "clip", "recording"] = Field(
        "none", description="95 % intervals by leaving out one clip, or all windows of one recording, at a time."
    )


def run(config: ScoreConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write scores.json; return the overall figures and, as `show`, the table that a run ends with.

    Raises:
        SeldError: a clip of the split has no CSV file, or a CSV file no labelled clip.
    """
    from dcase_seld.data.store import Store
    from dcase_seld.metrics.counts import count_events
    from dcase_seld.metrics.jackknife import jackknife
    from dcase_seld.metrics.official import FIGURES, scores_of
    from dcase_seld.metrics.scorefile import check_clips, write_json
    from dcase_seld.metrics.table import format_scores
    from dcase_seld.task.dcase_csv import read_folder

    data, csv = inputs["data"][0], inputs["csv"][0]
    store = Store.open(data)
    indices = [index for index in store.indices(config.split) if store.labelled[index]]
    names = [store.names[index] for index in indices]
    longest = max((int(store.frames[index]) for index in indices), default=0)
    prediction = read_folder(csv, n_classes=len(store.taxonomy), frames=longest or None)
    reference = store.events.select_clips(names)
    elsewhere = set(store.names) - set(names)  # clips of other splits, or without labels: not what is asked for
    prediction = prediction.select_clips([name for name in prediction.clips if name not in elsewhere])
    check_clips(prediction.clips, reference.clips, csv, data)
    counts = count_events(prediction, reference, n_classes=len(store.taxonomy), protocol=config.protocol)
    intervals = None
    if config.jackknife != "none":
        intervals = jackknife(counts, average=config.average, track=config.track, by=config.jackknife)
    scores = scores_of(
        counts, average=config.average, protocol=config.protocol, track=config.track, jackknife=intervals
    )
    plain = scores.to_json()
    write_json(out / "scores.json", plain)
    return {
        "track": config.track,
        "split": config.split,
        "clips": scores.clips,
        "classes": list(store.taxonomy.classes),
        **{name: plain[name] for name in FIGURES},
        "show": format_scores(scores, store.taxonomy.classes),
    }


STAGE = Stage("score", "scores", ScoreConfig, run)
