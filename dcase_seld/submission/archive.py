"""The zip as a thing that may be broken or hostile: opened without trusting it, read in bounded pieces."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dcase_seld.core.errors import shown
from dcase_seld.submission.layout import Layout

MOST_LISTED = 50
"""Findings of one rule that are kept; more are only counted, so a broken zip cannot fill the memory."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that deserves a look."""

    rule: str  # short name of the rule, as "frame-range"
    # "error": the organisers may refuse it or score it wrongly; "warning": it is allowed but odd
    severity: Literal["error", "warning"]
    where: str  # file in the zip, or "" for the zip itself
    line: int | None  # line of the file, or None
    text: str  # what is wrong: expected and got

    def __str__(self) -> str:
        place = f"{self.where}, line {self.line}: " if self.line else f"{self.where}: " if self.where else ""
        return shown(f"{self.severity}: {place}{self.text} [{self.rule}]", lines=False)


class Findings:
    """Collects findings; keeps the first of each rule and counts the rest."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[tuple[str, str]] = Counter()

    def error(self, rule: str, where: str, text: str, line: int | None = None) -> None:
        """Add an error."""
        self._add(Finding(rule, "error", where, line, text))

    def warning(self, rule: str, where: str, text: str, line: int | None = None) -> None:
        """Add a warning."""
        self._add(Finding(rule, "warning", where, line, text))

    @property
    def errors(self) -> int:
        """Return the number of errors, listed or not."""
        return sum(count for (severity, _), count in self.counts.items() if severity == "error")

    @property
    def warnings(self) -> int:
        """Return the number of warnings, listed or not."""
        return sum(count for (severity, _), count in self.counts.items() if severity == "warning")

    def rules(self, severity: str = "error") -> set[str]:
        """Return the names of the rules that were broken."""
        return {rule for (kind, rule) in self.counts if kind == severity}

    def lines(self) -> list[str]:
        """Return readable lines, errors first, and how many findings of a rule are not listed."""
        lines = [str(finding) for kind in ("error", "warning") for finding in self.kept if finding.severity == kind]
        for (severity, rule), count in self.counts.items():
            if count > MOST_LISTED:
                lines.append(f"{severity}: {count - MOST_LISTED:,} more of this kind are not listed [{rule}]")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return plain data: ok, numbers, and the listed errors and warnings."""
        return {
            "ok": self.errors == 0,
            "n_errors": self.errors,
            "n_warnings": self.warnings,
            "counts": {f"{severity}:{rule}": count for (severity, rule), count in sorted(self.counts.items())},
            "errors": [asdict(finding) for finding in self.kept if finding.severity == "error"],
            "warnings": [asdict(finding) for finding in self.kept if finding.severity == "warning"],
        }

    def _add(self, finding: Finding) -> None:
        key = (finding.severity, finding.rule)
        self.counts[key] += 1
        if self.counts[key] <= MOST_LISTED:
            self.kept.append(finding)


