"""The rules for the CSV files of one system, checked in batches: memory does not grow with their number."""

from __future__ import annotations

import io
import logging
import math
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from dcase_seld.core.csv_rows import Limits, Rows, parse_careful, parse_files, sphere_mistakes
from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import parse_yaml
from dcase_seld.core.task import ONSCREEN_LIMIT_DEG
from dcase_seld.submission.archive import Findings
from dcase_seld.submission.layout import RANDOM, SIMULATED, Layout, Track

BATCH_FILES = 1_000

BATCH_BYTES = 2 * 2**20


class CsvChecker:
    """Checks files as they are added; call `finish` after the last one.

    Attributes:
        limits: what a file may hold.
        events: rows so far.
    """

    def __init__(self, layout: Layout, track: Track | None, findings: Findings) -> None:
        self.limits = Limits(layout.classes, layout.frames)
        self.events = 0
        self._layout, self._track, self._findings = layout, track, findings
        self._names: list[str] = []
        self._contents: list[bytes] = []
        self._bytes = 0
        self._repeated = self._far = 0
        self._example = ""

    def add(self, name: str, data: bytes) -> None:
        """Take one file."""
        self._names.append(name)
        self._contents.append(data)
        self._bytes += len(data)
        if len(self._names) >= BATCH_FILES or self._bytes > BATCH_BYTES:
            self._check()

    def finish(self, folder: str) -> None:
        """Check what is left and say what concerns the system as a whole."""
        self._check()
        if self._repeated:
            text = f"{self._repeated:,} rows repeat frame, class and source of another row, as in {self._example}"
            self._findings.warning("source-repeated", folder, f"{text}; the scorer gives them the next free track")
        if self._far:
            text = f"{self._far:,} rows are on screen at more than {ONSCREEN_LIMIT_DEG:.0f}°, outside the picture"
            self._findings.warning("onscreen-outside", folder, text)
        if not self.events:
            self._findings.warning("no-events", folder, "no file holds any event")

    def _check_sphere(self) -> None:
        for name, data in zip(self._names, self._contents, strict=True):
            for mistake in sphere_mistakes(data, self.limits):
                self._findings.error(mistake.rule, name, mistake.problem, mistake.line)
            self.events += sum(bool(line.strip()) for line in data.splitlines())
        self._names, self._contents, self._bytes = [], [], 0

    def _check(self) -> None:
        if self._layout.rows == "sphere":
            self._check_sphere()
            return
        rows, counts, mistakes = parse_files(self._contents, self.limits)
        self.events += len(rows)
        for index in sorted(mistakes):
            for mistake in parse_careful(self._contents[index], self.limits, most=20)[1]:
                self._findings.error(mistake.rule, self._names[index], mistake.problem, mistake.line)
        file = np.repeat(np.arange(len(counts)), counts)
        line = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + 2
        self._check_rows(rows, file, line)
        self._names, self._contents, self._bytes = [], [], 0

    def _check_rows(self, rows: Rows, file: np.ndarray, line: np.ndarray) -> None:
        azimuth, onscreen = rows[:, 3], rows[:, 5]
        for row in np.flatnonzero(np.abs(azimuth) > 90).tolist():
            text = f"azimuth {azimuth[row]} is outside [-90, 90]; fold it to the front"
            self._findings.error("azimuth-range", self._names[file[row]], text, int(line[row]))
        if self._track == "a":
            for row in np.flatnonzero(onscreen == 1).tolist():
                text = "onscreen is 1, but the audio-only track writes 0"
                self._findings.error("onscreen-track", self._names[file[row]], text, int(line[row]))
        self._far += int(np.count_nonzero((onscreen == 1) & (np.abs(azimuth) > ONSCREEN_LIMIT_DEG)))
        self._check_repeats(rows, file, line)

    def _check_repeats(self, rows: Rows, file: np.ndarray, line: np.ndarray) -> None:
        """Find rows that are the same, and count those that only share frame, class and source."""
        if not len(rows):
            return
        key = (file * self._layout.frames + rows[:, 0]) * self._layout.classes + rows[:, 1]
        key = key * (int(rows[:, 2].max()) - int(rows[:, 2].min()) + 1) + rows[:, 2] - rows[:, 2].min()
        order = np.argsort(key, kind="stable")
        same = key[order][1:] == key[order][:-1]
        crowded = np.sort(order[np.concatenate([same, [False]]) | np.concatenate([[False], same])])
        rows, file, line = rows[crowded], file[crowded], line[crowded]
        keyed = np.column_stack([file, rows])
        order = np.lexsort(keyed[:, ::-1].T)
        ordered = keyed[order]
        same = (ordered[1:, :4] == ordered[:-1, :4]).all(axis=1)
        twice = same & (ordered[1:, 4:] == ordered[:-1, 4:]).all(axis=1)
        for place in np.flatnonzero(twice).tolist():
            first, second = sorted((int(line[order[place]]), int(line[order[place + 1]])))
            text = f"the row is the same as that of line {first}"
            self._findings.error("duplicate-row", self._names[int(ordered[place, 0])], text, second)
        repeated = np.flatnonzero(same & ~twice)
        self._repeated += len(repeated)
        if len(repeated) and not self._example:
            place = order[repeated[0] + 1]
            self._example = f"{self._names[file[place]]}, line {line[place]}"


