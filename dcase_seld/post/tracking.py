"""Who is who from one sampled frame to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dcase_seld.post.landmarks import HIPS, NOSE, SHOULDERS, Floats, body_size

REACH_SIZES_PER_S = 2.5
"""A person moves at most this many own sizes (torso lengths) a second in the picture."""
MEMORY_S = 1.5
"""A person who was not seen for longer than this gets a new number."""


def track(frames: Sequence[Sequence[Floats]], times_s: npt.NDArray[np.float64]) -> list[list[int]]:
    """Return a track number for every person of every frame; the same number is the same person.

    People of one frame are matched with the known tracks by the smallest sum of distances, so that their order within
    a frame does not matter.

    Args:
        frames: per sampled frame, the (33, 3) keypoints of its people.
        times_s: (V,) rising times of the frames in seconds.
    """
    numbers: list[list[int]] = []
    last: dict[int, tuple[float, Floats]] = {}
    following = 0
    for people, time_s in zip(frames, times_s, strict=True):
        known = [(number, seen) for number, seen in last.items() if time_s - seen[0] <= MEMORY_S]
        here: list[int] = [-1] * len(people)
        for person, position in _pair(people, [seen for _, seen in known], float(time_s)):
            here[person] = known[position][0]
        # New people are numbered from left to right, whatever order they are listed in.
        for person in sorted((i for i, n in enumerate(here) if n < 0), key=lambda i: float(people[i][NOSE, 0])):
            here[person] = following
            following += 1
        for number, keypoints in zip(here, people, strict=True):
            last[number] = (float(time_s), keypoints)
        numbers.append(here)
    return numbers


def _pair(people: Sequence[Floats], known: list[tuple[float, Floats]], time_s: float) -> list[tuple[int, int]]:
    """Return (person, known) index pairs within reach."""
    if not people or not known:
        return []
    from scipy.optimize import linear_sum_assignment

    cost = np.array([[_distance(p, seen) / _reach(time_s - at) for at, seen in known] for p in people])
    rows, columns = linear_sum_assignment(np.minimum(cost, 1.0))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] < 1.0]


def _reach(seconds: float) -> float:
    return 0.5 + REACH_SIZES_PER_S * max(seconds, 0.0)


def _distance(a: Floats, b: Floats) -> float:
    """Return how far two bodies are apart, in sizes of the larger one; different sizes count as distance too."""
    core = [NOSE, *SHOULDERS, *HIPS]
    both = [j for j in core if a[j, 2] > 0.3 and b[j, 2] > 0.3] or [NOSE]
    sizes = body_size(a), body_size(b)
    gap = float(np.median(np.linalg.norm(a[both, :2] - b[both, :2], axis=1)))
    return gap / max(sizes) + 0.5 * abs(float(np.log(sizes[0] / sizes[1])))
