"""Which clips of a corpus can go into a store, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence

from dcase_seld.errors import SeldError, listing
from dcase_seld.task.corpus import Clip, Corpus

FATAL = ("missing-audio", "duplicate", "empty-file", "unreadable")
"""Kinds of problems that a store cannot be built with; the others (no video, stray files, odd names) are only told."""


def usable_clips(
    corpus: Corpus, *, parts: Sequence[str] | None = None, need_video: bool = False, skip_broken: bool = False
) -> tuple[list[Clip], list[str]]:
    """Return the clips of a corpus that have sound, each name once, and readable lines of all problems.

    Args:
        corpus: the corpus.
        parts: only clips of these parts.
        need_video: a clip without video is a fatal problem too.
        skip_broken: leave out what is broken instead of refusing it; of clips with one name the first stays.

    Raises:
        SeldError: a part is not there, no clip is left, or there are fatal problems and `skip_broken` is False.
    """
    clips = list(corpus.clips)
    problems = list(corpus.problems)
    if parts is not None:
        there = sorted({clip.part for clip in clips})
        unknown = [part for part in parts if part not in there]
        if unknown:
            raise SeldError(f"{corpus.root} has no part {listing(unknown)}.", f"Choose of {listing(there, 20)}.")
        clips = [clip for clip in clips if clip.part in parts]
        others = [part for part in there if part not in parts]
        problems = [p for p in problems if not any(f"{part}/" in p.where for part in others)]
    fatal = [problem for problem in problems if problem.kind in FATAL]
    lines = [problem.text for problem in problems]
    if need_video:
        without = [clip for clip in clips if clip.video is None]
        if without and not skip_broken:
            names = listing(clip.name for clip in without)
            raise SeldError(
                f"{len(without)} of {len(clips)} clips of {corpus.root} have no video: {names}.",
                "Add the videos, or use `video: if_there`.",
            )
        clips = [clip for clip in clips if clip.video is not None]
    if fatal and not skip_broken:
        shown = "\n  ".join(problem.text for problem in fatal[:20])
        rest = f"\n  … and {len(fatal) - 20} more" if len(fatal) > 20 else ""
        raise SeldError(
            f"{corpus.root} has {len(fatal)} problem(s):\n  {shown}{rest}",
            "Mend them (`dcase-seld data check` lists all), or leave such clips out with `broken: skip`.",
        )
    seen: set[str] = set()
    good = []
    for clip in clips:
        if clip.audio is not None and clip.name not in seen:
            seen.add(clip.name)
            good.append(clip)
    if not good:
        raise SeldError(f"{corpus.root} has no clip with sound.", "Check the folder with `dcase-seld data check`.")
    return good, lines
