"""The technical report's skeleton, filled with the numbers, tables and curves of the runs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import write_text
from dcase_seld.submission.describe import random_weights
from dcase_seld.submission.layout import Layout, Team, fill_text, latex, template
from dcase_seld.submission.package import Entry

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
    untrained = listing(sorted({name for entry in entries for name in random_weights(entry.run)}))
    if untrained:
        data_lines.append(f"Made with networks that were never trained: {untrained}. These are no results.")
    return {
        "title": say(team.title),
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
    scores = classwise.get("f_score") or []
    if not scores:
        return ""
    titles = {"f_score": "F20/1 %", "f_score_onscreen": "F20/1/on-off %", "doa_error_deg": "DOA error °"}
    shown = [name for name in titles if classwise.get(name)]
    known = DCASE2025.classes if len(scores) == len(DCASE2025) else ()
    rows = [[f"classes of {entry.label}", *(titles[name] for name in shown)]]
    for index in range(len(scores)):
        cells = []
        for name in shown:
            value = classwise[name][index]
            cells.append(_number(None if value is None else value * (100 if "f_score" in name else 1), 1))
        rows.append([known[index] if known else f"class {index}", *cells])
    return _table(rows, as_latex)


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
