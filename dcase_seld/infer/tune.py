"""Activity thresholds per class, unify angle and on-screen threshold, tuned on validation clips and on nothing else.

So is a factor of all distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events, recording
from dcase_seld.core.work import progress
from dcase_seld.infer.collect import EventCollector, average_outputs, joined
from dcase_seld.infer.devices import kept_memory
from dcase_seld.infer.predictor import Predictor
from dcase_seld.infer.settings import EnsembleSettings
from dcase_seld.model.types import ModelInput, SeldOutput
from dcase_seld.scoring.figures import criterion_of, scored_as
from dcase_seld.scoring.official import score_clips
from dcase_seld.store.batches import Batch
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store

CHUNK = 256
"""Windows that are averaged at once."""


@dataclass(frozen=True)
class MemberOutputs:
    """Outputs of members for the same labelled clips, ready to be averaged, decoded and scored again and again."""

    outputs: tuple[SeldOutput, ...]  # one per member, over all windows (W, T, C, N), on the CPU
    windows: Batch  # a batch without input that says which windows these are
    source: StoreSource  # the clips
    reference: Events  # their labels
    criterion: str  # the name of a score, "f_score", "f_score_onscreen" or, of editions before 2025, "F"

    @property
    def n_classes(self) -> int:
        """Return the number of classes C."""
        return len(self.source.task.classes)

    def average(self, weights: Sequence[float]) -> SeldOutput:
        """Return the members' weighted mean, left out where the weight is 0."""
        chosen = [(output, weight) for output, weight in zip(self.outputs, weights, strict=True) if weight > 0]
        parts = []
        for start in range(0, len(self.windows.index), CHUNK):
            few = [output.map(lambda field: field[start : start + CHUNK]) for output, _ in chosen]  # noqa: B023
            parts.append(average_outputs(few, [weight for _, weight in chosen]))
        return joined(parts)

    def events(self, output: SeldOutput, **options: Any) -> Events:
        """Return the events of an output over these windows, decoded with `options`."""
        collector = EventCollector([self.source], **options)
        collector.add(output, self.windows)
        return collector.events()

    def scores(self, events: Events) -> dict[str, Any]:
        """Return the macro scores of events, as the task's edition counts them."""
        task = scored_as(self.source.task)
        scores, _ = score_clips(events, self.reference, task=task, n_classes=self.n_classes, frames=None)
        return scores.to_json()

    def score(self, output: SeldOutput, **options: Any) -> float:
        """Return the criterion of an output."""
        return float(self.scores(self.events(output, **options))[self.criterion])


@kept_memory()
def member_outputs(
    predictor: Predictor,
    store: Store,
    split: str,
    tokens: Sequence[Path] = (),
    criterion: str = "f_score",
    batch_size: int = 32,
    quiet: bool = True,
) -> MemberOutputs:
    """Return the members' outputs for the labelled clips of a split.

    Raises:
        SeldError: no clip of the split has labels, or what `Predictor.open_store` refuses.
    """
    source = predictor.open_store(store, split, tokens, allow_tuned=True)
    labelled = source.clips[store.labelled[source.clips]]
    if not len(labelled):
        raise SeldError(
            f"{store.folder} has no labelled clip in split {split!r}; an ensemble cannot be tuned on it.",
            f"Give a store with validation clips (this one has {store.counts}), or do not tune.",
        )
    source = source.with_clips(labelled)
    parts: list[list[SeldOutput]] = [[] for _ in predictor.networks]
    windows = []
    with progress("members on " + split, len(source.windows), "windows", quiet) as advance:
        for batch in predictor.batches(source, batch_size).epoch(0):
            outputs = predictor.judged(predictor.member_outputs(batch.input, batch.mirror), batch, source)
            for kept, output in zip(parts, outputs, strict=True):
                kept.append(output.map(lambda field: field.float().cpu()))
            windows.append((batch.index, batch.start, batch.source))
            advance(len(batch.index))
    index, start, number = (torch.cat(column) for column in zip(*windows, strict=True))
    reference = EventCollector([source]).reference()
    return MemberOutputs(
        tuple(map(joined, parts)),
        Batch(ModelInput(), None, index, start, number),
        source,
        reference,
        criterion_of(store.task, criterion),
    )


def greedy_weights(members: MemberOutputs, most: int) -> tuple[list[int], list[float]]:
    """Return how often each member was chosen, and the score after each choice.

    The best member is first; then, again and again, the one (it may be one chosen before) whose addition raises the
    score most, until none does or `most` were chosen. Source: R. Caruana et al., Ensemble selection from libraries of
    models, ICML 2004.
    """
    counts = [0] * len(members.outputs)
    scores: list[float] = []
    while sum(counts) < most:
        found = []
        for member in range(len(counts)):
            tried = [count + (number == member) for number, count in enumerate(counts)]
            found.append((members.score(members.average(tried)), -member))
        best, member = max(found)
        if scores and best <= scores[-1]:
            break
        counts[-member] += 1
        scores.append(best)
    return counts, scores


