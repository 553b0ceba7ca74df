"""What training reaches on this machine's GPU, in one table and as JSON: under four minutes on an H100.

Bare steps (waveform to update, nothing else) of the full-size audio network, the trainer with its augmentation and
weight average and how busy it keeps the device, kernel time by kind, the front end alone, the baseline in the trainer;
both with fused and recorded kernels (CUDA graphs); then what the cores do: embedding and simulation by numbers
of processes. Last what deterministic kernels cost, whether they give the same weights twice, whether bf16 learns like
fp32, and fused kernels alone.
Sound, tokens and labels are noise. A part that fails or takes longer than `--part` seconds says so and the next one
follows; what would begin after `--budget` seconds is left out. The JSON is written after every part. Without a GPU the
same runs on the CPU (`--small`).

Run: python benchmarks/gpu.py [--json gpu.json] [--batch 64] [--clips 2048] [--no-compile] [--device cuda|cpu] [--small]
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embed import core_rates
from model import NETWORKS, PEAK_BF16, batch_of
from model import training_step as bare_step
from safetensors.torch import load_file
from simulate import job
from torch.profiler import ProfilerActivity, profile

from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import write_json
from dcase_seld.core.task import Task
from dcase_seld.infer.devices import chosen_kernels, compile_network
from dcase_seld.model.network import build_model
from dcase_seld.model.summary import summarise
from dcase_seld.scoring.figures import read_epochs
from dcase_seld.simulate.simulation import simulate
from dcase_seld.store.source import open_sources
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenSpec, TokenWriter
from dcase_seld.train.augment import Augment
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.loop import train
from dcase_seld.train.losses import make_loss
from dcase_seld.train.setup import make_batches, make_fabric, make_optimizer, resident_sound, training_mode
from dcase_seld.train.state import WeightAverage
from dcase_seld.train.step import training_step

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "made"))
from noise import noise_store

KINDS = {
    "fused": r"triton",
    "convolution": r"conv|fprop|dgrad|wgrad|implicit",
    "normalisation": r"norm|bn_",
    "pooling": r"pool",
    "attention": r"flash|fmha|attention|softmax",
    "matrix product": r"gemm|nvjet|xmma|cutlass|addmm|::mm|::bmm|linear|splitk",
    "Fourier transform": r"fft",
    "optimizer and average": r"multi_tensor|foreach|adam|lerp",
    "copy": r"memcpy|memset|copy|nchw|nhwc|cat",
    "reduction": r"reduce|::sum|::mean",
    "elementwise": r"elementwise|vectorized|::mul|::add|relu|sigmoid|where",
}
"""Kind of a kernel → what its name holds; the first that fits counts."""
SMALL: dict[str, Any] = {
    "kind": "conformer",
    "frontend": {"features": ["log_mel"], "hop": 600},
    "encoder": {"channels": [8, 8], "layers": 1, "d_model": 16, "heads": 2, "feed_forward": 16, "kernel": 3},
    "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 16, "kernel": 3},
}
"""A network of a few thousand parameters."""
AUGMENTATION = {"swap": 0.5, "gain": 0.5, "mask": 0.5, "filter": 0.5}


def described(arguments: argparse.Namespace, model: dict[str, Any], **changes: Any) -> TrainConfig:
    """Return the configuration of a training of so many clips a batch, all that costs something switched on."""
    fields = {"model": model, "batch_size": arguments.batch, "augment": AUGMENTATION, "ema": 0.999, "epochs": 2,
              "precision": "bf16", "cache_features": "no", "tensorboard": False, "validate_every": 2,
              "epoch_clips": 3 * arguments.clips}  # fmt: skip
    return parse_config(TrainConfig, {**fields, **changes}, "config")


def updates(config: TrainConfig, store: Path, tokens: list[Path], device: str) -> Iterator[None]:
    """Do the trainer's updates one by one, for ever: read, augmented, learned from, averaged."""
    fabric = make_fabric(config, device)
    sources = open_sources([store], tokens, config.train_on, config.model.fusion.keys())
    network = build_model(config.model, sources[0].task).to(fabric.device)
    loss, resident = make_loss(config, sources), resident_sound(config, sources, fabric.device)
    optimizer = make_optimizer(network, config)
    if config.compile:
        compile_network(network, True, config.cuda_graphs)
    wrapped, optimizer = fabric.setup(network, optimizer)
    average, augment = WeightAverage(network, config.ema), Augment(config.augment, network.frontend)
    batches = make_batches(config, sources, fabric, resident)
    training_mode(network, config)
    step = 0
    while True:
        for batch in batches.epoch(step // len(batches)):
            training_step(fabric, wrapped, optimizer, batch, loss, augment, config, step, resident=resident)
            average.update(network, step)
            step += 1
            yield


def kernel_times(made: Iterator[None], rounds: int, device: str) -> tuple[dict[str, float], float]:
    """Return the share of kernel time by kind over some updates, and the share of the clock that kernels take."""
    cuda = device == "cuda"
    for _ in range(3):
        next(made)
    if cuda:
        torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
        began = time.perf_counter()
        for _ in range(rounds):
            next(made)
        if cuda:
            torch.cuda.synchronize()
        clock = time.perf_counter() - began
    spent: dict[str, float] = {}
    for row in profiled.key_averages():
        taken = row.self_device_time_total if cuda else row.self_cpu_time_total
        kind = next((k for k, pattern in KINDS.items() if re.search(pattern, row.key, re.IGNORECASE)), "rest")
        spent[kind] = spent.get(kind, 0.0) + taken / 1e6
    total = sum(spent.values()) or 1.0
    return {kind: taken / total for kind, taken in sorted(spent.items(), key=lambda item: -item[1])}, total / clock


def host_times(made: Iterator[None], rounds: int) -> dict[str, float]:
    """Return milliseconds of the host's thread an update: of all, and of what takes it longest, waits included."""
    for _ in range(3):
        next(made)
    # What the host asks of CUDA (copies, launches, waits) is listed with the device's activity alone.
    cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as profiled:
        began = time.perf_counter()
        for _ in range(rounds):
            next(made)
        clock = time.perf_counter() - began
    rows = sorted(profiled.key_averages(), key=lambda row: -row.self_cpu_time_total)[:10]
    return {"all": 1e3 * clock / rounds, **{row.key[:40]: row.self_cpu_time_total / 1e3 / rounds for row in rows}}


def write_tokens(store: Path, folder: Path) -> Path:
    """Write CLAP tokens of noise for all clips of a store."""
    writer = TokenWriter(folder, TokenSpec("clap", "sound", "noise", "noise", True, (1, 512)), Store.open(store).names)
    for shard, rows in writer.pending():
        writer.write(shard, np.random.default_rng(0).normal(size=(len(rows), 1, 512)).astype(np.float16))
    writer.finish()
    return folder


def steady(work: Callable[[], object], rounds: int, device: str) -> float:
    """Return the mean seconds of a call where the next one need not wait for the device, as in a training."""
    for _ in range(2):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(rounds):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / rounds


def bare(arguments: argparse.Namespace, compiled: bool = False, graphs: bool = False) -> dict[str, float]:
    """Return clips per second of bare bf16 steps, the share of the card's peak, and the peak of memory in GB."""
    device = arguments.device
    network = build_model(arguments.network, Task()).to(device).train()
    inputs, target = batch_of(network, arguments.batch, device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    if compiled:
        compile_network(network, True, graphs)

    def step() -> None:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        bare_step(network, optimizer, inputs, target, True)

    began = time.perf_counter()
    step()
    found = {"first_step_s": time.perf_counter() - began}
    rate = arguments.batch / steady(step, arguments.rounds, device)
    found["clips_per_s"] = rate
    if device == "cuda":
        name = torch.cuda.get_device_name()
        done = 6 * rate * summarise(arguments.network, Task(), clips=1).multiply_adds
        peak = next((value for key, value in PEAK_BF16.items() if key in name), None)
        if peak is not None:
            found["share_of_peak"] = done / peak
        found["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def trained(arguments: argparse.Namespace, config: TrainConfig, store: Path, tokens: list[Path], out: Path) -> Any:
    """Return what the second epoch of a real training says of its speed."""
    out.mkdir()
    train(config, [store], out, tokens=tokens, device=arguments.device)
    last = read_epochs(out / "epochs.csv")[-1]
    return {"clips_per_s": last["clips_per_second"], "wait_share": last["wait_share"]}


def front_end(arguments: argparse.Namespace) -> dict[str, float]:
    """Return clips per second of the front end alone."""
    network = build_model(arguments.network, Task()).to(arguments.device)
    wave = batch_of(network, arguments.batch, arguments.device)[0].wave
    assert wave is not None
    with torch.no_grad():
        taken = steady(partial(network.frontend.extract, wave), arguments.rounds, arguments.device)
    return {"clips_per_s": arguments.batch / taken}


def deterministic(arguments: argparse.Namespace) -> dict[str, float]:
    """Return what `bare` finds with kernels that give the same bits each time."""
    with chosen_kernels(True):
        return bare(arguments)


def alike(arguments: argparse.Namespace, store: Path, folder: Path) -> dict[str, Any]:
    """Return whether two deterministic trainings give the same weights, and losses in bf16 and in fp32."""
    found: dict[str, Any] = {}
    weights = []
    for name, precision in (("once", "bf16"), ("again", "bf16"), ("whole", "fp32")):
        changes = {"batch_size": 4, "epoch_clips": 64, "precision": precision, "deterministic": True}
        out = folder / name
        out.mkdir()
        train(described(arguments, SMALL, **changes), [store], out, device=arguments.device)
        weights.append(load_file(out / "last" / "model.safetensors"))
        found[f"{precision}_loss"] = read_epochs(out / "epochs.csv")[-1]["loss"]
    same = [bool(torch.equal(weights[0][key], weights[1][key])) for key in weights[0]]
    return {"same_weights_twice": all(same), **found}


def embedding(arguments: argparse.Namespace) -> dict[str, float]:
    """Return YAMNet's clips per second by workers."""
    clips = 2 if arguments.small else 16 * arguments.cores[-1]
    rates = core_rates(clips, arguments.cores, 1, ["yamnet"])
    return {f"{workers}_workers_clips_per_s": rate[0] for (_, workers), rate in rates.items()}


def simulation(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return simulated clips per second by processes, from scratch."""
    found = {}
    for workers in arguments.cores:
        clips = 2 if arguments.small else 40 * workers
        began = time.perf_counter()
        simulate(job(folder / f"scenes{workers}", clips), workers=workers)
        found[f"{workers}_processes_clips_per_s"] = clips / (time.perf_counter() - began)
    return found


@contextmanager
def limited(most: float) -> Iterator[None]:
    """Raise TimeoutError in this block after so many seconds.

    Again every second until the block is left: what is raised while an object is deleted is lost.
    """
    left = False

    def stop(*given: object) -> None:
        if not left:
            raise TimeoutError(f"more than {most:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(most, 1e-3), 1.0)
    try:
        yield
    finally:
        left = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--clips", type=int, default=2048, help="clips of the store (480 kB each)")
    parser.add_argument("--rounds", type=int, default=20, help="steps that are timed")
    parser.add_argument("--budget", type=float, default=210, help="seconds after which nothing more is begun")
    parser.add_argument("--part", type=float, default=100, help="most seconds of a part")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled steps out")
    parser.add_argument("--small", action="store_true", help="a small network and a few clips: a trial without a GPU")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    model: dict[str, Any] = {"kind": "conformer", "fusion": {"clap": {"gives": "sound", "width": 512}}}
    arguments.cores, arguments.network = sorted({1, max(1, (os.cpu_count() or 1) // 2), os.cpu_count() or 1}), None
    if arguments.small:
        arguments.batch, arguments.clips, arguments.rounds, arguments.cores = 4, 10, 1, [1]
        model |= SMALL
    config = described(arguments, model)
    arguments.network = config.model if arguments.small else NETWORKS["track a"]
    cuda = arguments.device == "cuda"
    if cuda:
        torch.set_float32_matmul_precision("high")  # as the trainer does
    began = time.perf_counter()
    results: dict[str, Any] = {
        "card": torch.cuda.get_device_name() if cuda else "CPU", "cores": os.cpu_count(), "batch": arguments.batch,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()},
    }  # fmt: skip
    print(f"{results['card']}, {results['cores']} cores, torch {torch.__version__}, bf16, batch {arguments.batch}")

    def section(title: str, work: Callable[[], dict[str, Any]]) -> None:
        if time.perf_counter() - began > arguments.budget:
            results[title] = {"left_out": "budget"}
        else:
            try:
                with limited(min(arguments.part, arguments.budget + 25 + began - time.perf_counter())):
                    gc.collect()
                    if cuda:
                        torch.cuda.empty_cache()
                        torch.cuda.reset_peak_memory_stats()
                    results[title] = work()
            except SeldError as error:
                results[title] = {"left_out": str(error)}
            except Exception as error:
                # Whatever one part dies of, the others are still worth their time on a lent card.
                results[title] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        if arguments.json:
            write_json(arguments.json, results)
        shown = (f"{k} {v:.3g}" if isinstance(v, float) and v < 10 else f"{k} {v:,.0f}" if isinstance(v, (int, float))
                 else f"{k} {v}" for k, v in results[title].items())  # fmt: skip
        print(f"{title:34} " + ", ".join(shown), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = noise_store(folder / "store", arguments.clips)
        tokens = [write_tokens(store, folder / "clap")]
        section("bare step", lambda: bare(arguments))
        section("trainer", lambda: trained(arguments, config, store, tokens, folder / "plain"))
        busy: dict[str, Any] = {}

        def kinds() -> dict[str, float]:
            made = updates(config, store, tokens, arguments.device)
            found, busy["share"] = kernel_times(made, arguments.rounds, arguments.device)
            return found

        section("kernel time by kind", kinds)
        section("kernels' share of the clock", lambda: busy)
        section("front end alone", lambda: front_end(arguments))
        crnn = described(arguments, {"kind": "crnn"})
        section("baseline in the trainer", lambda: trained(arguments, crnn, store, [], folder / "crnn"))
        if cuda and not arguments.no_compile:
            recorded = described(arguments, model, compile=True, cuda_graphs=True)
            section("bare step, compiled, CUDA graphs", lambda: bare(arguments, True, True))
            section(
                "trainer, compiled, CUDA graphs", lambda: trained(arguments, recorded, store, tokens, folder / "graphs")
            )
            config = recorded
        section(
            "host's ms an update",
            lambda: host_times(updates(config, store, tokens, arguments.device), arguments.rounds),
        )
        section("simulation", lambda: simulation(arguments, folder))
        section("embedding by YAMNet", lambda: embedding(arguments))
        section("bare step, deterministic", lambda: deterministic(arguments))
        section("trainings alike", lambda: alike(arguments, store, folder))
        if not arguments.no_compile:
            fused = described(arguments, model, compile=True)
            section("bare step, compiled", lambda: bare(arguments, True))
            section("trainer, compiled", lambda: trained(arguments, fused, store, tokens, folder / "fused"))
    for word in ("", ", compiled, CUDA graphs", ", compiled"):
        rates = [results.get(name + word, {}).get("clips_per_s") for name in ("trainer", "bare step")]
        if all(rates):
            results[f"trainer over bare step{word}"] = rates[0] / rates[1]
            print(f"{f'trainer over bare step{word}':34} {rates[0] / rates[1]:.2f}")
    results["seconds"] = time.perf_counter() - began
    print(f"{'all of it':34} {results['seconds']:.0f} s")
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
