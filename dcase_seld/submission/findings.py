"""What a check finds: errors and warnings, each with the name of its rule, the file and the line."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

MOST_LISTED = 50
"""Findings of one rule that are kept; more are only counted, so a broken zip cannot fill the memory."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that deserves a look.

    Attributes:
        rule: short name of the rule, as "frame-range".
        severity: "error": the organisers may refuse it or score it wrongly; "warning": it is allowed but odd.
        where: file in the zip, or "" for the zip itself.
        line: line of the file, or None.
        text: what is wrong: expected and got.
    """

    rule: str
    severity: Literal["error", "warning"]
    where: str
    line: int | None
    text: str

    def __str__(self) -> str:
        place = f"{self.where}, line {self.line}: " if self.line else f"{self.where}: " if self.where else ""
        return f"{self.severity}: {place}{self.text} [{self.rule}]"


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
