"""A cache of the front end's output beside the store: on a CPU, over many epochs, it saves more time than it costs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from dcase_seld.data.batches import Batches, ClipSource
from dcase_seld.data.store import Store
from dcase_seld.data.tokens import TokenReader, TokenSpec, TokenWriter
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.progress import progress
from dcase_seld.task.facts import CLIP_FRAMES


def add_cached_features(sources: Sequence[ClipSource], frontend: FrontEnd, fabric: Fabric, quiet: bool) -> None:
    """Give every source a reader of its store's cached features; what is missing is computed now, by rank 0."""
    folders = {source.store.folder for source in sources}
    for folder in sorted(folders):
        if fabric.is_global_zero:
            build_cache(Store.open(folder), frontend, quiet)
    fabric.barrier()
    for source in sources:
        source.tokens = [*source.tokens, TokenReader.open(cache_folder(source.store, frontend))]
        source.__post_init__()


def cache_folder(store: Store, frontend: FrontEnd) -> Path:
    """Return where the features of a store lie for a front end."""
    return store.folder / f"features-{frontend.fingerprint()}"


def can_cache(store: Store, frontend: FrontEnd) -> bool:
    """Return whether every clip is one window long (a cache holds one row per clip), and the disk has ample room."""
    folder = cache_folder(store, frontend)
    if not (store.frames <= CLIP_FRAMES).all():
        return False
    if (folder / "tokens.json").is_file():
        return True
    size = 2 * len(store) * int(np.prod(row_shape(frontend)))
    return os.access(store.folder, os.W_OK) and shutil.disk_usage(store.folder).free > 2 * size


def row_shape(frontend: FrontEnd) -> tuple[int, int, int]:
    """Return (A, T', F) of one window's features."""
    return len(frontend.channels), CLIP_FRAMES * frontend.config.frames_per_label, frontend.config.mels


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
    spec = TokenSpec("features", "front end", frontend.fingerprint(), False, row_shape(frontend))
    writer = TokenWriter(folder, spec, store.names)
    with progress("features", len(store), "clips", quiet) as advance:
        for shard, names in writer.pending():
            batches = Batches(store, store.position(names), 16, targets=False)
            parts = []
            for batch in batches.epoch(0):
                assert batch.input.wave is not None
                parts.append(frontend.extract(batch.input.wave.to(device)).half().cpu())
                advance(len(batch.index))
            writer.write(shard, torch.cat(parts).numpy())
    writer.finish()
