"""The stages `keypoints`, `detections` and `visual`: what pictures show, and what events become by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from dcase_seld.core.config import LIST_OF_NAMES, Config, Outside, Ref
from dcase_seld.recipe.stage import Context, Inputs, Stage
from dcase_seld.stages.tokens import fetch_models
from dcase_seld.vision.rules import DETECTED, VisualConfig

if TYPE_CHECKING:
    from dcase_seld.core.classes import Taxonomy
    from dcase_seld.core.events import Events
    from dcase_seld.infer.predictor import Recording as Recording


class KeypointsConfig(Config):
    """Find people's keypoints in the videos of a store's clips."""

    data: Annotated[str, Ref("store")] = Field(description="Step whose clips' videos are looked at.")
    split: Literal["train", "val", "test", "eval", "all"] | list[Literal["train", "val", "test", "eval"]] = Field(
        "all", description="Which clips."
    )
    fps: float = Field(2.0, gt=0, le=30, description="Sampled frames per second.")
    mode: Literal["accurate", "fast"] = Field(
        "fast", description="fast: one look, about 60 ms a frame; accurate: tiles and checks, about 300 ms."
    )
    model: str = Field("pose", description="pose, pose-lite, pose-heavy, or a folder that holds such a model.")

    @property
    def weights(self) -> list[tuple[str, str]]:
        """Return the model that is read, and its kind."""
        return [(self.model, "pose")]


def run_keypoints(config: KeypointsConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write the keypoints folder: shards of people and keypoints.json; several workers share the shards."""
    from dcase_seld.core.work import progress, say, share_work
    from dcase_seld.pretrained.catalogue import find_model
    from dcase_seld.pretrained.pose import count_parameters
    from dcase_seld.store.store import Store
    from dcase_seld.vision.keypoints import KEYPOINTS, Keypoints
    from dcase_seld.vision.seen import done_clips

    store = Store.open(inputs["data"][0])
    names = [store.names[i] for i in store.indices(config.split)]
    shards = KEYPOINTS.pending(out, len(names))
    with progress("keypoints", len(names), "clips", context.quiet) as advance:
        advance(done_clips(len(names), shards))
        workers = min(context.workers, len(shards))
        if workers > 1:
            look = partial(look_at_shards, config, inputs["data"][0], out)
            for done in share_work(look, [[shard] for shard in shards], workers, "looks at videos"):
                advance(done)
        elif shards:
            look_at_shards(config, inputs["data"][0], out, shards, advance)
    KEYPOINTS.finish(out, len(names), {"fps": config.fps, "mode": config.mode, "model": config.model})
    result = Keypoints([out])
    problems = [f"{name}: {result[name].problem}" for name in names if result[name].problem]
    if problems:
        say(f"keypoints: {len(problems)} of {len(names)} clips have no or incomplete pictures; first: {problems[0]}")
    found = sum(len(result[name].frame) for name in names)
    frames = sum(int(result[name].seen.sum()) for name in names)
    model = {"model": Path(config.model).name, "parameters": count_parameters(find_model(config.model, kind="pose"))}
    return {"clips": len(names), "frames": frames, "people": found, "clips_with_problems": len(problems), **model}


def look_at_shards(
    config: KeypointsConfig,
    store_folder: Path,
    out: Path,
    shards: list[int],
    advance: Callable[..., None] = lambda count: None,
) -> int:
    """Write some shards of the keypoints folder; return the number of clips looked at."""
    from dcase_seld.core.config import parse_config
    from dcase_seld.core.task import LABEL_RATE, sample_times
    from dcase_seld.store.store import Store
    from dcase_seld.vision.keypoints import KEYPOINTS, ClipPeople, find_in_video
    from dcase_seld.vision.people import PeopleConfig, PeopleFinder

    store = Store.open(store_folder)
    indices = store.indices(config.split)
    names = [store.names[i] for i in indices]
    people = parse_config(PeopleConfig, {"mode": config.mode, "model": config.model}, "keypoints")
    done = 0
    with PeopleFinder(people) as finder:

        def look(position: int) -> ClipPeople:
            nonlocal done
            done += 1
            index = indices[position]
            seconds = float(store.frames[index]) / LABEL_RATE
            return find_in_video(finder, store.videos[index], sample_times(seconds, config.fps))

        for shard in shards:
            KEYPOINTS.write_shard(out, names, shard, look, advance)
    return done


KEYPOINTS_STAGE = Stage("keypoints", "keypoints", KeypointsConfig, run_keypoints, fetch=fetch_models)


class DetectionsConfig(Config):
    """Find things that sound in the videos of a store's clips, by OWL-ViT."""

    data: Annotated[str, Ref("store")] = Field(description="Step whose clips' videos are looked at.")
    model: str = Field("owlvit", description="Known model or hub name of OWL-ViT.")
    path: Annotated[str | None, Outside()] = Field(None, description="Folder with its weights, in place of `model`.")
    split: Literal["train", "val", "test", "eval", "all"] | list[Literal["train", "val", "test", "eval"]] = Field(
        "all", description="Which clips."
    )
    fps: float = Field(1.0, gt=0, le=30, description="Sampled frames per second.")
    queries: dict[str, list[str]] = Field({}, description="Class name → words; replaces the default words of a class.")
    threshold: float = Field(0.1, ge=0, le=1, description="Score from which a detection counts.")
    thresholds: dict[str, float] = Field({}, description="Class name → its own threshold.")
    batch: int = Field(4, ge=1, le=1_024, description="Pictures per forward pass.")

    @property
    def weights(self) -> list[tuple[str, str]]:
        """Return the model that is read, and its kind."""
        return [(self.path or self.model, "vision")]


