"""The report's HTML: one file that needs nothing else, readable on a phone, in the dark and on paper."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from dcase_seld import __version__
from dcase_seld.core.events import name_parts
from dcase_seld.core.files import write_text
from dcase_seld.report.run import Run, difference
from dcase_seld.report.sections import all_sections, heading
from dcase_seld.scoring.figures import FIGURES, Figure


@dataclass(frozen=True)
class Published:
    """One published row."""

    system: str  # who, and where it is described
    track: str  # "a" or "b"
    figures: dict[str, float]  # names as in `scoring.figures`; fractions are 0–1
    task: str = "dcase2025"  # the edition


PUBLISHED = (
    Published(
        "official baseline, audio",
        "a",
        {"f_score": 0.2278, "doa_error_deg": 24.5, "relative_distance_error": 0.41},
    ),
    Published(
        "official baseline, audio-visual",
        "b",
        {
            "f_score": 0.2677,
            "f_score_onscreen": 0.200,
            "doa_error_deg": 23.8,
            "relative_distance_error": 0.40,
            "onscreen_accuracy": 0.80,
        },
    ),
    Published("Berghi & Jackson, audio (arXiv 2507.04845)", "a", {"f_score": 0.457, "doa_error_deg": 15.0}),
    Published(
        "Berghi & Jackson, audio-visual (arXiv 2507.04845)",
        "b",
        {"f_score": 0.444, "doa_error_deg": 15.6, "onscreen_accuracy": 0.805},
    ),
    Published(
        "Yeow, NTU, audio (arXiv 2507.00874)",
        "a",
        {"f_score": 0.453, "doa_error_deg": 13.2, "relative_distance_error": 0.262},
    ),
    Published("official baseline of 2024, FOA", "a", {"F": 0.131, "DOAE_deg": 36.9, "RDE": 0.33}, "dcase2024"),
    Published(
        "official baseline of 2023, FOA", "a", {"ER": 0.57, "F": 0.299, "LE_deg": 21.6, "LR": 0.477}, "dcase2023"
    ),
)
"""Source: the task descriptions of the DCASE Challenges of these years, and the named papers."""


def write_report(runs: Sequence[Run], out: Path, examples: int = 3, title: str = "", about: str = "") -> None:
    """Write one self-contained HTML page on runs; the first is the one that clips are chosen by.

    Args:
        runs: what to report on.
        out: the file; written under another name first.
        examples: how many of the best and of the worst clips are shown.
        title: heading; the runs' names by default.
        about: a sentence below it; what the first run's recipe says of itself by default.
    """
    heading = title or ", ".join(run.name for run in runs)
    about = about or runs[0].about
    style = files("dcase_seld.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>SELD report: {escape(heading)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
        f"<header><h1>{escape(heading)}</h1>{_head(runs, about)}</header>\n<main>",
        _section("Scores", _scores(runs)),
    ]
    if len(runs) > 1:
        parts.append(_section("Differences between runs", "".join(_differences(runs))))
    parts += [_section(name, html) for name, html in all_sections(runs, examples) if html]
    parts.append("</main>\n</body>\n</html>\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, "\n".join(parts))


def _section(name: str, html: str) -> str:
    return f"<section><h2>{escape(name)}</h2>{html}</section>"


def _head(runs: Sequence[Run], about: str) -> str:
    """Return what stands above everything: what it is, when and by what it was made, warnings, the figures."""
    parts = [f"<p>{escape(line)}</p>" for line in about.splitlines() if line.strip()]
    days = [time.strftime("%Y-%m-%d", time.gmtime(run.made)) for run in runs if run.made]
    when = f"Scored {' to '.join(dict.fromkeys((min(days), max(days))))} (UTC); " if days else ""
    parts.append(f'<p class="note">{when}page by dcase-seld {escape(__version__)}.</p>')
    shared = [note for note in runs[0].notes if all(note in run.notes for run in runs)]
    own = [f"{run.name}: {note}" for run in runs for note in run.notes if note not in shared]
    parts += [f'<p class="warning">{escape(note)}</p>' for note in (*shared, *own)]
    return "".join(parts) + "".join(_tiles(run) for run in runs[:MOST_TILED])


MOST_TILED = 4
"""Runs whose figures stand in tiles at the head; the table holds all."""


def _tiles(run: Run) -> str:
    score = run.scores
    tiles = []
    for one in run.shown:
        low, high = _bounds(run, one.name)
        within = f"{one.text(low)} to {one.text(high)}" if math.isfinite(low) else "no interval"
        value = one.text(score.figures[one.name], unit=True)
        tiles.append(f"<li><b>{value}</b><span>{escape(one.label)}</span><small>{within}</small></li>")
    kind = f"track {run.track}" if run.task == "dcase2025" else f"scored as {run.task}"
    clips = f"{score.clips:,} {escape(run.split)} clips, {kind}, {run.average} average"
    return (
        f'<p class="run"><b>{escape(run.name)}</b>: {clips}, {run.protocol} protocol</p>'
        f'<ul class="tiles" aria-label="figures of {escape(run.name, quote=True)}">{"".join(tiles)}</ul>'
    )


def _scores(runs: Sequence[Run]) -> str:
    compared = comparable(runs)
    columns: dict[str, Figure] = {one.name: one for run in runs for one in run.shown}
    published = [row for row in PUBLISHED if compared and row.task == runs[0].task]
    if published and runs[0].task == "dcase2025":
        columns = dict(FIGURES)
    columns = {name: one for name, one in FIGURES.items() if name in columns} or columns
    titles = "".join(f"<th>{heading(one)}</th>" for one in columns.values())
    rows = []
    for run in runs:
        cells = [f'<th scope="row">{escape(run.name)}</th>']
        for name, one in columns.items():
            low, high = _bounds(run, name)
            within = f"<small>{one.text(low)} … {one.text(high)}</small>" if math.isfinite(low) else ""
            cells.append(f"<td>{one.text(run.scores.figures.get(name))}{within}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    for row in published:
        cells = [f'<th scope="row">{escape(row.system)}</th>']
        cells += [f"<td>{one.text(row.figures.get(name))}</td>" for name, one in columns.items()]
        rows.append(f'<tr class="published">{"".join(cells)}</tr>')
    unit = runs[0].unit
    note = f"Small: 95 % intervals, jackknife that leaves out one {unit} at a time."
    if published:
        note += (
            " Grey: published on the challenge's development test set; a comparison only where the clips are the same."
        )
    if any(_outside(run, name) for run in runs for name in columns):
        note += f" Where an interval does not hold its own value, there are too few {unit}s or rare classes decide it."
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f'</div><p class="note">{note}</p>'
    )


def comparable(runs: Sequence[Run]) -> bool:
    """Return whether published results may stand beside runs: real clips named as the development test set's are."""
    names = [clip for run in runs for clip in run.counts.clips]
    if runs[0].task == "dcase2025":
        known = all((part := name_parts(clip)) is not None and part.fold == 4 for clip in names)
    else:
        known = all(re.fullmatch(r"fold4_room\d+_mix\d+", clip) for clip in names)
    return known and not any(run.simulated for run in runs)


