"""Averaging members: their track order means nothing, agreement stays, mirrored input comes back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dcase_seld.infer.collect import (
    align,
    average_outputs,
    smoothed_tracks,
    sorted_tracks,
    swap_output,
    take_tracks,
)
from dcase_seld.model.network import decode
from dcase_seld.model.types import SeldOutput


def random_output(seed: int, onscreen: bool = True, shape: tuple[int, ...] = (2, 5, 4, 3)) -> SeldOutput:
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(*shape, 2, generator=generator) * 2 - 1
    distance = torch.rand(*shape, generator=generator) * 5
    logits = torch.randn(*shape, generator=generator)
    return SeldOutput(xy, distance, logits if onscreen else None)


def shuffled(output: SeldOutput, seed: int) -> SeldOutput:
    """Return the output with tracks in a random order in each frame and class."""
    order = torch.rand(output.distance.shape, generator=torch.Generator().manual_seed(seed)).argsort(-1)
    return take_tracks(output, order)


def assert_close(a: SeldOutput, b: SeldOutput) -> None:
    for first, second in zip(a, b, strict=True):
        assert first is not None and second is not None
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("member", [0, 1, 2])
def test_permuting_a_members_tracks_changes_nothing(member: int) -> None:
    outputs = [random_output(seed) for seed in range(3)]
    plain = average_outputs(outputs, [1.0, 2.0, 0.5])
    outputs[member] = shuffled(outputs[member], 7)
    assert_close(average_outputs(outputs, [1.0, 2.0, 0.5]), plain)


def test_members_that_agree_average_to_themselves() -> None:
    output = random_output(0)
    mean = average_outputs([output, shuffled(output, 1), shuffled(output, 2)])
    assert_close(mean, sorted_tracks(output))
    first, second = (decode(o, ["a", "b"]) for o in (mean, output))
    assert len(first) == len(second)
    assert np.allclose(np.sort(first.azimuth_deg), np.sort(second.azimuth_deg), atol=1e-3)


def test_alignment_is_the_best_of_all_orders() -> None:
    a, b = random_output(0, shape=(1, 3, 2, 3)), random_output(1, shape=(1, 3, 2, 3))
    silent = [o._replace(distance=torch.zeros_like(o.distance)) for o in (a, b)]
    aligned = align(silent[0], silent[1])
    found = (aligned.direction - b.direction).square().sum((-1, -2))
    for order in itertools.permutations(range(3)):
        cost = (a.direction[..., list(order), :] - b.direction).square().sum((-1, -2))
        assert bool((found <= cost + 1e-6).all())


def test_two_members_with_exchanged_sources_keep_both_directions() -> None:
    xy = torch.tensor([[[[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]]])
    distance = torch.tensor([[[[1.0, 3.0, 0.0]]]])
    first = SeldOutput(xy, distance, torch.tensor([[[[4.0, -4.0, 0.0]]]]))
    second = take_tracks(first, torch.tensor([[[[1, 2, 0]]]]))
    mean = average_outputs([first, second])
    assert sorted(mean.activity().flatten().tolist()) == pytest.approx([0.0, 1.0, 1.0])
    events = decode(mean, ["x"])
    assert sorted(zip(events.azimuth_deg, events.distance_m, events.onscreen, strict=True)) == [
        (pytest.approx(0.0), pytest.approx(1.0), True),
        (pytest.approx(90.0), pytest.approx(3.0), False),
    ]


def test_a_silent_members_distance_does_not_count() -> None:
    loud = SeldOutput(torch.tensor([[[[[1.0, 0.0]]]]]), torch.tensor([[[[2.0]]]]), None)
    silent = SeldOutput(torch.zeros(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1), None)
    mean = average_outputs([loud, silent])
    assert float(mean.distance) == pytest.approx(2.0, rel=0.01) and float(mean.activity()) == pytest.approx(0.5)
    assert mean.onscreen is None


def test_members_of_both_tracks_average() -> None:
    with_screen, without = random_output(0), random_output(1, onscreen=False)
    mean = average_outputs([without, with_screen])
    aligned = align(with_screen, sorted_tracks(without))
    assert mean.onscreen is not None and aligned.onscreen is not None
    # The only member with an on-screen head decides alone.
    assert torch.allclose(
        mean.onscreen.flatten().sort().values, aligned.onscreen.clamp(-14, 14).flatten().sort().values, atol=1e-3
    )


def test_mirroring_twice_is_the_identity() -> None:
    output = random_output(3)
    assert_close(swap_output(swap_output(output)), output)
    assert torch.equal(swap_output(output).direction[..., 1], -output.direction[..., 1])


def test_smoothing_calms_each_source_and_keeps_two_of_a_class_apart() -> None:
    """Two sources of one class, 80 degrees apart, whose azimuths jump by 6 degrees and whose tracks change places."""
    generator = np.random.default_rng(0)
    true = np.array([40.0, -40.0])
    said = np.deg2rad(true + generator.choice([-6.0, 6.0], (50, 2)))
    activity = torch.tensor(np.stack([np.full(50, 0.9), np.full(50, 0.7), np.zeros(50)], -1), dtype=torch.float32)
    angle = torch.tensor(np.concatenate([said, np.zeros((50, 1))], -1), dtype=torch.float32)
    direction = activity[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    distance = torch.tensor(generator.uniform(1.0, 3.0, (50, 3)), dtype=torch.float32)
    output = shuffled(SeldOutput(direction[None, :, None], distance[None, :, None], None), 3)
    smooth = smoothed_tracks(output, 4.0)
    torch.testing.assert_close(smooth.activity(), output.activity())
    before, after = (decode(one, ["a"]) for one in (output, smooth))
    nearest = [np.abs(one.azimuth_deg[:, None] - true).min(1) for one in (before, after)]
    assert len(before) == len(after) == 100
    assert nearest[0].mean() > 5.9 and nearest[1].mean() < 3.0 and nearest[1].max() < 6.0
    assert np.std(after.distance_m) < 0.5 * np.std(before.distance_m)


def test_smoothing_follows_a_source_that_moves() -> None:
    angle = torch.deg2rad(torch.linspace(-50.0, 50.0, 50))
    direction = torch.stack([angle.cos(), angle.sin()], -1)[None, :, None, None].expand(1, 50, 1, 3, 2)
    output = SeldOutput(direction, torch.ones(1, 50, 1, 3), None)
    after = decode(smoothed_tracks(output, 4.0), ["a"])
    late = np.abs(after.azimuth_deg - np.linspace(-50.0, 50.0, 50))
    assert len(after) == 50 and late[10:-10].max() < 0.5 and late.max() < 8.0
