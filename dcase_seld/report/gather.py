"""Collecting what a report tells of a run: events, labels, scores, training curves, configurations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcase_seld.core.classes import load_taxonomy, taxonomy_beside
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.event_files import labels_in, list_csv, read_folder
from dcase_seld.core.events import Events
from dcase_seld.core.files import follow
from dcase_seld.recipe.provenance import FinishedStep, history
from dcase_seld.recipe.results import read_receipt
from dcase_seld.report.run import CorpusClips, Run, StoreClips
from dcase_seld.scoring.editions import events_of, read_sources
from dcase_seld.scoring.figures import EDITION_FIGURES, scored_as
from dcase_seld.scoring.official import Remarks, check_clips


def gather(
    paths: Sequence[Path],
    references: Path | None = None,
    track: str = "b",
    task: str = "dcase2025",
    form: str | None = None,
) -> list[Run]:
    """Return the runs of several paths: recipes' work folders, results of score steps, or folders of official CSVs.

    Args:
        paths: what to report on.
        references: folder of reference CSVs, or a corpus with them; needed for folders of CSVs only.
        track: of folders of CSVs.
        task: the edition that folders of CSVs are of.
        form: how predictions of editions before 2025 are written, see `scoring.editions.FORMATS`.

    Raises:
        SeldError: a path is none of these, or what it was made of is gone.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise SeldError(f"A run was given twice among {listing(paths)}.", "Give each run once.")
    found = [(path, run) for path in paths for run in _runs_at(path, references, track, task, form)]
    names = [run.name for _, run in found]
    # One recipe run in two work directories: the folder above tells them apart.
    runs = [
        replace(run, name=f"{path.absolute().parent.name}/{run.name}") if names.count(run.name) > 1 else run
        for path, run in found
    ]
    names = [run.name for run in runs]
    if len({run.task for run in runs}) > 1:
        said = listing(f"{run.name} {run.task}" for run in runs)
        raise SeldError(f"These runs are scored as different editions: {said}.", "Write a report for each edition.")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise SeldError(
            f"Two runs are called {listing(sorted(repeated))}.", "Put them into work directories of different names."
        )
    return runs


def _runs_at(path: Path, references: Path | None, track: str, task: str, form: str | None) -> Iterator[Run]:
    if not path.exists():
        raise SeldError(
            f"{path} does not exist.", "Give a recipe's folder in the work directory, e.g. work/quickstart."
        )
    receipt = read_receipt(path)
    files = next((place for place in (path, path / "csv") if any(place.glob("*.csv"))), None)
    if references is not None and files is not None and (receipt is None or receipt.get("produces") == "csv"):
        yield replace(_folder_of_csv(files, references, track, task, form), name=path.absolute().name)
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
    try:
        csv_folder, data_folder = (results / receipt["inputs"][key][0] for key in ("csv", "data"))
        split = str(config["split"])
    except (KeyError, IndexError) as error:
        raise SeldError(
            f"The receipt of {folder} is damaged: it lacks {error}.", "Run the score step again."
        ) from error
    store = Store.open(data_folder)
    indices = [index for index in store.indices(split) if store.labelled[index]]
    reference = store.events.select_clips([store.names[index] for index in indices])
    longest = max(map(int, store.frames[indices]), default=0)
    task = scored_as(store.task)
    prediction = _predicted(results, csv_folder, len(store.taxonomy), longest, task)
    known = set(reference.clips)
    prediction = prediction.select_clips([clip for clip in prediction.clips if clip in known])
    steps = tuple(history(folder))
    simulated = is_simulated(Path(str(store.facts.get("corpus") or data_folder))) or any(
        made.stage == "simulate" for made in history(data_folder)
    )
    notes = [SIMULATED] if simulated else []
    if lost := dict.fromkeys(one.name for made in steps for one in made.lost()):
        notes.append(
            f"Made with steps whose receipts are gone or damaged, so what they did is not known: {listing(lost)}."
        )
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
        task,
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


def _untrained(made: FinishedStep) -> list[str]:
    """Return the networks of a step that were never trained."""
    value = made.facts.get("random_weights")
    if isinstance(value, list):
        return [str(item) for item in value]
    return [made.name] if value else []


def _predicted(results: Path, csv_folder: Path, n_classes: int, frames: int, task: str) -> Events:
    """Return the exported events: from the table before the export where it is still there (it has activities)."""
    exported = read_receipt(csv_folder) or {}
    for name in exported.get("inputs", {}).get("events", []):
        table = results / name / "events.npz"
        if table.is_file():
            return Events.load(table)
    inner = csv_folder / "csv" if (csv_folder / "csv").is_dir() else csv_folder
    if task in EDITION_FIGURES:
        return events_of(read_sources(list_csv(inner), task, form="polar"), n_classes)
    return read_folder(inner, n_classes=n_classes, frames=frames or None)


def _folder_of_csv(path: Path, references: Path, track: str, task: str, form: str | None) -> Run:
    """Return the run of a folder of CSV files of any system; references may be a corpus, or labels inside one."""
    labels = labels_in(references)
    above = [labels, labels.absolute().parent]
    root = next((place.parent for place in above if place.name.startswith("metadata_")), None)
    taxonomy = load_taxonomy(taxonomy_beside(labels))
    size, said = len(taxonomy), []
    if task in EDITION_FIGURES:
        found = (
            read_sources(list_csv(path), task, form=form),
            read_sources(list_csv(labels), task, reference=True),
        )
        said = [note for one in found for note in one.notes_of(size)]
        prediction, reference = (events_of(one, size) for one in found)
    else:
        prediction, reference = (read_folder(place, n_classes=size, frames=None) for place in (path, labels))
    missing = check_clips(prediction.clips, reference.clips, path, labels, remedy=None)
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
    lines = said if task in EDITION_FIGURES else remarks.lines("official")
    notes += [line[0].upper() + line[1:] for line in lines]
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
        task=task,
    )
