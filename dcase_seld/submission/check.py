"""Checking a submission zip against every rule, all findings at once, reading it as a stream."""

from __future__ import annotations

import os
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.submission.archive import Findings, open_archive, read_entry, safe_entries
from dcase_seld.submission.file_checks import CsvChecker, check_meta, check_report
from dcase_seld.submission.layout import Layout

MEDIA = (".wav", ".flac", ".mp4", ".csv")
"""Files whose names are those of the evaluation clips."""


@dataclass
class System:
    """What the zip holds of one system."""

    task: str
    label: str
    meta: zipfile.ZipInfo | None = None
    clips: dict[str, zipfile.ZipInfo] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Return where the system is, for messages."""
        return f"task{self.task}/{self.label}"


def check_submission(path: Path, layout: Layout, evaluation: Path | None = None) -> tuple[Findings, dict[str, Any]]:
    """Return all findings, and what the zip holds: label → track, clips, events.

    `evaluation`: folder of the evaluation clips, whose names the CSV files must have. Raises SeldError: the zip or the
    evaluation folder is not there.
    """
    if not path.is_file():
        raise SeldError(f"There is no file {path}.", "Give the zip that package-submission wrote.")
    expected = None if evaluation is None else evaluation_names(evaluation)
    findings = Findings()
    archive = open_archive(path, layout, findings)
    if archive is None:
        return findings, {}
    with archive:
        systems, reports = _sort(safe_entries(archive, layout, findings), layout, findings)
        _check_labels(systems, layout, findings)
        authors = {system.folder: _check_system_meta(archive, system, layout, findings) for system in systems}
        _check_names(systems, expected, layout, findings)
        summary = {}
        for system in systems:
            checker = CsvChecker(layout, layout.track_of(system.task), findings)
            for entry in system.clips.values():
                data = read_entry(archive, entry, checker.limits.most_bytes, findings)
                if data is not None:
                    checker.add(entry.filename, data)
            checker.finish(system.folder)
            track = layout.track_of(system.task)
            summary[system.label] = {"track": track, "clips": len(system.clips), "events": checker.events}
        _check_reports(archive, systems, reports, authors, layout, findings)
    return findings, summary


def evaluation_names(folder: Path) -> set[str]:
    """Return the names of the evaluation clips in a folder or below it; of a whole data set those of its stereo_eval.

    Raises:
        SeldError: it holds none.
    """
    inner = [folder / name for name in ("stereo_eval", "foa_eval", "mic_eval") if (folder / name).is_dir()]
    names = set()
    for _, folders, files in os.walk(inner[0] if inner else folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for file in files:
            stem, suffix = os.path.splitext(file)  # noqa: PTH122 - 20,000 names
            if suffix.lower() in MEDIA and not file.startswith("."):
                names.add(stem)
    if not names:
        raise SeldError(f"{folder} holds no evaluation clips.", "Give the folder with the evaluation set's wav files.")
    return names


def _sort(
    entries: list[zipfile.ZipInfo], layout: Layout, findings: Findings
) -> tuple[list[System], dict[str, zipfile.ZipInfo]]:
    """Return the systems, ordered, and the report of each task."""
    kinds: tuple[Literal["meta", "output", "report"], ...] = ("meta", "output", "report")
    places = {kind: layout.place_regex(kind) for kind in kinds}
    systems: dict[tuple[str, str], System] = {}
    reports: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename
        kind, found = next(((k, m) for k, regex in places.items() if (m := regex.fullmatch(name))), ("", None))
        if found is None:
            findings.error("layout", name, f"stands where nothing is expected; CSV files belong in {layout.output}")
            continue
        groups = found.groupdict()
        if kind == "report":
            if groups["task"] in reports:
                findings.error("report-double", name, f"is a second report of task {groups['task']}")
            reports.setdefault(groups["task"], entry)
            continue
        labels = [value for key, value in groups.items() if key.startswith("label")]
        if len(set(labels)) > 1:
            findings.error(
                "label-folder", name, f"has different labels in its path: {' and '.join(sorted(set(labels)))}"
            )
        system = systems.setdefault((groups["task"], labels[0]), System(groups["task"], labels[0]))
        if kind == "meta":
            system.meta = entry
        else:
            system.clips[groups["clip"]] = entry
    if not systems:
        findings.error("no-system", "", f"no system is in the zip; expected files such as {layout.output}")
    return [systems[key] for key in sorted(systems)], reports


def _check_labels(systems: list[System], layout: Layout, findings: Findings) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    teams = set()
    for system in systems:
        if layout.track_of(system.task) is None:
            known = ", ".join(f"task{task}" for task in layout.tasks.values())
            findings.error("task-folder", system.folder, f"is in no folder of a track ({known})")
        found = layout.label_regex.fullmatch(system.label)
        if found is None:
            findings.error(
                "label-format", system.folder, f"the label {system.label!r} is not of the form {layout.label}"
            )
            continue
        groups = found.groupdict()
        if groups["task"] != system.task:
            findings.error(
                "label-task", system.folder, f"the label says task {groups['task']}, the folder {system.task}"
            )
        number = int(groups["number"])
        if not 1 <= number <= layout.systems_per_track:
            findings.error("label-number", system.folder, f"system {number} of 1…{layout.systems_per_track}")
        numbers[system.task].append(number)
        teams.add((groups["lastname"], groups["institute"]))
    for task, count in Counter(system.task for system in systems).items():
        if count > layout.systems_per_track:
            findings.error(
                "system-count", f"task{task}", f"has {count} systems; at most {layout.systems_per_track} are allowed"
            )
    for task, given in numbers.items():
        if len(set(given)) != len(given):
            findings.error("label-number", f"task{task}", f"two systems have the same number: {sorted(given)}")
        elif sorted(given) != list(range(1, len(given) + 1)):
            findings.warning("label-order", f"task{task}", f"systems are numbered {sorted(given)}, not from 1 on")
    if len(teams) > 1:
        names = ", ".join("_".join(team) for team in sorted(teams))
        findings.warning("label-team", "", f"labels are of several teams: {names}")


def _check_system_meta(archive: zipfile.ZipFile, system: System, layout: Layout, findings: Findings) -> list[str]:
    """Check a system's meta file and return the last names of its authors."""
    if system.meta is None:
        expected = layout.path("meta", task=system.task, label=system.label)
        findings.error("meta-missing", system.folder, f"has no meta file; expected {expected}")
        return []
    data = read_entry(archive, system.meta, layout.meta_bytes, findings)
    if data is None:
        return []
    track = layout.track_of(system.task)
    meta = check_meta(data, system.meta.filename, system.label, track, layout, findings)
    submission = meta.get("submission") if isinstance(meta, dict) else None
    authors = submission.get("authors") if isinstance(submission, dict) else None
    listed = authors if isinstance(authors, list) else []
    return [
        author["lastname"] for author in listed if isinstance(author, dict) and isinstance(author.get("lastname"), str)
    ]


