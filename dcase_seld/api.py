"""The five calls that a notebook needs; everything they give back is documented where it is defined.

`import dcase_seld` imports none of what they need; each loads it when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcase_seld.core.errors import SeldError, choose

if TYPE_CHECKING:
    from dcase_seld.core.event_files import Clips
    from dcase_seld.core.events import Events
    from dcase_seld.infer.predictor import Predictor
    from dcase_seld.recipe.stage import Stage
    from dcase_seld.scoring.official import Scores

PathLike = str | Path


def read_events(
    path: PathLike, *, taxonomy: PathLike | None = None, n_classes: int = 13, frames: int | None = 50
) -> Events:
    """Return the events of an official CSV file, of a folder of them, or of an events.npz.

    Args:
        path: the file or folder; the folder of an export or predict step will do.
        taxonomy: a YAML file of the classes; by default the one beside a folder of labels, if there is one.
        n_classes: classes that the numbers in CSV files may name where there is no taxonomy.
        frames: label frames of a clip (100 ms each); None: any length.

    Raises:
        SeldError: the path does not exist or holds no events; names file and line of what is wrong in a CSV.
    """
    from dcase_seld.core.classes import load_taxonomy, taxonomy_beside
    from dcase_seld.core.csv_rows import Limits
    from dcase_seld.core.event_files import read_files
    from dcase_seld.core.events import Events

    path = Path(path)
    own = taxonomy or taxonomy_beside(path if path.is_dir() else path.parent)
    classes = None if own is None else load_taxonomy(Path(own))
    found = _clips(path)
    if not isinstance(found, Events):
        found = read_files(found, Limits(n_classes if classes is None else len(classes), frames))
    return replace(found, taxonomy=classes)


def _clips(given: Events | PathLike) -> Clips:
    """Return the table in an events.npz or in the folder of a step, or the CSV files there."""
    from dcase_seld.core.event_files import list_csv
    from dcase_seld.core.events import Events

    if isinstance(given, Events):
        return given
    path = Path(given)
    for table in (path, path / "events.npz"):
        if table.suffix == ".npz" and table.is_file():
            return Events.load(table)
    return list_csv(path / "csv" if (path / "csv").is_dir() else path)


def score(
    prediction: Events | PathLike,
    reference: Events | PathLike,
    *,
    task: Literal["dcase2025", "dcase2024", "dcase2023"] = "dcase2025",
    track: Literal["a", "b"] = "b",
    average: Literal["macro", "micro"] = "macro",
    protocol: Literal["official", "complete"] = "official",
    jackknife: Literal["clip", "recording"] | None = None,
    taxonomy: PathLike | None = None,
    frames: int | None = 50,
    n_classes: int = 13,
) -> Scores:
    """Return the challenge's scores of predictions; fractions are 0–1, errors degrees and centimetres.

    Args:
        prediction: events, or a path for `read_events`.
        reference: the same of the labels; clips are matched by name.
        task: the challenge's edition; those before 2025 take folders of their own CSV files, or events with elevations.
        track: "a" (audio only: no on-screen figures) or "b".
        average: mean over classes, or all classes pooled.
        protocol: "official" is the challenge's own scorer; "complete" counts every frame of every clip.
        jackknife: add 95 % intervals by leaving out one clip, or all clips of one recording, at a time.
        taxonomy: a YAML file of the classes; by default the one beside a folder of references, else `n_classes`.
        frames: label frames of a clip in CSV files (100 ms each); None: any length.
        n_classes: number of classes where there is no taxonomy.

    Raises:
        SeldError: a file is wrong, or a predicted clip has no reference.
    """
    from dcase_seld.core.classes import load_taxonomy, taxonomy_beside
    from dcase_seld.core.events import Events
    from dcase_seld.core.work import say
    from dcase_seld.scoring.official import score_clips

    own = taxonomy if taxonomy is not None or isinstance(reference, Events) else taxonomy_beside(Path(reference))
    scores, notes = score_clips(
        _clips(prediction),
        _clips(reference),
        task=task,
        n_classes=n_classes if own is None else len(load_taxonomy(Path(own))),
        frames=frames,
        average=average,
        protocol=protocol,
        track=track,
        jackknife=jackknife,
    )
    for note in notes:
        say(f"note: {note}")
    return scores


def load_model(
    *paths: PathLike,
    device: str = "cpu",
    tta: Literal["none", "swap", "rotate"] | None = None,
    threshold: float | None = None,
    plugins: Sequence[PathLike] = (),
) -> Predictor:
    """Return trained networks that answer together: one checkpoint, several to be averaged, or one ensemble.

    Args:
        paths: folders of train steps, or one of an ensemble step; none: the network that the package carries.
        device: "cpu", "cuda", …
        threshold: activity from which an event is told, 0 to 1, for all classes; None: 0.5, or what was tuned.
        tta: "swap" averages with the left-right mirrored input, "rotate" over 16 turns of the sphere; None: what the
            ensemble says.
        plugins: Python files, or installed modules, with encoders and the like that the networks are made of.

    Raises:
        SeldError: a folder holds no network, or the networks do not go together.
    """
    from dcase_seld.core.registry import load_plugins
    from dcase_seld.infer.predictor import Predictor

    choose("tta", tta, ("none", "swap", "rotate", None))
    load_plugins(plugins)
    return Predictor.load([Path(path) for path in paths or ("default",)], device, tta).with_threshold(threshold)


def predict(
    model: Predictor,
    file: PathLike,
    *,
    video: PathLike | None = None,
    overlap: float = 0.5,
    mono: Literal["refuse", "duplicate"] = "refuse",
    people: Literal["auto", "on", "off"] = "auto",
    threshold: float | None = None,
    device: str = "cpu",
) -> Events:
    """Return the events that a model hears (and sees) in one sound or video file of any length and sample rate.

    Args:
        model: from `load_model`.
        file: wav, flac, mp3, mp4, mkv, mov, …
        video: a file with its pictures where `file` is sound only.
        overlap: share of a window that the next one covers too, 0 to 0.9.
        mono: "duplicate" accepts one channel, without direction.
        people: whether people in the pictures decide what is on screen; auto: where the pose model is there.
        threshold: activity from which an event is told, 0 to 1; None: the model's.
        device: where encoders of tokens run, if the model reads any.

    Raises:
        SeldError: the file is missing, broken or mono, or the model's encoders cannot be loaded.
    """
    from dcase_seld.infer.predictor import read_for
    from dcase_seld.infer.recording_source import open_embedders
    from dcase_seld.stages.pictures import people_correction

    if not 0 <= overlap <= 0.9:
        raise SeldError(f"overlap is {overlap}; 0 to 0.9 is possible.", "Give a share of the window, e.g. 0.5.")
    choose("mono", mono, ("refuse", "duplicate"))
    choose("people", people, ("auto", "on", "off"))
    recording = read_for(model, Path(file), None if video is None else Path(video), mono=mono)
    embedders = open_embedders(model.specs, model.needs, model.task, device)
    seeing = replace(model.with_threshold(threshold), correct=people_correction(model.task.classes, people))
    return seeing.predict(recording, embedders, hop_frames=model.task.hop_frames(overlap))


def run_recipe(
    recipe: PathLike,
    *,
    work: PathLike = "work",
    changes: Mapping[str, object] | None = None,
    until: str | None = None,
    stages: Sequence[Stage] = (),
    plugins: Sequence[PathLike] = (),
    device: str = "auto",
    workers: int = 0,
    quiet: bool = False,
) -> dict[str, Path]:
    """Run every step of a recipe that is not up to date; return step → folder of its result.

    Args:
        recipe: the YAML file.
        work: folder of results.
        changes: "step.key" → value, as `--set` on the command line.
        until: run only this step and what it reads.
        stages: further kinds of step, beside those of the package.
        plugins: Python files, or installed modules, with encoders, stages and the like of one's own.
        device: "auto", "cpu", "cuda", …
        workers: processes a step may use; 0: one per core.
        quiet: no progress.

    Raises:
        SeldError: lists every error of the recipe, or says what a step refused.
    """
    import json

    from dcase_seld.core.registry import load_plugins
    from dcase_seld.recipe.graph import Registry
    from dcase_seld.recipe.run import RunOptions, select
    from dcase_seld.recipe.run import run_recipe as run
    from dcase_seld.stages import load_stage, stage_names

    load_plugins(plugins)
    own = {stage.name: stage for stage in stages}
    registry = Registry((*stage_names(), *own), lambda name: own[name] if name in own else load_stage(name))
    overrides = [f"{key}={json.dumps(value)}" for key, value in (changes or {}).items()]
    options = RunOptions(until=until, device=device, workers=workers, quiet=quiet)
    plan, _ = run(recipe, registry, work, overrides, options)
    chosen = select(plan, until, None)
    return {name: planned.folder for name, planned in plan.steps.items() if name in chosen}
