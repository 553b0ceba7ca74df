"""From network outputs to events: activity threshold, unification of similar tracks, direction of what is left.

Letters: B clips, T label frames, C classes, N tracks (3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcase_seld.core.events import Events
from dcase_seld.core.geometry import fold
from dcase_seld.model.config import HeadConfig
from dcase_seld.model.types import SeldOutput

FIRST_LENGTH = -2.0
"""Logit of an ACCDOA vector's length in an untrained polar head: 0.12."""


def audio_fields(config: HeadConfig) -> int:
    """Return how many outputs the head has per track and class, without the on-screen logit."""
    return 4 if config.direction == "polar" else 3


class SeldHead(nn.Module):
    """Maps embeddings (B, T, E) to a SeldOutput: two linear layers and what keeps their outputs in range.

    The outputs of a track are, in order: x, y, distance, with `direction: polar` the length of (x, y), on-screen.
    """

    def __init__(self, config: HeadConfig, width: int, classes: int, onscreen: bool) -> None:
        super().__init__()
        self.config = config
        self.onscreen = onscreen
        self.shape = (config.tracks, audio_fields(config) + onscreen, classes)
        self.hidden = nn.Linear(width, config.hidden)
        self.out = nn.Linear(config.hidden, math.prod(self.shape))
        if config.direction == "polar":
            # Silence is the rule: from a length of 0.5 everywhere the first updates would only learn that.
            with torch.no_grad():
                self.out.bias.view(self.shape)[:, 3] = FIRST_LENGTH

    def forward(self, x: Tensor) -> SeldOutput:
        """Return directions, distances in metres and, where there is such a head, on-screen logits."""
        # float32: half precision would round azimuths to tenths of a degree and the loss with them.
        fields = self.out(self.hidden(x)).float().unflatten(-1, self.shape)
        if self.config.direction == "polar":
            xy = functional.normalize(fields[..., :2, :], dim=-2, eps=1e-3) * torch.sigmoid(fields[..., 3:4, :])
        else:
            xy = torch.tanh(fields[..., :2, :])
        positive = functional.relu if self.config.distance_activation == "relu" else functional.softplus
        distance = positive(fields[..., 2, :]).transpose(2, 3)
        if self.config.log_distance:
            distance = torch.expm1(distance)
        onscreen = fields[..., -1, :].transpose(2, 3) if self.onscreen else None
        return SeldOutput(xy.permute(0, 1, 4, 2, 3), distance, onscreen)


ACTIVITY_THRESHOLD = 0.5
"""Length of the direction vector above which a track is active."""

UNIFY_DEG = 15.0
"""Active tracks of one class closer than this (degrees) are one source."""

_PAIRS = ((0, 1), (1, 2), (2, 0))


def decode(
    output: SeldOutput,
    clips: Sequence[str],
    *,
    thresholds: float | npt.ArrayLike = ACTIVITY_THRESHOLD,
    unify_deg: float = UNIFY_DEG,
    onscreen_threshold: float = 0.5,
) -> Events:
    """Return the events of an output, sorted by clip, frame and class, with activity and on-screen probability.

    In a frame of a class, pairs of active tracks closer than `unify_deg` are similar. One similar pair becomes one
    event (means of x, y and distance; on-screen of the pair's first track), two or three pairs make one event of all
    three tracks. Source numbers count the events of a class in a frame, single tracks first.

    Args:
        output: directions, distances and on-screen logits (None: nothing is on screen, without a probability).
        clips: names of the B clips.
        thresholds: activity threshold, one or (C,).
        unify_deg: angle in degrees.
        onscreen_threshold: probability above which an event is on screen.

    Source: the official baseline program.
    """
    with torch.no_grad():
        xy = output.xy.detach().float().cpu().numpy()
        length = np.sqrt(np.square(xy).sum(-1))
        limit = np.asarray(thresholds, np.float32).reshape(-1, 1)
        active = length > limit
        cells = np.flatnonzero(active.any(-1))
        tracks = xy.shape[3]
        xy = xy.reshape(-1, tracks, 2)[cells].astype(np.float64)
        distance = output.distance.detach().float().cpu().numpy().reshape(-1, tracks)[cells].astype(np.float64)
        onscreen = None
        if output.onscreen is not None:
            onscreen = torch.sigmoid(output.onscreen.detach().float()).cpu().numpy().reshape(-1, tracks)[cells]
    length, active = length.reshape(-1, tracks)[cells], active.reshape(-1, tracks)[cells]
    members, first = _groups(xy, active, unify_deg)
    row, group = np.nonzero(members.any(-1))
    chosen = members[row, group]
    weight = chosen / chosen.sum(-1, keepdims=True)
    mean_xy = np.einsum("en,enk->ek", weight, xy[row])
    probability = None if onscreen is None else onscreen[row, first[row, group]]
    clip, frame, class_index = np.unravel_index(cells[row], tuple(output.distance.shape[:3]))
    # Rows come cell by cell: an event's number within its cell is its distance from the cell's first row.
    source = np.arange(len(row)) - np.searchsorted(row, row)
    return Events(
        clips=tuple(clips),
        clip=clip.astype(np.int32),
        frame=frame.astype(np.int32),
        class_index=class_index.astype(np.int32),
        source=source.astype(np.int32),
        azimuth_deg=fold(np.degrees(np.arctan2(mean_xy[:, 1], mean_xy[:, 0]))),
        distance_m=np.einsum("en,en->e", weight, distance[row]),
        onscreen=np.zeros(len(row), np.bool_) if probability is None else probability > onscreen_threshold,
        activity=np.minimum(np.where(chosen, length[row], 0.0).max(-1), 1.0).astype(np.float32),
        onscreen_probability=probability,
    )


def _groups(
    xy: npt.NDArray[np.float64], active: npt.NDArray[np.bool_], unify_deg: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return which tracks make up each event of M cells, (M, N groups, N tracks), and each event's first track (M, N).

    Args:
        xy: (M, N, 2).
        active: (M, N).
        unify_deg: angle in degrees.
    """
    cells, tracks = active.shape
    members = np.eye(tracks, dtype=np.bool_) & active[:, None, :]
    first = np.broadcast_to(np.arange(tracks), (cells, tracks)).copy()
    if tracks != 3:
        return members, first
    unit = xy / np.maximum(np.linalg.norm(xy, axis=-1, keepdims=True), 1e-10)
    cosine = np.stack([(unit[:, a] * unit[:, b]).sum(-1) for a, b in _PAIRS], 1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    similar = np.stack([active[:, a] & active[:, b] for a, b in _PAIRS], 1) & (angle < unify_deg)
    pairs = similar.sum(1)
    for index, (a, b) in enumerate(_PAIRS):
        rows = np.flatnonzero((pairs == 1) & similar[:, index])
        lone = 3 - a - b
        members[rows] = False
        members[rows, 0, lone] = active[rows, lone]
        members[rows, 1, a] = members[rows, 1, b] = True
        first[rows] = np.array([lone, a, b])
    rows = np.flatnonzero(pairs >= 2)
    members[rows] = False
    members[rows, 0] = True
    first[rows] = 0
    return members, first