JUNK = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What systems add to zips by themselves: not wanted, but harmless."""

BOMB_RATIO = 200
"""Unpacked size / packed size that no honest file of a submission reaches (deflate ends near 1,030)."""

_END = struct.Struct("<4s4H2LH")

_END_LOCATOR = struct.Struct("<4sLQL")

_END_64 = struct.Struct("<4sQ2H2L4Q")

_ENTRY_BYTES = 46

_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def open_archive(path: Path, layout: Layout, findings: Findings) -> zipfile.ZipFile | None:
    """Return the open zip, or None if it is no zip or its list of files alone would fill the memory."""
    try:
        entries = count_entries(path)
        if entries is not None and entries > layout.entries:
            findings.error("zip-entries", "", f"the zip lists {entries:,} entries; at most {layout.entries:,} are read")
            return None
        return zipfile.ZipFile(path)
    except _READ_ERRORS as error:
        findings.error("zip-format", "", f"{path.name} is not a readable zip ({error})")
        return None


def count_entries(path: Path) -> int | None:
    """Return how many entries the end of a zip announces, at least as its list's size allows; None if unknown.

    Read by hand because a zip reader loads the whole list first.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        tail_start = max(0, size - 66_000)
        stream.seek(tail_start)
        tail = stream.read()
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or place + _END.size > len(tail):
            return None
        *_, count, list_bytes, _, _ = _END.unpack_from(tail, place)
        locator = place - _END_LOCATOR.size
        if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
            _, _, offset, _ = _END_LOCATOR.unpack_from(tail, locator)
            stream.seek(min(offset, size))
            record = stream.read(_END_64.size)
            if len(record) == _END_64.size and record[:4] == b"PK\x06\x06":
                fields = _END_64.unpack(record)
                count, list_bytes = fields[7], fields[8]
        return int(max(count, list_bytes // (_ENTRY_BYTES + 200)))


def safe_entries(archive: zipfile.ZipFile, layout: Layout, findings: Findings) -> list[zipfile.ZipInfo]:
    """Return the entries that may be read, ordered by place in the file; what is wrong with the others is found."""
    safe, seen = [], set()
    total, end = 0, 0
    for entry in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = entry.filename
        if entry.header_offset < end:
            findings.error("zip-overlap", name, "overlaps the file before it, as zip bombs do")
            continue
        end = entry.header_offset + 30 + len(name.encode("utf-8", "replace")) + entry.compress_size
        if (problem := _path_problem(entry.orig_filename)) is not None:
            findings.error("zip-path", name, problem)
            continue
        if stat.S_ISLNK(entry.external_attr >> 16):
            findings.error("zip-link", name, "is a link; only plain files are taken")
            continue
        if entry.is_dir():
            continue
        if any(junk in name for junk in JUNK):
            findings.warning("zip-junk", name, "is left by the operating system; leave it out")
            continue
        if name.casefold() in seen:
            findings.error(
                "zip-duplicate", name, "is in the zip twice (upper and lower case are the same on many systems)"
            )
            continue
        seen.add(name.casefold())
        if entry.flag_bits & 0x1:
            findings.error("zip-encrypted", name, "is encrypted")
            continue
        total += entry.file_size
        if entry.file_size > 100_000 and entry.file_size > BOMB_RATIO * max(entry.compress_size, 1):
            ratio = entry.file_size // max(entry.compress_size, 1)
            findings.error(
                "zip-bomb", name, f"unpacks to {entry.file_size:,} bytes, {ratio:,} times its size in the zip"
            )
            continue
        safe.append(entry)
    if total > layout.total_bytes:
        findings.error(
            "zip-size", "", f"the files unpack to {total:,} bytes; at most {layout.total_bytes:,} are allowed"
        )
    return safe


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int, findings: Findings) -> bytes | None:
    """Return a file's bytes, or None if it is larger than `most` or damaged; no more than `most` + 1 are unpacked."""
    if entry.file_size > most:
        findings.error("file-size", entry.filename, f"has {entry.file_size:,} bytes; at most {most:,} are allowed")
        return None
    try:
        with archive.open(entry) as stream:
            data = stream.read(most + 1)
            if len(data) <= most and stream.read(1) == b"":
                return data
    except _READ_ERRORS as error:
        findings.error("zip-damaged", entry.filename, f"cannot be unpacked ({error})")
        return None
    findings.error(
        "zip-bomb", entry.filename, f"unpacks to more than the {entry.file_size:,} bytes that the zip states"
    )
    return None


def _path_problem(name: str) -> str | None:
    if not name:
        return "has no name"
    if "\0" in name:
        return "has a NUL byte in its name"
    if "\\" in name:
        return "has a backslash in its name; use forward slashes"
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "is an absolute path"
    if ".." in name.split("/"):
        return "climbs out of the folder it is unpacked in"
    if any(ord(character) < 32 for character in name):
        return "has a control character in its name"
    return None
