"""Scores of events: that predictions and references are of the same clips, the figures, and the JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dcase_seld.core.csv_rows import Limits
from dcase_seld.core.errors import SeldError, choose, listing
from dcase_seld.core.event_files import Clips, in_batches, names_of
from dcase_seld.core.events import Events
from dcase_seld.core.files import finite
from dcase_seld.core.task import CLIP_FRAMES
from dcase_seld.scoring import intervals
from dcase_seld.scoring.counts import Counts, Protocol, count_events, refuse_unknown
from dcase_seld.scoring.editions import METRES_BELOW, count_sources, read_sources, sources_of
from dcase_seld.scoring.figures import FIGURES, Average, Figure, Floats, align, edition_figures, figures, shown
from dcase_seld.scoring.intervals import By


def check_clips(
    predicted: tuple[str, ...], annotated: tuple[str, ...], pred: Path, ref: Path, remedy: str | None
) -> list[str]:
    """Return the clips without predictions; with a `remedy` there may be none. Predictions of unknown clips never may.

    Raises:
        SeldError: names them.
    """
    refuse_unknown(predicted, set(annotated), pred, ref)
    given = set(predicted)
    missing = [name for name in annotated if name not in given]
    if missing and remedy is not None:
        raise SeldError(
            f"{len(missing)} of {len(annotated)} clips in {ref} have no prediction file in {pred}: {listing(missing)}.",
            remedy,
        )
    return missing


def count_clips(
    prediction: Clips, reference: Clips, limits: Limits, protocol: Protocol, remarks: Remarks | None = None
) -> Counts:
    """Return the sums of clips, of whose files only some are in memory at a time.

    Clips of `reference` without a prediction count as missing files; `remarks` is told what the clips look like. Raises
    SeldError: a file is not as it must be, or a predicted clip is unknown.
    """
    places = {name: place for place, name in enumerate(names_of(reference))}
    predicted = names_of(prediction)
    refuse_unknown(predicted, places)
    # Predictions are read in the order of references, so that both come in the same batches.
    paired = sorted(predicted, key=places.__getitem__)
    sparse = sorted(places.keys() - set(predicted), key=places.__getitem__)
    both = zip(in_batches(prediction, limits, paired), in_batches(reference, limits, paired), strict=True)
    lost = ((Events.empty(), truth) for truth in in_batches(reference, limits, sparse))
    parts = []
    for guess, truth in chain(both, lost):
        parts.append(count_events(guess, truth, n_classes=limits.n_classes, protocol=protocol))
        if remarks is not None:
            remarks.add(guess, truth)
    if not parts:
        return count_events(Events.empty(), Events.empty(), n_classes=limits.n_classes, protocol=protocol)
    clips = [name for part in parts for name in part.clips]
    values = np.concatenate([part.values for part in parts], axis=1)
    order = sorted(range(len(clips)), key=lambda index: places[clips[index]])
    return Counts(tuple(clips[index] for index in order), values[:, order])


@dataclass
class Remarks:
    """What the two sides of a scoring look like, added up some clips at a time, and what is worth a line of it."""

    rows: list[int] = field(default_factory=lambda: [0, 0])  # predicted and annotated rows
    farthest_m: list[float] = field(default_factory=lambda: [0.0, 0.0])  # greatest distance of each side
    at_zero: int = 0  # annotated rows at distance 0
    # predicted rows in clips in which nothing is annotated, and the number of these clips
    unheard: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, prediction: Events, reference: Events) -> None:
        """Look at some clips; `prediction` is of clips of `reference`."""
        for side, events in enumerate((prediction, reference)):
            self.rows[side] += len(events)
            self.farthest_m[side] = max(self.farthest_m[side], float(events.distance_m.max(initial=0.0)))
        self.at_zero += int(np.count_nonzero(reference.distance_m == 0))
        heard = {reference.clips[clip] for clip in np.unique(reference.clip).tolist()}
        rows = np.bincount(prediction.clip, minlength=len(prediction.clips)).tolist()
        silent = [count for name, count in zip(prediction.clips, rows, strict=True) if count and name not in heard]
        self.unheard = [self.unheard[0] + sum(silent), self.unheard[1] + len(silent)]

    def lines(self, protocol: str) -> list[str]:
        """Return a sentence for each thing that a reader of the figures must know."""
        found = []
        if not self.rows[1]:
            found.append("the references hold no event at all: there is nothing to find, and no figure says anything.")
        elif self.unheard[0] and protocol == "official":
            found.append(
                f"{self.unheard[0]:,} predicted rows lie in {self.unheard[1]:,} clip(s) in which nothing is annotated: "
                "the official protocol does not count them, the protocol complete does."
            )
        if self.at_zero:
            found.append(
                f"{self.at_zero:,} of {self.rows[1]:,} annotated rows have distance 0: relative distance errors divide "
                "by it (RDE is huge or means nothing), and no other distance is near enough for F."
            )
        for side, name in enumerate(("predictions", "references")):
            if 0 < self.farthest_m[side] < METRES_BELOW:
                found.append(
                    f"all distances of the {name} are below {100 * METRES_BELOW:.0f} cm: they look like metres; the "
                    "official CSV holds whole centimetres."
                )
        return found


@dataclass(frozen=True)
class Scores:
    """The figures of a set of predictions; fractions are 0–1, NaN where nothing was matched.

    Every figure of `figures.FIGURES` is an attribute too: `scores.f_score`.
    """

    track: str  # "a" (audio only: no on-screen figures) or "b"
    average: str  # "macro" (mean over classes) or "micro" (all classes pooled)
    protocol: str  # "official" or "complete"
    clips: int  # number of scored clips
    figures: Mapping[str, float | None]  # name → value; None for what the track does not have
    classwise: Mapping[str, list[float] | None]  # name → one value per class
    # name → {value, estimate, std_err, interval: [low, high]}, or None if not asked for
    jackknife: Mapping[str, Mapping[str, Any] | None] | None = None
    # the challenge's edition; those before 2025 (see `editions`) have other figures and no tracks
    task: str = "dcase2025"

    def __getattr__(self, name: str) -> Any:
        """Return a figure by its name."""
        try:
            return vars(self)["figures"][name]
        except KeyError:
            raise AttributeError(f"there is no figure {name!r}; there are {', '.join(vars(self)['figures'])}") from None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file: every key present, NaN and infinities as None."""
        left_out = ("figures", "classwise", "jackknife", "task" if self.track else "track")
        head = {key: value for key, value in vars(self).items() if key not in left_out}
        return dict(finite({**head, **self.figures, "classwise": self.classwise, "jackknife": self.jackknife}))


