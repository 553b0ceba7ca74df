"""The batches that training and validation read, divided over the processes."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_fabric import Fabric

from dcase_seld.data.batches import Batches, ClipSource
from dcase_seld.data.order import Sampling
from dcase_seld.errors import SeldError
from dcase_seld.model.seld import SeldNetwork
from dcase_seld.task.facts import CLIP_FRAMES
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.features import can_cache


def make_batches(config: TrainConfig, sources: Sequence[ClipSource], fabric: Fabric) -> Batches:
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
    )
    if not len(batches):
        clips = sum(len(source.indices) for source in sources)
        raise SeldError(
            f"An epoch of {config.epoch_clips or clips} clips is smaller than one batch of {config.batch_size}.",
            "Lower batch_size, or raise epoch_clips.",
        )
    return batches


def val_batches(config: TrainConfig, sources: Sequence[ClipSource], fabric: Fabric) -> Batches:
    """Return this process' share of the validation clips; together the processes see each clip once."""
    return Batches(
        sources,
        batch_size=max(1, config.batch_size // (fabric.world_size * config.accumulate)),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def wants_cache(config: TrainConfig, fabric: Fabric, sources: Sequence[ClipSource], network: SeldNetwork) -> bool:
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
            if (longest := int(source.store.frames.max())) > CLIP_FRAMES:
                raise SeldError(
                    f"cache_features is yes, but {source.store.folder} has clips of {longest} label frames; a cache "
                    f"holds one window of {CLIP_FRAMES} per clip.",
                    "Set cache_features: no.",
                )
    return config.cache_features == "yes"
