"""Collecting what a report tells of a run: events, labels, scores, training curves, configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from dcase_seld.core.classes import DCASE2025, Taxonomy, load_taxonomy, taxonomy_beside
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.event_files import labels_in, list_csv, read_folder
from dcase_seld.core.events import Events, name_parts
from dcase_seld.core.files import follow
from dcase_seld.recipe.provenance import Step, history
from dcase_seld.recipe.results import read_receipt
from dcase_seld.scoring.counts import Counts, count_events
from dcase_seld.scoring.figures import FIGURES, read_epochs
from dcase_seld.scoring.intervals import By, jackknife, paired_difference
from dcase_seld.scoring.official import Remarks, Scores, check_clips, scores_of

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
        return None if path is None else (read_audio(path, rate=SAMPLE_RATE, resample=True).T, SAMPLE_RATE)

    def video(self, clip: str) -> Path | None:
        """Return a clip's video, or None."""
        return self.videos.get(clip)

    @staticmethod
    def of(root: Path) -> CorpusClips:
        """Return the clips below stereo_*/ and video_*/ of a corpus."""
        from dcase_seld.media.audio import SOUNDS, VIDEOS

        found = [
            {
                path.stem: path
                for path in sorted(root.glob(f"{folder}_*/**/*"))
                if path.suffix.lower() in kinds and not path.name.startswith(".")
            }
            for folder, kinds in (("stereo", SOUNDS), ("video", VIDEOS))
        ]
        return CorpusClips(*found)


