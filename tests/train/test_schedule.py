"""Learning rates and weight averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcase_seld.train.config import ScheduleConfig
from dcase_seld.train.state import WeightAverage, learning_rate


@pytest.mark.parametrize("kind", ["cosine", "one-cycle"])
def test_rates_rise_to_the_peak_and_fall_to_the_end(kind: str) -> None:
    config = ScheduleConfig(kind=kind, warmup=0.2, final=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(step, 100, 2e-3, config) for step in range(100)]
    assert max(rates) == pytest.approx(2e-3) and rates.index(max(rates)) in (19, 20)
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(2e-4)
    assert rates[0] == pytest.approx(1e-4 if kind == "cosine" else 2e-3 * 0.04, rel=0.2)


def test_a_constant_rate_warms_up_only() -> None:
    config = ScheduleConfig(kind="constant", warmup=0.1)
    rates = [learning_rate(step, 50, 1.0, config) for step in range(50)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and set(rates[5:]) == {1.0}


def test_the_cosine_is_torchs_own() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    official = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=39, eta_min=0.05)
    config = ScheduleConfig(kind="cosine", warmup=0, final=0.05)
    for step in range(40):
        assert learning_rate(step, 40, 1.0, config) == pytest.approx(official.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        official.step()


def test_the_average_follows_parameters_and_running_statistics() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(network, 0.5)
    expected = network[0].weight.detach().clone()
    for step in range(6):
        network(torch.randn(8, 3)).sum().backward()
        with torch.no_grad():
            network[0].weight.add_(1.0)
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    assert torch.allclose(average.state_dict()["0.weight"], expected)
    assert average.state_dict()["1.num_batches_tracked"] == 6
