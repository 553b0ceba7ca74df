"""Which clips are cut out of recordings: listed by the user, or drawn at random."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcase_seld.errors import SeldError, listing
from dcase_seld.synth.recordings import Recording
from dcase_seld.task.facts import CLIP_FRAMES
from dcase_seld.task.foa import PEAK_LIMIT

COLUMNS = ("recording", "angle_deg", "start_frame")
"""Columns of a list of clips."""


@dataclass(frozen=True, order=True)
class Cut:
    """Which clip of a recording: viewing angle in degrees, 0 … 359, and first label frame."""

    recording: str
    angle_deg: int
    start_frame: int

    @property
    def name(self) -> str:
        """Return the clip's file stem."""
        return f"{self.recording}_deg{self.angle_deg:03d}_start{self.start_frame:04d}"


def read_cuts(path: Path, recordings: dict[str, Recording]) -> list[Cut]:
    """Return the clips listed in a CSV with the columns recording, angle_deg, start_frame.

    Raises:
        SeldError: names the line that is wrong, or the clip that occurs twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = tuple(name.strip() for name in reader.fieldnames or ())
            if not set(COLUMNS) <= set(header):
                raise SeldError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}, got {','.join(header)}.")
            reader.fieldnames = list(header)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SeldError(f"{path} cannot be read: {error}.", f"Give a CSV with {','.join(COLUMNS)}.") from error
    cuts = []
    for line, row in enumerate(rows, start=2):
        recording = recordings.get((row["recording"] or "").strip())
        if recording is None:
            raise SeldError(f"{path}, line {line}: there is no recording {row['recording']!r}.", "Check its name.")
        try:
            angle, start = int(row["angle_deg"]) % 360, int(row["start_frame"])
        except (TypeError, ValueError):
            raise SeldError(f"{path}, line {line}: angle_deg and start_frame must be whole numbers.") from None
        if not 0 <= start < recording.starts:
            raise SeldError(
                f"{path}, line {line}: start_frame {start} is outside 0 … {recording.starts - 1}, "
                f"where a clip of {CLIP_FRAMES} frames of {recording.name} can begin.",
                "Label frames are 100 ms.",
            )
        cuts.append(Cut(recording.name, angle, start))
    double = [cut.name for cut in cuts if cuts.count(cut) > 1] if len(set(cuts)) < len(cuts) else []
    if double or not cuts:
        raise SeldError(f"{path} lists {listing(sorted(set(double))) + ' twice' if double else 'no clip'}.")
    return cuts


def sample_cuts(
    recordings: Sequence[Recording], count: int, seed: int, is_good: Callable[[Cut], bool], workers: int = 1
) -> tuple[list[Cut], int]:
    """Return `count` different clips and how many were discarded; recordings are drawn by their length.

    Start and angle (whole degrees) are uniform. A clip that `is_good` refuses is replaced by another.

    Raises:
        SeldError: there are not so many clips.
    """
    usable = [recording for recording in recordings if recording.starts]
    if not usable:
        raise SeldError("No recording is 5 seconds long.", "Give longer recordings.")
    starts = np.array([recording.starts for recording in usable])
    rng = np.random.default_rng(seed)
    chosen: dict[Cut, None] = {}
    refused: set[Cut] = set()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for _ in range(200):
            draws = rng.choice(len(usable), count - len(chosen), p=starts / starts.sum())
            angles = rng.integers(0, 360, len(draws))
            places = rng.random(len(draws)) * starts[draws]
            drawn = (
                Cut(usable[index].name, angle, int(place))
                for index, angle, place in zip(draws.tolist(), angles.tolist(), places, strict=True)
            )
            new = [cut for cut in dict.fromkeys(drawn) if cut not in chosen and cut not in refused]
            for cut, good in zip(new, pool.map(is_good, new), strict=True):
                if good:
                    chosen[cut] = None
                else:
                    refused.add(cut)
            if len(chosen) == count:
                return list(chosen), len(refused)
    raise SeldError(
        f"Only {len(chosen)} of {count} clips could be drawn ({len(refused)} exceed the peak {PEAK_LIMIT}).",
        "Ask for fewer clips, or give softer or more recordings.",
    )
