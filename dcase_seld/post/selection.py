"""Members' outputs on validation clips, kept in memory, and the greedy choice of members on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcase_seld.data.batches import Batch, Batches, ClipSource
from dcase_seld.data.store import Store
from dcase_seld.errors import SeldError
from dcase_seld.metrics.official import score_events
from dcase_seld.model.outputs import ModelInput, SeldOutput
from dcase_seld.post.ensemble import average_outputs
from dcase_seld.post.predict import Predictor, open_clips
from dcase_seld.progress import progress
from dcase_seld.task.events import Events
from dcase_seld.train.memory import kept_memory
from dcase_seld.train.validation import EventCollector

CHUNK = 256
"""Windows that are averaged at once."""


@dataclass(frozen=True)
class Judged:
    """Outputs of members for the same labelled clips, ready to be averaged, decoded and scored again and again.

    Attributes:
        outputs: one per member, over all windows (B, T, C, N), on the CPU.
        windows: a batch without input that says which windows these are.
        source: the clips.
        reference: their labels.
        criterion: "f_score" or "f_score_onscreen".
    """

    outputs: tuple[SeldOutput, ...]
    windows: Batch
    source: ClipSource
    reference: Events
    criterion: str

    @property
    def n_classes(self) -> int:
        """Return the number of classes C."""
        return len(self.source.store.taxonomy)

    def average(self, weights: Sequence[float]) -> SeldOutput:
        """Return the members' weighted mean, left out where the weight is 0."""
        chosen = [(output, weight) for output, weight in zip(self.outputs, weights, strict=True) if weight > 0]
        parts = []
        for start in range(0, len(self.windows.index), CHUNK):
            few = [_rows(output, start) for output, _ in chosen]
            parts.append(average_outputs(few, [weight for _, weight in chosen]))
        return _joined(parts)

    def events(self, output: SeldOutput, **options: Any) -> Events:
        """Return the events of an output over these windows, decoded with `options`."""
        collector = EventCollector([self.source])
        collector.add(output, self.windows, **options)
        return collector.events()

    def scores(self, events: Events) -> dict[str, Any]:
        """Return the official macro scores of events."""
        return score_events(events, self.reference, n_classes=self.n_classes).to_json()

    def score(self, output: SeldOutput, **options: Any) -> float:
        """Return the criterion of an output."""
        return float(self.scores(self.events(output, **options))[self.criterion])


@kept_memory()
def judge(
    predictor: Predictor,
    store: Store,
    split: str,
    tokens: Sequence[Path] = (),
    criterion: str = "f_score",
    batch_size: int = 32,
    quiet: bool = True,
) -> Judged:
    """Return the members' outputs for the labelled clips of a split.

    Raises:
        SeldError: no clip of the split has labels, or what `open_clips` refuses.
    """
    source, mirror = open_clips(store, split, tokens, predictor)
    labelled = source.indices[store.labelled[source.indices]]
    if not len(labelled):
        raise SeldError(
            f"{store.folder} has no labelled clip in split {split!r}; an ensemble cannot be tuned on it.",
            f"Give a store with validation clips (this one has {store.counts}), or do not tune.",
        )
    source = ClipSource(store, labelled, source.tokens)
    parts: list[list[SeldOutput]] = [[] for _ in predictor.networks]
    windows = []
    with progress("members on " + split, len(labelled), "clips", quiet) as advance:
        for batch in Batches([source], batch_size=batch_size, targets=False, mirror=mirror).epoch(0):
            for kept, output in zip(parts, predictor.member_outputs(batch.input, batch.mirror), strict=True):
                kept.append(SeldOutput(*(None if t is None else t.float().cpu() for t in output)))  # type: ignore[arg-type]
            windows.append((batch.index, batch.start, batch.source))
            advance(len(batch.index))
    index, start, number = (torch.cat(column) for column in zip(*windows, strict=True))
    outputs = tuple(_joined(kept) for kept in parts)
    reference = EventCollector([source]).reference()
    return Judged(outputs, Batch(ModelInput(), None, index, start, number), source, reference, criterion)


def greedy_weights(judged: Judged, most: int) -> tuple[list[int], list[float]]:
    """Return how often each member was chosen, and the score after each choice.

    The best member is first; then, again and again, the one (it may be one chosen before) whose addition raises the
    score most, until none does or `most` were chosen. Source: R. Caruana et al., Ensemble selection from libraries of
    models, ICML 2004.
    """
    counts = [0] * len(judged.outputs)
    scores: list[float] = []
    while sum(counts) < most:
        found = []
        for member in range(len(counts)):
            tried = [count + (number == member) for number, count in enumerate(counts)]
            found.append((judged.score(judged.average(tried)), -member))
        best, member = max(found)
        if scores and best <= scores[-1]:
            break
        counts[-member] += 1
        scores.append(best)
    return counts, scores


def _rows(output: SeldOutput, start: int) -> SeldOutput:
    onscreen = None if output.onscreen is None else output.onscreen[start : start + CHUNK]
    return SeldOutput(output.xy[start : start + CHUNK], output.distance[start : start + CHUNK], onscreen)


def _joined(parts: Sequence[SeldOutput]) -> SeldOutput:
    """Return outputs of successive batches as one."""
    screens = [part.onscreen for part in parts if part.onscreen is not None]
    return SeldOutput(
        torch.cat([part.xy for part in parts]),
        torch.cat([part.distance for part in parts]),
        torch.cat(screens) if len(screens) == len(parts) else None,
    )