def scores_of(
    counts: Counts,
    *,
    average: Average = "macro",
    protocol: Protocol = "official",
    track: str = "b",
    jackknife: By | None = None,
) -> Scores:
    """Return the scores that follow from counts, with the 95 % intervals that `jackknife` asks for.

    Raises:
        SeldError: a setting is none of those that there are.
    """
    _refuse_settings(average, protocol, jackknife, track)
    bounds = None if jackknife is None else intervals.jackknife(counts, average=average, track=track, by=jackknife)
    overall, classwise = figures(counts.values.sum(axis=1), average)
    had = {figure.name for figure in shown(track)}
    return Scores(
        track=track,
        average=average,
        protocol=protocol,
        clips=len(counts.clips),
        figures={name: float(overall[name]) if name in had else None for name in FIGURES},
        classwise={name: classwise[name].tolist() if name in had else None for name in FIGURES},
        jackknife=bounds,
    )


def _refuse_settings(average: str, protocol: str, jackknife: str | None, track: str) -> None:
    choose("average", average, get_args(Average))
    choose("protocol", protocol, get_args(Protocol))
    choose("track", track, ("a", "b"))
    choose("jackknife", jackknife, (*get_args(By), None))


def score_clips(
    prediction: Clips,
    reference: Clips,
    *,
    task: str = "dcase2025",
    n_classes: int = 13,
    frames: int | None = CLIP_FRAMES,
    form: str | None = None,
    average: Average = "macro",
    protocol: Protocol = "official",
    track: str = "b",
    jackknife: By | None = None,
) -> tuple[Scores, list[str]]:
    """Return scores as an edition of the challenge computes them, and what a reader of the figures must know.

    Args:
        prediction: predicted events, in a table or in CSV files; clips that are not among them count as missing files.
        reference: annotated events, alike.
        task: the edition.
        n_classes: number of classes C.
        frames: label frames of a clip in CSV files of 2025; None: any length.
        form: how predictions of the editions before are written, see `editions.FORMATS`; None: as their columns tell.
        average: "macro" or "micro".
        protocol: "official" or "complete".
        track: "b", or "a" for no on-screen figures (2025).
        jackknife: what is left out at a time for 95 % intervals, "clip" or "recording"; before 2025 always a clip.

    Raises:
        SeldError: a file is not as it must be, a predicted clip is unknown, or a setting is none of those above.
    """
    if task == "dcase2025":
        remarks = Remarks()
        counts = count_clips(prediction, reference, Limits(n_classes, frames), protocol, remarks)
        scores = scores_of(counts, average=average, protocol=protocol, track=track, jackknife=jackknife)
        return scores, remarks.lines(protocol)
    _refuse_settings(average, protocol, jackknife, track)
    guess, truth = (
        sources_of(side) if isinstance(side, Events) else read_sources(side, task, reference=known, form=form)
        for side, known in ((prediction, False), (reference, True))
    )
    clips, sums = count_sources(guess, truth, task=task, n_classes=n_classes, protocol=protocol)
    scores = edition_scores(clips, sums, task=task, average=average, protocol=protocol, jackknife=jackknife is not None)
    return scores, [*guess.notes_of(n_classes), *truth.notes_of(n_classes)]


