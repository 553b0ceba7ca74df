"""Validation in process: forward, decode, official scores; no CSV is written."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcase_seld.infer.collect import EventCollector
from dcase_seld.model.network import SeldNetwork, network_features
from dcase_seld.model.types import ModelInput, SeldTarget
from dcase_seld.scoring.official import score_events
from dcase_seld.store.batches import Batch, Batches
from dcase_seld.train.augment import Augment
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.losses import LossParts


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: SeldNetwork,
    batches: Batches,
    collector: EventCollector,
    loss: Any,
    threshold: float,
) -> dict[str, Any]:
    """Return the official macro scores (NaN as None), class-wise scores and the mean loss of the validation clips.

    Args:
        fabric: devices, precision and processes; each validates its share of the clips.
        network: in evaluation mode.
        batches: the validation clips, each window once.
        collector: an empty collector over their sources.
        loss: (SeldOutput, SeldTarget) → LossParts.
        threshold: activity threshold.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in batches.epoch(0):
        inputs = batch.input.to(fabric.device)
        if inputs.features is None:
            assert inputs.wave is not None
            inputs = inputs._replace(features=network.frontend.extract(inputs.wave))
        with fabric.autocast():
            output = network(inputs)
        assert batch.target is not None
        parts: LossParts = loss(output, type(batch.target)(*(t.to(fabric.device) for t in batch.target)))
        sums += torch.tensor([float(parts.total) * len(batch.index), len(batch.index)])
        collector.add(output, batch, thresholds=threshold)
    events = collector.events(fabric)
    if fabric.world_size > 1:
        sums = fabric.all_reduce(sums.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
    scores = score_events(events, collector.reference(), n_classes=len(network.taxonomy)).to_json()
    kept = {key: value for key, value in scores.items() if key not in ("jackknife", "track", "average", "protocol")}
    return {**kept, "val_loss": float(sums[0] / sums[1])}


PARTS = ("loss", "loss_doa", "loss_distance", "loss_onscreen")
"""What `training_step` returns."""


def training_step(
    fabric: Fabric,
    wrapped: Any,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss: Any,
    augment: Augment,
    config: TrainConfig,
    step: int,
) -> Tensor:
    """Return the loss parts (4,) of one weight update over a batch, computed in `config.accumulate` parts.

    Everything random in it follows from (seed, step, rank), so a resumed run repeats it exactly.
    """
    seed = _mix(config.seed, step, fabric.global_rank)
    torch.manual_seed(seed)
    network: SeldNetwork = wrapped.module
    inputs, target = batch.input, batch.target
    assert target is not None
    with torch.no_grad():
        inputs = inputs.to(fabric.device, non_blocking=True)
        target = SeldTarget(*(tensor.to(fabric.device, non_blocking=True) for tensor in target))
        if config.augment.active:
            mirror = None if batch.mirror is None else batch.mirror.to(fabric.device)
            inputs, target = augment(inputs, target, torch.Generator().manual_seed(seed), mirror)
        features = network_features(network, inputs.features, inputs.wave, fabric.device)
        inputs = inputs._replace(wave=None, features=features)
    sums = torch.zeros(len(PARTS), dtype=torch.float64, device=fabric.device)
    shared = config.loss.onscreen_loss == "masked" and fabric.world_size * config.accumulate > 1
    if shared:
        everyone = (target.number > 0).sum().float()
        if fabric.world_size > 1:
            everyone = fabric.all_reduce(everyone, reduce_op="sum")  # type: ignore[assignment]
    for number in range(config.accumulate):
        part = slice(number * len(features) // config.accumulate, (number + 1) * len(features) // config.accumulate)
        few = ModelInput(*(None if t is None else t[part] for t in inputs))
        with fabric.no_backward_sync(wrapped, enabled=number + 1 < config.accumulate):
            parts = loss(wrapped(few), SeldTarget(*(t[part] for t in target)))
            total = parts.total
            if shared:
                # A mean over active class-frames: weigh the mean of this part of the batch by its share of them.
                share = parts.active * fabric.world_size * config.accumulate / everyone.clamp(min=1)
                onscreen = parts.total - parts.doa - parts.distance
                total = parts.doa + parts.distance + onscreen * share
                parts = parts._replace(total=total, onscreen=parts.onscreen * share)
            fabric.backward(total / config.accumulate)
        shown = torch.stack([total.detach(), parts.doa.detach(), parts.distance.detach(), parts.onscreen.detach()])
        sums += shown.double() / config.accumulate
    if config.clip_norm > 0:
        fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return sums


def _mix(*numbers: int) -> int:
    """Return a well-mixed 63-bit seed of small numbers."""
    value = 0x9E3779B97F4A7C15
    for number in numbers:
        value = ((value ^ number) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
        value ^= value >> 31
    return value >> 1
