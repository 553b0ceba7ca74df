"""The one exception for mistakes that a user can mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeldError(Exception):
    """A user's mistake: one sentence of what is wrong (where, expected, got), one of what to do.

    The command line prints it without a traceback and exits with status 1.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy


def listing(items: Iterable[object], most: int = 5) -> str:
    """Return the first `most` items joined by commas, with a count of those left out."""
    names = [str(item) for item in items]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def near_names(name: str, names: Iterable[str]) -> str:
    """Return what to say of a name that is none of `names`: the nearest one, or which there are."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(known) or 'none'}."


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says of a broken file, without its advice to open it unsafely."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return "it is no plain table of weights" if "weights_only" in text or "Weights only" in text else text[:300]
