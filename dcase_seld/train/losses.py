"""The training loss: multi-ACCDOA with auxiliary duplicating permutation-invariant training (ADPIT).

A frame with 1 or 2 sources of a class duplicates them over the 3 tracks, so that every track learns; the permutation
with the smallest error counts. Letters: B clips, T label frames, C classes, N tracks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.core.registry import LOSS_TERMS
from dcase_seld.model.types import SeldOutput, SeldTarget, require_shape
from dcase_seld.store.source import StoreSource
from dcase_seld.train.config import TrainConfig

OnscreenLoss = Literal["masked", "official", "none"]

DistanceLoss = Literal["everywhere", "active"]


class LossParts(NamedTuple):
    """The loss by its terms (scalars).

    Attributes:
        terms: name → value before its weight: "doa" (squared error of directions; doa + distance is the official mean
            over tracks, coordinates and distance, unless active class-frames are weighted), "distance" (squared error
            of distances, in square metres or of log(1 + metres)), "onscreen" (binary cross-entropy of the on-screen
            logits), and terms of one's own.
        weights: name → factor in the total.
        active: number of active class-frames, which the terms in `over_active` are means over.
        over_active: terms that are means over active class-frames; the others are means over clips.
    """

    terms: dict[str, Tensor]
    weights: dict[str, float]
    active: Tensor
    over_active: frozenset[str] = frozenset()

    @property
    def total(self) -> Tensor:
        """Return the weighted sum of all terms, differentiable."""
        total: Tensor | None = None
        for name, value in self.terms.items():
            weight = self.weights.get(name, 1.0)
            part = value if weight == 1.0 else weight * value
            total = part if total is None else total + part
        assert total is not None
        return total

    def with_term(self, name: str, value: Tensor, weight: float) -> LossParts:
        """Return the parts with one more term, a mean over clips."""
        return self._replace(terms={**self.terms, name: value}, weights={**self.weights, name: weight})

    def of_share(self, share: Tensor) -> LossParts:
        """Return the parts of a piece of a batch that holds `share` of the batch's active class-frames, times pieces.

        Their mean over pieces of equal numbers of clips is then the loss of the whole batch, whatever a term is a mean
        over.
        """
        terms = {name: value * share if name in self.over_active else value for name, value in self.terms.items()}
        return self._replace(terms=terms)


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
        onscreen_loss: as in `LossConfig`. An output without on-screen logits has none.
        onscreen_weight: factor of the on-screen term; None: 1 for official, 0.1 for masked, whose mean runs over few
            active class-frames and would drown the other terms.
        positive_weight: as in `LossConfig`.
        log_distance: compare log(1 + metres) instead of metres.
        active_weight: as in `LossConfig`.
        distance_loss: as in `LossConfig`.

    Source: K. Shimada et al., "Multi-ACCDOA", ICASSP 2022; the official baseline program for the normalisation.
    """
    predicted_distance = output.distance.float()
    target = target.of_tracks(predicted_distance.shape[3])
    if log_distance:
        predicted_distance = torch.log1p(predicted_distance)
        target = target._replace(distance=torch.log1p(target.distance))
    predicted = output.direction.float()
    chosen = assign(predicted.detach(), predicted_distance.detach(), target)
    count = predicted_distance.numel() * (predicted.shape[-1] + 1)
    sounding = target.count > 0
    active = sounding.sum()
    doa_error = functional.mse_loss(predicted, chosen.direction, reduction="none").sum((-2, -1))
    distance_error = functional.mse_loss(predicted_distance, chosen.distance, reduction="none").sum(-1)
    silent = 0.0 if distance_loss == "active" else 1.0
    doa = (doa_error * torch.where(sounding, active_weight, 1.0)).sum() / count
    distance = (distance_error * torch.where(sounding, active_weight, silent)).sum() / count
    terms, weights = {"doa": doa, "distance": distance, "onscreen": torch.zeros_like(doa)}, dict[str, float]()
    if output.onscreen is None or onscreen_loss == "none":
        return LossParts(terms, weights, active)
    logits = output.onscreen.float()
    if onscreen_loss == "official":
        onscreen = functional.binary_cross_entropy_with_logits(logits, chosen.onscreen)
        weight, over_active = 1.0 if onscreen_weight is None else onscreen_weight, frozenset[str]()
    else:
        entropy = functional.binary_cross_entropy_with_logits(
            logits, chosen.onscreen, pos_weight=logits.new_full((), positive_weight), reduction="none"
        )
        mask = sounding.to(entropy.dtype)[..., None]
        onscreen = (entropy * mask).sum() / (active * logits.shape[-1]).clamp(min=1)
        weight, over_active = 0.1 if onscreen_weight is None else onscreen_weight, frozenset(["onscreen"])
    return LossParts({**terms, "onscreen": onscreen}, {"onscreen": weight}, active, over_active)