def format_scores(scores: Scores, class_names: Sequence[str], columns: Sequence[Figure] | None = None) -> str:
    """Return the overall and class-wise figures as lines of text; "–" where nothing was matched."""
    columns = shown(scores.track) if columns is None else columns
    rows = [
        ["", *(one.short for one in columns)],
        [scores.average, *(one.text(scores.figures[one.name]) for one in columns)],
    ]
    if scores.jackknife is not None:
        for place, end in enumerate(("from", "to")):
            bounds = [(scores.jackknife.get(one.name) or {"interval": (None, None)})["interval"] for one in columns]
            cells = [one.text(bound[place]) for one, bound in zip(columns, bounds, strict=True)]
            rows.append([f"95 % {end}", *cells])
    overall = len(rows)
    for index, label in enumerate(class_names):
        rows.append([label, *(one.text((scores.classwise[one.name] or [])[index]) for one in columns)])
    lines = align(rows)
    rule = "─" * max(map(len, lines))
    kind = f"Track {scores.track}" if scores.track else scores.task
    title = f"{kind}, {scores.average} average, {scores.protocol} protocol, {scores.clips:,} clips"
    return "\n".join([title, lines[0], rule, *lines[1:overall], rule, *lines[overall:]])


def edition_scores(
    clips: Sequence[str], sums: Floats, *, task: str, average: str, protocol: str, jackknife: bool
) -> Scores:
    """Return the figures, class-wise ones and, on request, 95 % jackknife intervals of both (one clip out)."""
    overall, classwise = edition_figures(np.where(sums.any(), sums.sum(axis=1), np.nan), task, average)  # nothing: NaN
    bounds_of: dict[str, Any] | None = None
    if jackknife:
        units = np.arange(len(clips))
        parts, class_parts = edition_figures(intervals.all_but_one(sums, units), task, average)
        bounds_of = {}
        for name, value in overall.items():
            estimate, error, bounds = intervals.interval_of(float(value), parts[name], 0.95)
            each = [
                intervals.interval_of(float(v), class_parts[name][:, c], 0.95)[2] for c, v in enumerate(classwise[name])
            ]
            bounds_of[name] = {
                "value": float(value), "estimate": estimate, "std_err": error, "interval": bounds, "classwise": each
            }  # fmt: skip
    return Scores(
        track="",
        average=average,
        protocol=protocol,
        clips=len(clips),
        figures={name: float(value) for name, value in overall.items()},
        classwise={name: value.tolist() for name, value in classwise.items()},
        jackknife=bounds_of,
        task=task,
    )
