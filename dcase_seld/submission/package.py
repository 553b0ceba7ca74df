"""Writing a submission zip from runs: labels, meta files, CSV files, reports; the same input gives the same bytes."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcase_seld.core.csv_rows import HEADER, Limits, Rows, parse_files, sphere_mistakes
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.event_files import list_csv, mistake_error
from dcase_seld.core.files import whole_file
from dcase_seld.core.geometry import fold
from dcase_seld.recipe.provenance import history
from dcase_seld.submission.describe import Description, describe, overall, random_weights, sees, uncounted
from dcase_seld.submission.layout import (
    SIMULATED,
    Layout,
    SystemNames,
    Team,
    Track,
    fill_yaml,
    load_layout,
    plain,
    template,
)
from dcase_seld.submission.systems import Run

BATCH = 1_000
"""CSV files that are read at a time."""

_DATE = (1980, 1, 1, 0, 0, 0)

_FILE_MODE = 0o100644 << 16


@dataclass(frozen=True)
class Entry:
    """One system of a package."""

    label: str  # e.g. "Example_EXU_task3a_1".
    track: Track  # "a" or "b"
    number: int  # from 1 within the track
    run: Run  # what it is made from
    description: Description  # fields of the meta file's description, complexity and versions
    overall: dict[str, float | None]  # development scores under the meta file's names
    name: str  # full name
    abbreviation: str  # short name


def make_entries(
    systems: Sequence[tuple[Run, Track]], team: Team, layout: Layout, force_random_weights: bool = False
) -> list[Entry]:
    """Return the labelled systems, numbered within each track in the order given.

    Raises:
        SeldError: there are none or too many, or a run used networks that were never trained.
    """
    if not systems:
        raise SeldError("No system is given.", "Name at least one run with --system.")
    counts: dict[Track, int] = defaultdict(int)
    entries = []
    for run, track in systems:
        counts[track] += 1
        number = counts[track]
        known = (*run.steps, *(history(run.scored.folder) if run.scored is not None else ()))
        if lost := [folder for step in known for folder in step.lost()]:
            raise SeldError(
                f"{run.csv}, or its scores, come from steps whose receipts are gone or damaged, so that what the meta "
                f"file must say of them is not known: {listing(dict.fromkeys(lost))}.",
                "Run their recipe again, which makes them anew; or copy the CSV files, package those, and describe the "
                "system in the team file.",
            )
        untrained = random_weights(run)
        if untrained and not force_random_weights:
            raise SeldError(
                f"{run.csv} was made with networks that were never trained: {listing(untrained)}.",
                "Fetch trained weights with `dcase-seld models pull` and run again; for a trial, package with "
                "--force-random-weights (in a package step of a recipe: `force_random_weights: true`).",
            )
        names = team.systems.get(f"{track}{number}", SystemNames())
        author = team.corresponding
        entries.append(
            Entry(
                label=layout.make_label(author.lastname, author.affiliation.abbreviation, track, number),
                track=track,
                number=number,
                run=run,
                description={**describe(run, track), **names.description},
                overall=overall(run, track, layout),
                name=names.name or team.name,
                abbreviation=names.abbreviation or team.abbreviation,
            )
        )
    crowded = [track for track, count in counts.items() if count > layout.systems_per_track]
    if crowded:
        raise SeldError(
            f"Track {crowded[0]} has {counts[crowded[0]]} systems; at most {layout.systems_per_track} are allowed.",
            "Choose the best ones.",
        )
    return entries


def write_package(
    out: Path,
    entries: Sequence[Entry],
    team: Team,
    *,
    reports: Mapping[Track, Path] | None = None,
    templates: Path | None = None,
    layout: Layout | None = None,
    advance: Callable[[int], Any] = lambda count: None,
) -> None:
    """Write the zip: per system its meta file and CSV files, per track its report; atomically, same bytes every time.

    CSV files are checked, azimuths folded to the front, and for track a the on-screen column set to 0; the order of
    rows is kept, so scores before and after are the same. A track without a report has none in the zip; files in
    `templates` replace the built-in ones, the layout's too; `advance` gets the number of CSV files just written. Raises
    SeldError: a CSV file or template is not as it must be, or the zip cannot be written.
    """
    layout = layout or load_layout(templates)
    meta_template = template("meta.yaml", templates)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry in sorted(entries, key=lambda entry: entry.label):
                names = {"task": layout.tasks[entry.track], "label": entry.label}
                _add(archive, layout.path("meta", **names), fill_meta(meta_template, entry, team).encode())
                output = layout.path("output", clip="{clip}", **names)
                for batch in _batches(entry, layout):
                    for clip, data in batch:
                        _add(archive, output.replace("{clip}", clip), data)
                    advance(len(batch))
            for track, report in sorted((reports or {}).items()):
                author = team.corresponding
                path = layout.path(
                    "report",
                    task=layout.tasks[track],
                    lastname=plain(author.lastname),
                    institute=plain(author.affiliation.abbreviation),
                )
                _add(archive, path, report.read_bytes())
    except OSError as error:
        raise SeldError(f"{out} cannot be written: {error}.", "Check paths, disk and permissions.") from error


def fill_meta(text: str, entry: Entry, team: Team) -> str:
    """Return the meta file of a system: the template with its names filled in."""
    values = {
        "label": entry.label,
        "name": entry.name,
        "abbreviation": entry.abbreviation,
        "authors": [author.model_dump(exclude_none=True) for author in team.authors],
        "source_code": team.source_code,
        "overall": dict(entry.overall),
        **entry.description,
    }
    return fill_yaml(text, values, "meta.yaml")


def notes(entries: Sequence[Entry]) -> list[str]:
    """Return what a user should know about the runs: what the receipts did not tell."""
    lines = []
    for entry in entries:
        run = entry.run
        if run.scores is None:
            lines.append(
                f"{entry.label}: no score step of these networks was found; development scores are left open (name "
                "them with --scores, or scores: in a package step)"
            )
        elif run.scores_of:
            lines.append(f"{entry.label}: its development scores are those of {run.scores_of}")
        if SIMULATED in str(entry.description.get("scored_on")):
            lines.append(f"{entry.label}: its development scores are of simulated scenes; the challenge's set has none")
        if not run.networks:
            lines.append(f"{entry.label}: {run.csv} has no receipt; fill the description in the team file")
        if unknown := uncounted(run):
            lines.append(f"{entry.label}: the parameters of {listing(unknown)} are not known and not counted")
        if entry.track == "a" and (seen := sees(run)):
            lines.append(f"{entry.label}: is for the audio-only track, but uses pictures: {listing(seen)}")
        if untrained := random_weights(run):
            lines.append(f"{entry.label}: made with networks that were never trained: {listing(untrained)}")
    return lines


def _batches(entry: Entry, layout: Layout) -> Iterator[list[tuple[str, bytes]]]:
    """Yield (clip, bytes) of a system's CSV files, ordered by name, in batches.

    Raises:
        SeldError: names the file and line that is not as it must be.
    """
    files = list_csv(entry.run.csv)
    limits = Limits(layout.classes, layout.frames)
    for first in range(0, len(files), BATCH):
        part = files[first : first + BATCH]
        contents = [_read(path, limits) for _, path in part]
        if layout.rows == "sphere":
            for (_, path), data in zip(part, contents, strict=True):
                for mistake in sphere_mistakes(data, limits):
                    raise mistake_error({path: mistake})
            yield [(name, data.replace(b"\r\n", b"\n")) for (name, _), data in zip(part, contents, strict=True)]
            continue
        rows, counts, mistakes = parse_files(contents, limits)
        if mistakes:
            raise mistake_error({part[index][1]: mistakes[index] for index in sorted(mistakes)})
        final = rows.copy()
        final[:, 3] = fold(rows[:, 3])
        if entry.track == "a":
            final[:, 5] = 0
        changed = np.zeros(len(part), bool)
        changed[np.repeat(np.arange(len(part)), counts)[(final != rows).any(axis=1)]] = True
        ends = np.cumsum(counts)
        yield [
            (name, text(final[end - count : end]) if new or not _clean(data) else data)
            for (name, _), data, count, end, new in zip(part, contents, counts, ends, changed, strict=True)
        ]


def text(rows: Rows) -> bytes:
    """Return official rows as the bytes of a CSV file."""
    line = "%d,%d,%d,%d,%d,%d\n"
    return (HEADER + "\n" + "".join([line % tuple(row) for row in rows.tolist()])).encode("ascii")


def _clean(data: bytes) -> bool:
    return data.startswith(HEADER.encode() + b"\n") and data.endswith(b"\n") and b"\r" not in data


def _read(path: str, limits: Limits) -> bytes:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - 40,000 of them
            return stream.read(limits.most_bytes + 1)
    except OSError as error:
        raise SeldError(f"{path} cannot be read: {error.strerror}.", "Check the file.") from error


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = _FILE_MODE
    info.create_system = 3
    archive.writestr(info, data)
