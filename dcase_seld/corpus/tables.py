"""Event tables of others, read: units are declared, never guessed; every claim is checked by its line and column."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.core.reading import read_text
from dcase_seld.core.task import FARTHEST_M, LABEL_RATE

COLUMNS = ("file", "onset", "offset", "label", "azimuth", "distance", "x", "y", "onscreen", "source", "split")
"""What a table may say; its columns have these names, or are named by `TableFormat.columns`."""

LATE_S = 0.05
"""An event may end so long after its sound: half a label frame, which is what rounding does."""

MOST_BYTES = 64 * 2**20
"""Size that no table of events reaches."""

SCREEN = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
"""What an on-screen cell may say."""

WRITTEN = re.compile(
    r"(?P<label>.+?) (?P<azimuth>\d+)° (?P<side>left|right) (?P<distance>[\d.]+) m(?P<on>, on screen)?"
)
"""The text of a label that `predict` writes for Audacity: its units stand in it."""

UNITS = {
    "time": ("seconds", "milliseconds", "frames"),
    "direction": ("degrees", "radians", "xy"),
    "positive": ("left", "right"),
    "distance": ("metres", "centimetres"),
}
"""What has to be declared, and what it may be."""


@dataclass(frozen=True)
class TableFormat:
    """What the cells of tables mean; what is None has to be declared where a row needs it.

    Attributes:
        time: "seconds", "milliseconds", or "frames" (from 0; an event ends before its offset frame, or
            lasts one frame where no offset is given).
        frame_s: length of a frame in seconds.
        direction: "degrees", "radians", or "xy": x to the front and y to the side, in the unit of `distance`.
        positive: side of positive azimuths (or y), "left" or "right"; 0 is the front.
        distance: "metres" or "centimetres".
        columns: name of COLUMNS → the name that the tables use.
        values: name of COLUMNS → what holds for every row.
        decimal_comma: numbers are written as 0,5.
    """

    time: str | None = None
    frame_s: float = 1 / LABEL_RATE
    direction: str | None = None
    positive: str | None = None
    distance: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    decimal_comma: bool = False

    def of(self, what: str) -> str:
        """Return a declared unit. Raises SeldError: it was not declared."""
        unit = getattr(self, what)
        if unit not in UNITS[what]:
            asked = "The side of positive azimuths" if what == "positive" else f"The unit of {what}"
            raise SeldError(f"{asked} is not declared.", f"Say --{what} {'|'.join(UNITS[what])}: it is never guessed.")
        return str(unit)


@dataclass(frozen=True)
class Row:
    """One row of a table: where it stands, its cells by the names of COLUMNS, what they mean."""

    table: Path
    line: int
    cells: Mapping[str, str]
    form: TableFormat

    def wrong(self, column: str, text: str, remedy: str = "Mend the table.") -> SeldError:
        """Return the error of a cell."""
        name = self.form.columns.get(column, column)
        return SeldError(f"{self.table}, line {self.line}, column {name!r}: {text}", remedy)

    def number(self, column: str) -> float:
        """Return a cell's number, or refuse."""
        cell = self.cells.get(column, "")
        text = cell.replace(",", ".") if self.form.decimal_comma else cell
        try:
            value = float(text) if "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            hint = "Write 0.5, or say --decimal-comma." if "," in cell else "Mend the table."
            raise self.wrong(column, f"{cell!r} is no number." if cell else "a number is missing.", hint)
        return value


@dataclass(frozen=True)
class Span:
    """One event of a recording: seconds, class, degrees to the left (|azimuth| ≤ 180), metres."""

    row: Row
    onset_s: float
    offset_s: float
    class_index: int
    azimuth_deg: float
    distance_m: float
    onscreen: bool


