"""The one exception for mistakes that a user can mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


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
    names = [shown(str(item), lines=False) for item in items]
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def choose(name: str, value: object, known: Sequence[object]) -> None:
    """Refuse the value of an argument that is none of those known."""
    if value not in known:
        raise SeldError(f"{name} is {value!r}.", f"Give one of {listing(known)}.")


def sift(items: Iterable[T], look: Callable[[T], object]) -> tuple[list[T], list[str]]:
    """Return the items that `look` does not refuse, and what it says is wrong with each of the others."""
    kept, problems = [], []
    for item in items:
        try:
            look(item)
        except SeldError as error:
            problems.append(error.problem.rstrip("."))
        else:
            kept.append(item)
    return kept, problems


def first_lines(lines: Sequence[str], most: int) -> list[str]:
    """Return the first `most` lines, and a last one with the count of those left out."""
    return [*lines[:most], *([f"… and {len(lines) - most:,} more"] if len(lines) > most else [])]


def nearest(name: str, names: Iterable[str], before: str = "", after: str = "", otherwise: str = "") -> str:
    """Return "did you mean 'this'?" between two texts, of the name that is most alike, or what to say where none is."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"{before}did you mean {near[0]!r}?{after}" if near else otherwise


def near_names(name: str, names: Iterable[str]) -> str:
    """Return what to say of a name that is none of `names`: the nearest one, or which there are."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(known) or 'none'}."


def reason(error: BaseException) -> str:
    """Return what went wrong, of the system's errors without the path, which the sentence around it has said."""
    return getattr(error, "strerror", None) or str(error)


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says of a broken file, without its advice to open it unsafely."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return "it is no plain table of weights" if "weights_only" in text or "Weights only" in text else text[:300]


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str, lines: bool = True) -> str:
    """Return a text as a terminal may be given it: what would steer it or turn its direction is escaped.

    Names in archives and folders are a stranger's. Without `lines`, line ends and tabs are escaped too.
    """
    safe = _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return safe if lines else safe.replace("\n", "\\n").replace("\t", "\\t")


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that no space, or no quota, is left (safetensors reports it only as text)."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return type(error).__name__ == "SafetensorError" and any(
        sign in str(error) for sign in ("os error 28", "os error 122", "os error 27", "No space left")
    )
