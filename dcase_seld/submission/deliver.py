"""From runs to a checked zip with its technical report, or the report's skeleton with the runs' numbers and curves."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import write_text
from dcase_seld.core.task import TITLES
from dcase_seld.core.work import progress
from dcase_seld.submission.archive import Findings
from dcase_seld.submission.check import check_submission
from dcase_seld.submission.describe import random_weights
from dcase_seld.submission.layout import (
    BUILT_IN,
    Edition,
    Layout,
    Team,
    Track,
    fill_text,
    latex,
    load_layout,
    load_team,
    template,
)
from dcase_seld.submission.package import Entry, make_entries, notes, write_package
from dcase_seld.submission.systems import Run

FILES = ("report.md", "report.tex")


def write_skeleton(
    folder: Path, entries: Sequence[Entry], team: Team, layout: Layout, templates: Path | None = None
) -> list[Path]:
    """Write report.md, report.tex and the training curves of the runs to a folder; return what was written.

    A file that is there already is left alone: someone may have written into it.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = _curves(folder, entries)
        for name in FILES:
            path = folder / name
            if path.exists():
                continue
            as_latex = name.endswith(".tex")
            values = _values(entries, team, layout, pictures, as_latex)
            write_text(path, fill_text(template(name, templates), values, name))
            written.append(path)
    except OSError as error:
        raise SeldError(
            f"The report's skeleton cannot be written to {folder}: {error}.", "Check the folder."
        ) from error
    return written


def _values(
    entries: Sequence[Entry], team: Team, layout: Layout, pictures: Sequence[tuple[Entry, str]], as_latex: bool
) -> dict[str, str]:
    """Return the text of every name that a report template may use."""
    say = latex if as_latex else str
    authors = [
        f"{a.firstname} {a.lastname} ({a.affiliation.institute}, {a.affiliation.location})" for a in team.authors
    ]
    versions = next((e.description["versions"] for e in entries if e.description.get("versions")), None) or {}
    data_lines = []
    for entry in entries:
        found = entry.description
        for title, key in (
            ("External data", "external_data"),
            ("Models trained by others", "pre_trained_models"),
            ("Augmentation", "data_augmentation"),
        ):
            data_lines.append(f"{title} of {entry.label}: {_words(found.get(key))}.")
    data_lines += [
        f"The scores of {entry.label} are of {entry.description['scored_on']}."
        for entry in entries
        if entry.description.get("scored_on")
    ]
    untrained = listing(sorted({name for entry in entries for name in random_weights(entry.run)}))
    if untrained:
        data_lines.append(f"Made with networks that were never trained: {untrained}. These are no results.")
    return {
        "title": say(team.title),
        "challenge": say(layout.challenge),
        "abstract": say(team.abstract or "Write the abstract here."),
        "author_line": (" \\and " if as_latex else ", ").join(map(say, authors)),
        "system_paragraphs": "\n\n".join(say(_system_sentence(entry)) for entry in entries),
        "data_paragraphs": "\n\n".join(map(say, dict.fromkeys(data_lines))),
        "score_table": _score_table(entries, layout, as_latex) + _pictures(pictures, as_latex),
        "class_tables": "\n\n".join(filter(None, (_class_table(entry, as_latex) for entry in entries))),
        "versions": say(", ".join(f"{name} {version}" for name, version in versions.items()) or "dcase_seld"),
    }


def _system_sentence(entry: Entry) -> str:
    found = entry.description
    parameters = found.get("total_parameters")
    return (
        f"{entry.label} ({entry.name}) takes {found.get('input_format')} at {found.get('input_sampling_rate') or '?'}. "
        f"Its acoustic features are {_words(found.get('acoustic_features'))}; its visual features "
        f"{_words(found.get('visual_features'))}. Its method: {found.get('machine_learning_method') or '?'}, with "
        f"{'an unknown number of' if parameters is None else format(parameters, ',')} parameters."
    )


def _score_table(entries: Sequence[Entry], layout: Layout, as_latex: bool) -> str:
    names = list(dict.fromkeys(name for entry in entries for name in layout.scores[entry.track]))
    rows = [["system", *names]]
    for entry in entries:
        rows.append([entry.label, *(_number(entry.overall.get(name)) for name in names)])
    return _table(rows, as_latex)


def _class_table(entry: Entry, as_latex: bool) -> str:
    classwise = (entry.run.scores or {}).get("classwise") or {}
    titles = {name: title for name, title in TITLES.items() if classwise.get(name)}
    rows = [[f"classes of {entry.label}", *titles.values()]]
    for index, values in enumerate(zip(*map(classwise.__getitem__, titles), strict=True)):
        known = DCASE2025.classes if len(classwise[next(iter(titles))]) == len(DCASE2025) else ()
        cells = [_number(v * 100 if v and t[-1] == "%" else v, 1) for v, t in zip(values, titles.values(), strict=True)]
        rows.append([known[index] if known else f"class {index}", *cells])
    return _table(rows, as_latex) if titles else ""


def _table(rows: list[list[str]], as_latex: bool) -> str:
    head, *body = rows
    if as_latex:
        lines = [r"\begin{table}[ht]\centering\small", r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule"]
        lines += [" & ".join(map(latex, head)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(latex, row)) + r" \\" for row in body]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def _curves(folder: Path, entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """Copy the training curves of each system's first network; return (system, file name)."""
    pictures = []
    for entry in entries:
        places = (network.folder / "curves.png" for network in entry.run.networks)
        source = next((place for place in places if place.is_file()), None)
        if source is not None:
            name = f"curves_{entry.label}.png"
            shutil.copyfile(source, folder / name)
            pictures.append((entry, name))
    return pictures


def _pictures(pictures: Sequence[tuple[Entry, str]], as_latex: bool) -> str:
    lines = []
    for entry, name in pictures:
        caption = f"Training of {entry.label}."
        if as_latex:
            lines.append(
                "\n\\begin{figure}[ht]\\centering\n\\includegraphics[width=\\linewidth]{"
                + name
                + "}\n\\caption{"
                + latex(caption)
                + "}\n\\end{figure}"
            )
        else:
            lines.append(f"\n![{caption}]({name})")
    return "\n".join(["", *lines]) if lines else ""


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def deliver(
    out: Path,
    runs: Sequence[tuple[Run, Track]],
    team_file: Path | None,
    *,
    reports: Mapping[Track, Path],
    evaluation: Path | None = None,
    templates: Path | None = None,
    edition: Edition = "dcase2025",
    force_random_weights: bool = False,
    quiet: bool = True,
) -> tuple[Findings, list[str]]:
    """Write the zip (and, without a report, the skeleton of one beside it), check it, return findings and lines to say.

    Raises:
        SeldError: something that is given cannot be packaged.
    """
    if out.exists() and not out.is_file():
        raise SeldError(f"{out} is no file: a zip is read again after it is written.", "Give a file's name.")
    layout, team = load_layout(templates, edition), load_team(team_file)
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

        write_package(out, entries, team, reports=given, templates=templates, layout=layout, advance=count)
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
            f"note: the team is the example's; copy {BUILT_IN / 'team.yaml'}, fill it in, and give it as the team file"
        )
    lines += [f"note: {line}" for line in notes(entries)]
    findings, _ = check_submission(out, layout, evaluation)
    # What was just said in words is not said again as an error: the zip is what was asked for.
    known = "[report-missing]" if tracks - given.keys() else None
    lines += [line for line in findings.lines() if known is None or known not in line]
    return findings, lines


def split_track(text: str) -> tuple[Path, Track | None]:
    """Return the path and the track of PATH, PATH:a or PATH:b. Raises SeldError: another track is named."""
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
