"""Measures the full-size networks: memory of a training step, speed against real time, bfloat16 and compilation.

Run: python benchmarks/model.py [--batch 8] [--threads 2] [--device cpu|cuda] [--compile]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from dcase_seld.core.task import CLIP_SAMPLES, CLIP_SECONDS, Task
from dcase_seld.model.config import CrnnConfig, SeldConfig, fusion_of
from dcase_seld.model.network import SeldNetwork, build_model
from dcase_seld.model.summary import summarise
from dcase_seld.model.types import ModelInput, SeldOutput, SeldTarget, Tokens
from dcase_seld.train.losses import adpit_loss

Networks = dict[str, SeldConfig | CrnnConfig]
NETWORKS: Networks = {
    "track a": SeldConfig(fusion=fusion_of(["clap"])),
    "track b": SeldConfig(track="b", fusion=fusion_of(["clap", "owlvit"])),
    "baseline": CrnnConfig(),
}
PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 matrix operations per second of a GPU. Source: the makers' data sheets (SXM)."""


def batch_of(
    model: SeldNetwork, clips: int, device: str, vision: tuple[int, ...] = (5, 577, 512)
) -> tuple[ModelInput, SeldTarget]:
    """Return waveforms, tokens (of pictures: in the shape `vision` a clip) and labels of noise."""
    generator = torch.Generator().manual_seed(0)
    tokens = {}
    for name, one in model.config.fusion.items():
        if one.gives == "image":
            seen = torch.randn(clips, *vision[:-1], one.width or vision[-1], generator=generator)
            tokens[name] = Tokens(seen, torch.ones(clips, vision[0], dtype=torch.bool))
        else:
            tokens[name] = Tokens(torch.randn(clips, 1, one.width or 512, generator=generator))
    inputs = ModelInput(wave=torch.randn(clips, 2, CLIP_SAMPLES, generator=generator) * 0.1, tokens=tokens)
    number = (torch.rand(clips, 50, 13, generator=generator) < 0.08).long()
    source = torch.rand(clips, 50, 13, 3, 4, generator=generator) * number[..., None, None]
    source *= torch.tensor([1.0, 0.0, 0.0])[:, None]
    target = SeldTarget(number, source[..., :2], source[..., 2], source[..., 3])
    return inputs.to(device), target.map(lambda field: field.to(device))


def training_step(
    model: Callable[[ModelInput], SeldOutput],
    optimizer: torch.optim.Optimizer,
    inputs: ModelInput,
    target: SeldTarget,
    half: bool,
) -> None:
    """Do one weight update on cached tokens, waveforms to loss."""
    context = (
        torch.autocast(inputs.wave.device.type, torch.bfloat16) if half and inputs.wave is not None else nullcontext()
    )
    with context:
        output = model(inputs)
    adpit_loss(output, target).total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def seconds(function: Callable[[], Any], rounds: int, device: str) -> float:
    """Return the median seconds of a call after one to warm up."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[rounds // 2]


def peak_of_step(name: str, clips: int, threads: int) -> None:
    """Print the peak resident memory (bytes) before and after two training steps of this process."""
    torch.set_num_threads(threads)
    model = build_model(NETWORKS[name], Task()).train()
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, target = batch_of(model, clips, "cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    for _ in range(2):
        training_step(model, optimizer, inputs, target, half=False)
    taken = (time.perf_counter() - start) / 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"before": before, "peak": peak, "seconds": taken}))


def memory_table(networks: Networks, clips: int, threads: int) -> None:
    """Print the peak memory of a training step of every network, each in a process of its own."""
    print(f"training step of {clips} clips, float32, {threads} threads")
    print(f"{'network':10}{'parameters':>12}{'peak GB':>9}{'idle GB':>9}{'summary GB':>12}{'clips/s':>9}")
    for name, config in networks.items():
        command = [sys.executable, __file__, "--peak-of", name, "--batch", str(clips), "--threads", str(threads)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        summary = summarise(config, Task(), clips=clips)
        print(
            f"{name:10}{summary.parameters:12,}{result['peak'] / 1e9:9.2f}{result['before'] / 1e9:9.2f}"
            f"{summary.training_bytes / 1e9:12.2f}{clips / result['seconds']:9.2f}"
        )


def speed_table(networks: Networks, clips: int, device: str, rounds: int, compiled: bool) -> None:
    """Print how much faster than real time each network hears (waveform to output), and what training makes."""
    kind = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    peak = next((value for key, value in PEAK_BF16.items() if key in kind), None)
    print(f"\n{kind}, {clips} clips a batch: waveform (and stored tokens) to output; training step in clips/s")
    print(
        f"{'network':10}{'forward × real time':>21}{'step fp32':>11}{'step bf16':>11}{'compiled':>10}"
        f"{'of bf16 peak':>14}"
    )
    for name, config in networks.items():
        model = build_model(config, Task()).to(device)
        inputs, target = batch_of(model, clips, device)
        model.eval()
        with torch.no_grad():
            forward = seconds(partial(model, inputs), rounds, device)
        optimizer = torch.optim.AdamW(model.parameters(), fused=device == "cuda")
        model.train()
        rates = []
        for half in (False, True):
            step = seconds(partial(training_step, model, optimizer, inputs, target, half), rounds, device)
            rates.append(clips / step)
        fast = float("nan")
        if compiled:
            graph = torch.compile(model)
            fast = clips / seconds(partial(training_step, graph, optimizer, inputs, target, True), rounds, device)
        # A training step costs three forward passes: forward, gradients of activations, gradients of weights.
        done = 6 * summarise(config, Task(), clips=1).multiply_adds * max(rates[1], fast if compiled else 0.0)
        share = f"{done / peak:13.1%}" if peak else f"{'-':>13}"
        print(
            f"{name:10}{clips * CLIP_SECONDS / forward:21.1f}{rates[0]:11.2f}{rates[1]:11.2f}"
            f"{f'{fast:.2f}' if compiled else '-':>10}{share:>14}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile (takes minutes to compile)")
    parser.add_argument("--peak-of", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        peak_of_step(arguments.peak_of, arguments.batch, arguments.threads)
        return
    torch.set_num_threads(arguments.threads)
    chosen = {name: NETWORKS[name] for name in arguments.networks}
    memory_table(chosen, arguments.batch, arguments.threads)
    speed_table(chosen, arguments.batch, arguments.device, arguments.rounds, arguments.compile)


if __name__ == "__main__":
    main()