@torch.no_grad()
def assign(direction: Tensor, distance: Tensor, target: SeldTarget) -> SeldTarget:
    """Return the target of every track: the sources in the permutation with the smallest error.

    Args:
        direction: (B, T, C, N, D), predicted directions.
        distance: (B, T, C, N), predicted distances.
        target: the sources of the classes; without a choice every track gets the first one, or zeros.
    """
    tracks, axes = distance.shape[3], direction.shape[-1]
    parts = (target.direction, target.distance[..., None], target.onscreen[..., None])
    source = torch.cat([part.to(direction.dtype) for part in parts], -1)
    count, candidates = target.count.flatten(), source.flatten(0, 2)
    chosen = candidates[:, :1].expand_as(candidates)
    permutations, incidence, sources = _permutations(tracks, direction.device)
    predicted = torch.cat((direction, distance[..., None]), -1).flatten(0, 2)
    # On a CPU the few class-frames with a choice are worked out; elsewhere all, since asking which ones would wait.
    several = torch.from_numpy(np.flatnonzero(count.numpy() > 1)) if count.device.type == "cpu" else None
    if several is not None:
        count, predicted, candidates = (part.index_select(0, several) for part in (count, predicted, candidates))
    # A permutation's error is a sum of N of the N·N errors between a track and a source.
    pairwise = (predicted[:, :, None] - candidates[:, None, :, : axes + 1]).square().sum(-1)
    total = (pairwise.flatten(1) @ incidence).masked_fill(sources != count[:, None], torch.inf)
    order = permutations[total.argmin(1)]
    taken = candidates.gather(1, order[..., None].expand(*order.shape, axes + 2))
    if several is not None:
        chosen = chosen.clone().index_copy_(0, several, taken)
    else:
        chosen = torch.where((count > 1)[:, None, None], taken, chosen)
    chosen = chosen.view(source.shape)
    return SeldTarget(target.count, chosen[..., :axes], chosen[..., axes], chosen[..., axes + 1])


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


def angle_term(output: SeldOutput, target: SeldTarget) -> Tensor:
    """Return how far sounding tracks point from their sources: the mean chord between unit vectors (scalar).

    The loss squares errors and so cares most for directions that are lost anyway; a chord counts every degree alike,
    as the DOA error does, whatever the track's activity.
    """
    target = target._replace(distance=torch.log1p(target.distance))
    predicted, distance = output.direction.float(), torch.log1p(output.distance.detach().float())
    chosen = assign(predicted.detach(), distance, target)
    apart = functional.normalize(predicted, dim=-1, eps=1e-3) - chosen.direction
    sounding = target.count > 0
    term: Tensor = ((apart.square().sum(-1) + 1e-6).sqrt().mean(-1) * sounding).sum() / sounding.sum().clamp(min=1)
    return term


def teacher_term(output: SeldOutput, taught: SeldOutput, active_weight: float, log_distance: bool) -> Tensor:
    """Return how far an output is from a teacher's (scalar): squared errors of direction and distance, as in the loss.

    Networks number their tracks as they like, so per class-frame the permutation of tracks with the smallest error
    counts. Class-frames are weighted by the teacher's activity, up to `active_weight` where it is sure; where it hears
    nothing the distance says nothing.
    """
    mine, theirs = (o.distance.float() for o in (output, taught))
    if log_distance:
        mine, theirs = torch.log1p(mine), torch.log1p(theirs)
    directions, wanted = output.direction.float(), taught.direction.float()
    activity = wanted.norm(dim=-1).clamp(max=1.0)
    # (B, T, C, N, N): the error between every track of the two.
    pairwise = (directions[..., :, None, :] - wanted[..., None, :, :]).square().sum(-1)
    pairwise = pairwise + (mine[..., :, None] - theirs[..., None, :]).square() * activity[..., None, :]
    # The last ones are those of as many sources as tracks.
    incidence = _permutations(mine.shape[-1], mine.device)[1][:, -math.factorial(mine.shape[-1]) :]
    error = (pairwise.flatten(-2) @ incidence).amin(-1)
    weight = 1.0 + (active_weight - 1.0) * activity.amax(-1)
    term: Tensor = (error * weight).sum() / (mine.numel() * (directions.shape[-1] + 1))
    return term


def positive_weight(sources: Sequence[StoreSource]) -> float:
    """Return the off-screen / on-screen ratio of the training labels, in [1, 20]; 1 if nothing is on screen."""
    on = total = 0
    for source in sources:
        events = source.store.events
        mine = np.isin(events.clip, source.clips)
        on, total = on + int(events.onscreen[mine].sum()), total + int(mine.sum())
    return float(np.clip((total - on) / on, 1.0, 20.0)) if on else 1.0


def make_loss(config: TrainConfig, sources: Sequence[StoreSource]) -> Callable[[SeldOutput, SeldTarget], LossParts]:
    """Return the configured loss; what it takes from the labels comes from `sources`."""
    weight = config.loss.positive_weight
    official = partial(
        adpit_loss,
        onscreen_loss=config.loss.onscreen_loss,
        onscreen_weight=config.loss.onscreen_weight,
        positive_weight=positive_weight(sources) if weight == "auto" else weight,
        log_distance=config.model.head.log_distance,
        active_weight=config.loss.active_weight,
        distance_loss=config.loss.distance_loss,
    )
    own = {name: LOSS_TERMS[name] for name in config.loss.terms if name != "adpit"}
    share = config.loss.terms.get("adpit", 0.0)

    def loss(output: SeldOutput, target: SeldTarget) -> LossParts:
        parts = official(output, target)
        if not own and share == 1.0:
            return parts
        target = target.of_tracks(output.distance.shape[3])
        weights = {name: share * parts.weights.get(name, 1.0) for name in parts.terms}
        terms = dict(parts.terms)
        for name, term in own.items():
            given = term(output, target)
            terms[name] = require_shape(f"The loss term {name}", given, (), "one number, a mean over clips")
        return parts._replace(terms=terms, weights={**weights, **{name: config.loss.terms[name] for name in own}})

    return loss