def read_rows(table: Path, form: TableFormat) -> Iterator[Row]:
    """Yield the rows of a table.

    Raises:
        SeldError: it cannot be read, or has no header with the columns that are needed.
    """
    text = read_text(table, MOST_BYTES, "Give a table of events, not of samples, as UTF-8 text.")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"\s*[\d.,eE+-]+\t[\d.,eE+-]+(\t.*)?", first):
        yield from _audacity(table, text, form)
        return
    for what in UNITS:
        form.of(what)
    mark = next((mark for mark in "\t;" if mark in first), ",")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise SeldError(f"{table} cannot be read: {error}.", "Give CSV, TSV, or semicolons.") from error
    header = [name.casefold() for name in lines[0][1]] if lines else []
    places = {}
    for name in COLUMNS:
        wanted = form.columns.get(name, name).casefold()
        if wanted in header:
            places[name] = header.index(wanted)
        elif name in form.columns:
            raise SeldError(
                f"{table}, line 1: there is no column {form.columns[name]!r}; its columns are {listing(header, 20)}.",
                f"Name the column: --column {name}=NAME.",
            )
    both = {*places, *form.values}
    needed = {"onset", "label", *({"x", "y"} if form.direction == "xy" else {"azimuth", "distance"})}
    needed |= set() if form.time == "frames" else {"offset"}
    if lacking := [name for name in COLUMNS if name in needed - both]:
        raise SeldError(
            f"{table}, line 1: there is no column {' and none '.join(lacking)}; its columns are {listing(header, 20)}.",
            f"Name it with --column {lacking[0]}=NAME, or say what holds for all rows with --value {lacking[0]}=….",
        )
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise SeldError(
                f"{table}, line {number}: {len(cells)} cells, but the header has {len(header)}.", "Mend the table."
            )
        found = {name: cells[place] for name, place in places.items()}
        yield Row(table, number, {"file": table.stem, **form.values, **found}, form)


def _audacity(table: Path, text: str, form: TableFormat) -> Iterator[Row]:
    """Yield the labels of an Audacity label track; the file has the name of its recording."""
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in line.split("\t")]
        if not line.strip() or cells[0] == "\\":  # the second line of a spectral label
            continue
        if len(cells) < 3:
            raise SeldError(f"{table}, line {number}: expected onset, offset and label.", "Export the labels again.")
        known = {**form.values, "file": table.stem, "onset": cells[0], "offset": cells[1], "label": cells[2]}
        own = replace(form, time="seconds")
        if written := WRITTEN.fullmatch(cells[2]):
            sign = "" if written["side"] == "left" else "-"
            known |= {"label": written["label"], "azimuth": sign + written["azimuth"], "distance": written["distance"]}
            known["onscreen"] = "1" if written["on"] else "0"
            own = replace(own, direction="degrees", positive="left", distance="metres", decimal_comma=False)
        elif lacking := [name for name in ("azimuth", "distance") if name not in known]:
            raise SeldError(
                f"{table}, line {number}: the label says no {' and no '.join(lacking)}.",
                f"Say what holds for all with --value {lacking[0]}=…, or write labels such as 'Bell 30° left 1.5 m'.",
            )
        for what in UNITS:
            own.of(what)
        yield Row(table, number, known, own)


