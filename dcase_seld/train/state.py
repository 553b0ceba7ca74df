"""The state of a running training: model, optimizer, weight average, loss scaler and position, without pickle.

Everything random is a function of (seed, epoch, step, rank) and the learning rate one of the step, so position is all
that sampler, generators and schedule need.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import replace_folder, settle
from dcase_seld.train.config import ScheduleConfig


def learning_rate(step: int, steps: int, peak: float, config: ScheduleConfig) -> float:
    """Return the learning rate of update `step` (from 0) of `steps`.

    cosine rises linearly over the warm-up and falls along a half cosine to `final` · peak; one-cycle rises along a half
    cosine from peak/25 as well.
    """
    warmup = round(config.warmup * steps)
    if step < warmup:
        share = (step + 1) / warmup
        if config.kind == "one-cycle":
            share = 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share))
        return peak * share
    if config.kind == "constant":
        return peak
    position = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, position))))


class WeightAverage:
    """Exponential moving average of a network's parameters and of its floating-point buffers.

    The decay of update t is at most (1 + t) / (10 + t), so that the start is forgotten soon.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self._pairs: list[list[list[Tensor]]] | None = None

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network's weights after update `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if self._pairs is None:
            # Optimizer and batch norm write in place: the lists of all tensors are made once.
            found = [(self.values[name], tensor) for name, tensor in network.state_dict().items()]
            floats = [pair for pair in found if pair[1].is_floating_point()]
            whole = [pair for pair in found if not pair[1].is_floating_point()]
            self._pairs = [[list(side) for side in zip(*pairs, strict=True)] for pairs in (floats, whole)]
        (mean, now), counted = self._pairs
        torch._foreach_lerp_(mean, now, 1 - decay)
        if counted:
            torch._foreach_copy_(counted[0], counted[1])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged tensors by name."""
        return self.values

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over averaged tensors that `state_dict` gave."""
        for name, tensor in state.items():
            self.values[name].copy_(tensor)


TENSORS, PLAIN = "state.safetensors", "state.json"


@dataclass
class Position:
    """Where a training stands, and what it has seen."""

    epoch: int = 0  # the current epoch, from 0
    batch: int = 0  # weight updates done in this epoch
    step: int = 0  # weight updates done in all
    sums: dict[str, float] = field(default_factory=dict)  # sums of this epoch's loss parts over its updates
    history: list[dict[str, Any]] = field(default_factory=list)  # one row per finished epoch
    best: float = -1.0  # the best validation score so far
    best_epoch: int = -1  # its epoch, from 0; -1: none yet
    stale: int = 0  # validations since then
    top: list[list[float]] = field(default_factory=list)  # [score, epoch] of the kept epochs, best first


def pack(tree: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """Return nested state as plain data; tensors go into `tensors` and leave {"tensor": name} behind.

    Dictionaries become {"items": [[key, value], ...]}, because JSON would turn integer keys into strings. Raises
    TypeError: the state holds something other than tensors, numbers, text, None, lists, tuples and dictionaries.
    """
    if isinstance(tree, Tensor):
        tensors[prefix] = tree.detach().cpu().contiguous().clone()
        return {"tensor": prefix}
    if isinstance(tree, dict):
        return {"items": [[key, pack(value, f"{prefix}.{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return [pack(value, f"{prefix}.{number}", tensors) for number, value in enumerate(tree)]
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"{prefix} holds a {type(tree).__name__}, which a checkpoint cannot store")


def unpack(plain: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the nested state that `pack` took apart (tuples come back as lists)."""
    if isinstance(plain, dict):
        if "tensor" in plain:
            return tensors[plain["tensor"]]
        return {key: unpack(value, tensors) for key, value in plain["items"]}
    return [unpack(value, tensors) for value in plain] if isinstance(plain, list) else plain


def save_state(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    scaler: dict[str, Any],
    position: Position,
) -> None:
    """Write the state of a training to `folder`, replacing the one before it as a whole.

    Raises:
        SeldError: the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    plain = {
        "network": pack(dict(network.state_dict()), "network", tensors),
        "optimizer": pack(optimizer.state_dict(), "optimizer", tensors),
        "average": pack(average.state_dict() if average else {}, "average", tensors),
        "scaler": pack(scaler, "scaler", tensors),
        "position": vars(position),
    }
    with replace_folder(folder) as new:
        save_file(tensors, new / TENSORS)
        (new / PLAIN).write_text(json.dumps(plain), encoding="utf-8")


def load_state(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> tuple[Position, dict[str, Any]] | None:
    """Return position and scaler state after loading everything else in place; None if nothing was saved yet.

    Raises:
        SeldError: the files are damaged.
    """
    settle(folder)
    if not folder.exists():
        return None
    try:
        tensors = load_file(folder / TENSORS)
        plain = json.loads((folder / PLAIN).read_text(encoding="utf-8"))
        network.load_state_dict(unpack(plain["network"], tensors))
        optimizer.load_state_dict(unpack(plain["optimizer"], tensors))
        _lay_out(optimizer)
        if average is not None:
            average.load_state_dict(unpack(plain["average"], tensors))
        return Position(**plain["position"]), unpack(plain["scaler"], tensors)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        raise SeldError(
            f"The training state in {folder} cannot be read: {error}.",
            "Remove that folder to start this training again.",
        ) from error


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's tensors the memory layout of their parameters, e.g. channels last, which files do not keep.

    The fused AdamW of CPUs walks through all of them by address and takes equal layouts for granted.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)
