"""What a training needs before its first step: devices, clips, statistics, optimizer, frozen weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.work import progress
from dcase_seld.infer.devices import open_fabric, single_device
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.network import SeldNetwork, network_features
from dcase_seld.model.weights import load_model, model_folder, read_facts
from dcase_seld.store.batches import Batches, ResidentSound, Sampling
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader, TokenSpec, TokenWriter
from dcase_seld.train.config import TrainConfig

STATISTICS_CLIPS = 1000
"""Clips that the front end's statistics are taken from, spread evenly over the training clips."""

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names of precisions → Lightning Fabric's."""


def make_fabric(config: TrainConfig, device: str) -> Fabric:
    """Return Lightning Fabric for the configured devices and precision, not yet launched.

    Raises:
        SeldError: the device or the precision is not to be had on this machine.
    """
    on_cpu = single_device(device).type == "cpu"
    if config.precision == "fp16" and on_cpu:
        raise SeldError("precision fp16 needs a CUDA device; this training runs on a CPU.", "Use bf16 or fp32.")
    if config.cuda_graphs and (single_device(device).type != "cuda" or config.devices * config.nodes > 1):
        raise SeldError(
            f"cuda_graphs needs one CUDA device; this training runs on {config.devices * config.nodes} × "
            f"{single_device(device).type}.",
            "Set cuda_graphs: false; compile may stay.",
        )
    if not on_cpu:
        # What stays in float32 is rounded to TF32 where it is multiplied, as convolutions are anyway.
        torch.set_float32_matmul_precision("high")
    return open_fabric(device, config.devices, config.nodes, PRECISION[config.precision])


@torch.no_grad()
def set_statistics(
    network: SeldNetwork, sources: Sequence[StoreSource], batch_size: int, device: torch.device, known: int = 0
) -> None:
    """Set the front end's mean and standard deviation per channel and band from the training clips.

    Args:
        network: on `device`.
        sources: the training clips; a few hundred of them are heard.
        batch_size: clips at a time.
        device: where the network runs.
        known: the first so many channels keep what they have.
    """
    before = network.frontend.mean[:known].clone(), network.frontend.std[:known].clone()
    thinned = []
    step = max(1, sum(len(source.clips) for source in sources) // STATISTICS_CLIPS)
    for source in sources:
        thinned.append(source.with_clips(source.clips[::step]))
    count = 0
    total, squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in Batches(thinned, batch_size=batch_size, targets=False).epoch(0):
        features = network_features(network, batch.input.features, batch.input.wave, device).double()
        count += features.shape[0] * features.shape[2]
        total = total.to(device) + features.sum((0, 2))
        squares = squares.to(device) + features.square().sum((0, 2))
    mean = total / count
    network.frontend.set_statistics(mean, (squares / count - mean.square()).clamp(min=0).sqrt())
    network.frontend.mean[:known], network.frontend.std[:known] = before


def load_teacher(folder: Path, config: TrainConfig) -> SeldNetwork:
    """Return a network whose outputs another one learns to give, in evaluation mode, its weights frozen.

    Raises:
        SeldError: it hears other features or has other tracks than the network that is to be trained.
    """
    teacher = load_model(model_folder(folder))
    for field, theirs, ours in (
        ("model.frontend", teacher.config.frontend, config.model.frontend),
        ("model.head.tracks", teacher.config.head.tracks, config.model.head.tracks),
    ):
        if theirs != ours:
            raise SeldError(
                f"{field} of the teacher {folder} differs from that of the network to be trained: {theirs} and {ours}.",
                f"Give both the same {field}.",
            )
    return teacher.requires_grad_(False).eval()


def weights_origin(
    sources: Sequence[StoreSource], config: TrainConfig, init: Path | None, teacher: Path | None = None
) -> dict[str, Any]:
    """Return what a network's weights come from, for model.json and receipts.

    Tokens (specifications of the folders, by encoder), random_weights (encoders, of `init` too, that were never
    trained), train_on (splits), features, augmentation and loss.
    """
    before = read_facts(model_folder(init)).get("facts", {}) if init is not None else {}
    readers = [reader for source in sources for reader in source.readers if reader.spec.name in config.model.fusion]
    specs = {reader.spec.name: asdict(reader.spec) for reader in readers}
    taught = {} if teacher is None else read_facts(model_folder(teacher)).get("facts", {})
    untrained = {name for name, spec in specs.items() if spec["random_weights"]} | {*before.get("random_weights", ())}
    untrained |= set(taught.get("random_weights", ()))
    return {
        "tokens": specs,
        "random_weights": sorted(untrained),
        "train_on": sorted({*config.train_on, *before.get("train_on", ())}),
        "features": list(config.model.frontend.features),
        "augment": config.augment.model_dump(mode="json", exclude_defaults=True),
        "loss": config.loss.model_dump(mode="json", exclude_defaults=True),
    }


def unlike_loss(init: Path, config: TrainConfig) -> str | None:
    """Return what to say where a network that learned to speak up goes on with a loss that teaches silence, or None."""
    learned = read_facts(model_folder(init))["facts"].get("loss") or {}
    said = {name: learned[name] for name in ("active_weight", "distance_loss") if name in learned}
    if not said or all(getattr(config.loss, name) == value for name, value in said.items()):
        return None
    words = ", ".join(f"{name}: {value}" for name, value in said.items())
    return (
        f"note: {init} learned with `loss: {{{words}}}`, and this training has another. With the official loss such a "
        "network falls silent within a few epochs; give that one to keep what it knows."
    )


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
    # One kernel for all steps of an update; but with fp16's scaler, gradients could not be clipped before it.
    kinds = {parameter.device.type for parameter in trained}
    fused = kinds == {"cpu"} or (kinds == {"cuda"} and (config.precision != "fp16" or config.clip_norm == 0))
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, fused=fused or None)