_MISSING = object()

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def check_meta(data: bytes, where: str, label: str, track: Track | None, layout: Layout, findings: Findings) -> Any:
    """Find everything that is wrong in a meta file; return its data, or None if it cannot be read."""
    try:
        meta = parse_yaml(data.decode("utf-8-sig"), "The file", version="1.1")
    except UnicodeDecodeError:
        findings.error("meta-yaml", where, "is not UTF-8 text")
        return None
    except SeldError as broken:
        line = re.search(r"line (\d+)", broken.problem)
        findings.error("meta-yaml", where, broken.problem, int(line.group(1)) if line else None)
        return None
    if not isinstance(meta, dict):
        findings.error("meta-yaml", where, "holds no fields")
        return None
    text = data.decode("utf-8-sig")

    def error(rule: str, field: str, message: str) -> None:
        findings.error(rule, where, f"{field}: {message}", line_of(text, field))

    def warning(rule: str, field: str, message: str) -> None:
        findings.warning(rule, where, f"{field}: {message}", line_of(text, field))

    if RANDOM in text:
        findings.warning("random-weights", where, "says that a network was never trained; this is no submission")
    if SIMULATED in str(_get(meta, "results.development_dataset.clips")):
        findings.warning("scores-simulated", where, "the development scores are of simulated scenes, not of real clips")
    for field in layout.meta_fields:
        value = _get(meta, field)
        if value is _MISSING:
            error("meta-field", field, "is missing")
        elif value is None and field not in layout.nullable:
            error("meta-field", field, "is null; a value is needed")
        elif value in ("", [], {}):
            error("meta-field", field, "is empty")
    _check_submission(meta, label, layout, error)
    parameters = _get(meta, "system.complexity.total_parameters")
    if parameters not in (_MISSING, None) and (
        isinstance(parameters, bool) or not isinstance(parameters, int) or parameters < 0
    ):
        error(
            "meta-parameters",
            "system.complexity.total_parameters",
            f"must be a whole number, got {reprlib.repr(parameters)}",
        )
    if track is not None:
        _check_scores(meta, layout, track, error, warning)
    return meta


def line_of(text: str, field: str) -> int | None:
    """Return the line of a dotted field in a YAML text, or of the deepest part of it that is there."""
    line, start, found = None, 0, None
    lines = text.split("\n")
    for part in field.split("."):
        for number in range(start, len(lines)):
            if re.match(rf"\s*(- )?{re.escape(part)}\s*:", lines[number]):
                found, start = number + 1, number + 1
                break
        else:
            break
        line = found
    return line


