"""Learning rate and weight average as closed forms of the step: resuming needs only the step's number."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network's weights after update `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor, 1 - decay)
            else:
                self.values[name].copy_(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged tensors by name."""
        return self.values

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over averaged tensors that `state_dict` gave."""
        for name, tensor in state.items():
            self.values[name].copy_(tensor)
