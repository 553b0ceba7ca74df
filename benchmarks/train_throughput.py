"""Speed of training: run `python benchmarks/train_throughput.py [--clips N] [--batch 64] [--threads 2]`.

Our trainer (store, cached features, augmentation by swap and masks, weight average, clipping, checks) against a plain
loop over standardised features in memory with the same loss and optimizer, in a process of its own: over our baseline
CRNN, over it with the trainer's way of keeping memory, and over the same layers as they are usually written (ReLU
before pooling, channels first). They run in turns of a few steps, so that what else the machine does meets all of them;
speeds are of the median step, in time of the clock and of the processor (which other programs do not disturb); every
process has made a whole turn before. Then a whole training says how long it waited for data and what validation took.
Sound is noise. Takes about 8 GB of memory.

`--beside N` does the same beside N programs that keep a core busy each; `GOMP_SPINCOUNT=1000` or 300000 in front says
how patiently threads wait for each other: as ours do where other programs run at the start, or as by default.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcase_seld.core.config import parse_config
from dcase_seld.infer.devices import kept_memory
from dcase_seld.model.network import build_model
from dcase_seld.model.types import ModelInput
from dcase_seld.scoring.figures import read_epochs
from dcase_seld.store.source import StoreSource, open_sources
from dcase_seld.train.augment import Augment
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.loop import train
from dcase_seld.train.losses import adpit_loss
from dcase_seld.train.setup import (
    add_cached_features,
    make_batches,
    make_fabric,
    make_optimizer,
    set_statistics,
    training_mode,
)
from dcase_seld.train.state import WeightAverage, learning_rate
from dcase_seld.train.step import training_step

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "made"))
from noise import noise_store

TURN = 4

Seconds = npt.NDArray[np.float64]


def our_steps(config: TrainConfig, sources: list[StoreSource], fabric: Fabric) -> Iterator[Seconds]:
    """Yield the seconds of each update of our trainer, data included."""
    network = build_model(config.model, sources[0].task, 0)
    set_statistics(network, sources, 64, fabric.device)
    loss = partial(adpit_loss, onscreen_loss="masked", positive_weight=3.0)
    wrapped, optimizer = fabric.setup(network, make_optimizer(network, config))
    average = WeightAverage(network, config.ema) if config.ema else None
    augment = Augment(config.augment, network.frontend)
    batches = make_batches(config, sources, fabric)
    training_mode(network, config)
    step, epoch, sums = 0, 0, torch.zeros(())
    while True:
        reader = batches.epoch(epoch)
        for _ in range(len(batches)):
            start = now()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 10_000, config.lr, config.schedule)
            sums = sums + training_step(fabric, wrapped, optimizer, next(reader), loss, augment, config, step)
            if average is not None:
                average.update(network, step)
            if step % 10 == 0:
                sums.tolist()
            step += 1
            yield now() - start
        epoch += 1


def plain_steps(
    config: TrainConfig,
    sources: list[StoreSource],
    fabric: Fabric,
    change: Callable[[Any], Any] = lambda network: network,
) -> Iterator[Seconds]:
    """Yield the seconds of each update of a plain loop: everything in memory, no augmentation, no clipping."""
    network = change(build_model(config.model, sources[0].task, 0))
    set_statistics(network, sources, 64, fabric.device)
    everything = make_batches(config.model_copy(update={"batch_size": len(sources[0].clips)}), sources, fabric)
    whole = next(everything.epoch(0))
    assert whole.input.features is not None and whole.target is not None
    features = network.frontend.standardise(whole.input.features.float())
    network.frontend.standardise = lambda standardised: standardised
    target = whole.target
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr)
    network.train()
    while True:
        order = torch.randperm(len(features))
        for first in range(0, len(order) - config.batch_size + 1, config.batch_size):
            start = now()
            chosen = order[first : first + config.batch_size]
            output = network(ModelInput(features=features[chosen]))
            parts = adpit_loss(output, type(target)(*(field[chosen] for field in target)), positive_weight=3.0)
            optimizer.zero_grad()
            parts.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield now() - start


def now() -> Seconds:
    """Return the clock's and the processor's seconds (2,)."""
    return np.array([time.perf_counter(), time.process_time()])


def as_usually_written(network: Any) -> Any:
    """Return the network with its convolution blocks channels first and ReLU before pooling."""
    for block in network.encoder.convolutions:
        block[2], block[3] = block[3], block[2]
    network.encoder.convolutions.to(memory_format=torch.contiguous_format)
    network.encoder.forward = partial(_contiguous_forward, network.encoder)
    return network


def _contiguous_forward(encoder: Any, features: Tensor, tokens: object = None) -> Tensor:
    x: Tensor = encoder.convolutions(features).transpose(1, 2).flatten(2)
    x = torch.tanh(encoder.gru(x)[0])
    half = x.shape[-1] // 2
    x = x[..., half:] * x[..., :half]
    for attention, norm in zip(encoder.attention, encoder.norms, strict=True):
        x = norm(x + attention(x, x, x, need_weights=False)[0])
    return x


RUNS: dict[str, Any] = {
    "our trainer, augmentation and EMA on": (our_steps, kept_memory),
    "plain loop, our network": (plain_steps, nullcontext),
    "plain loop, our network, memory kept": (plain_steps, kept_memory),
    "plain loop, network as usually written": (partial(plain_steps, change=as_usually_written), nullcontext),
}


def work(pipe: Any, name: str, config: TrainConfig, store: Path, threads: int) -> None:
    """Send, whenever asked, the seconds of a turn's updates (TURN, 2) and the peak of this process' memory in GB."""
    torch.set_num_threads(threads)
    fabric = make_fabric(config, "cpu")
    sources = open_sources([store], [], ["train"], frozenset())
    add_cached_features(sources, build_model(config.model, sources[0].task).frontend, fabric, True)
    steps, memory = RUNS[name]
    with memory():
        made = steps(config, sources, fabric)
        while pipe.recv():
            seconds = [next(made) for _ in range(TURN)]
            pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def in_turns(
    names: list[str], config: TrainConfig, store: Path, threads: int, turns: int
) -> tuple[dict[str, list[Seconds]], dict[str, float]]:
    """Return for each of the RUNS named the seconds of its updates (turns · TURN, 2), and its peak of memory in GB."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    seconds: dict[str, list[Seconds]] = {name: [] for name in names}
    memory: dict[str, float] = {}
    for name in names:
        pipes[name], other = context.Pipe()
        context.Process(target=work, args=(other, name, config, store, threads), daemon=True).start()
    for turn in range(turns + 1):
        for name in names if turn % 2 else names[::-1]:
            pipes[name].send(True)
            made, memory[name] = pipes[name].recv()
            if turn:  # the first one warms up
                seconds[name] += made
    for pipe in pipes.values():
        pipe.send(False)
    return seconds, memory


