"""The training loss: multi-ACCDOA with auxiliary duplicating permutation-invariant training (ADPIT).

A frame with 1 or 2 sources of a class duplicates them over the 3 tracks, so that every track learns; the permutation
with the smallest error counts. Letters: B clips, T label frames, C classes, N tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.model.types import SeldOutput, SeldTarget
from dcase_seld.store.source import ClipSource
from dcase_seld.train.config import TrainConfig

OnscreenLoss = Literal["masked", "official", "none"]

DistanceLoss = Literal["everywhere", "active"]


class LossParts(NamedTuple):
    """The loss and its parts (scalars).

    Attributes:
        total: doa + distance + weight · onscreen; differentiable.
        doa: squared error of x and y; doa + distance is the official mean over tracks, x, y and distance, unless active
            class-frames are weighted.
        distance: squared error of distances (square metres, or of log(1 + metres)).
        onscreen: binary cross-entropy of the on-screen logits, before its weight.
        active: number of active class-frames, which `onscreen` (masked) is a mean over; to weigh ranks by.
    """

    total: Tensor
    doa: Tensor
    distance: Tensor
    onscreen: Tensor
    active: Tensor


def adpit_loss(
    output: SeldOutput,
    target: SeldTarget,
    *,
    onscreen_loss: OnscreenLoss = "masked",
    onscreen_weight: float | None = None,
    positive_weight: float = 3.0,
    log_distance: bool = False,
    active_weight: float = 1.0,
    distance_loss: DistanceLoss = "everywhere",
) -> LossParts:
    """Return the loss of a batch.

    Args:
        output: what the network said.
        target: what it should have said.
        onscreen_loss: masked (only where a source is active, positives weighted), official (everywhere, unweighted:
            the challenge baseline's) or none. An output without on-screen logits has none.
        onscreen_weight: factor of the on-screen term; None: 1 for official, 0.1 for masked, whose mean runs over few
            active class-frames and would drown the other terms.
        positive_weight: weight of "on screen" in the masked term, about off/on of the training labels.
        log_distance: compare log(1 + metres) instead of metres.
        active_weight: factor of errors of direction and distance where a source is active; 1 is the official loss.
        distance_loss: everywhere (where nothing sounds the distance should be 0: the official loss), or active, where
            silence leaves the distance alone.

    Source: K. Shimada et al., "Multi-ACCDOA", ICASSP 2022; the official baseline program for the normalisation.
    """
    predicted_distance = output.distance.float()
    reference = target.source
    if log_distance:
        predicted_distance = torch.log1p(predicted_distance)
        reference = torch.cat((reference[..., :2], torch.log1p(reference[..., 2:3]), reference[..., 3:]), -1)
    predicted_xy = output.xy.float()
    chosen = assign(predicted_xy.detach(), predicted_distance.detach(), target.number, reference)
    count = predicted_distance.numel() * 3
    sounding = target.number > 0
    active = sounding.sum()
    doa_error = functional.mse_loss(predicted_xy, chosen[..., :2], reduction="none").sum((-2, -1))
    distance_error = functional.mse_loss(predicted_distance, chosen[..., 2], reduction="none").sum(-1)
    silent = 0.0 if distance_loss == "active" else 1.0
    doa = (doa_error * torch.where(sounding, active_weight, 1.0)).sum() / count
    distance = (distance_error * torch.where(sounding, active_weight, silent)).sum() / count
    if output.onscreen is None or onscreen_loss == "none":
        return LossParts(doa + distance, doa, distance, torch.zeros_like(doa), active)
    logits = output.onscreen.float()
    if onscreen_loss == "official":
        onscreen = functional.binary_cross_entropy_with_logits(logits, chosen[..., 3])
        weight = 1.0 if onscreen_weight is None else onscreen_weight
    else:
        entropy = functional.binary_cross_entropy_with_logits(
            logits, chosen[..., 3], pos_weight=logits.new_tensor(positive_weight), reduction="none"
        )
        mask = sounding.to(entropy.dtype)[..., None]
        onscreen = (entropy * mask).sum() / (active * logits.shape[-1]).clamp(min=1)
        weight = 0.1 if onscreen_weight is None else onscreen_weight
    return LossParts(doa + distance + weight * onscreen, doa, distance, onscreen, active)


@torch.no_grad()
def assign(xy: Tensor, distance: Tensor, number: Tensor, source: Tensor) -> Tensor:
    """Return the target of every track, (B, T, C, N, 4): the sources in the permutation with the smallest error.

    Args:
        xy: (B, T, C, N, 2), predicted directions.
        distance: (B, T, C, N), predicted distances.
        number: (B, T, C), sources of this class in this frame.
        source: (B, T, C, N, 4): x, y, distance, on-screen; zeros beyond `number`.
    """
    tracks = distance.shape[3]
    source = source.to(xy.dtype)
    # Without a choice every track gets the first source, or zeros; the few class-frames with a choice are worked out.
    chosen = source[..., :1, :].expand_as(source).clone()
    several = number > 1
    permutations, incidence, sources = _permutations(tracks, xy.device)
    predicted = torch.cat((xy[several], distance[several][..., None]), -1)
    candidates = source[several]
    # A permutation's error is a sum of N of the N·N errors between a track and a source.
    pairwise = (predicted[:, :, None] - candidates[:, None, :, :3]).square().sum(-1)
    total = (pairwise.flatten(1) @ incidence).masked_fill(sources != number[several][:, None], torch.inf)
    order = permutations[total.argmin(1)]
    chosen[several] = candidates.gather(1, order[..., None].expand(*order.shape, 4))
    return chosen


@lru_cache(maxsize=8)
def _permutations(tracks: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return assignments (P, N) of tracks to sources, their incidence (N·N, P), and sources in each (P,)."""
    listed = [
        order
        for sources in range(1, tracks + 1)
        for order in product(range(sources), repeat=tracks)
        if set(order) == set(range(sources))
    ]
    permutations = torch.tensor(listed, device=device)
    incidence = functional.one_hot(permutations, tracks).flatten(1).T.to(torch.float32).contiguous()
    return permutations, incidence, permutations.amax(1) + 1


def positive_weight(sources: Sequence[ClipSource]) -> float:
    """Return the off-screen / on-screen ratio of the training labels, in [1, 20]; 1 if nothing is on screen."""
    on = total = 0
    for source in sources:
        events = source.store.events
        mine = np.isin(events.clip, source.indices)
        on, total = on + int(events.onscreen[mine].sum()), total + int(mine.sum())
    return float(np.clip((total - on) / on, 1.0, 20.0)) if on else 1.0


def make_loss(config: TrainConfig, sources: Sequence[ClipSource]) -> Callable[[SeldOutput, SeldTarget], LossParts]:
    """Return the configured loss; what it takes from the labels comes from `sources`."""
    weight = config.loss.positive_weight
    return partial(
        adpit_loss,
        onscreen_loss=config.loss.onscreen_loss,
        onscreen_weight=config.loss.onscreen_weight,
        positive_weight=positive_weight(sources) if weight == "auto" else weight,
        log_distance=config.model.head.log_distance,
        active_weight=config.loss.active_weight,
        distance_loss=config.loss.distance_loss,
    )
