"""Scores of events: that predictions and references are of the same clips, the figures, and the JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.scoring.counts import Counts, Protocol, count_events
from dcase_seld.scoring.figures import FIGURES, Average, align, figures, shown


def check_clips(
    predicted: tuple[str, ...], annotated: tuple[str, ...], pred: Path, ref: Path, missing_allowed: bool = False
) -> list[str]:
    """Return the clips without predictions, which must be allowed; predictions of unknown clips never are.

    Raises:
        SeldError: names them.
    """
    known = set(annotated)
    unknown = [name for name in predicted if name not in known]
    if unknown:
        raise SeldError(
            f"{len(unknown)} prediction file(s) in {pred} have no reference in {ref}: {listing(unknown)}.",
            "Score against the references of the same split, or remove these files.",
        )
    given = set(predicted)
    missing = [name for name in annotated if name not in given]
    if missing and not missing_allowed:
        raise SeldError(
            f"{len(missing)} of {len(annotated)} clips in {ref} have no prediction file in {pred}: {listing(missing)}.",
            "Write a file with the header alone where nothing was detected, or pass --allow-missing to leave them out.",
        )
    return missing


@dataclass(frozen=True)
class Scores:
    """The figures of a set of predictions; fractions are 0–1, NaN where nothing was matched.

    Every figure of `figures.FIGURES` is an attribute too: `scores.f_score`.

    Attributes:
        track: "a" (audio only: no on-screen figures) or "b".
        average: "macro" (mean over classes) or "micro" (all classes pooled).
        protocol: "official" or "complete".
        clips: number of scored clips.
        figures: name → value; None for what the track does not have.
        classwise: name → one value per class.
        jackknife: name → {value, estimate, std_err, interval: [low, high]}, or None if not asked for.
    """

    track: str
    average: str
    protocol: str
    clips: int
    figures: Mapping[str, float | None]
    classwise: Mapping[str, list[float] | None]
    jackknife: Mapping[str, Mapping[str, Any] | None] | None = None

    def __getattr__(self, name: str) -> Any:
        """Return a figure by its name."""
        try:
            return vars(self)["figures"][name]
        except KeyError:
            raise AttributeError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}") from None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file: every key present, NaN and infinities as None."""
        head = {key: value for key, value in vars(self).items() if key not in ("figures", "classwise", "jackknife")}
        plain: dict[str, Any] = finite(
            {**head, **self.figures, "classwise": self.classwise, "jackknife": self.jackknife}
        )
        return plain


def score_events(
    prediction: Events,
    reference: Events,
    *,
    n_classes: int = 13,
    average: Average = "macro",
    protocol: Protocol = "official",
    track: str = "b",
) -> Scores:
    """Return the challenge's scores of predictions; clips are matched by name.

    Directions and distances are first rounded as the official CSV holds them, so scores before and after writing agree.

    Args:
        prediction: predicted events; clips that it does not list count as missing files.
        reference: annotated events.
        n_classes: number of classes C.
        average: "macro" or "micro".
        protocol: "official" or "complete", see counts.PROTOCOLS.
        track: "b", or "a" for no on-screen figures.

    Raises:
        SeldError: a predicted clip is not among the references, or a setting is none of those above.
    """
    for name, value, known in (
        ("average", average, get_args(Average)),
        ("protocol", protocol, get_args(Protocol)),
        ("track", track, ("a", "b")),
    ):
        if value not in known:
            raise SeldError(f"{name} is {value!r}.", f"Give one of {', '.join(known)}.")
    counts = count_events(prediction, reference, n_classes=n_classes, protocol=protocol)
    return scores_of(counts, average=average, protocol=protocol, track=track)


def scores_of(
    counts: Counts,
    *,
    average: Average = "macro",
    protocol: Protocol = "official",
    track: str = "b",
    jackknife: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> Scores:
    """Return the scores that follow from counts."""
    overall, classwise = figures(counts.values.sum(axis=1), average)
    had = {figure.name for figure in shown(track)}
    return Scores(
        track=track,
        average=average,
        protocol=protocol,
        clips=len(counts.clips),
        figures={name: float(overall[name]) if name in had else None for name in FIGURES},
        classwise={name: classwise[name].tolist() if name in had else None for name in FIGURES},
        jackknife=jackknife,
    )


def format_scores(scores: Scores, class_names: Sequence[str]) -> str:
    """Return the overall and class-wise figures as lines of text; "–" where nothing was matched."""
    columns = shown(scores.track)
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
    title = f"Track {scores.track}, {scores.average} average, {scores.protocol} protocol, {scores.clips:,} clips"
    return "\n".join([title, lines[0], rule, *lines[1:overall], rule, *lines[overall:]])


def finite(value: Any) -> Any:
    """Return plain data with None for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
