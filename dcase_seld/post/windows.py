"""Recordings of any length: cut into the windows that a network was trained on, and its outputs stitched together.

Tracks are ordered independently in each window; where windows overlap they are aligned before they are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from dcase_seld.model.outputs import SeldOutput
from dcase_seld.post.ensemble import average_outputs


def window_starts(frames: int, window: int, hop: int) -> list[int]:
    """Return the first label frame of each window that covers a recording.

    The last window ends with the recording (it overlaps the one before it more than the others do), so that no window
    but that of a recording shorter than one window is padded with silence.

    Args:
        frames: label frames of the recording, at least 1.
        window: label frames of a window.
        hop: label frames from one window to the next, 1 … window.
    """
    if not 1 <= hop <= window:
        raise ValueError(f"hop must be 1 … {window}, got {hop}")
    last = max(0, frames - window)
    return [*range(0, last, hop), last]


def stitch(outputs: Sequence[SeldOutput], starts: Sequence[int], frames: int) -> SeldOutput:
    """Return one output (1, frames, …) of windows' outputs (1, T, …), given in the order of `starts`.

    A stretch of frames that several windows cover is their average; a window counts less the closer the stretch is to
    the window's edge, where the network has heard less of what comes before or after.
    """
    length = outputs[0].distance.shape[1]
    edges = sorted({0, frames, *starts, *(min(start + length, frames) for start in starts)})
    parts = []
    for begin, end in pairwise(edges):
        over = [(s, o) for s, o in zip(starts, outputs, strict=True) if s <= begin and end <= s + length]
        middle = (begin + end) / 2
        weights = [min(middle - s, s + length - middle) for s, _ in over]
        parts.append(average_outputs([cut_output(o, frames=slice(begin - s, end - s)) for s, o in over], weights))
    seen = [part.onscreen for part in parts if part.onscreen is not None]
    xy, distance = torch.cat([part.xy for part in parts], 1), torch.cat([part.distance for part in parts], 1)
    return SeldOutput(xy, distance, torch.cat(seen, 1) if seen else None)


def cut_output(output: SeldOutput, clips: slice = slice(None), frames: slice = slice(None)) -> SeldOutput:
    """Return some clips and label frames of an output, on the CPU."""
    xy, distance = output.xy[clips, frames].cpu(), output.distance[clips, frames].cpu()
    return SeldOutput(xy, distance, None if output.onscreen is None else output.onscreen[clips, frames].cpu())