def _bounds(run: Run, name: str) -> tuple[float, float]:
    """Return the jackknife's interval of a figure, NaN where there is none."""
    low, high = ((run.scores.jackknife or {}).get(name) or {}).get("interval", (math.nan, math.nan))
    return low, high


def _outside(run: Run, name: str) -> bool:
    """Return whether the jackknife's interval of a figure does not hold the figure."""
    low, high = _bounds(run, name)
    value = run.scores.figures.get(name)
    return value is not None and (value < low or value > high)


def _differences(runs: Sequence[Run]) -> Iterator[str]:
    first = runs[0]
    for other in runs[1:]:
        result = difference(first, other)
        if not result:
            yield f'<p class="note">{escape(other.name)} shares too few clips with {escape(first.name)} to compare.</p>'
            continue
        rows = []
        for one in first.shown:
            if (entry := result.get(one.name)) is None:
                continue
            sure = entry["low"] > 0 or entry["high"] < 0
            better = (entry["value"] > 0) == one.higher_is_better
            verdict = ("better" if better else "worse") if sure else "not told apart"
            change, low, high = (one.change(entry[key]) for key in ("value", "low", "high"))
            rows.append(
                f'<tr><th scope="row">{heading(one)}</th><td>{change}</td><td>{low} … {high}</td>'
                f'<td class="{verdict.split()[0]}">{verdict}</td></tr>'
            )
        units = next(iter(result.values()))["units"]
        yield (
            f"<h3>{escape(other.name)} minus {escape(first.name)}</h3><div class='scroll'><table><thead><tr><th></th>"
            f"<th>difference</th><th>95 % interval</th><th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
            f'</div><p class="note">Paired jackknife over {units:,} {first.unit}s that both runs have.</p>'
        )