def training_mode(network: nn.Module, config: TrainConfig) -> None:
    """Put the network into training mode, frozen batch norm (and that of frozen parts) into evaluation mode."""
    network.train()
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            config.freeze_batch_norm or (config.freeze and name.startswith(tuple(config.freeze)))
        ):
            module.eval()


def add_cached_features(sources: Sequence[StoreSource], frontend: FrontEnd, fabric: Fabric, quiet: bool) -> None:
    """Give every source a reader of its store's cached features; what is missing is computed now, by rank 0."""
    folders = {source.store.folder for source in sources}
    for folder in sorted(folders):
        if fabric.is_global_zero:
            build_cache(Store.open(folder), frontend, quiet)
    fabric.barrier()
    for source in sources:
        source.cache = TokenReader.open(cache_folder(source.store, frontend))


def cache_folder(store: Store, frontend: FrontEnd) -> Path:
    """Return where the features of a store lie for a front end."""
    return store.folder / f"features-{frontend.fingerprint()}"


def can_cache(store: Store, frontend: FrontEnd) -> bool:
    """Return whether every clip is one window long (a cache holds one row per clip), and the disk has ample room."""
    folder = cache_folder(store, frontend)
    if not (store.frames <= store.task.window_frames).all():
        return False
    if (folder / "tokens.json").is_file():
        return True
    size = 2 * len(store) * int(np.prod(row_shape(store, frontend)))
    return os.access(store.folder, os.W_OK) and shutil.disk_usage(store.folder).free > 2 * size


def row_shape(store: Store, frontend: FrontEnd) -> tuple[int, int, int]:
    """Return (A, T', F) of one window's features."""
    frames = store.task.window_frames * frontend.config.frames_per_label
    return len(frontend.channels), frames, frontend.config.mels


@torch.no_grad()
def build_cache(store: Store, frontend: FrontEnd, quiet: bool = True) -> None:
    """Write the unstandardised features (fp16) of all clips of a store, unless they are there; resumable.

    Raises:
        SeldError: the disk is full.
    """
    folder = cache_folder(store, frontend)
    if (folder / "tokens.json").is_file():
        return
    device = frontend.mean.device
    spec = TokenSpec("features", "features", "front end", frontend.fingerprint(), False, row_shape(store, frontend))
    writer = TokenWriter(folder, spec, store.names)
    with progress("features", len(store), "clips", quiet) as advance:
        for shard, rows in writer.pending():
            batches = Batches(StoreSource(store, np.arange(rows.start, rows.stop)), 16, targets=False)
            parts = []
            for batch in batches.epoch(0):
                assert batch.input.wave is not None
                parts.append(frontend.extract(batch.input.wave.to(device)).half().cpu())
                advance(len(batch.index))
            writer.write(shard, torch.cat(parts).numpy())
    writer.finish()


