"""One weight update, and validation in process: forward, decode, official scores; no CSV is written."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcase_seld.infer.collect import EventCollector
from dcase_seld.model.network import SeldNetwork, network_features
from dcase_seld.scoring.figures import figures_of, scored_as
from dcase_seld.scoring.official import score_clips
from dcase_seld.store.batches import Batch, Batches, ResidentSound
from dcase_seld.train.augment import Augment
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.losses import LossParts, teacher_term


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: SeldNetwork,
    batches: Batches,
    collector: EventCollector,
    loss: Any,
) -> dict[str, Any]:
    """Return the validation clips' macro scores as the task's edition has them (NaN as None), class-wise ones and loss.

    Args:
        fabric: devices, precision and processes; each validates its share of the clips.
        network: in evaluation mode.
        batches: the validation clips, each window once.
        collector: an empty collector over their sources.
        loss: (SeldOutput, SeldTarget) → LossParts.
    """
    total, clips = torch.zeros(1, dtype=torch.float64, device=fabric.device), 0
    for batch in batches.epoch(0):
        inputs = batch.input.to(fabric.device, non_blocking=True).floats()
        if inputs.features is None:
            assert inputs.wave is not None
            inputs = inputs.replace(features=network.frontend.extract(inputs.wave))
        with fabric.autocast():
            output = network(inputs)
        assert batch.target is not None
        parts: LossParts = loss(output, batch.target.map(lambda field: field.to(fabric.device, non_blocking=True)))
        total, clips = total + parts.total.double() * len(batch.index), clips + len(batch.index)
        collector.add(output, batch)
    events = collector.events(fabric)
    sums = torch.cat([total, torch.full_like(total, clips)])
    if fabric.world_size > 1:
        sums = fabric.all_reduce(sums, reduce_op="sum")  # type: ignore[assignment]
    task = network.task
    found, _ = score_clips(
        events, collector.reference(), task=scored_as(task), n_classes=len(task.classes), frames=None
    )
    scores = found.to_json()
    kept = {key: scores[key] for key in ("clips", *figures_of(task), "classwise")}
    return {**kept, "val_loss": float(sums[0] / sums[1])}


def part_names(config: TrainConfig, taught: bool = False) -> tuple[str, ...]:
    """Return the names of what `training_step` returns: the loss, and its terms before their weights."""
    own = [f"loss_{name}" for name in config.loss.terms if name != "adpit"]
    return ("loss", "loss_doa", "loss_distance", "loss_onscreen", *own, *(["loss_teacher"] if taught else []))


def training_step(
    fabric: Fabric,
    wrapped: Any,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss: Any,
    augment: Augment,
    config: TrainConfig,
    step: int,
    teacher: SeldNetwork | None = None,
    resident: ResidentSound | None = None,
) -> Tensor:
    """Return the loss and its terms (see `part_names`) of one weight update, computed in `config.accumulate` parts.

    Sound that is `resident` on the device is gathered there. Nothing in an update waits for the device. Everything
    random in it follows from (seed, step, rank), so a resumed run repeats it exactly.
    """
    seed = _mix(config.seed, step, fabric.global_rank)
    torch.manual_seed(seed)
    network: SeldNetwork = wrapped.module
    inputs, target = batch.input, batch.target
    assert target is not None
    with torch.no_grad():
        inputs = inputs.to(fabric.device, non_blocking=True)
        if resident is not None:
            inputs = inputs.replace(wave=resident.wave(batch))
        inputs = inputs.floats()
        target = target.map(lambda field: field.to(fabric.device, non_blocking=True))
        if config.augment.active:
            mirror = None if batch.mirror is None else batch.mirror.to(fabric.device, non_blocking=True).floats()
            inputs, target = augment(inputs, target, torch.Generator().manual_seed(seed), mirror)
        features = network_features(network, inputs.features, inputs.wave, fabric.device)
        inputs = inputs.replace(wave=None, features=features)
    names = part_names(config, teacher is not None)
    sums = torch.zeros(len(names), dtype=torch.float64, device=fabric.device)
    shared = fabric.world_size * config.accumulate > 1
    if shared:
        everyone = (target.count > 0).sum().float()
        if fabric.world_size > 1:
            everyone = fabric.all_reduce(everyone, reduce_op="sum")  # type: ignore[assignment]
    for number in range(config.accumulate):
        part = slice(number * len(features) // config.accumulate, (number + 1) * len(features) // config.accumulate)
        if config.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with fabric.no_backward_sync(wrapped, enabled=number + 1 < config.accumulate):
            piece = inputs.map(lambda t: t[part])  # noqa: B023
            output = wrapped(piece)
            parts: LossParts = loss(output, target.map(lambda t: t[part]))  # noqa: B023
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(piece)
                term = teacher_term(output, taught, config.loss.active_weight, config.model.head.log_distance)
                parts = parts.with_term("teacher", term, config.loss.teacher_weight)
            if shared:
                share = parts.active * fabric.world_size * config.accumulate / everyone.clamp(min=1)
                parts = parts.of_share(share)
            total = parts.total
            fabric.backward(total / config.accumulate)
        shown = [total, *(parts.terms[name.removeprefix("loss_")] for name in names[1:])]
        sums += torch.stack([value.detach() for value in shown]).double() / config.accumulate
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
