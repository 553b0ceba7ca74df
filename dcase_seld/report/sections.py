"""The sections of a report after its scores: classes, confusions, errors, calibration, curves, clips, making."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from dcase_seld.core.geometry import wrap
from dcase_seld.report.charts import Series, bars, heatmap, lines
from dcase_seld.report.errors import (
    BUDGET,
    BUDGET_CLIPS,
    Pairs,
    budget,
    calibration,
    confusion,
    directions,
    errors_by,
    onscreen_table,
    pair,
)
from dcase_seld.report.examples import chosen_clips, example
from dcase_seld.report.run import Run
from dcase_seld.scoring.figures import FIGURES, Figure, every_figure


def all_sections(runs: Sequence[Run], examples: int) -> Iterator[tuple[str, str]]:
    """Yield (title, HTML) of every section; the HTML is empty where the runs hold nothing for it."""
    found = [(run, paired(run)) for run in runs]
    yield "What would help most", _budget(runs)
    yield "Classes", _classes(runs)
    yield "Which class is taken for which", _confusions(found)
    yield "Where the errors are", _errors(found)
    yield "On screen or off", _onscreen(found)
    yield "Is activity a probability?", _calibration(found)
    yield "Training", _curves(runs)
    yield "Best and worst clips", _clips(runs, examples)
    yield "How it was made", _making(runs)


def paired(run: Run) -> Pairs:
    """Return the pairs of a run's rows, found some clips at a time: candidates take far more memory than events."""
    place = {name: number // BUDGET_CLIPS for number, name in enumerate(run.reference.clips)}
    tables = (run.reference, run.prediction)
    part = [np.array([place.get(name, 0) for name in table.clips], np.int64)[table.clip] for table in tables]
    found = []
    for number in range(len(run.reference.clips) // BUDGET_CLIPS + 1):
        ours, theirs = (np.flatnonzero(one == number) for one in part)
        one = pair(run.prediction.take(theirs), run.reference.take(ours), len(run.taxonomy))
        rows = (ours, theirs, ours, theirs, ours, theirs)
        found.append([own[at] for own, at in zip(rows, vars(one).values(), strict=True)])
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def _classes(runs: Sequence[Run]) -> str:
    names = runs[0].taxonomy.classes
    frames = np.bincount(runs[0].reference.class_index, minlength=len(names))
    grid = []
    for one in {one.name: one for run in runs for one in run.shown}.values():
        having = [(run, values) for run in runs if one.brief and (values := run.scores.classwise.get(one.name))]
        if having:
            series = [Series(run.name, [one.scale * value for value in values]) for run, values in having]
            most = 100 if one.unit == "%" else None
            grid.append(bars(f"{one.title} by class", names, series, most=most, form=f"z.{one.decimals}f"))
    rest = [Series("annotated", [float(value) for value in frames])]
    grid.append(bars("Annotated source frames (100 ms)", names, rest, form="z,.0f"))
    never = [name for name, count in zip(names, frames.tolist(), strict=True) if not count]
    note = f'<p class="note">Never annotated here: {escape(", ".join(never))}; they count as 0 in macro F.</p>'
    return _grid(grid) + (note if never else "")


def heading(figure: Figure) -> str:
    """Return a figure's title as HTML, its unit never alone on a line."""
    return escape(figure.label) + (f"\u00a0{escape(figure.unit)}" if figure.unit else "")


def _budget(runs: Sequence[Run]) -> str:
    """Return F with one fault at a time put right, and what to work on."""
    rows, heads, advice, left_out = {name: "" for name in BUDGET}, "", [], set(BUDGET)
    for run in runs:
        found = budget(run)
        if not found:
            continue
        ranking = run.ranking
        for one in (FIGURES["f_score"], ranking) if ranking.onscreen and len(runs) == 1 else (ranking,):
            of = f"{escape(run.name)}<br/>" if len(runs) > 1 else ""
            heads += f'<th scope="col">{of}{heading(one)}</th>'
            before = found["as it is"].figures[one.name] or 0.0
            for name in BUDGET:
                value = found[name].figures[one.name] if name in found else None
                gain = "" if value is None or name == "as it is" else f"<small>{one.change(value - before)}</small>"
                rows[name] += f"<td>{one.text(value)}{gain}</td>"
        single = [name for name, words in BUDGET.items() if words and name in found]
        left_out &= BUDGET.keys() - found.keys()
        most = max(single, key=lambda name: found[name].figures[ranking.name] or 0.0)
        after, before_it = (np.array(found[name].classwise[ranking.name]) for name in (most, "as it is"))
        gains = after - before_it
        worst = [run.taxonomy.classes[index] for index in np.argsort(-gains, kind="stable")[:3] if gains[index] > 0]
        of = f"{run.name}: " if len(runs) > 1 else ""
        named = ", ".join(f"“{name}”" for name in worst)
        words = f"{BUDGET[most]} Most of it lies in {named}." if worst else "Nothing is left to put right."
        advice.append(f"<p><b>{escape(of + words)}</b></p>")
    ceiling = '<p class="note">Each row is the official score of the predictions with that one fault put right.'
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>' for name, cells in rows.items() if name not in left_out
    )
    return (
        f'{"".join(advice)}<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody>'
        f"</table></div>{ceiling} Gains overlap and do not add up. The last row is the ceiling: below 100 % where a "
        "class is never annotated, since it counts as 0 in macro F.</p>"
    )


def _confusions(found: Sequence[tuple[Run, Pairs]]) -> str:
    grid = []
    for run, pairs in found:
        table = confusion(run, pairs)
        names = (*run.taxonomy.classes, "nothing")
        grid.append(
            heatmap(f"{run.name}: annotated (rows) as predicted (columns), % of the row", names, names, table.tolist())
        )
    return _grid(grid) + (
        '<p class="note">Per frame: sources are first matched within their class, what is left across classes within '
        "20°. The last row shows which classes false alarms have.</p>"
    )


def _errors(found: Sequence[tuple[Run, Pairs]]) -> str:
    grid = []
    first = found[0][0]
    sphere, far = first.reference.elevation_deg is not None, first.task != "dcase2023"
    for what, title in (
        ("azimuth", "annotated azimuth, degrees, left positive"),
        ("elevation", "annotated elevation, degrees, up positive"),
        ("distance", "annotated distance, metres"),
        ("polyphony", "sources at once"),
    ):
        if (what == "elevation" and not sphere) or (what == "distance" and not far):
            continue
        binned = [(run.name, errors_by(run, pairs, what)) for run, pairs in found]
        places = [list(range(len(one.labels))) for _, one in binned]
        ticks = [(float(i), label) for i, label in enumerate(binned[0][1].labels)]
        for key, y_title, factor in (
            ("recall", "Found, %,", 100.0),
            ("angle", f"{'Direction' if sphere else 'Azimuth'} error, degrees,", 1.0),
            ("distance", "Relative distance error", 1.0),
        ):
            if key == "distance" and not far:
                continue
            series = [Series(name, [float(v) * factor for v in getattr(one, key)]) for name, one in binned]
            shown = f"{y_title} by {what}"
            grid.append(lines(shown, places, series, title, 100.0 if key == "recall" else None, ticks))
    counts = errors_by(*found[0], "azimuth").count
    return (
        _grid(grid)
        + (_two_angles(found) if sphere else "")
        + (
            f'<p class="note">Found: the right class within 20° {"on the sphere" if sphere else "of azimuth"}'
            f"{' and within the annotated distance' if far else ''}, frame by frame. Azimuth bins "
            f"hold {int(counts.min()):,} to {int(counts.max()):,} annotated source frames.</p>"
        )
    )


def _two_angles(found: Sequence[tuple[Run, Pairs]]) -> str:
    """Return a table of errors of azimuth and of elevation alone, beside those of answers without hearing."""
    rows = []
    for run, pairs in found:
        truth, guess = directions(run.reference, run.reference), directions(run.prediction, run.reference)
        truth, guess = truth[pairs.reference], guess[pairs.prediction]
        if not len(truth):
            continue
        # The same answers in another order: what a network that knows how directions are spread, and hears none, says.
        dealt = guess[np.random.default_rng(0).permutation(len(guess))]
        azimuth, chance = (np.abs(wrap(answers[:, 0] - truth[:, 0])).mean() for answers in (guess, dealt))
        elevation, blind = (np.abs(answers[:, 1] - truth[:, 1]).mean() for answers in (guess, dealt))
        median = np.abs(truth[:, 1] - np.median(truth[:, 1])).mean()
        numbers = (azimuth, chance, elevation, blind, median)
        cells = "".join(f"<td>{value:.1f}</td>" for value in numbers)
        rows.append(f'<tr><th scope="row">{escape(run.name)}</th><td>{len(truth):,}</td>{cells}</tr>')
    dealt_out = "dealt out at random"
    heads = ("matched source frames", "azimuth\u00a0°", dealt_out, "elevation\u00a0°", dealt_out, "always the median")
    titles = "".join(f"<th>{head}</th>" for head in heads)
    return (
        '<h3>Mean errors of the two angles</h3><div class="scroll"><table><thead><tr><th></th>'
        f"{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _onscreen(found: Sequence[tuple[Run, Pairs]]) -> str:
    parts = []
    for run, pairs in found:
        if run.track == "a" or run.task != "dcase2025":
            continue
        table = onscreen_table(run, pairs)
        total = max(int(table.sum()), 1)
        on = table[1].sum()
        rows = "".join(
            f'<tr><th scope="row">annotated {name}</th><td>{table[i, 0]:,}</td><td>{table[i, 1]:,}</td></tr>'
            for i, name in enumerate(("off", "on"))
        )
        right = 100 * (table[0, 0] + table[1, 1]) / total
        always = 100 * (total - on) / total
        found_on = (
            f"{100 * table[1, 1] / on:.1f} % of what is on screen was found to be" if on else "nothing is on screen"
        )
        parts.append(
            f"<h3>{escape(run.name)}</h3><div class='scroll'><table><thead><tr><th></th><th>said off</th>"
            f"<th>said on</th></tr></thead><tbody>{rows}</tbody></table></div>"
            f"<p class='note'>{right:.1f} % right over matched sources; always saying “off” would be right in "
            f"{always:.1f} %; {found_on}.</p>"
        )
    return "".join(parts)


def _calibration(found: Sequence[tuple[Run, Pairs]]) -> str:
    xs, series = [], []
    for run, pairs in found:
        points = calibration(run, pairs)
        if points is not None:
            xs.append(points[0].tolist())
            series.append(Series(run.name, points[1].tolist()))
    if not series:
        return ""
    chart = lines("Share of predictions that are right, by activity", xs, series, "activity", 1.0, (), True)
    return _grid([chart]) + (
        '<p class="note">Right: a source of the class is annotated within 20°. On the dashed line, activity is a '
        "probability; only activities above the threshold exist.</p>"
    )


def _curves(runs: Sequence[Run]) -> str:
    trainings: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        for step, rows in run.curves():
            trainings.setdefault(step if len(runs) == 1 else f"{run.name} · {step}", rows)
    grid = []
    panels = [("loss", "Training loss by epoch", 1.0), ("val_loss", "Validation loss by epoch", 1.0)]
    told = [(name, one) for name, one in every_figure().items() if one.brief]
    if all(run.track == "a" for run in runs):
        told = [(name, one) for name, one in told if not one.onscreen]
    panels += [(name, f"{one.title} on validation clips", one.scale) for name, one in told]
    for key, title, factor in panels:
        points = {
            name: [(row["epoch"], row[key] * factor) for row in rows if key in row] for name, rows in trainings.items()
        }
        points = {name: values for name, values in points.items() if values}
        if points:
            series = [Series(name, [value for _, value in values]) for name, values in points.items()]
            xs = [[epoch for epoch, _ in values] for values in points.values()]
            grid.append(lines(title, xs, series[:8], "epoch"))
    return _grid(grid)


def _clips(runs: Sequence[Run], most: int) -> str:
    if most < 1:
        return ""
    best, worst = chosen_clips(runs[0], most)
    parts = []
    for title, clips in (("Best", best), ("Worst", worst)):
        if clips:
            cards = "".join(example(clip, runs) for clip in clips)
            parts.append(f'<h3>{title}</h3><div class="grid">{cards}</div>')
    return "".join(parts)


def _making(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        if not run.steps:
            continue
        parts.append(f"<h3>{escape(run.name)}</h3>")
        for made in run.steps:
            told = {key: value for key, value in made.facts.items() if key != "show"}
            facts = ", ".join(f"{key}: {_plain(v)}" for key, v in told.items() if not isinstance(v, (dict, list)))
            config = escape(json.dumps(made.config, indent=1, ensure_ascii=False))
            note = f'<p class="note">{escape(facts)}</p>' if facts else ""
            what = f"<b>{escape(made.name)}</b> ({escape(made.stage)}, {made.receipt['seconds']:,.1f} s)"
            parts.append(f"<details><summary>{what}</summary>{note}<pre>{config}</pre></details>")
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        parts.append(f'<p class="note">Versions: {escape(versions)}</p>')
    return "".join(parts)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:z.4g}" if math.isfinite(value) else "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _grid(items: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(items)}</div>' if items else ""
