"""From runs to a checked zip with its report or the report's skeleton: what the command and the stage both do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import progress
from dcase_seld.submission.archive import Findings
from dcase_seld.submission.check import check_submission
from dcase_seld.submission.layout import Track, load_layout, load_team
from dcase_seld.submission.package import make_entries, notes, write_package
from dcase_seld.submission.skeleton import write_skeleton
from dcase_seld.submission.systems import Run


def deliver(
    out: Path,
    runs: Sequence[tuple[Run, Track]],
    team_file: Path | None,
    *,
    reports: Mapping[Track, Path],
    evaluation: Path | None = None,
    templates: Path | None = None,
    force_random_weights: bool = False,
    quiet: bool = True,
) -> tuple[Findings, list[str]]:
    """Write the zip (and, without a report, the skeleton of one beside it), check it, return findings and lines to say.

    Raises:
        SeldError: something that is given cannot be packaged.
    """
    layout, team = load_layout(templates), load_team(team_file)
    for report in reports.values():
        if not report.is_file():
            raise SeldError(f"There is no report {report}.", "Typeset the report as a PDF, or leave --report out.")
        if report.stat().st_size > layout.report_bytes:
            raise SeldError(f"{report} has more than {layout.report_bytes:,} bytes.", "Make its pictures smaller.")
    entries = make_entries(runs, team, layout, force_random_weights)
    tracks = {entry.track for entry in entries}
    given = {track: report for track, report in reports.items() if track in tracks}
    with progress("packaging", len(entries), "systems", quiet) as advance:
        written = 0

        def count(files: int) -> None:
            nonlocal written
            written += files
            advance(0, f"{written:,} files")

        write_package(out, entries, team, reports=given, templates=templates, advance=count)
    lines = [
        f"{out}: {out.stat().st_size:,} bytes, {written:,} CSV files, systems {', '.join(e.label for e in entries)}"
    ]
    if tracks - given.keys():
        folder = out.with_name(out.stem + "_report")
        write_skeleton(folder, entries, team, layout, templates)
        missing = " and ".join(sorted(tracks - given.keys()))
        lines.append(
            f"WARNING: the technical report of track {missing} is missing. Write it from the skeleton in "
            f"{folder}{os.sep}, then package again with the PDF; check-submission refuses the zip until then."
        )
    if team_file is None:
        lines.append(
            "note: the team is the example's; copy submission/team.yaml, fill it in, and give it as the team file"
        )
    lines += [f"note: {line}" for line in notes(entries)]
    findings, _ = check_submission(out, layout, evaluation)
    # What was just said in words is not said again as an error: the zip is what was asked for.
    known = "[report-missing]" if tracks - given.keys() else None
    lines += [line for line in findings.lines() if known is None or known not in line]
    return findings, lines


def split_track(text: str) -> tuple[Path, Track | None]:
    """Return the path and the track of PATH, PATH:a or PATH:b.

    Raises:
        SeldError: another track is named.
    """
    head, colon, tail = text.rpartition(":")
    if colon and tail in ("a", "b"):
        return Path(head), tail  # type: ignore[return-value]
    if colon and head and len(tail) <= 2 and not Path(text).exists():
        raise SeldError(f"{text!r}: there is no track {tail!r}.", "Write :a (audio only) or :b (audio-visual).")
    return Path(text), None


def scores_of_systems(texts: Sequence[str], tracks: Sequence[Track]) -> list[Path | None]:
    """Return which of the named scores (PATH, PATH:a, PATH:b) is of which system; None: of none.

    Raises:
        SeldError: it is not clear which system one is of.
    """
    named = [split_track(text) for text in texts]
    if named and len(named) == len(tracks) and not any(track for _, track in named):
        return [path for path, _ in named]
    by_track = {track: path for path, track in named if track is not None}
    if len(by_track) < len(named):
        if len(named) > 1 or len(set(tracks)) > 1:
            raise SeldError(
                f"It is not clear which systems the {len(named)} scores are of; there are {len(tracks)} systems.",
                "Give --scores once per --system, in their order, or end each with its track, as in PATH:a.",
            )
        by_track = dict.fromkeys(tracks, named[0][0])
    return [by_track.get(track) for track in tracks]
