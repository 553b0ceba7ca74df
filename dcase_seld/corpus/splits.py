"""Which clip is for training, validation, test or evaluation: the one place that decides it.

Official test folds are "test" and evaluation clips "eval". Validation is held out from the training folds in whole
rooms or recordings, never clip by clip: the challenge's clips are random windows that overlap one another.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from dcase_seld.core.config import Config
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import name_parts
from dcase_seld.core.reading import read_table
from dcase_seld.corpus.layout import Clip
from dcase_seld.store.store import SPLITS

TEST_FOLD = 4
"""Clips of this fold are for testing. Source: the challenge's task description."""

SPLIT_FILE = "splits.csv"
"""A corpus that knows its own splits has this file in its root: header `name,split`, a clip, recording or room each."""


class SplitConfig(Config):
    """How validation clips are held out of the training folds."""

    by: Literal["auto", "corpus", "room", "recording", "part"] = Field(
        default="auto",
        description="What is held out as a whole: room (fold and room), recording (fold, room and mix), part (a folder "
        "such as dev-train-sony); corpus: what the corpus' own splits.csv says; auto: that file where there is one, "
        "else by room.",
    )
    fraction: float = Field(default=0.15, ge=0.0, lt=1.0, description="Share of the training clips to hold out, about.")
    seed: int = Field(default=0, description="Which rooms or recordings are held out.")


def assign(clips: Sequence[Clip], config: SplitConfig, root: Path | None = None) -> list[str]:
    """Return each clip's split, in the order of `clips`.

    A splits.csv in `root`, the corpus' folder, goes first. Raises SeldError: splits.csv is missing, broken or leaves
    clips out; or a single room or recording holds all training clips, so that nothing can be held out.
    """
    own = root / SPLIT_FILE if root is not None else None
    if config.by == "corpus" or (config.by == "auto" and own is not None and own.is_file()):
        if own is None or not own.is_file():
            raise SeldError(
                f"split.by is corpus, but there is no {own or SPLIT_FILE}.", "Use by: room, or add the file."
            )
        return _read_splits(own, clips)
    splits = [_official(clip) for clip in clips]
    by = "room" if config.by == "auto" else config.by
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, clip in enumerate(clips):
        if splits[index] == "train":
            # Rooms are drawn within each part, so that real and synthetic folds both have validation clips.
            groups["" if by == "part" else clip.part][group_of(clip, by)].append(index)
    held = [index for part in sorted(groups) for index in _hold_out(groups[part], config)]
    if groups and config.fraction > 0 and not held:
        # By what else these clips could be told apart: only that is worth advising.
        trained = [clip for index, clip in enumerate(clips) if splits[index] == "train"]
        finer = len({group_of(clip, "recording") for clip in trained}) > 1 and by != "recording"
        advice = "Use `split: {by: recording}`, or" if finer else "Add clips of another recording, or use"
        raise SeldError(
            f"No validation clips can be held out: all training clips belong to one {by}, "
            f"{next(iter(next(iter(groups.values()))))!r}.",
            f"{advice} `split: {{fraction: 0}}` to train without validation.",
        )
    for index in held:
        splits[index] = "val"
    return splits


def group_of(clip: Clip, by: str) -> str:
    """Return the name of what a clip is held out with: its part, room or recording.

    A name that does not follow the challenge's pattern is its own recording and room, up to "_deg" and "_start".
    """
    if by == "part":
        return clip.part
    parts = name_parts(clip.name)
    if parts is None:
        whole = re.fullmatch(r"(fold\d+_room\d+)_mix\d+", clip.name)  # a recording that no clips were cut of
        if whole is not None and by == "room":
            return whole.group(1)
        return clip.name.split("_deg")[0].split("_start")[0]
    room = f"fold{parts.fold}_room{parts.room}"
    return room if by == "room" else parts.recording


def _official(clip: Clip) -> str:
    """Return the split that the clip's folder says, or its fold where the folder says nothing."""
    for prefix, split in (("dev-train", "train"), ("dev-test", "test"), ("eval", "eval")):
        if clip.part.startswith(prefix):
            return split
    parts = name_parts(clip.name)
    return "test" if parts is not None and parts.fold == TEST_FOLD else "train"


def _hold_out(groups: dict[str, list[int]], config: SplitConfig) -> list[int]:
    """Return the clips of groups drawn in seeded order until about the fraction is held; never of all groups."""
    target = config.fraction * sum(len(group) for group in groups.values())
    # Hashed, not shuffled: a new room changes no other room's place in the order.
    order = sorted(
        groups, key=lambda name: hashlib.sha256(f"{config.seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    )
    held: list[str] = []
    count = 0
    for name in order:
        size = len(groups[name])
        if abs(count + size - target) < abs(count - target) and len(held) < len(groups) - 1:
            held.append(name)
            count += size
    if not held and config.fraction > 0 and len(groups) > 1:
        held = [min(order, key=lambda name: len(groups[name]))]
    return [index for name in held for index in groups[name]]


def _read_splits(path: Path, clips: Sequence[Clip]) -> list[str]:
    """Return each clip's split from a corpus' own file, whose names may be clips, recordings or rooms."""
    header, rows = read_table(path, "Give a CSV with the header name,split.")
    if header[:2] != ["name", "split"]:
        raise SeldError(f"{path}, line 1: expected the header name,split, got {header or 'nothing'}.")
    table: dict[str, str] = {}
    for line, row in rows:
        if (split := row["split"].strip()) not in SPLITS:
            raise SeldError(f"{path}, line {line}: expected a name and one of {', '.join(SPLITS)}, got {row}.")
        table[row["name"].strip()] = split
    found = [
        next(
            (table[key] for key in (clip.name, group_of(clip, "recording"), group_of(clip, "room")) if key in table), ""
        )
        for clip in clips
    ]
    missing = [clip.name for clip, split in zip(clips, found, strict=True) if not split]
    if missing:
        raise SeldError(
            f"{path} says nothing of {len(missing)} clip(s): {listing(missing)}.",
            "Add a line for each clip, its recording (fold1_room2_mix003) or its room (fold1_room2).",
        )
    return found