def run_detections(config: DetectionsConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write the detections folder: shards of boxes and detections.json."""
    from dcase_seld.core.classes import queries_of
    from dcase_seld.core.task import LABEL_RATE, sample_times
    from dcase_seld.core.work import progress, say
    from dcase_seld.infer.devices import pytorch_threads, single_device
    from dcase_seld.pretrained.owlvit import load_detector
    from dcase_seld.store.store import Store
    from dcase_seld.vision.objects import DETECTIONS, ClipObjects, detect_in_video, read_detections

    store = Store.open(inputs["data"][0])
    words, classes = queries_of(store.taxonomy, config.queries)
    limits = [config.thresholds.get(store.taxonomy.classes[index], config.threshold) for index in classes]
    detector = load_detector(
        config.path or config.model, words, batch=config.batch, device=str(single_device(context.device))
    )
    if detector.owlvit.random_weights:
        say("warning: the OWL-ViT weights are RANDOM (made for tests); its detections mean nothing.")
    indices = store.indices(config.split)
    names = [store.names[i] for i in indices]
    facts = {
        "model": Path(config.path or config.model).name,
        "weights": detector.owlvit.fingerprint,
        "random_weights": detector.owlvit.random_weights,
        "classes": list(store.taxonomy.classes),
        "queries": [{"words": w, "class": c, "threshold": t} for w, c, t in zip(words, classes, limits, strict=True)],
        "fps": config.fps,
    }

    def look(position: int) -> ClipObjects:
        index = indices[position]
        times = sample_times(float(store.frames[index]) / LABEL_RATE, config.fps)
        return detect_in_video(detector, store.videos[index], times, classes, limits)

    bar = progress("detections", len(names), "clips", context.quiet)
    with bar as advance, pytorch_threads(context.workers):
        DETECTIONS.write(out, names, look, facts, advance)
    clips = read_detections([out], store.taxonomy)
    return {
        "clips": len(names),
        "objects": sum(len(clip.frame) for clip in clips.values()),
        "clips_with_problems": sum(bool(clip.problem) for clip in clips.values()),
        "model": facts["model"],
        "weights": facts["weights"],
        "random_weights": detector.owlvit.random_weights,
        "parameters": detector.owlvit.parameters,
    }


DETECTIONS_STAGE = Stage("detections", "detections", DetectionsConfig, run_detections, fetch=fetch_models)


class VisualStageConfig(Config):
    """Let people and objects in the pictures correct events: on or off screen, and where."""

    events: Annotated[str, Ref("events")] = Field(description="Step whose events are corrected.")
    data: Annotated[str, Ref("store")] = Field(description="Step whose clips they are.")
    keypoints: Annotated[str | list[str] | None, Ref("keypoints")] = Field(None, description="Steps that found people.")
    detections: Annotated[str | list[str] | None, Ref("detections")] = Field(
        None, description="Steps that found objects."
    )
    fit: Annotated[str | None, Ref("events")] = Field(
        None, description="Step with predictions of labelled (validation) clips, on which the weights are learned."
    )
    rules_of: Annotated[str | None, Ref("events")] = Field(
        None, description="Visual step whose learned weights are taken over, for clips without labels."
    )
    rules: Annotated[VisualConfig, LIST_OF_NAMES] = Field(
        VisualConfig(), description="Parts, tolerances, weights and limits."
    )


def run_visual(config: VisualStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write events.npz, changes.csv (what changed and why) and visual.json (weights, counts, warnings)."""
    from dcase_seld.core.config import parse_config
    from dcase_seld.core.errors import SeldError, listing
    from dcase_seld.core.events import Events, recording
    from dcase_seld.core.files import write_json
    from dcase_seld.core.reading import read_json
    from dcase_seld.core.work import say
    from dcase_seld.store.store import Store
    from dcase_seld.vision.fit import LEAST_EVENTS, check_predictions, count_changes, fit_weights, write_changes
    from dcase_seld.vision.keypoints import Keypoints
    from dcase_seld.vision.rules import correct, gather_evidence

    store = Store.open(inputs["data"][0])
    events = Events.load(inputs["events"][0] / "events.npz")
    people = Keypoints(inputs.get("keypoints", []))
    objects = None
    if inputs.get("detections"):
        from dcase_seld.vision.objects import Detections

        objects = Detections(inputs["detections"], store.taxonomy, config.rules)
    missing = [name for name in events.clips if config.keypoints and name not in people]
    if missing:
        raise SeldError(
            f"visual: {len(missing)} of {len(events.clips)} clips are not in the keypoints, first {missing[0]}.",
            "Let the keypoints step look at the split that was predicted.",
        )
    rules, facts = config.rules, {}
    for learned in inputs.get("rules_of", []):
        weights = read_json(learned / "visual.json", remedy="Name a visual step in rules_of.").get("weights")
        rules = parse_config(VisualConfig, {**rules.model_dump(mode="json"), "weights": weights}, f"{learned}")
    if inputs.get("fit"):
        known = Events.load(inputs["fit"][0] / "events.npz")
        absent = [name for name in known.clips if config.keypoints and name not in people]
        if absent:
            raise SeldError(
                f"visual: {len(absent)} clips of `fit` are not in the keypoints, first {absent[0]}.",
                "Add a keypoints step for the validation split to `keypoints`.",
            )
        scored = {recording(name) for name in events.clips}
        shared = [name for name in known.clips if recording(name) in scored]
        if shared:
            raise SeldError(
                f"visual: {len(shared)} clips of `fit` are of recordings whose events are corrected "
                f"({listing(shared)}); weights learned there would flatter the scores.",
                "Fit on predictions of the validation split, correct those of another.",
            )
        evidence = gather_evidence(known, people, store.taxonomy, rules, objects)
        fit = fit_weights(known, store.events, evidence, rules)
        wanted = {rule.part for rule in rules.parts.values()} if config.keypoints else set()
        unfitted = sorted((wanted | ({DETECTED} if objects is not None else set())) - set(fit.weights))
        if unfitted:
            say(
                f"warning: visual: the weights of {listing(unfitted)} are not learned: `fit` has fewer than "
                f"{LEAST_EVENTS} matched events on screen, or off screen; a lower threshold in that step gives more"
            )
        rules = rules.model_copy(update={"weights": {**rules.weights, **fit.weights}})
        facts = {"fitted_on_rows": fit.rows, "fit_accuracy": {k: list(v) for k, v in fit.accuracy.items()}}
        facts["not_fitted"] = unfitted
    judged = correct(events, people, store.taxonomy, rules, objects)
    write_changes(out / "changes.csv", events, judged, store.taxonomy)
    labelled = [name for name, there in zip(store.names, store.labelled, strict=True) if there]
    known_names = set(labelled) & set(events.clips)
    warnings = check_predictions(
        judged.events.select_clips([name for name in events.clips if name in known_names]), store.events
    )
    for warning in warnings:
        say(f"warning: {warning.name}: {warning.text}")
    unread = [name for name in events.clips if name in people and people[name].problem]
    if unread:
        say(f"visual: {len(unread)} of {len(events.clips)} clips have no or incomplete pictures; first: "
            f"{unread[0]}: {people[unread[0]].problem}")  # fmt: skip
    facts |= count_changes(events, judged)
    facts |= {
        "weights": {name: weight.model_dump() for name, weight in rules.weights.items()},
        "warnings": {warning.name: warning.text for warning in warnings},
        "clips_with_problems": len(unread),
    }
    write_json(out / "visual.json", facts)
    judged.events.save(out / "events.npz")
    return facts


def people_correction(
    taxonomy: Taxonomy,
    wanted: Literal["auto", "on", "off"] = "auto",
    *,
    mode: Literal["accurate", "fast"] = "fast",
    fps: float = 2.0,
    rules: VisualConfig | None = None,
    quiet: bool = True,
) -> Callable[[Events, Recording], Events] | None:
    """Return what the keypoints and visual steps do, for one recording at a time; None where people are not looked for.

    `wanted` auto: where the pose model is on this machine; `fps`: sampled frames per second; `rules` None: the
    defaults, as far as the taxonomy has their classes. Raises SeldError: `wanted` is on, and the pose model is not on
    this machine.
    """
    from dcase_seld.core.config import parse_config
    from dcase_seld.core.errors import SeldError
    from dcase_seld.core.task import LABEL_RATE, frames_of, sample_times
    from dcase_seld.core.work import progress
    from dcase_seld.pretrained.catalogue import find_model
    from dcase_seld.vision.keypoints import find_in_video
    from dcase_seld.vision.people import PeopleConfig, PeopleFinder
    from dcase_seld.vision.rules import correct as apply_rules

    if wanted == "off":
        return None
    config = KeypointsConfig(data="", split="all", mode=mode, fps=fps, model="pose")
    try:
        find_model(config.model, kind="pose")
    except SeldError:
        if wanted == "on":
            raise
        return None
    finding = parse_config(PeopleConfig, {"mode": mode, "model": config.model}, "people")
    rules = rules or VisualConfig()

    def correct(events: Events, recording: Recording) -> Events:
        if recording.video is None:
            return events
        seconds = float(frames_of(recording.sound.shape[1], recording.rate)) / LABEL_RATE
        times = sample_times(seconds, fps)
        with (
            PeopleFinder(finding) as finder,
            progress(f"people in {recording.name}", len(times), "pictures", quiet) as advance,
        ):
            people = find_in_video(finder, recording.video, times, advance)
        return apply_rules(events, {recording.name: people}, taxonomy, rules).events

    return correct


VISUAL_STAGE = Stage("visual", "events", VisualStageConfig, run_visual)