def _check_names(systems: list[System], expected: set[str] | None, layout: Layout, findings: Findings) -> None:
    """Compare the clips of every system with the evaluation set, or, where that is unknown, with one another."""
    union = set().union(*(system.clips for system in systems)) if systems else set()
    wanted = union if expected is None else expected
    source = "the other systems have" if expected is None else "the evaluation set has"
    for system in systems:
        if not system.clips:
            findings.error("output-missing", system.folder, f"has no CSV files in {system.label}/")
            continue
        missing = sorted(wanted - system.clips.keys())
        if missing:
            text = f"{len(missing)} clips that {source} have no CSV file: {listing(missing)}"
            findings.error("clip-missing", system.folder, text)
        unknown = sorted(system.clips.keys() - wanted)
        if unknown:
            text = f"{len(unknown)} CSV files are of no evaluation clip: {listing(unknown)}"
            findings.error("clip-unknown", system.folder, text)
    if expected is None and union and len(union) != layout.evaluation_clips:
        text = f"{len(union):,} clips; the evaluation set has {layout.evaluation_clips:,} (compare names with --eval)"
        findings.warning("clip-count", "", text)


def _check_reports(
    archive: zipfile.ZipFile,
    systems: list[System],
    reports: dict[str, zipfile.ZipInfo],
    authors: dict[str, list[str]],
    layout: Layout,
    findings: Findings,
) -> None:
    for task in sorted({system.task for system in systems}):
        if task not in reports:
            labels = [layout.label_regex.fullmatch(system.label) for system in systems if system.task == task]
            team = next((label.groupdict() for label in labels if label is not None), {})
            known = {"lastname": "LASTNAME", "institute": "INSTITUTE", **team, "task": task, "label": "LABEL"}
            name = layout.report.format(**known)
            findings.error("report-missing", f"task{task}", f"has no technical report; expected {name}")
    for task, entry in reports.items():
        data = read_entry(archive, entry, layout.report_bytes, findings)
        if data is not None:
            names = {name for system in systems if system.task == task for name in authors[system.folder]}
            check_report(data, entry.filename, sorted(names), findings)
