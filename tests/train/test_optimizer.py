"""The optimizer of a training is AdamW to rounding, whatever kernel runs it and however weights lie in memory."""

from __future__ import annotations

import torch
from tiny import MODEL, TASK

from dcase_seld.model.network import build_model
from dcase_seld.model.types import ModelInput
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.setup import make_optimizer


def test_updates_are_those_of_the_plain_kernel() -> None:
    config = TrainConfig(model=MODEL, lr=1e-3, weight_decay=0.1)  # type: ignore[arg-type]
    runs = []
    for _ in range(2):
        network = build_model(config.model, TASK, 0).eval()
        runs.append((network, make_optimizer(network, config)))
    for group in runs[1][1].param_groups:
        group["fused"] = None
    assert any(not parameter.is_contiguous() for parameter in runs[0][0].parameters())
    sound = torch.randn(2, 2, 24_000, generator=torch.Generator().manual_seed(0)) * 0.1
    before = [parameter.detach().clone() for parameter in runs[0][0].parameters()]
    for _ in range(3):
        for network, optimizer in runs:
            output = network(ModelInput(wave=sound))
            (output.direction.square().sum() + output.distance.square().sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
    pairs = list(zip(*(network.parameters() for network, _ in runs), strict=True))
    assert all(torch.allclose(one, other, rtol=1e-4, atol=2e-5) for one, other in pairs)
    assert sum(not torch.allclose(old, new, atol=1e-3) for old, (new, _) in zip(before, pairs, strict=True)) > 10
