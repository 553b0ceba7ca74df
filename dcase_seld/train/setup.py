"""What a training needs before its first step: devices, clips, statistics, optimizer, frozen weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcase_seld.data.batches import Batches, ClipSource
from dcase_seld.data.store import Store
from dcase_seld.data.tokens import TokenReader, tokens_of
from dcase_seld.errors import SeldError, listing
from dcase_seld.model.adpit import LossParts, adpit_loss
from dcase_seld.model.outputs import SeldOutput, SeldTarget
from dcase_seld.model.seld import SeldNetwork
from dcase_seld.model.weights import read_facts
from dcase_seld.train.checkpoint import model_folder
from dcase_seld.train.config import TrainConfig

STATISTICS_CLIPS = 1000
"""Clips that the front end's statistics are taken from, spread evenly over the training clips."""

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names of precisions → Lightning Fabric's."""


def make_fabric(config: TrainConfig, device: str) -> Fabric:
    """Return Lightning Fabric for the configured devices and precision, not yet launched.

    Several devices without torchrun or SLURM are started as processes of their own ("ddp_spawn").

    Raises:
        SeldError: the device or the precision is not to be had on this machine.
    """
    accelerator = {"cuda": "gpu"}.get(device, device)
    started_outside = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_NTASKS" in os.environ
    strategy = "auto" if config.devices * config.nodes == 1 else ("ddp" if started_outside else "ddp_spawn")
    if config.nodes > 1 and not started_outside:
        raise SeldError(
            f"nodes is {config.nodes}, but this process was started neither by torchrun nor by SLURM.",
            "Start the same command on every node with torchrun or srun, or set nodes to 1.",
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if config.precision == "fp16" and on_cpu:
        raise SeldError("precision fp16 needs a CUDA device; this training runs on a CPU.", "Use bf16 or fp32.")
    try:
        return Fabric(
            accelerator=accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=strategy,
            precision=PRECISION[config.precision],  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError) as error:
        raise SeldError(f"The device {device!r} cannot be used: {error}.", "Use --device cpu.") from error


def open_sources(
    stores: Sequence[Path],
    tokens: Sequence[Path],
    splits: Sequence[str],
    kinds: frozenset[str],
    weights: Sequence[float] | None = None,
) -> list[ClipSource]:
    """Return the labelled clips of the stores' splits, each store with the token folders that hold its clips.

    Args:
        stores: folders of prepare steps.
        tokens: folders of embed steps, in any order.
        splits: splits that are wanted.
        kinds: kinds of tokens that the network reads.
        weights: one per store, or None.

    Raises:
        SeldError: no clip is left, or tokens that the network needs are missing.
    """
    if weights is not None and len(weights) != len(stores):
        raise SeldError(
            f"weights has {len(weights)} numbers, but data names {len(stores)} stores.", "Give one per store."
        )
    readers = [TokenReader.open(folder) for folder in tokens]
    sources = []
    for number, folder in enumerate(stores):
        store = Store.open(folder)
        chosen = store.indices(list(splits))
        chosen = chosen[store.labelled[chosen]]
        if not len(chosen):
            continue
        fitting = tokens_of(store, {store.names[index] for index in chosen}, readers)
        found = {kind: reader for kind, reader in fitting.items() if kind in kinds}
        missing = sorted(kinds - found.keys())
        if missing:
            raise SeldError(
                f"The network reads {listing(missing)} tokens; no tokens folder has those of all clips of {folder}.",
                "Add an embed step on the same store, and name it in tokens.",
            )
        weight = None if weights is None else weights[number]
        if weight != 0:
            sources.append(ClipSource(store, chosen, [found[kind] for kind in sorted(found)], weight))
    return sources


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


@torch.no_grad()
def set_statistics(network: SeldNetwork, sources: Sequence[ClipSource], batch_size: int, device: torch.device) -> None:
    """Set the front end's mean and standard deviation per channel and band from the training clips."""
    thinned = []
    step = max(1, sum(len(source.indices) for source in sources) // STATISTICS_CLIPS)
    for source in sources:
        thinned.append(ClipSource(source.store, source.indices[::step], source.tokens))
    count = 0
    total, squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in Batches(thinned, batch_size=batch_size, targets=False).epoch(0):
        features = network_features(network, batch.input.features, batch.input.wave, device).double()
        count += features.shape[0] * features.shape[2]
        total = total.to(device) + features.sum((0, 2))
        squares = squares.to(device) + features.square().sum((0, 2))
    mean = total / count
    network.frontend.set_statistics(mean, (squares / count - mean.square()).clamp(min=0).sqrt())


def network_features(network: SeldNetwork, cached: Tensor | None, wave: Tensor | None, device: torch.device) -> Tensor:
    """Return features (B, A, T', F) on the device, from a cache or from the waveforms, always in float32."""
    if cached is not None:
        return cached.to(device, non_blocking=True).float()
    assert wave is not None
    with torch.autocast(device.type, enabled=False):
        features: Tensor = network.frontend.extract(wave.to(device, non_blocking=True))
        return features


def weights_origin(sources: Sequence[ClipSource], config: TrainConfig, init: Path | None) -> dict[str, Any]:
    """Return what a network's weights come from, for model.json and receipts.

    Tokens (specifications of the folders, by ModelInput field), random_weights (kinds of tokens, or of those of `init`,
    that were made by an untrained encoder), train_on (splits), features and augmentation.
    """
    before = read_facts(model_folder(init)).get("facts", {}) if init is not None else {}
    specs = {reader.spec.kind: asdict(reader.spec) for source in sources for reader in source.tokens}
    specs.pop("features", None)  # a cache, whose use depends on the device
    untrained = {kind for kind, spec in specs.items() if spec["random_weights"]} | set(before.get("random_weights", ()))
    return {
        "tokens": specs,
        "random_weights": sorted(untrained),
        "train_on": sorted({*config.train_on, *before.get("train_on", ())}),
        "features": list(config.model.frontend.features),
        "augment": config.augment.model_dump(mode="json", exclude_defaults=True),
    }


def freeze(network: nn.Module, prefixes: Sequence[str]) -> list[str]:
    """Return the names of the parameters that were frozen: those that start with one of the prefixes.

    Raises:
        SeldError: a prefix fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise SeldError(
                f"freeze: {prefix!r} is the beginning of no parameter's name.", f"They begin with {listing(parts, 20)}."
            )
    frozen = [name for name in names if name.startswith(tuple(prefixes))] if prefixes else []
    if len(frozen) == len(names):
        raise SeldError("freeze leaves nothing to train.", "Name fewer parts.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return frozen


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW over the trainable parameters; biases and norms are not decayed."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # On CPUs one kernel for all steps of an update takes a quarter of the time; with CUDA's, fp16 could not be clipped.
    fused = all(parameter.device.type == "cpu" for parameter in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, fused=fused or None)


def training_mode(network: nn.Module, config: TrainConfig) -> None:
    """Put the network into training mode, frozen batch norm (and that of frozen parts) into evaluation mode."""
    network.train()
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            config.freeze_batch_norm or (config.freeze and name.startswith(tuple(config.freeze)))
        ):
            module.eval()
