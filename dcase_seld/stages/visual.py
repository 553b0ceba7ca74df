"""The `visual` stage: on-screen flags and azimuths corrected by what the pictures show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.post.visual_config import DETECTED, VisualConfig
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage


class VisualStageConfig(Config):
    """What is corrected, by which pictures, with which rules."""

    events: Annotated[str, Ref("events")] = Field(description="Step whose events are corrected.")
    data: Annotated[str, Ref("store")] = Field(description="Step whose clips they are.")
    keypoints: Annotated[str | list[str] | None, Ref("keypoints")] = Field(None, description="Steps that found people.")
    detections: Annotated[str | list[str] | None, Ref("detections")] = Field(
        None, description="Steps that found objects."
    )
    fit: Annotated[str | None, Ref("events")] = Field(
        None, description="Step with predictions of labelled (validation) clips, on which the weights are learned."
    )
    rules: VisualConfig = Field(VisualConfig(), description="Parts, tolerances, weights and limits.")


def run(config: VisualStageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write events.npz, changes.csv (what changed and why) and visual.json (weights, counts, warnings)."""
    import json

    from dcase_seld.data.store import Store
    from dcase_seld.errors import SeldError, listing
    from dcase_seld.post.changes import count_changes, write_changes
    from dcase_seld.post.checks import check_predictions
    from dcase_seld.post.guard import recording
    from dcase_seld.post.keypoints import Keypoints
    from dcase_seld.post.visual import gather_evidence, judge
    from dcase_seld.post.visual_fit import LEAST_EVENTS, fit_weights
    from dcase_seld.progress import say
    from dcase_seld.task.events import Events

    store = Store.open(inputs["data"][0])
    events = Events.load(inputs["events"][0] / "events.npz")
    people = Keypoints(inputs.get("keypoints", []))
    objects = None
    if inputs.get("detections"):
        from dcase_seld.post.detections import Detections

        objects = Detections(inputs["detections"], store.taxonomy, config.rules)
    missing = [name for name in events.clips if config.keypoints and name not in people]
    if missing:
        raise SeldError(
            f"visual: {len(missing)} of {len(events.clips)} clips are not in the keypoints, first {missing[0]}.",
            "Let the keypoints step look at the split that was predicted.",
        )
    rules, facts = config.rules, {}
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
    judged = judge(events, gather_evidence(events, people, store.taxonomy, rules, objects), rules)
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
    part = out / "visual.json.part"
    part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    part.replace(out / "visual.json")
    judged.events.save(out / "events.npz")
    return facts


STAGE = Stage("visual", "events", VisualStageConfig, run)
