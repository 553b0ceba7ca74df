"""Times the ADPIT loss (forward + backward) against evaluating its 13 permutations one by one.

Run: python benchmarks/adpit.py [--batch 64] [--rounds 15] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from dcase_seld.model.types import SeldOutput, SeldTarget
from dcase_seld.train.losses import adpit_loss

ORDERS = [o for n in (1, 2, 3) for o in product(range(n), repeat=3) if set(o) == set(range(n))]


def one_by_one(output: SeldOutput, target: SeldTarget) -> Tensor:
    """Return the same loss as the official program computes it: the error of every permutation, then the smallest.

    A permutation of n sources is no candidate where another number of sources sounds; the official program pads its
    target there with a valid one, which costs and gives the same.
    """
    predicted = torch.cat((output.direction, output.distance[..., None]), -1)
    source = torch.cat((target.direction, target.distance[..., None]), -1)
    losses = []
    for order in ORDERS:
        error = (predicted - source[..., list(order), :]).square().mean((-2, -1))
        wrong = target.count.clamp(min=1) != max(order) + 1
        losses.append(error.masked_fill(wrong, torch.inf))
    return torch.stack(losses).min(0).values.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, 50, 13)
    number = torch.randint(0, 4, shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.1)
    source = torch.randn(*shape, 3, 4, generator=generator) * (torch.arange(3) < number[..., None])[..., None]
    target = SeldTarget(number, source[..., :2], source[..., 2], source[..., 3])
    xy, distance = torch.randn(*shape, 3, 2, generator=generator), torch.rand(*shape, 3, generator=generator)
    output = SeldOutput(xy.requires_grad_(), distance.requires_grad_(), None)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: adpit_loss(output, target).total,
        "one by one": lambda: one_by_one(output, target),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, tuple[float, Tensor]] = {}
    for _ in range(arguments.rounds):
        for name, loss in ways.items():
            xy.grad = distance.grad = None
            start = time.perf_counter()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            times[name].append(time.perf_counter() - start)
            assert xy.grad is not None
            results[name] = (value.item(), xy.grad.clone())
    median = {name: sorted(taken)[len(taken) // 2] for name, taken in times.items()}
    difference = (results["ours"][1] - results["one by one"][1]).abs().max().item()
    print(f"batch {arguments.batch}, {arguments.threads} threads, forward + backward, median of {arguments.rounds}")
    for name, seconds in median.items():
        print(f"{name:12}{seconds * 1e3:9.1f} ms   loss {results[name][0]:.6f}")
    print(f"ratio {median['one by one'] / median['ours']:.1f}, largest difference of gradients {difference:.1e}")


if __name__ == "__main__":
    main()