def _check_submission(meta: dict[str, Any], label: str, layout: Layout, error: Any) -> None:
    stated = _get(meta, "submission.label")
    if stated not in (_MISSING, None) and stated != label:
        error("meta-label", "submission.label", f"is {reprlib.repr(stated)}, but the folder says {label!r}")
    short = _get(meta, "submission.abbreviation")
    if isinstance(short, str) and len(short) > layout.abbreviation_length:
        error(
            "meta-abbreviation",
            "submission.abbreviation",
            f"{short!r} has {len(short)} characters; at most {layout.abbreviation_length} are allowed",
        )
    authors = _get(meta, "submission.authors")
    if authors in (_MISSING, None, []):
        return
    if not isinstance(authors, list) or not all(isinstance(author, dict) for author in authors):
        error("meta-authors", "submission.authors", "must be a list of authors")
        return
    for number, author in enumerate(authors, 1):
        missing = [field for field in layout.author_fields if _get(author, field) in (_MISSING, None, "")]
        if missing:
            error("meta-authors", "submission.authors", f"author {number} has no {', '.join(missing)}")
        email = author.get("email")
        if email and not _EMAIL.fullmatch(email if isinstance(email, str) else ""):
            error("meta-authors", "submission.authors", f"author {number}: {reprlib.repr(email)} is no e-mail address")
    corresponding = [author for author in authors if author.get("corresponding") is True]
    if len(corresponding) != 1:
        error("meta-corresponding", "submission.authors", f"{len(corresponding)} authors are corresponding, expected 1")


def _check_scores(meta: dict[str, Any], layout: Layout, track: Track, error: Any, warning: Any) -> None:
    overall = _get(meta, "results.development_dataset.overall")
    if overall in (_MISSING, None):
        return
    if not isinstance(overall, dict):
        error("meta-scores", "results.development_dataset.overall", f"must hold scores, got {reprlib.repr(overall)}")
        return
    for name, figure in layout.scores[track].items():
        field = f"results.development_dataset.overall.{name}"
        value = overall.get(name, _MISSING)
        if value is _MISSING:
            error("meta-scores", field, "is missing")
        elif value is None and all(overall.get(one) == 0 for one in list(layout.scores[track])[:1]):
            # Errors are means over pairs: where nothing was hit there may have been none.
            warning("meta-scores-open", field, "is null, as where no source was found; the first score is 0")
        elif value is None:
            error("meta-scores", field, "is null; give the score on the development test set")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            error("meta-scores", field, f"must be a number, got {reprlib.repr(value)}")
        elif value < 0 or (figure in layout.percent and value > 100):
            error("meta-scores", field, f"{value} is out of range")


def _get(data: Any, field: str) -> Any:
    """Return the value of a dotted field, or _MISSING."""
    for part in field.split("."):
        if not isinstance(data, dict) or part not in data:
            return _MISSING
        data = data[part]
    return data


LEAST_TEXT = 300
"""Characters that the first pages of a report must have as text (a scanned picture has none)."""


def check_report(data: bytes, where: str, authors: Sequence[str], findings: Findings) -> None:
    """Find everything that is wrong with a report. `authors`: last names that its first pages must have."""
    if data.lstrip()[:5] != b"%PDF-":
        findings.error("report-format", where, "is not a PDF (it does not begin with %PDF-)")
        return
    text = first_pages(data)
    if text is None:
        findings.error("report-format", where, "is a damaged or encrypted PDF")
        return
    plain = _plain(text)
    if len(re.sub(r"\s", "", text)) < LEAST_TEXT:
        findings.error("report-text", where, f"has less than {LEAST_TEXT} characters of text on its first pages")
        return
    letters = _letters(plain)
    missing = [name for name in authors if _letters(_plain(name)) not in letters]
    if missing:
        findings.error("report-authors", where, f"does not name {', '.join(missing)} on its first pages")
    place = plain.find("abstract")
    if "abstract" not in letters:
        findings.error("report-abstract", where, "has no abstract on its first pages")
    head = plain[: place if place >= 0 else 400]
    for name in authors:
        head = head.replace(_plain(name), " ")
    if len(re.findall(r"[^\W\d_]{2,}", head)) < 3:
        findings.error("report-title", where, "has no title before its abstract")


def first_pages(data: bytes, pages: int = 2) -> str | None:
    """Return the text of a PDF's first pages, or None if it cannot be read."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            return None
        return "\n".join(page.extract_text() or "" for page in reader.pages[:pages])
    except Exception:  # a damaged file may fail in any of the parser's own ways
        return None


def _plain(text: str) -> str:
    """Return a text in lower case without accents and with single spaces, for searching."""
    spread = unicodedata.normalize("NFKD", text).casefold()
    return " ".join("".join(c for c in spread if not unicodedata.combining(c)).split())


def _letters(plain: str) -> str:
    """Return the letters a–z alone: typesetting may part accents from letters, and letters from one another."""
    return re.sub("[^a-z]", "", plain)