def to_span(row: Row, class_index: int, seconds: float) -> Span:
    """Return the event of a row, whose recording has so many seconds.

    Raises:
        SeldError: names the line and the column that cannot be.
    """
    form, time = row.form, row.form.of("time")
    scale = {"seconds": 1.0, "milliseconds": 1e-3, "frames": form.frame_s}[time]
    onset = row.number("onset")
    offset = onset + 1 if time == "frames" and not row.cells.get("offset") else row.number("offset")
    if time == "frames" and (bad := [n for n, v in (("onset", onset), ("offset", offset)) if v != int(v)]):
        raise row.wrong(bad[0], f"{row.cells[bad[0]]} is no whole frame.", "Seconds are declared with --time seconds.")
    onset, offset = onset * scale, offset * scale
    if onset < 0:
        raise row.wrong("onset", f"{onset:g} s is before the recording begins.")
    if offset <= onset:
        raise row.wrong("offset", f"{offset:g} s is not after the onset, {onset:g} s.")
    if offset > seconds + LATE_S or onset >= seconds:
        hint = "Check the unit (--time) and the file."
        raise row.wrong("offset", f"{offset:g} s is beyond the end of the recording, {seconds:.3f} s.", hint)
    metres = {"metres": 1.0, "centimetres": 0.01}[form.of("distance")]
    direction, side = form.of("direction"), 1.0 if form.of("positive") == "left" else -1.0
    column = "azimuth"
    if direction == "xy":
        column, (x, y) = "x", (row.number("x"), row.number("y"))
        azimuth, length = math.degrees(math.atan2(y, x)) * side, math.hypot(x, y)
    else:
        azimuth = row.number("azimuth") * side * (1.0 if direction == "degrees" else 180 / math.pi)
        length = 0.0
    if abs(azimuth) > 180 + 1e-6:
        raise row.wrong("azimuth", f"{azimuth * side:.6g}° is beyond ±180°.", "Check the unit (--direction).")
    if direction != "xy" or row.cells.get("distance"):
        column, length = "distance", row.number("distance")
    distance = length * metres
    if not 0.005 < distance <= FARTHEST_M:
        what = "a source cannot be where the microphone is" if distance < 1 else f"at most {FARTHEST_M:,.0f} m can be"
        raise row.wrong(column, f"the distance is {distance:g} m; {what}.", "Check the unit (--distance).")
    said = row.cells.get("onscreen", "").casefold()
    if said not in SCREEN:
        raise row.wrong("onscreen", f"{said!r} is neither 0 nor 1.")
    if SCREEN[said] and abs(azimuth) > 90:
        raise row.wrong("onscreen", f"an event {abs(azimuth):.0f}° to the side is behind the camera.")
    return Span(row, onset, min(offset, seconds), class_index, azimuth, distance, SCREEN[said])


def to_events(name: str, spans: Sequence[Span], frames: int) -> Events:
    """Return the label frames of a recording: those whose middle an event covers, one at least.

    Sources are numbered by the tables' column, else so that events of a class that overlap have different numbers.
    Raises SeldError: one source of a class sounds twice at a time.
    """
    rows: list[tuple[int, int, int, float, float, bool]] = []
    taken: dict[tuple[int, str | int], list[tuple[int, int, Span]]] = defaultdict(list)
    numbers: dict[int, list[str]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: (span.onset_s, span.row.line)):
        first, last = (math.ceil(time * LABEL_RATE - 0.5 - 1e-6) for time in (span.onset_s, span.offset_s))
        if last <= first:
            first = int((span.onset_s + span.offset_s) / 2 * LABEL_RATE)
        first = min(first, frames - 1)
        last = min(max(last, first + 1), frames)

        def clash(source: str | int, span: Span = span, first: int = first, last: int = last) -> Span | None:
            others = taken[span.class_index, source]
            return next((other for low, high, other in others if low < last and first < high), None)

        key: str | int
        if "source" in span.row.cells:
            key, known_names = span.row.cells["source"], numbers[span.class_index]
            if not key:
                raise span.row.wrong("source", "a source is missing.", "Name every row's source, or no row's.")
            if (other := clash(key)) is not None:
                raise span.row.wrong("source", f"source {key!r} sounds already, by line {other.row.line}.")
            if key not in known_names:
                known_names.append(key)
            source = known_names.index(key)
        else:
            key = source = next(number for number in range(len(spans)) if clash(number) is None)
        taken[span.class_index, key].append((first, last, span))
        known = (span.class_index, source, span.azimuth_deg, span.distance_m, span.onscreen)
        rows += [(frame, *known) for frame in range(first, last)]
    columns = list(zip(*rows, strict=True)) or [()] * 6
    frame, sound, number = (np.asarray(column, np.int32) for column in columns[:3])
    azimuth, distance = (np.asarray(column, np.float64) for column in columns[3:5])
    clip = np.zeros(len(rows), np.int32)
    return Events((name,), clip, frame, sound, number, azimuth, distance, np.asarray(columns[5], np.bool_))
