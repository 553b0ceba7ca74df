"""Deciding on and off screen, and refining azimuth, by what the pictures show: a pure function on the event table.

For a class that people make, the body part that makes the sound is looked for near the event's azimuth. Evidence and
the network's own on-screen probability are combined by a logistic function:

    logit P(on screen) = bias + network · logit(p_network) + near · n,    n = 1 - min(|gap| / tolerance, 2)

with `gap` the angle from the event to the nearest visible part: n is 1 when they coincide, 0 at the tolerance, -1 from
twice the tolerance on and where nobody is seen. Stereo folds a source behind the camera to the front: such a source has
nobody at its azimuth by more than chance, and the network's probability has a say. A video that cannot be read leaves
its events as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.config import Config, Names
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.core.registry import VISUAL_RULES
from dcase_seld.core.segments import link_rows
from dcase_seld.core.task import HORIZONTAL_FOV_DEG, ONSCREEN_LIMIT_DEG
from dcase_seld.vision.keypoints import ClipPeople, see_part
from dcase_seld.vision.seen import Sightings, nearest_sighting

DETECTED = "detected"
"""Key of the weights for classes that are judged by detected objects."""


class PartRule(Config):
    """How a class of sound is looked for on a body."""

    part: Literal["mouth", "wrists", "ankles", "head", "body"] = Field(description="Body part that makes the sound.")
    tolerance_deg: float = Field(default=18.0, gt=0, le=180, description="Angle at which part and sound still agree.")


class LogisticWeights(Config):
    """Weights of one body part, or of detected objects."""

    bias: float = Field(default=-0.5, description="Constant.")
    network: float = Field(default=1.0, description="Weight of the logit of the network's on-screen probability.")
    near: float = Field(default=3.5, description="Weight of the nearness n in [-1, 1].")
    refine: float = Field(
        default=0.9, ge=0, le=1, description="Share of the way to the part, times P(on screen), that azimuth moves."
    )


class VisualConfig(Config):
    """Rules of the visual post-processing; a list is short for {use: list}."""

    use: Annotated[tuple[str, ...], Names(VISUAL_RULES)] = Field(
        default=("body",), description="Rules in the order in which they act: body, and those that plug-ins bring."
    )
    parts: dict[str, PartRule] = Field(
        default={
            "Female speech": PartRule(part="mouth"),
            "Male speech": PartRule(part="mouth"),
            "Clapping": PartRule(part="wrists"),
            "Laughter": PartRule(part="mouth"),
            "Walk, footsteps": PartRule(part="ankles"),
        },
        description="Class name → body part and tolerance; classes that are not listed are left to the network.",
    )
    weights: dict[str, LogisticWeights] = Field(
        default={}, description="Weights by part, or 'detected'; parts not listed have the default weights."
    )
    refine: bool = Field(default=True, description="Move the azimuth of events on screen toward the body part.")
    require_person: bool = Field(default=True, description="No visible person, no sound of these classes on screen.")
    threshold: float = Field(default=0.5, ge=0, le=1, description="On-screen probability from which an event is on.")
    limit_deg: float = Field(
        default=ONSCREEN_LIMIT_DEG, gt=0, le=90, description="Sources beyond this |azimuth| are off screen."
    )
    limit_slack_deg: float = Field(
        default=5.0, ge=0, description="A part within the limit may draw in events that are at most this far beyond it."
    )
    fov_deg: float = Field(default=HORIZONTAL_FOV_DEG, gt=0, lt=180, description="Horizontal field of view (degrees).")
    min_visibility: float = Field(default=0.5, ge=0, le=1, description="Visibility from which a landmark counts.")
    max_gap_s: float = Field(default=0.6, gt=0, description="A sampled frame speaks for this long around it (seconds).")
    smooth_frames: int = Field(default=11, ge=1, description="Label frames over which an event's evidence is averaged.")
    object_tolerance_deg: float = Field(default=15.0, gt=0, description="Tolerance beyond a detected object's edge.")

    @model_validator(mode="before")
    @classmethod
    def _list_of_rules(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, (list, tuple)) else value


Floats = npt.NDArray[np.float64]

Bools = npt.NDArray[np.bool_]

REASONS = (
    *("network", "no picture", "part near", "part far", "nobody seen", "object near", "object far", "beyond limit"),
    "own rule",
)
"""Why an event is as it is; `Judged.reason` indexes this."""


@dataclass(frozen=True)
class Evidence:
    """What the pictures say about each row of an event table."""

    key: npt.NDArray[np.str_]  # (E,) body part, "detected", or "" where no rule applies
    watched: Bools  # (E,) the video shows the row's frame
    present: Bools  # (E,) some part or object of the row's class is seen in its frame
    gap_deg: Floats  # (E,) azimuth of the nearest part less the event's, NaN where none is left for it
    tolerance_deg: Floats  # (E,) tolerance of the row's class

    @property
    def near(self) -> Floats:
        """(E,) nearness in [-1, 1]."""
        gap = np.where(np.isnan(self.gap_deg), np.inf, np.abs(self.gap_deg))
        return 1.0 - np.minimum(gap / self.tolerance_deg, 2.0)


@dataclass(frozen=True)
class Judged:
    """The new event table and why each row is as it is."""

    events: Events  # the table with new azimuths, on-screen flags and probabilities; rows in the same order
    reason: npt.NDArray[np.int64]  # (E,) index into REASONS
    gap_deg: Floats  # (E,) angle to the part or object that was compared with, NaN where there was none


def gather_evidence(
    events: Events,
    people: Mapping[str, ClipPeople],
    taxonomy: Taxonomy,
    config: VisualConfig,
    objects: Mapping[str, Mapping[int, Sightings]] | None = None,
) -> Evidence:
    """Return what the pictures say about each row.

    A clip that is not in `people` has no readable video; `objects`: by clip and class index, where detected objects
    are. Raises SeldError: a rule names a class that the taxonomy does not have.
    """
    rules = _rules(taxonomy, config)
    count = len(events)
    key = np.full(count, "", dtype="U16")
    watched, present = np.zeros(count, bool), np.zeros(count, bool)
    gap, tolerance = np.full(count, np.nan), np.ones(count)
    order = np.argsort(events.clip, kind="stable")
    edges = np.searchsorted(events.clip[order], np.arange(len(events.clips) + 1))
    for clip, name in enumerate(events.clips):
        rows = order[edges[clip] : edges[clip + 1]]
        if not len(rows):
            continue
        found = (objects or {}).get(name, {})
        frames = int(events.frame[rows].max()) + 1
        seen: dict[str, Sightings] = {}
        for class_index in np.unique(events.class_index[rows]).tolist():
            chosen = rows[events.class_index[rows] == class_index]
            if class_index in rules and name in people:
                rule = rules[class_index]
                if rule.part not in seen:
                    seen[rule.part] = see_part(
                        people[name],
                        rule.part,
                        frames,
                        fov_deg=config.fov_deg,
                        min_visibility=config.min_visibility,
                        max_gap_s=config.max_gap_s,
                    )
                key[chosen], tolerance[chosen] = rule.part, rule.tolerance_deg
                sightings = seen[rule.part]
            elif class_index not in rules and class_index in found:
                key[chosen], tolerance[chosen] = DETECTED, config.object_tolerance_deg
                sightings = found[class_index]
            else:
                key[chosen] = rules[class_index].part if class_index in rules else ""
                continue
            watched[chosen] = sightings.watched[events.frame[chosen]]
            present[chosen] = ~np.isnan(sightings.azimuth_deg[events.frame[chosen]]).all(axis=1)
            gap[chosen] = nearest_sighting(events.frame[chosen], events.azimuth_deg[chosen], sightings)
    return Evidence(key, watched, present, gap, tolerance)


def judge(events: Events, evidence: Evidence, config: VisualConfig) -> Judged:
    """Return the event table with on-screen flags decided and azimuths refined by the evidence."""
    chains = link_rows(events)
    usable = (evidence.key != "") & evidence.watched
    near = _smooth(events, chains, evidence.near, usable, config.smooth_frames)
    gap = _smooth(events, chains, evidence.gap_deg, usable & ~np.isnan(evidence.gap_deg), config.smooth_frames)
    network = network_logit(events)
    weights = {name: config.weights.get(name, LogisticWeights()) for name in np.unique(evidence.key[usable]).tolist()}
    logit, share = network.copy(), np.zeros(len(events))
    for name, weight in weights.items():
        rows = usable & (evidence.key == name)
        logit[rows] = weight.bias + weight.network * network[rows] + weight.near * near[rows]
        share[rows] = weight.refine
    probability = 1.0 / (1.0 + np.exp(-logit))
    # Where the pictures say nothing the network's decision stands: its threshold may have been tuned.
    onscreen = np.where(usable, probability >= config.threshold, events.onscreen)

    by_object = evidence.key == DETECTED
    close = ~np.isnan(gap) & (np.abs(gap) <= evidence.tolerance_deg)
    reason = np.zeros(len(events), np.int64)
    reason[(evidence.key != "") & ~evidence.watched] = REASONS.index("no picture")
    reason[usable & ~by_object] = REASONS.index("part far")
    reason[usable & by_object] = REASONS.index("object far")
    reason[usable & close & ~by_object] = REASONS.index("part near")
    reason[usable & close & by_object] = REASONS.index("object near")
    nobody = usable & ~by_object & ~evidence.present
    reason[nobody] = REASONS.index("nobody seen")
    if config.require_person:
        onscreen[nobody] = False

    azimuth = events.azimuth_deg.copy()
    if config.refine:
        within = np.abs(azimuth) <= config.limit_deg + config.limit_slack_deg
        moved = usable & ~by_object & ~nobody & close & onscreen & within
        # What is doubtfully on screen moves less: the expected direction lies between the part and the sound.
        # The gap of the frame itself, not its average: the ear's jitter from frame to frame goes too.
        own = np.where(np.isnan(evidence.gap_deg), gap, evidence.gap_deg)
        azimuth[moved] += share[moved] * probability[moved] * own[moved]
    beyond = np.abs(azimuth) > config.limit_deg
    # Without a readable picture an event passes as it is; everywhere else the geometry holds.
    unchanged = reason == REASONS.index("no picture")
    reason[beyond & onscreen & ~unchanged] = REASONS.index("beyond limit")
    onscreen = np.where(unchanged, events.onscreen, onscreen & ~beyond)
    new_probability = events.onscreen_probability
    if new_probability is not None or usable.any():
        base = events.onscreen.astype(np.float32) if new_probability is None else new_probability
        new_probability = np.where(usable, probability, base).astype(np.float32)
    judged = replace(
        events, azimuth_deg=azimuth, onscreen=onscreen.astype(np.bool_), onscreen_probability=new_probability
    )
    return Judged(judged, reason, np.where(usable, gap, np.nan))


def correct(
    events: Events,
    people: Mapping[str, ClipPeople],
    taxonomy: Taxonomy,
    config: VisualConfig,
    objects: Mapping[str, Mapping[int, Sightings]] | None = None,
) -> Judged:
    """Return the events after all configured rules, each acting on what the one before left; see `gather_evidence`."""
    decided = Judged(events, np.zeros(len(events), np.int64), np.full(len(events), np.nan))
    for name in config.use:
        if name == "body":
            decided = judge(decided.events, gather_evidence(decided.events, people, taxonomy, config, objects), config)
            continue
        said = np.asarray(VISUAL_RULES[name](decided.events, people))
        if said.shape != (len(events),):
            raise SeldError(
                f"The visual rule {name} gave an array of shape {said.shape} for {len(events)} events.",
                "Let it return one value per event.",
            )
        known = np.ones(len(said), np.bool_) if said.dtype == np.bool_ else ~np.isnan(said)
        onscreen = np.where(known, said > (0.5 if said.dtype != np.bool_ else False), decided.events.onscreen)
        before = decided.events.onscreen_probability
        base = decided.events.onscreen.astype(np.float32) if before is None else before
        probability = np.where(known, said, base).astype(np.float32)
        changed = replace(decided.events, onscreen=onscreen.astype(np.bool_), onscreen_probability=probability)
        reason = np.where(known, REASONS.index("own rule"), decided.reason)
        decided = Judged(changed, reason, decided.gap_deg)
    return decided


def network_logit(events: Events) -> Floats:
    """Return (E,) the logit of the network's on-screen probability, held within ±4; 0 where it has none."""
    if events.onscreen_probability is None:
        return np.zeros(len(events))
    probability = np.clip(events.onscreen_probability.astype(np.float64), 1e-6, 1.0 - 1e-6)
    return np.clip(np.log(probability / (1.0 - probability)), -4.0, 4.0)


def _rules(taxonomy: Taxonomy, config: VisualConfig) -> dict[int, PartRule]:
    default = VisualConfig.model_fields["parts"].default
    unknown = [name for name in config.parts if name not in taxonomy.classes]
    if unknown and config.parts != default:
        raise SeldError(
            f"The visual rules name classes that the taxonomy {taxonomy.name!r} does not have: {listing(unknown)}.",
            f"Use its names under `parts`: {listing(taxonomy.classes, 20)}.",
        )
    return {taxonomy.classes.index(name): rule for name, rule in config.parts.items() if name not in unknown}


def _smooth(events: Events, chains: list[npt.NDArray[np.int64]], values: Floats, valid: Bools, width: int) -> Floats:
    """Return values averaged over the valid rows within `width` label frames of the same event."""
    result = np.where(valid, values, np.nan)
    if width == 1:
        return result
    for rows in chains:
        rows = rows[valid[rows]]
        if len(rows) < 2:
            continue
        frames = events.frame[rows]
        inside = np.abs(frames[:, None] - frames) <= width // 2
        result[rows] = (inside * values[rows]).sum(axis=1) / inside.sum(axis=1)
    return result