def resident_sound(config: TrainConfig, sources: Sequence[StoreSource], device: torch.device) -> ResidentSound | None:
    """Return the sources' sound on the training device, where it shall live there, or None.

    Raises:
        SeldError: data_on is device, and its memory is too small.
    """
    if config.data_on == "host" or any(source.cached for source in sources):
        return None
    if device.type != "cuda":
        return ResidentSound(sources, device) if config.data_on == "device" else None
    fits = fits_on_device(config, ResidentSound.size(sources), torch.cuda.mem_get_info(device)[0])
    return ResidentSound(sources, device) if fits else None


def fits_on_device(config: TrainConfig, need: int, free: int) -> bool:
    """Return whether `need` bytes of sound may live on a device with `free` bytes.

    Raises:
        SeldError: data_on is device, and they may not.
    """
    if need > config.data_share * free and config.data_on == "device":
        raise SeldError(
            f"data_on is device, but the sound takes {need / 1e9:.1f} GB of {free / 1e9:.1f} GB that are free there, "
            f"more than data_share {config.data_share:g} of it.",
            "Set data_on: auto or host, or raise data_share.",
        )
    return need <= config.data_share * free


def make_batches(
    config: TrainConfig, sources: Sequence[StoreSource], fabric: Fabric, resident: ResidentSound | None = None
) -> Batches:
    """Return the training batches of this process; a batch over all processes has `config.batch_size` clips.

    Raises:
        SeldError: the batch size does not divide over the processes, or the epoch has fewer clips than one batch.
    """
    parts = fabric.world_size * config.accumulate
    if config.batch_size % parts:
        raise SeldError(
            f"batch_size {config.batch_size} is not divisible by {fabric.world_size} devices × accumulate "
            f"{config.accumulate}.",
            "Choose a multiple.",
        )
    batches = Batches(
        sources,
        batch_size=config.batch_size // fabric.world_size,
        shuffle_seed=config.seed,
        sampling=Sampling(class_balance=config.class_balance, epoch_clips=config.epoch_clips),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        drop_last=True,
        mirror=config.augment.swap > 0,
        pin=fabric.device.type == "cuda",
        raw=fabric.device.type != "cpu",
        sound=resident is None,
    )
    if not len(batches):
        clips = sum(len(source.clips) for source in sources)
        raise SeldError(
            f"An epoch of {config.epoch_clips or clips} clips is smaller than one batch of {config.batch_size}.",
            "Lower batch_size, or raise epoch_clips.",
        )
    return batches


def val_batches(config: TrainConfig, sources: Sequence[StoreSource], fabric: Fabric) -> Batches:
    """Return this process' share of the validation clips; together the processes see each clip once."""
    return Batches(
        sources,
        batch_size=max(1, config.batch_size // (fabric.world_size * config.accumulate)),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        pin=fabric.device.type == "cuda",
        raw=fabric.device.type != "cpu",
    )


def wants_cache(config: TrainConfig, fabric: Fabric, sources: Sequence[StoreSource], network: SeldNetwork) -> bool:
    """Return whether the front end's output shall be read from a cache instead of being computed each time.

    Raises:
        SeldError: a cache is demanded of a store with clips longer than a window.
    """
    if config.cache_features == "auto":
        possible = all(can_cache(source.store, network.frontend) for source in sources)
        possible = possible and not config.augment.needs_wave
        return possible and fabric.device.type == "cpu" and config.epochs >= 3
    if config.cache_features == "yes":
        for source in sources:
            window = source.task.window_frames
            if (longest := int(source.store.frames.max())) > window:
                raise SeldError(
                    f"cache_features is yes, but {source.store.folder} has clips of {longest} label frames; a cache "
                    f"holds one window of {window} per clip.",
                    "Set cache_features: no.",
                )
    return config.cache_features == "yes"
