"""The bytes of official CSV files → integer rows: fast for many clean files, careful and talkative for the others."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import methodcaller

import numpy as np
import numpy.typing as npt

from dcase_seld.core.task import CLIP_FRAMES

NAMES = ("frame", "class", "source", "azimuth", "distance", "onscreen")
"""Columns of the official CSV: label frame, class index, source number, degrees (left positive), centimetres, 0/1."""

HEADER = ",".join(NAMES)

MOST_DIGITS = 9
"""Numbers with more digits are refused: nothing that the format describes needs them."""

Rows = npt.NDArray[np.int32]

_HEADER_LINE = HEADER.encode() + b"\n"

_BOM = b"\xef\xbb\xbf"

_INTEGER = re.compile(r"[+-]?[0-9]+")

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Limits:
    """What a file may hold."""

    n_classes: int = 13  # classes are 0 … n_classes - 1
    frames: int | None = CLIP_FRAMES  # label frames of a clip (frames are 0 … frames - 1); None: any length

    @property
    def most_bytes(self) -> int:
        """Size in bytes above which a file cannot be one clip's events and is not read."""
        return 32 * 2**20 if self.frames is None else max(2**20, 20_000 * self.frames)


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a file: the line (1 = the header), a rule's short name, what is wrong, what to do."""

    line: int
    rule: str
    problem: str
    remedy: str


def parse_files(contents: Sequence[bytes], limits: Limits) -> tuple[Rows, npt.NDArray[np.int64], dict[int, Mistake]]:
    """Return the rows of many files one after the other, the rows of each file, and the first mistake of bad files.

    Rows keep the order of their file. A bad file contributes no rows.
    """
    bodies = [_body(data) for data in contents]
    chunks: list[Rows] = []
    counts = np.zeros(len(bodies), np.int64)
    mistakes: dict[int, Mistake] = {}
    # A range is parsed at once; where that fails, its halves, down to single files, which are read carefully.
    waiting = [(0, len(bodies))] if bodies else []
    while waiting:
        low, high = waiting.pop()
        part = bodies[low:high]
        known = [body for body in part if body is not None]
        rows = parse_clean(b"".join(known), limits) if len(known) == len(part) else None
        if rows is not None:
            counts[low:high] = [body.count(b"\n") for body in known]
            chunks.append(rows)
        elif high - low > 1:
            middle = (low + high) // 2
            waiting += [(middle, high), (low, middle)]
        else:
            rows, found = parse_careful(contents[low], limits, most=1)
            if found:
                mistakes[low] = found[0]
            else:
                counts[low] = len(rows)
                chunks.append(rows)

    return np.concatenate(chunks) if chunks else np.zeros((0, 6), np.int32), counts, mistakes


def parse_clean(text: bytes, limits: Limits) -> Rows | None:
    """Return the rows of lines without header, or None if anything at all is unusual in them."""
    rows = parse_integers(text, len(NAMES)) if text else np.zeros((0, 6), np.int32)
    return rows if rows is None or not len(rows) or _inside(rows, limits) else None


def parse_integers(text: bytes, columns: int) -> Rows | None:
    """Return the rows of lines of whole numbers, each line ending in a newline, or None if anything is unusual.

    Every number is taken from its place between separators in one vectorised pass over all bytes.
    """
    buffer = np.frombuffer(text, np.uint8)
    digit = buffer - np.uint8(48)  # wraps: 0…9 for digits, above for everything else
    ends = np.flatnonzero((buffer == 44) | (buffer == 10))
    if ends.size % columns or ends.size == 0:
        return None
    kinds = buffer[ends].reshape(-1, columns)
    if (kinds[:, :-1] != 44).any() or (kinds[:, -1] != 10).any():
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    negative = buffer[starts] == 45
    signs = np.count_nonzero(negative)
    if np.count_nonzero(digit < 10) + ends.size + signs != buffer.size:  # also catches a minus inside a number
        return None
    length = ends - starts - negative
    if length.min() < 1 or length.max() > MOST_DIGITS:
        return None
    value = digit[ends - 1].astype(np.int32)
    for place in range(1, int(length.max())):
        longer = np.flatnonzero(length > place)
        value[longer] += digit[ends[longer] - 1 - place] * np.int32(10**place)
    value[negative] *= -1
    return value.reshape(-1, columns)