ACTIVITY_GRID = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
"""Activity thresholds that are tried, 0.1 … 0.9."""

UNIFY_GRID = (5.0, 10.0, 15.0, 20.0, 30.0)
"""Unify angles that are tried, degrees."""

ONSCREEN_GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""On-screen thresholds that are tried."""

DISTANCE_GRID = tuple(round(0.6 + 0.05 * step, 2) for step in range(11))
"""Factors of all distances that are tried, 0.6 … 1.1."""

FEWEST_GROUPS = 3
"""A class gets a threshold of its own only if it occurs in at least so many validation recordings."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        thresholds, unify_deg, onscreen_threshold, distance_scale: as in `EnsembleSettings`.
        before: the criterion with the untuned values, on the clips that were tuned on.
        after: the same with the tuned values; too good, because these clips chose them.
    """

    thresholds: tuple[float, ...]
    unify_deg: float
    onscreen_threshold: float
    distance_scale: float
    before: float
    after: float


def tune(
    members: MemberOutputs,
    output: SeldOutput,
    *,
    per_class: bool = True,
    unify: bool = True,
    onscreen: bool = True,
    distance: bool = True,
) -> Tuned:
    """Return the thresholds and angle with the best score on validation clips.

    The macro score is the mean of the classes' own, so each class' threshold can be chosen alone. A threshold is judged
    by the mean of its score and its neighbours', so that one lucky value does not win; a class that too few recordings
    hold keeps the common threshold.

    Args:
        members: their outputs for the validation clips.
        output: what the ensemble says about them.
        per_class: tune one threshold per class; otherwise a common one.
        unify: tune the unify angle.
        onscreen: tune the on-screen threshold, where the output has one.
        distance: tune the factor of distances by their relative error, which the middle of what is possible does not
            make smallest: twice too far costs 100 %, half as far 50 %.
    """
    default = EnsembleSettings()
    known = classes_with_groups(members.reference, members.n_classes) >= FEWEST_GROUPS
    best: tuple[float, float, npt.NDArray[np.float64]] | None = None
    for angle in UNIFY_GRID if unify else (default.unify_deg,):
        table = np.array([_classwise(members, output, [limit], angle) for limit in ACTIVITY_GRID])
        smooth = _smoothed(table)
        common = int(smooth.mean(1).argmax())
        chosen = np.where(known, smooth.argmax(0), common) if per_class else np.full(members.n_classes, common)
        score = float(np.take_along_axis(smooth, chosen[None], 0).mean())
        if best is None or score > best[0]:
            best = (score, angle, np.array(ACTIVITY_GRID)[chosen])
    assert best is not None
    limits = tuple(float(limit) for limit in best[2])
    thresholds = limits if per_class else limits[:1]
    events = members.events(output, thresholds=list(limits), unify_deg=best[1])
    screen = default.onscreen_threshold
    if (
        onscreen
        and members.criterion != "F"
        and events.onscreen_probability is not None
        and members.reference.onscreen.any()
    ):
        found = np.array([_onscreen_score(members, events, limit) for limit in ONSCREEN_GRID])
        screen = ONSCREEN_GRID[int(_smoothed(found[:, None])[:, 0].argmax())]
    scale = default.distance_scale
    if distance:
        scaled = [replace(events, distance_m=factor * events.distance_m) for factor in DISTANCE_GRID]
        each = [members.scores(one) for one in scaled]
        wrong = np.array([one.get("relative_distance_error", one.get("RDE", math.nan)) for one in each], np.float64)
        if np.isfinite(wrong).all():
            scale = DISTANCE_GRID[int(_smoothed(wrong[:, None])[:, 0].argmin())]
    before = members.score(output)
    options = {"unify_deg": best[1], "onscreen_threshold": screen, "distance_scale": scale}
    after = members.score(output, thresholds=list(limits), **options)
    return Tuned(thresholds, **options, before=before, after=after)


def classes_with_groups(reference: Events, n_classes: int) -> npt.NDArray[np.int64]:
    """Return (C,) in how many recordings each class occurs."""
    groups = {name: number for number, name in enumerate(sorted({recording(name) for name in reference.clips}))}
    of_clip = np.array([groups[recording(name)] for name in reference.clips], np.int64)
    pairs = np.unique(np.stack([reference.class_index, of_clip[reference.clip]], 1), axis=0)
    return np.bincount(pairs[:, 0], minlength=n_classes).astype(np.int64)


def _classwise(members: MemberOutputs, output: SeldOutput, limits: list[float], angle: float) -> list[float]:
    scores: dict[str, Any] = members.scores(members.events(output, thresholds=limits, unify_deg=angle))
    values: list[float] = scores["classwise"][members.criterion]
    return values


def _onscreen_score(members: MemberOutputs, events: Events, limit: float) -> float:
    assert events.onscreen_probability is not None
    scores = members.scores(replace(events, onscreen=events.onscreen_probability > limit))
    return float(scores["f_score_onscreen"])


def _smoothed(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (G, C) the mean of each row and its neighbours."""
    padded = np.concatenate([table[:1], table, table[-1:]])
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3)
