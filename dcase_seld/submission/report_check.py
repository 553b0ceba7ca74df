"""The rules for the technical report: a PDF with text that tells its title, authors and abstract."""

from __future__ import annotations

import io
import logging
import re
import unicodedata
from collections.abc import Sequence

from dcase_seld.submission.findings import Findings

LEAST_TEXT = 300
"""Characters that the first pages of a report must have as text (a scanned picture has none)."""


def check_report(data: bytes, where: str, authors: Sequence[str], findings: Findings) -> None:
    """Find everything that is wrong with a report.

    Args:
        data: the file.
        where: its path, for messages.
        authors: last names that its first pages must have.
        findings: takes what is found.
    """
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