def keep_busy() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=480)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beside", type=int, default=0, help="busy programs beside it")
    parser.add_argument("--turns", type=int, default=4, help=f"turns of {TURN} updates each")
    parser.add_argument("--runs", type=int, default=len(RUNS), help="so many of the loops: ours first, then the plain")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for _ in range(arguments.beside):
        multiprocessing.get_context("spawn").Process(target=keep_busy, daemon=True).start()
    described = {
        "model": {"kind": "crnn"},
        "batch_size": arguments.batch,
        "epochs": 3,
        "augment": {"swap": 0.5, "mask": 0.5},
        "ema": 0.99,
        "tensorboard": False,
    }
    config = parse_config(TrainConfig, described, "config")
    with tempfile.TemporaryDirectory() as folder:
        store = noise_store(Path(folder) / "store", arguments.clips)
        sources = open_sources([store], [], ["train"], frozenset())
        frontend = build_model(config.model, sources[0].task).frontend
        add_cached_features(sources, frontend, make_fabric(config, "cpu"), True)
        seconds, memory = in_turns(list(RUNS)[: arguments.runs], config, store, arguments.threads, arguments.turns)
        speed = {name: arguments.batch / np.median(found, axis=0) for name, found in seconds.items()}
        print(f"baseline CRNN, batch {arguments.batch}, {arguments.threads} thread(s); at least 1 is wanted of ratios")
        print("                                          clips/s  ours / it, clock   processor   peak GB")
        ours = next(iter(speed.values()))
        for name, found in speed.items():
            ratios = f"{ours[0] / found[0]:8.2f}  {ours[1] / found[1]:10.2f}"
            print(f"  {name:38} {found[0]:8.1f}         {ratios}  {memory[name]:8.2f}")
        out = Path(folder) / "out"
        out.mkdir()
        train(config, [store], out, device="cpu")
        rows = read_epochs(out / "epochs.csv")
        counts = {split: int((sources[0].store.split == split).sum()) for split in ("train", "val")}
    wait = statistics.median(row["wait_share"] for row in rows)
    train_clip = statistics.median(1 / row["clips_per_second"] for row in rows)
    val_clip = statistics.median(row["val_seconds"] for row in rows) / counts["val"]
    print(f"  share of time waiting for data (< 5 %)   {100 * wait:8.1f} %")
    print(f"  validating 600 clips / epoch of 3,000 (< 25 %) {100 * 600 * val_clip / (3000 * train_clip):2.1f} %")


if __name__ == "__main__":
    main()
