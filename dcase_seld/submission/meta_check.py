"""The rules for one meta file."""

from __future__ import annotations

import math
import re
import reprlib
from typing import Any

import yaml

from dcase_seld.errors import SeldError
from dcase_seld.submission.findings import Findings
from dcase_seld.submission.layout import Layout, Track, load_yaml

_MISSING = object()
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def check_meta(data: bytes, where: str, label: str, track: Track | None, layout: Layout, findings: Findings) -> Any:
    """Find everything that is wrong in a meta file; return its data, or None if it cannot be read."""
    try:
        meta = load_yaml(data.decode("utf-8-sig"), "The file")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data.decode("utf-8-sig"), yaml.SafeLoader)):
            findings.error("meta-yaml", where, "uses aliases (*name), which can unfold without end; write values out")
            return None
    except UnicodeDecodeError:
        findings.error("meta-yaml", where, "is not UTF-8 text")
        return None
    except SeldError as broken:
        line = re.search(r"line (\d+)", broken.problem)
        findings.error("meta-yaml", where, broken.problem, int(line.group(1)) if line else None)
        return None
    except RecursionError:
        findings.error("meta-yaml", where, "is nested too deeply")
        return None
    if not isinstance(meta, dict):
        findings.error("meta-yaml", where, "holds no fields")
        return None
    text = data.decode("utf-8-sig")

    def error(rule: str, field: str, message: str) -> None:
        findings.error(rule, where, f"{field}: {message}", line_of(text, field))

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
        _check_scores(meta, layout, track, error)
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


def _check_scores(meta: dict[str, Any], layout: Layout, track: Track, error: Any) -> None:
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