@dataclass(frozen=True)
class Run:
    """Predictions with their references, and what is known of their making.

    Attributes:
        name: what the report calls it.
        prediction: predicted events, with activity where the run kept it.
        reference: annotated events of the same clips.
        taxonomy: the classes.
        track: "a" or "b".
        average: "macro" or "micro".
        protocol: "official" or "complete".
        split: which clips, as the score step names them.
        clips: sound and videos of the clips, or None.
        made: when it was scored, seconds since 1970; 0: not known.
        about: what the recipe says of itself.
        notes: what a reader must know before the figures: that scenes were made, that networks were never trained.
        simulated: the scored clips were made by the simulator.
        steps: the steps it was made of, each after those it read.
        versions: versions of packages.
    """

    name: str
    prediction: Events
    reference: Events
    taxonomy: Taxonomy = DCASE2025
    track: str = "b"
    average: str = "macro"
    protocol: str = "official"
    split: str = ""
    clips: StoreClips | CorpusClips | None = None
    made: float = 0.0
    about: str = ""
    notes: tuple[str, ...] = ()
    simulated: bool = False
    steps: tuple[Step, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Counts:
        """Return the sums per clip and class that scores follow from."""
        return count_events(
            self.prediction,
            self.reference,
            n_classes=len(self.taxonomy),
            protocol=self.protocol,  # type: ignore[arg-type]
        )

    @cached_property
    def unit(self) -> By:
        """Return what the jackknife leaves out: recordings where clip names tell them, else clips."""
        recordings = {part.recording for part in map(name_parts, self.counts.clips) if part is not None}
        told = all(name_parts(name) is not None for name in self.counts.clips)
        return "recording" if told and len(recordings) > 1 else "clip"

    @cached_property
    def scores(self) -> Scores:
        """Return the scores with jackknife intervals."""
        intervals = jackknife(self.counts, average=self.average, track=self.track, by=self.unit)  # type: ignore[arg-type]
        return scores_of(
            self.counts,
            average=self.average,  # type: ignore[arg-type]
            protocol=self.protocol,  # type: ignore[arg-type]
            track=self.track,
            jackknife=intervals,
        )

    def curves(self) -> Iterator[tuple[str, list[dict[str, float]]]]:
        """Yield (step, rows of its epochs.csv) of every training that the run rests on."""
        for made in self.steps:
            path = made.folder / "epochs.csv"
            if path.is_file() and (rows := read_epochs(path)):
                yield made.name, rows


def brief_figures(values: Mapping[str, float | None]) -> dict[str, str]:
    """Return heading → text of the figures that tables of many runs show."""
    return {one.short: one.text(values.get(name)) for name, one in FIGURES.items() if one.brief}


def difference(first: Run, second: Run) -> dict[str, dict[str, Any]]:
    """Return figure → {value, low, high, units} of second minus first, see `paired_difference`."""
    return paired_difference(
        first.counts,
        second.counts,
        average=first.average,  # type: ignore[arg-type]
        track="a" if "a" in (first.track, second.track) else "b",
        by="recording" if first.unit == second.unit == "recording" else "clip",
    )


def gather(paths: Sequence[Path], references: Path | None = None, track: str = "b") -> list[Run]:
    """Return the runs of several paths: recipes' work folders, results of score steps, or folders of official CSVs.

    Args:
        paths: what to report on.
        references: folder of reference CSVs, or a corpus with them; needed for folders of CSVs only.
        track: of folders of CSVs.

    Raises:
        SeldError: a path is none of these, or what it was made of is gone.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise SeldError(f"A run was given twice among {listing(paths)}.", "Give each run once.")
    found = [(path, run) for path in paths for run in _runs_at(path, references, track)]
    names = [run.name for _, run in found]
    # One recipe run in two work directories: the folder above tells them apart.
    runs = [
        replace(run, name=f"{path.absolute().parent.name}/{run.name}") if names.count(run.name) > 1 else run
        for path, run in found
    ]
    names = [run.name for run in runs]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise SeldError(
            f"Two runs are called {listing(sorted(repeated))}.", "Put them into work directories of different names."
        )
    return runs


def _runs_at(path: Path, references: Path | None, track: str) -> Iterator[Run]:
    if not path.exists():
        raise SeldError(
            f"{path} does not exist.", "Give a recipe's folder in the work directory, e.g. work/quickstart."
        )
    receipt = read_receipt(path)
    files = next((place for place in (path, path / "csv") if any(place.glob("*.csv"))), None)
    if references is not None and files is not None and (receipt is None or receipt.get("produces") == "csv"):
        yield replace(_folder_of_csv(files, references, track), name=path.absolute().name)
        return
    if receipt is not None:
        if receipt.get("produces") != "scores":
            raise SeldError(
                f"{path} is the result of a {receipt.get('stage')} step, not of a score step.",
                f"Give the recipe's folder, {path.parent}, or its score step.",
            )
        yield _scored(follow(path), receipt, f"{receipt['recipe']}/{receipt['step']}")
        return
    places = sorted(place for place in path.iterdir() if place.is_symlink() or place.is_file()) if path.is_dir() else []
    found = []
    for place in places:
        folder = follow(place)
        receipt = read_receipt(folder)
        if receipt is not None and receipt.get("produces") == "scores":
            found.append((place, folder, receipt))
    if not found:
        raise SeldError(
            f"{path} holds no finished score step.",
            "Give work/<recipe> of a recipe that was run to its score step, or CSV files with --ref.",
        )
    for place, folder, receipt in found:
        yield _scored(folder, receipt, path.name if len(found) == 1 else f"{path.name}/{place.name}")


def _scored(folder: Path, receipt: dict[str, Any], name: str) -> Run:
    """Return the run behind the result of a score step, following receipts back to where it came from."""
    from dcase_seld.store.store import Store

    config = receipt["config"]
    results = folder.resolve().parent
    csv_folder, data_folder = (results / receipt["inputs"][key][0] for key in ("csv", "data"))
    store = Store.open(data_folder)
    indices = [index for index in store.indices(config["split"]) if store.labelled[index]]
    reference = store.events.select_clips([store.names[index] for index in indices])
    prediction = _predicted(results, csv_folder, len(store.taxonomy), max(map(int, store.frames[indices]), default=0))
    known = set(reference.clips)
    prediction = prediction.select_clips([clip for clip in prediction.clips if clip in known])
    steps = tuple(history(folder))
    simulated = is_simulated(Path(str(store.facts.get("corpus") or data_folder))) or any(
        made.stage == "simulate" for made in history(data_folder)
    )
    notes = [SIMULATED] if simulated else []
    untrained = sorted({network for made in steps for network in _untrained(made)})
    if untrained:
        notes.append(f"Made with networks that were never trained: {listing(untrained)}. These are no results.")
    return Run(
        name,
        prediction,
        reference,
        store.taxonomy,
        config["track"],
        config["average"],
        config["protocol"],
        config["split"],
        StoreClips(store),
        float(receipt.get("finished") or 0.0),
        str(receipt.get("about") or ""),
        tuple(notes),
        simulated,
        steps,
        receipt.get("versions", {}),
    )


SIMULATED = (
    "The scored clips are made scenes: sounds placed in simulated rooms. Figures tell networks apart; they say little "
    "of real recordings, and published results, which are of other clips, are left out."
)


def is_simulated(corpus: Path) -> bool:
    """Return whether a corpus says of itself that the simulator made it: by its receipt, or by what it leaves there."""
    receipt = read_receipt(corpus)
    made = receipt is not None and receipt.get("stage") == "simulate"
    return made or all((corpus / name).is_file() for name in ("splits.csv", "balance.csv"))


def _untrained(made: Step) -> list[str]:
    """Return the networks of a step that were never trained."""
    value = made.facts.get("random_weights")
    if isinstance(value, list):
        return [str(item) for item in value]
    return [made.name] if value else []


def _predicted(results: Path, csv_folder: Path, n_classes: int, frames: int) -> Events:
    """Return the exported events: from the table before the export where it is still there (it has activities)."""
    exported = read_receipt(csv_folder) or {}
    for name in exported.get("inputs", {}).get("events", []):
        table = results / name / "events.npz"
        if table.is_file():
            return Events.load(table)
    inner = csv_folder / "csv"
    return read_folder(inner if inner.is_dir() else csv_folder, n_classes=n_classes, frames=frames or None)


def _folder_of_csv(path: Path, references: Path, track: str) -> Run:
    """Return the run of a folder of CSV files of any system; references may be a corpus, or labels inside one."""
    labels = labels_in(references)
    above = [labels, labels.absolute().parent]
    root = next((place.parent for place in above if place.name.startswith("metadata_")), None)
    taxonomy = load_taxonomy(taxonomy_beside(labels))
    prediction = read_folder(path, n_classes=len(taxonomy), frames=None)
    reference = read_folder(labels, n_classes=len(taxonomy), frames=None)
    missing = check_clips(prediction.clips, reference.clips, path, labels, missing_allowed=True)
    simulated = root is not None and is_simulated(root)
    remarks = Remarks()
    reference = reference.select_clips(prediction.clips)
    remarks.add(prediction, reference)
    notes = [SIMULATED] if simulated else []
    if missing:
        notes.append(
            f"{len(missing):,} of {len(missing) + len(prediction.clips):,} clips with references have no file in "
            f"{path.name} and are left out: {listing(missing, 3)}."
        )
    notes += [line[0].upper() + line[1:] for line in remarks.lines("official")]
    newest = max(Path(file).stat().st_mtime for _, file in list_csv(path))
    return Run(
        path.absolute().name,
        prediction,
        reference,
        taxonomy,
        track=track,
        clips=None if root is None else CorpusClips.of(root),
        made=newest,
        notes=tuple(notes),
        simulated=simulated,
    )
