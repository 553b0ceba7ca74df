"""What a real set is like: how often its classes occur and how many sources overlap, counted in its label files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError
from dcase_seld.synth.bank import SoundBank
from dcase_seld.task.facts import CLIP_FRAMES, SAMPLE_RATE
from dcase_seld.task.taxonomy import Taxonomy

PAUSE_FRAMES = 10
"""A source that is silent longer (label frames) has begun another event."""
ASKED = 8
"""Recordings of a class whose length is looked at."""
MOST_LAYERS = 6
"""Windows with more overlapping sources count as this many."""


@dataclass(frozen=True)
class Prior:
    """How a set of labels is made up.

    Attributes:
        classes: (C,) share of each class among the events.
        layers: (0 … at most 6) share of 5-second windows whose largest overlap is 0, 1, 2, …
    """

    classes: tuple[float, ...]
    layers: tuple[float, ...]


def read_prior(folder: Path, taxonomy: Taxonomy) -> Prior:
    """Return the prior of all label files below a folder: official CSVs, or STARSS22/23's without a header.

    Raises:
        SeldError: no label file, a line that is no label, or a class outside the taxonomy.
    """
    files = sorted(folder.rglob("*.csv")) if folder.is_dir() else []
    if not files:
        raise SeldError(f"{folder} holds no label file (.csv).", "Give a folder of label files to imitate.")
    events: Counter[int] = Counter()
    layers: Counter[int] = Counter()
    for path in files:
        rows = _read(path)
        strange = rows[(rows[:, 1] < 0) | (rows[:, 1] >= len(taxonomy)), 1]
        if len(strange):
            raise SeldError(
                f"{path} has class {strange[0]}; {taxonomy.name} has classes 0 to {len(taxonomy) - 1}.",
                "Give labels of the same taxonomy.",
            )
        order = np.lexsort((rows[:, 0], rows[:, 2], rows[:, 1]))
        rows = rows[order]
        new = np.ones(len(rows), np.bool_)
        new[1:] = np.any(rows[1:, 1:] != rows[:-1, 1:], axis=1) | (np.diff(rows[:, 0]) > PAUSE_FRAMES)
        events.update(rows[new, 1].tolist())
        last = int(rows[:, 0].max(initial=0))
        overlap = np.bincount(rows[:, 0], minlength=(last // CLIP_FRAMES + 1) * CLIP_FRAMES)
        layers.update(np.minimum(overlap.reshape(-1, CLIP_FRAMES).max(axis=1), MOST_LAYERS).tolist())
    total = max(1, sum(events.values()))
    windows = sum(layers.values())
    return Prior(
        tuple(events[c] / total for c in range(len(taxonomy))),
        tuple(layers[k] / windows for k in range(max(layers) + 1)),
    )


def balanced(bank: SoundBank, n_classes: int, longest_s: float) -> tuple[float, ...]:
    """Return the class shares (C,) of events with which all classes sound for equally long.

    Args:
        bank: the dry sounds; a few recordings of every class tell how long its events are.
        n_classes: number of classes.
        longest_s: longer recordings are cut to this, in seconds.
    """
    lengths: dict[int, list[float]] = {}
    for recording in bank.recordings:
        heard = lengths.setdefault(recording.class_index, [])
        if len(heard) < ASKED:
            heard.append(min(bank.samples(recording) / SAMPLE_RATE, longest_s))
    weights = [1.0 / max(float(np.mean(lengths[c])), 0.3) if c in lengths else 0.0 for c in range(n_classes)]
    total = sum(weights) or 1.0
    return tuple(weight / total for weight in weights)


def _read(path: Path) -> npt.NDArray[np.int64]:
    """Return frame, class and source (E, 3) of a label file with or without a header."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SeldError(f"{path} cannot be read: {error}.", "Give readable label files.") from error
    for number, line in enumerate(lines, start=1):
        cells = line.split(",")
        if not line.strip() or (number == 1 and cells[0].strip() == "frame"):
            continue
        try:
            frame, kind, source = (int(cell) for cell in cells[:3])
        except ValueError:
            raise SeldError(
                f"{path}, line {number}: expected frame,class,source,… as integers, got {line[:60]!r}.",
                "Give label files of the challenge.",
            ) from None
        rows.append((max(frame, 0), kind, source))
    return np.asarray(rows, dtype=np.int64).reshape(-1, 3)