def parse_careful(data: bytes, limits: Limits, most: int = 100) -> tuple[Rows, list[Mistake]]:
    """Return a file's rows and its mistakes, at most `most` of them; rows with a mistake are left out."""
    if len(data) > limits.most_bytes:
        return np.zeros((0, 6), np.int32), [oversized(len(data), limits)]
    text, mistakes = _decode(data)
    rows: list[list[int]] = []
    if text is None:
        return np.zeros((0, 6), np.int32), mistakes
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        return np.zeros((0, 6), np.int32), [Mistake(1, "empty-file", "the file is empty", _HEADER_REMEDY)]
    body = 1
    if [cell.strip() for cell in lines[0].split(",")] != list(NAMES):
        numbers = all(_INTEGER.fullmatch(cell.strip()) for cell in lines[0].split(","))
        problem = "the header is missing" if numbers else f"the header is {_short(lines[0])}"
        mistakes.append(Mistake(1, "header", f"{problem}, expected {HEADER!r}", _HEADER_REMEDY))
        body = 0 if numbers else 1
    for number, line in enumerate(lines[body:], start=body + 1):
        if len(mistakes) >= most:
            break
        found = _check_line(line, number, limits)
        if isinstance(found, Mistake):
            mistakes.append(found)
        else:
            rows.append(found)
    return np.asarray(rows, np.int32).reshape(-1, 6), mistakes[:most]


def parse_numbers(data: bytes, columns: Collection[int]) -> tuple[npt.NDArray[np.float64], Mistake | None]:
    """Return the (rows, k) numbers of a file without header, as the editions before 2025 write them, or its mistake.

    Every row has the same number of columns, one of `columns`; the first two, frame and class, are whole and not
    negative. An empty file has no rows.
    """
    nothing = np.zeros((0, max(columns)))
    width = data[: data.find(b"\n")].count(b",") + 1
    integers = parse_integers(data, width) if width in columns and b"." not in data else None
    if integers is not None and (integers[:, :2] >= 0).all():
        return integers.astype(np.float64), None
    text, mistakes = _decode(data)
    if text is None:
        return nothing, mistakes[0]
    text = text.replace("\r\n", "\n").rstrip("\n")
    lines = text.split("\n")
    if not text:
        return nothing, None
    width = lines[0].count(",") + 1
    if width in columns and set(map(methodcaller("count", ","), lines)) == {width - 1} and "_" not in text:
        try:
            rows = np.array(list(map(float, text.replace("\n", ",").split(",")))).reshape(-1, width)
        except ValueError:
            pass
        else:
            whole = (rows[:, :2] >= 0).all() and (rows[:, :2] == np.floor(rows[:, :2])).all()
            if whole and (np.abs(rows) < 10.0**MOST_DIGITS).all():
                return rows, None
    numbered = ((number, _number_mistake(line, number, width, columns)) for number, line in enumerate(lines, 1))
    return nothing, next(mistake for _, mistake in numbered if mistake is not None)


def sphere_mistakes(data: bytes, limits: Limits) -> list[Mistake]:
    """Return what is wrong with a file of the edition of 2024, predictions all around: the first mistake, or none.

    Rows are frame, class, source, azimuth, elevation, metres; or x, y, z in place of the two angles.
    """
    if len(data) > limits.most_bytes:
        return [oversized(len(data), limits)]
    rows, mistake = parse_numbers(data, (6, 7))
    if mistake is not None:
        return [mistake]
    last = 10**MOST_DIGITS if limits.frames is None else limits.frames - 1
    ranges = [("frame", 0, 0, last), ("class", 1, 0, limits.n_classes - 1)]
    if rows.shape[1] == 6:
        ranges += [("azimuth", 3, -180, 180), ("elevation", 4, -90, 90)]
    ranges.append(("distance", rows.shape[1] - 1, 0, 1_000))
    for name, column, low, high in ranges:
        outside = np.flatnonzero(~((rows[:, column] >= low) & (rows[:, column] <= high)))
        if len(outside):
            value = rows[outside[0], column]
            text = f"{name} {value:g} is outside [{low}, {high:g}]" + (", metres" if name == "distance" else "")
            return [Mistake(int(outside[0]) + 1, f"{name}-range", text, "Mend the file, or what wrote it.")]
    return []


def _number_mistake(line: str, number: int, width: int, columns: Collection[int]) -> Mistake | None:
    """Return what is wrong with a line of `parse_numbers`."""
    cells = [cell.strip() for cell in line.split(",")]
    plain = "Write numbers alone, without header and without empty lines, all rows of a file with the same columns."
    if number == 1 and not any(map(_DECIMAL.fullmatch, cells)):
        return Mistake(number, "header", f"expected numbers, got {_short(line)}", plain)
    if len(cells) not in columns or len(cells) != width:
        expected = width if width in columns else " or ".join(map(str, sorted(columns)))
        return Mistake(number, "columns", f"expected {expected} columns, got {len(cells)} in {_short(line)}", plain)
    for place, cell in enumerate(cells):
        if not _DECIMAL.fullmatch(cell) or abs(float(cell)) >= 10.0**MOST_DIGITS:
            return Mistake(number, "number", f"column {place + 1} must be a number, got {_short(cell)}", plain)
        if place < 2 and (float(cell) < 0 or float(cell) % 1):
            what = ("frame", "class")[place]
            return Mistake(number, "integer", f"{what} must be 0, 1, 2, …, got {_short(cell)}", plain)
    return None


