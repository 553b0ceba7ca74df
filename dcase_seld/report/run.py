"""A run that is reported on: predictions and references, the edition's figures of them, where its clips are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.csv_rows import Limits
from dcase_seld.core.events import Events, name_parts
from dcase_seld.recipe.provenance import FinishedStep
from dcase_seld.scoring.counts import COUNTS, Counts
from dcase_seld.scoring.editions import SUMS, count_sources, sources_of
from dcase_seld.scoring.figures import EDITION_FIGURES, Figure, every_figure, read_epochs, shown
from dcase_seld.scoring.intervals import By, paired_difference
from dcase_seld.scoring.official import Scores, count_clips, edition_scores, scores_of

if TYPE_CHECKING:
    from dcase_seld.store.store import Store


@dataclass(frozen=True)
class StoreClips:
    """Sound and videos of the clips of a store."""

    store: Store

    def sound(self, clip: str) -> tuple[npt.NDArray[Any], int] | None:
        """Return a clip's sound (S, channels) and its sample rate."""
        return self.store.audio(int(self.store.position([clip])[0])), self.store.sample_rate

    def video(self, clip: str) -> Path | None:
        """Return a clip's video."""
        return self.store.videos[int(self.store.position([clip])[0])]


@dataclass(frozen=True)
class CorpusClips:
    """Sound and videos of the clips of a corpus in the official layout."""

    sounds: Mapping[str, Path]
    videos: Mapping[str, Path]

    def sound(self, clip: str) -> tuple[npt.NDArray[Any], int] | None:
        """Return a clip's sound (S, channels) and its sample rate, or None."""
        from dcase_seld.core.task import SAMPLE_RATE
        from dcase_seld.media.audio import read_audio

        path = self.sounds.get(clip)
        if path is None:
            return None
        return read_audio(path, rate=SAMPLE_RATE, channels=None, resample=True).T, SAMPLE_RATE

    def video(self, clip: str) -> Path | None:
        """Return a clip's video, or None."""
        return self.videos.get(clip)

    @staticmethod
    def of(root: Path) -> CorpusClips:
        """Return the clips below stereo_*/ (or foa_*/) and video_*/ of a corpus."""
        from dcase_seld.media.audio import SOUNDS, VIDEOS

        sounds = "stereo" if any(root.glob("stereo_*")) else "foa"
        found = [
            {
                path.stem: path
                for path in sorted(root.glob(f"{folder}_*/**/*"))
                if path.suffix.lower() in kinds and not path.name.startswith(".")
            }
            for folder, kinds in ((sounds, SOUNDS), ("video", VIDEOS))
        ]
        return CorpusClips(*found)


@dataclass(frozen=True)
class Run:
    """Predictions with their references, and what is known of their making."""

    name: str  # what the report calls it
    prediction: Events  # predicted events, with activity where the run kept it
    reference: Events  # annotated events of the same clips
    taxonomy: Taxonomy = DCASE2025  # the classes
    track: str = "b"  # "a" or "b"
    average: str = "macro"  # "macro" or "micro"
    protocol: str = "official"  # "official" or "complete"
    split: str = ""  # which clips, as the score step names them
    clips: StoreClips | CorpusClips | None = None  # sound and videos of the clips, or None
    made: float = 0.0  # when it was scored, seconds since 1970; 0: not known
    about: str = ""  # what the recipe says of itself
    # what a reader must know before the figures: that scenes were made, that networks were never trained
    notes: tuple[str, ...] = ()
    simulated: bool = False  # the scored clips were made by the simulator
    steps: tuple[FinishedStep, ...] = ()  # the steps it was made of, each after those it read
    versions: dict[str, str] = field(default_factory=dict)  # versions of packages
    task: str = "dcase2025"  # the edition that it is scored as, see `scoring.editions`

    @property
    def shown(self) -> Sequence[Figure]:
        """Return the figures that it has, in the order of tables."""
        return EDITION_FIGURES.get(self.task) or shown(self.track)

    @property
    def ranking(self) -> Figure:
        """Return the figure that the edition looks at first."""
        name = "F" if self.task in EDITION_FIGURES else "f_score" if self.track == "a" else "f_score_onscreen"
        return next(one for one in self.shown if one.name == name)

    @property
    def f_name(self) -> str:
        """Return what the score of a clip is called."""
        return "F20" if self.task in EDITION_FIGURES else "F20/1"

    @property
    def summed(self) -> tuple[str, ...]:
        """Return the names of the sums in `counts`."""
        return SUMS if self.task in EDITION_FIGURES else COUNTS

    def count(self, prediction: Events) -> Counts:
        """Return the sums per clip and class that scores follow from, of predictions of this run's clips."""
        how: dict[str, Any] = {"n_classes": len(self.taxonomy), "protocol": self.protocol}
        if self.task not in EDITION_FIGURES:
            return count_clips(prediction, self.reference, Limits(how["n_classes"], None), how["protocol"])
        return Counts(*count_sources(sources_of(prediction), sources_of(self.reference), task=self.task, **how))

    def score(self, counts: Counts, intervals: bool = False) -> Scores:
        """Return the scores that follow from counts, with jackknife intervals where asked for."""
        how: dict[str, Any] = {"average": self.average, "protocol": self.protocol}
        if self.task in EDITION_FIGURES:
            return edition_scores(counts.clips, counts.values, task=self.task, jackknife=intervals, **how)
        return scores_of(counts, track=self.track, jackknife=self.unit if intervals else None, **how)

    @cached_property
    def counts(self) -> Counts:
        """Return the sums per clip and class that scores follow from."""
        return self.count(self.prediction)

    @cached_property
    def unit(self) -> By:
        """Return what the jackknife leaves out: recordings where clip names tell them, else clips."""
        recordings = {part.recording for part in map(name_parts, self.counts.clips) if part is not None}
        told = all(name_parts(name) is not None for name in self.counts.clips)
        return "recording" if told and len(recordings) > 1 else "clip"

    @cached_property
    def scores(self) -> Scores:
        """Return the scores with jackknife intervals."""
        return self.score(self.counts, intervals=True)

    def curves(self) -> Iterator[tuple[str, list[dict[str, float]]]]:
        """Yield (step, rows of its epochs.csv) of every training that the run rests on."""
        for made in self.steps:
            path = made.folder / "epochs.csv"
            if path.is_file() and (rows := read_epochs(path)):
                yield made.name, rows


def brief_figures(values: Mapping[str, float | None]) -> dict[str, str]:
    """Return heading → text of those figures that tables of many runs show."""
    return {one.short: one.text(values[name]) for name, one in every_figure().items() if one.brief and name in values}


def difference(first: Run, second: Run) -> dict[str, dict[str, Any]]:
    """Return figure → {value, low, high, units} of second minus first, see `paired_difference`."""
    return paired_difference(
        first.counts,
        second.counts,
        average=first.average,  # type: ignore[arg-type]
        track="a" if "a" in (first.track, second.track) else "b",
        task=first.task,
        by="recording" if first.unit == second.unit == "recording" else "clip",
    )
