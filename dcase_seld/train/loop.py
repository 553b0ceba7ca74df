"""The training loop: one straight function for pre-training and fine-tuning, on one device or many."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import settle
from dcase_seld.core.reading import read_json
from dcase_seld.core.work import say
from dcase_seld.infer.collect import EventCollector
from dcase_seld.infer.devices import chosen_kernels, compile_network, kept_memory, launch
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import SeldNetwork, build_model
from dcase_seld.model.weights import load_matching, model_folder, read_facts
from dcase_seld.scoring.figures import criterion_of, figures_of
from dcase_seld.store.source import open_sources, said_of_tokens
from dcase_seld.train.augment import Augment
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.history import Curves, LiveLine, finish, keep_weights, note_matching, write_tables
from dcase_seld.train.losses import make_loss
from dcase_seld.train.setup import (
    add_cached_features,
    freeze,
    load_teacher,
    make_batches,
    make_fabric,
    make_optimizer,
    resident_sound,
    set_statistics,
    training_mode,
    unlike_loss,
    val_batches,
    wants_cache,
    weights_origin,
)
from dcase_seld.train.state import Position, WeightAverage, learning_rate, load_state, save_state
from dcase_seld.train.step import part_names, training_step, validate

CHECK_EVERY = 10
"""Weight updates between looks at the loss (each one waits for the device)."""


def train(
    config: TrainConfig,
    stores: Sequence[Path],
    out: Path,
    *,
    tokens: Sequence[Path] = (),
    init: Path | None = None,
    teacher: Path | None = None,
    device: str = "auto",
    quiet: bool = True,
    curves: Path | None = None,
) -> dict[str, Any]:
    """Write a trained network to `out`: best/, last/, top/, epochs.csv, classwise.csv, curves.png, summary.json.

    A training that was killed goes on from its last checkpoint; one that is finished is not repeated.

    Args:
        config: everything that decides the result.
        stores: folders of prepare steps, mixed.
        out: folder to write to; may hold an interrupted training of the same configuration.
        tokens: folders of embed steps.
        init: a checkpoint whose weights are taken over; its network too, where `config` names none.
        teacher: a checkpoint that the network learns to answer like, beside the labels.
        device: as Lightning Fabric names accelerators: auto, cpu, cuda, …
        quiet: print nothing.
        curves: folder for TensorBoard's files; None: out/tensorboard.

    Returns:
        What summary.json holds: best scores and epoch, parameters, seconds.

    Raises:
        SeldError: something about data, configuration or machine is wrong, the loss is no number, the disk is full.
    """
    summary = out / "summary.json"
    if summary.is_file():
        shutil.rmtree(out / "state", ignore_errors=True)  # of a kill just after the summary was written
        return read_json(summary, remedy="Remove it to train again.")
    if init is not None and "model" not in config.model_fields_set:
        known = parse_model_config(read_facts(model_folder(init))["config"], f"The network {init}")
        config = config.model_copy(update={"model": known})
    fabric = make_fabric(config, device)
    board = curves or out / "tensorboard"
    given: dict[str, Any] = {"tokens": tokens, "init": init, "teacher": teacher, "quiet": quiet, "board": board}
    run = partial(_train, config=config, stores=stores, out=out, **given)
    launch(fabric, run, out)
    return read_json(summary, remedy="Remove it to train again.")


@kept_memory()
def _train(fabric: Fabric, config: TrainConfig, **given: Any) -> None:
    with chosen_kernels(config.deterministic):
        _train_on(fabric, config, **given)


def _train_on(
    fabric: Fabric,
    config: TrainConfig,
    stores: Sequence[Path],
    out: Path,
    tokens: Sequence[Path],
    init: Path | None,
    teacher: Path | None,
    quiet: bool,
    board: Path,
) -> None:
    chief, began = fabric.is_global_zero, time.monotonic()
    quiet = quiet or not chief

    # Data and network.
    guide = None if teacher is None else load_teacher(teacher, config)
    model, needs = config.model.with_tokens(said_of_tokens(tokens)), config.model.fusion.keys()
    heard = needs if guide is None else {*needs, *guide.config.fusion}
    sources = open_sources(stores, tokens, config.train_on, heard, config.weights)
    if not sources:
        raise SeldError(
            f"The stores {', '.join(map(str, stores))} have no labelled clips in split {', '.join(config.train_on)}.",
            "Check `dcase-seld data stats`, or choose other splits in train_on.",
        )
    figures, criterion = figures_of(sources[0].task), criterion_of(sources[0].task, config.criterion)
    held_out = [] if "val" in config.train_on else open_sources(stores, tokens, ("val",), needs)
    network = build_model(model, sources[0].task, config.seed)
    known = 0
    if init is not None:
        fitted = load_matching(network, model_folder(init))
        if chief:
            note_matching(out, fitted)
        if not quiet:
            say(f"init: {len(fitted.matched)} weights taken over, {len(fitted.partial)} in part, "
                f"{len(fitted.fresh)} new, {len(fitted.unused)} left behind: {out / 'init.json'}")  # fmt: skip
            if (unlike := unlike_loss(init, config)) is not None:
                say(unlike)
        known = fitted.maps
    network.to(fabric.device)
    if guide is not None:
        guide.to(fabric.device)
    everything = [*sources, *held_out]
    if wants_cache(config, fabric, everything, network):
        add_cached_features(everything, network.frontend, fabric, quiet)
    if known < len(network.frontend.channels):
        set_statistics(network, sources, min(64, config.batch_size), fabric.device, known)
    loss = make_loss(config, sources)
    resident = resident_sound(config, sources, fabric.device)
    batches = make_batches(config, sources, fabric, resident)
    augment = Augment(config.augment, network.frontend)
    steps_per_epoch = len(batches)
    steps = steps_per_epoch * config.epochs

    origin = weights_origin(sources, config, init, teacher)

    # Optimizer, averaged weights, and the state of an interrupted run.
    freeze(network, config.freeze)
    if config.sync_batch_norm and fabric.world_size > 1 and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    optimizer = make_optimizer(network, config)
    if config.compile:
        compile_network(network, quiet, config.cuda_graphs)
    wrapped, optimizer = fabric.setup(network, optimizer)
    average = WeightAverage(network, config.ema) if config.ema > 0 else None
    if chief:
        settle(out / "state")
    fabric.barrier()
    position, scaler = load_state(out / "state", network, optimizer, average) or (Position(), {})
    fabric.strategy.precision.load_state_dict(scaler)
    if chief and position.history:
        # A kill between an epoch's checkpoint and its tables would lose them where no epoch follows.
        write_tables(out, position.history, network.task)
    if position.step and not quiet:
        say(f"goes on at epoch {position.epoch + 1}, update {position.step} of {steps}")
    names = part_names(config, guide is not None)
    curves = Curves(board, config.tensorboard and chief, position.step)
    live = LiveLine(config.epochs, steps, position.step, quiet)

    def checkpoint() -> None:
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise _no_number(position, out)
        if chief:
            state = fabric.strategy.precision.state_dict()
            save_state(out / "state", network, optimizer, average, state, position)
        fabric.barrier()

    def evaluation_network() -> SeldNetwork:
        if average is None and not config.compile:
            return network
        # A copy is not compiled: batches of other shapes would be compiled anew, each for minutes.
        judged = copy.deepcopy(network)
        if average is not None:
            judged.load_state_dict(average.state_dict())
        return judged

    try:
        while position.epoch < config.epochs and not (config.patience and position.stale >= config.patience):
            epoch, start, waited = position.epoch, time.monotonic(), 0.0
            first = position.batch
            training_mode(network, config)
            sums = torch.tensor([position.sums.get(name, 0.0) for name in names], dtype=torch.float64).to(fabric.device)
            reader = iter(batches.epoch(epoch, first))
            while position.batch < steps_per_epoch:
                asked = time.monotonic()
                batch = next(reader)
                waited += time.monotonic() - asked
                rate = learning_rate(position.step, steps, config.lr, config.schedule)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                sums += training_step(
                    fabric, wrapped, optimizer, batch, loss, augment, config, position.step, guide, resident
                )
                if average is not None:
                    average.update(network, position.step)
                position.batch, position.step = position.batch + 1, position.step + 1
                due = position.step % config.checkpoint_steps == 0 and position.batch < steps_per_epoch
                if due and fabric.world_size > 1:
                    sums = fabric.all_reduce(sums)  # type: ignore[assignment]
                if due or position.batch % CHECK_EVERY == 0 or position.batch == steps_per_epoch:
                    position.sums = dict(zip(names, sums.tolist(), strict=True))
                    _refuse_nan(position, out)
                    means = {name: value / position.batch for name, value in position.sums.items()}
                    speed = (position.batch - first) * config.batch_size / (time.monotonic() - start)
                    live.update(epoch, position.step, means, rate, speed)
                    curves.add({**means, "lr": rate}, position.step, "train")
                if due:
                    checkpoint()
            if fabric.world_size > 1:
                sums = fabric.all_reduce(sums)  # type: ignore[assignment]
            seconds = time.monotonic() - start
            row: dict[str, Any] = {"epoch": epoch + 1, "step": position.step, "lr": rate, "train_seconds": seconds}
            row |= dict(zip(names, (sums / steps_per_epoch).tolist(), strict=True))
            row["clips_per_second"] = (position.batch - first) * config.batch_size / seconds
            row["wait_share"] = waited / seconds

            # Validation, the best weights, the epoch's checkpoint.
            last = epoch + 1 == config.epochs
            improved = False
            if held_out and (last or (epoch + 1) % config.validate_every == 0):
                asked = time.monotonic()
                judged = evaluation_network().eval()
                collector = EventCollector(held_out, thresholds=config.threshold)
                row |= validate(fabric, judged, val_batches(config, held_out, fabric), collector, loss)
                row["val_seconds"] = time.monotonic() - asked
                improved = _note_score(position, row[criterion], epoch)
                if chief:
                    keep_weights(out, judged, position, row, config, improved, origin)
            position.history.append(row)
            position.epoch, position.batch, position.sums = epoch + 1, 0, {}
            checkpoint()
            if chief:
                write_tables(out, position.history, network.task)
                curves.add({name: row.get(name) for name in figures}, position.step, "val")
                live.epoch_done(row, figures[criterion], position.best, improved)
        if chief:
            finish(out, evaluation_network(), position, config, time.monotonic() - began, sources, origin)
        fabric.barrier()
    finally:
        live.close()
        curves.close()


def _refuse_nan(position: Position, out: Path) -> None:
    if not all(math.isfinite(value) for value in position.sums.values()):
        raise _no_number(position, out)


def _no_number(position: Position, out: Path) -> SeldError:
    return SeldError(
        f"Loss or weights are no numbers any more (epoch {position.epoch + 1}, update {position.step}, "
        f"{position.sums}).",
        f"Lower lr or clip_norm, or use precision fp32; the last good checkpoint is in {out / 'state'}.",
    )


def _note_score(position: Position, score: float, epoch: int) -> bool:
    """Return whether a validation score is the best so far, and write it down."""
    if score > position.best:
        position.best, position.best_epoch, position.stale = score, epoch, 0
        return True
    position.stale += 1
    return False