def oversized(size: int, limits: Limits) -> Mistake:
    """Return the mistake of a file that is too large to be one clip's events."""
    return Mistake(
        1,
        "file-size",
        f"the file has {size:,} bytes, more than the {limits.most_bytes:,} that one clip's events can take",
        "Give one CSV per clip.",
    )


_HEADER_REMEDY = f"Begin every file with the line {HEADER!r}, also when nothing sounds in the clip."


def _body(data: bytes) -> bytes | None:
    """Return what follows the header, ending in a newline (or empty), or None if the header is not as expected."""
    if not data.startswith(_HEADER_LINE):
        data = data.removeprefix(_BOM).replace(b"\r\n", b"\n")
        if data == _HEADER_LINE[:-1]:
            return b""
        if not data.startswith(_HEADER_LINE):
            return None
    body = data[len(_HEADER_LINE) :]
    return body if body.endswith(b"\n") or not body else body + b"\n"


def _inside(rows: Rows, limits: Limits) -> bool:
    """Return whether every number is in its range."""
    frame, class_index, onscreen = rows[:, 0], rows[:, 1], rows[:, 5]
    return bool(
        frame.min() >= 0
        and (limits.frames is None or frame.max() < limits.frames)
        and class_index.min() >= 0
        and class_index.max() < limits.n_classes
        and rows[:, 4].min() >= 0
        and onscreen.min() >= 0
        and onscreen.max() <= 1
    )


def _decode(data: bytes) -> tuple[str | None, list[Mistake]]:
    """Return a file's text, or None and why its bytes are no text."""
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        return None, [Mistake(line, "nul-byte", "there is a NUL byte", "Write plain UTF-8 text; the file is damaged.")]
    try:
        return data.removeprefix(_BOM).decode("utf-8"), []
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return None, [Mistake(line, "encoding", "the text is not UTF-8", "Write plain UTF-8 text.")]


def _check_line(line: str, number: int, limits: Limits) -> list[int] | Mistake:
    """Return the six numbers of a line, or what is wrong with it."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(NAMES):
        got = "an empty line" if not line.strip() else f"{len(cells)} columns in {_short(line)}"
        return Mistake(number, "columns", f"expected 6 columns, got {got}", f"Write {HEADER} in every row.")
    for name, cell in zip(NAMES, cells, strict=True):
        if not _INTEGER.fullmatch(cell):
            return Mistake(number, "integer", f"{name} must be an integer, got {_short(cell)}", _INTEGER_REMEDY)
        if len(cell.lstrip("+-").lstrip("0")) > MOST_DIGITS:
            return Mistake(number, "number-size", f"{name} is absurdly large: {_short(cell)}", _INTEGER_REMEDY)
    values = [int(cell) for cell in cells]
    frame, class_index, _, _, distance, onscreen = values
    if frame < 0 or (limits.frames is not None and frame >= limits.frames):
        last = "" if limits.frames is None else f"…{limits.frames - 1}"
        return Mistake(
            number,
            "frame-range",
            f"frame {frame} is outside the clip (0{last})",
            "Frames are 100 ms, counted from 0; for longer recordings give their number of frames.",
        )
    if not 0 <= class_index < limits.n_classes:
        return Mistake(
            number,
            "class-range",
            f"class {class_index} is outside the list of classes (0…{limits.n_classes - 1})",
            "Classes are numbered from 0 in the order of their list; other classes are told by a file taxonomy.yaml.",
        )
    if distance < 0:
        return Mistake(
            number, "distance-negative", f"distance {distance} cm is negative", "Write the distance in centimetres."
        )
    if onscreen not in (0, 1):
        return Mistake(
            number,
            "onscreen-value",
            f"onscreen must be 0 or 1, got {onscreen}",
            "Apply a threshold to the probability before writing.",
        )
    return values


_INTEGER_REMEDY = "Round: azimuth to whole degrees, distance to whole centimetres."


def _short(text: str, most: int = 60) -> str:
    """Return a text in quotes, shortened, so that a damaged file cannot flood the terminal."""
    return repr(text) if len(text) <= most else repr(text[:most]) + "…"
