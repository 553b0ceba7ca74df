"""The rules for the CSV files of one system, checked in batches: memory does not grow with their number."""

from __future__ import annotations

import numpy as np

from dcase_seld.submission.findings import Findings
from dcase_seld.submission.layout import Layout, Track
from dcase_seld.task.dcase_rows import Limits, Rows, parse_careful, parse_files
from dcase_seld.task.facts import ONSCREEN_LIMIT_DEG

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

    def _check(self) -> None:
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
