"""Charts as inline SVG: drawn for a phone's width, coloured by the page's CSS so that dark mode and print follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 400

LABEL = 118
"""Width of a chart, and of the labels at its left, in the units of its viewBox."""

COLOURS = 13
"""Colours that the style sheet has."""


@dataclass(frozen=True)
class Series:
    """Values of one run: one per label or point, NaN where there is none, with intervals where they are known."""

    name: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def bars(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    unit: str = "",
    most: float | None = None,
    form: str = "z.1f",
) -> str:
    """Return horizontal bars, grouped by label, with whiskers where a series has intervals."""
    most = most or _nice(max((v for s in series for v in (*s.values, *s.high) if math.isfinite(v)), default=1.0))
    thick = 13 if len(series) == 1 else 9
    row = thick * len(series) + 7
    height = row * len(labels) + 26
    span = WIDTH - LABEL - 42
    body = [_grid(LABEL, span, height - 20, most, unit, form)]
    for index, label in enumerate(labels):
        top = index * row + 3
        body.append(_text(LABEL - 6, top + (row - 7) / 2 + 4, label, "end"))
        for number, one in enumerate(series):
            value, y = one.values[index], top + number * thick
            if not math.isfinite(value):
                body.append(_text(LABEL + 4, y + thick - 3, "–", "start", "small"))
                continue
            length = max(0.5, min(value / most, 1.0) * span)
            body.append(
                f'<rect class="s{number % COLOURS}" x="{LABEL}" y="{y}" width="{length:.1f}" '
                f'height="{thick - 2}" rx="1.5"/>'
            )
            end = length
            if len(one.low) > index and math.isfinite(one.low[index]):
                a, b = (LABEL + min(max(v / most, 0.0), 1.0) * span for v in (one.low[index], one.high[index]))
                middle = y + thick / 2 - 1
                body.append(
                    f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}'
                    f'M{a:.1f} {middle - 3}v6M{b:.1f} {middle - 3}v6"/>'
                )
                end = max(end, b - LABEL)
            body.append(_text(LABEL + end + 4, y + thick - 3, format(value, form), "start", "small"))
    told = [
        (one.name, [(label, format(v, form)) for label, v in zip(labels, one.values, strict=True) if math.isfinite(v)])
        for one in series
    ]
    return _figure(title, height, body, series, _words(told))


def lines(
    title: str,
    x: Sequence[Sequence[float]],
    series: Sequence[Series],
    x_title: str,
    most: float | None = None,
    ticks: Sequence[tuple[float, str]] = (),
    diagonal: bool = False,
) -> str:
    """Return lines with points: `x[k]` belongs to `series[k]`; `ticks` label the x axis where it is not numeric."""
    height, left, top, span, tall = 236, 40, 10, WIDTH - 52, 176
    xs = [v for values in x for v in values]
    ys = [v for s in series for v in s.values if math.isfinite(v)]
    if not xs or not ys:
        return _figure(title, 40, [_text(left, 20, "nothing to show", "start")], series)
    low_x, high_x = (0.0, 1.0) if diagonal else (min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    low_y = min(0.0, min(ys))
    high_y = most or _nice(max(ys))

    def at(px: float, py: float) -> tuple[float, float]:
        return left + (px - low_x) / (high_x - low_x) * span, top + tall * (1 - (py - low_y) / (high_y - low_y))

    body = []
    for step in range(5):
        value = low_y + (high_y - low_y) * step / 4
        _, y = at(low_x, value)
        body.append(f'<path class="grid" d="M{left} {y:.1f}h{span}"/>')
        body.append(_text(left - 5, y + 4, f"{value:z.3g}", "end", "small"))
    for value, label in ticks or _ticks(low_x, high_x, whole=all(float(v).is_integer() for v in xs)):
        body.append(_text(at(value, low_y)[0], top + tall + 15, label, "middle", "small"))
    body.append(_text(left + span / 2, height - 14, x_title, "middle", "small", 80))
    if diagonal:
        (a, b), (c, d) = at(0, 0), at(1, 1)
        body.append(f'<path class="grid dashed" d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"/>')
    for number, one in enumerate(series):
        points = [at(a, b) for a, b in zip(x[number], one.values, strict=True) if math.isfinite(b)]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        body.append(f'<path class="line l{number % COLOURS}" d="{path}"/>' if points else "")
        if len(points) <= 40:
            body += [f'<circle class="s{number % COLOURS}" cx="{a:.1f}" cy="{b:.1f}" r="2.4"/>' for a, b in points]
    named = dict(ticks)
    told = []
    for places, one in zip(x, series, strict=True):
        known = [(a, b) for a, b in zip(places, one.values, strict=True) if math.isfinite(b)]
        step = max(1, math.ceil(len(known) / _TOLD))
        told.append((one.name, [(named.get(a, f"{a:z.3g}"), f"{b:z.3g}") for a, b in known[::step]]))
    return _figure(title, height, body, series, f"by {x_title}: {_words(told)}")


def heatmap(title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[int]]) -> str:
    """Return a table of counts whose cells are shaded by their share of the row; shares are printed in per cent."""
    side = (WIDTH - LABEL - 30) / len(columns)
    head = 96
    height = head + side * len(rows) + 8
    body = []
    for index, label in enumerate(columns):
        x = LABEL + (index + 0.5) * side + 4
        body.append(
            f'<text class="small" transform="translate({x:.1f} {head - 6}) rotate(-60)" text-anchor="start">'
            f"{escape(_short(label))}</text>"
        )
    for i, label in enumerate(rows):
        total = sum(values[i])
        y = head + i * side
        body.append(_text(LABEL - 6, y + side / 2 + 4, label, "end"))
        for j in range(len(columns)):
            share = values[i][j] / total if total else 0.0
            x = LABEL + j * side
            body.append(
                f'<rect class="cell{" own" if i == j else ""}" x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" '
                f'height="{side - 1:.1f}" style="fill-opacity:{0.04 + 0.96 * share:.3f}">'
                f"<title>{escape(rows[i])} → {escape(columns[j])}: {values[i][j]:,} frames, {share:.0%}</title></rect>"
            )
            if share >= 0.005:
                tone = " strong" if share > 0.55 else ""
                body.append(_text(x + side / 2 - 0.5, y + side / 2 + 3, f"{100 * share:.0f}", "middle", f"tiny{tone}"))
    told = []
    for label, counts in zip(rows, values, strict=True):
        order = sorted(range(len(columns)), key=lambda j: -counts[j])[:3]
        told.append((label, [(columns[j], f"{counts[j] / sum(counts):.0%}") for j in order if counts[j]]))
    return _figure(title, height, body, (), _words(told))


def legend(names: Sequence[str]) -> str:
    """Return the colours of the runs, in words, for the top of the page."""
    items = "".join(
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true"><rect class="s{i % COLOURS}" width="12" height="12" '
        f'rx="2"/></svg>{escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


_TOLD = 12
"""Points of a line that its text for those who do not see it names."""


def _words(told: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """Return series of (label, value) as words."""
    return "; ".join(
        f"{name}: {', '.join(f'{label} {value}' for label, value in pairs) or '–'}" for name, pairs in told
    )


def _figure(title: str, height: float, body: Sequence[str], series: Sequence[Series], told: str = "") -> str:
    alt = f"{title}; {told}" if told else title
    names = legend([one.name for one in series]) if len(series) > 1 else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption>{names}<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(alt, quote=True)}">{"".join(body)}</svg></figure>'
    )


def _grid(left: float, span: float, bottom: float, most: float, unit: str, form: str) -> str:
    parts = []
    for step in range(0, 5, 2):
        x = left + span * step / 4
        parts.append(f'<path class="grid" d="M{x:.1f} 0V{bottom:.1f}"/>')
        parts.append(_text(x, bottom + 14, f"{most * step / 4:g}{unit}", "middle", "small"))
    return "".join(parts)


def _ticks(low: float, high: float, whole: bool) -> list[tuple[float, str]]:
    """Return about five places on an axis with their labels; whole numbers only where the values are whole."""
    step = max(1, math.ceil((high - low) / 5)) if whole else (high - low) / 4
    places = [low + step * index for index in range(int((high - low) / step + 1e-9) + 1)]
    return [(place, f"{place:z.3g}") for place in places]


def _text(x: float, y: float, text: str, anchor: str, kind: str = "", most: int = 19) -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(_short(text, most))}</text>'


def _short(text: str, most: int = 19) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _nice(value: float) -> float:
    """Return the next of 1, 2, 2.5, 4, 5, 10 times a power of ten at or above a value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 4, 5, 10) if factor * power >= value * 0.9999)
