import json
from itertools import product

import numpy as np
import pytest
import torch
from golden_model import GOLDEN, official_output, official_target

from dcase_seld.model.types import SeldOutput, SeldTarget
from dcase_seld.train.losses import adpit_loss, assign

LOSSES = json.loads((GOLDEN / "losses.json").read_text())
OUTPUTS = np.load(GOLDEN / "adpit.npz")


def random_case(clips=3, frames=20, classes=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    number = torch.randint(0, 4, (clips, frames, classes), generator=generator)
    angle = torch.rand(clips, frames, classes, 3, generator=generator) * 6.28
    source = torch.stack((angle.cos(), angle.sin(), angle, (angle > 3).float()), -1)
    source = source * (torch.arange(3) < number[..., None])[..., None]
    shape = (clips, frames, classes, 3)
    output = SeldOutput(
        torch.rand(*shape, 2, generator=generator) * 2 - 1,
        torch.rand(shape, generator=generator) * 4,
        torch.randn(shape, generator=generator),
    )
    return output, SeldTarget(number, source)


@pytest.mark.parametrize("name", ["adpit_audio", "adpit_audio_visual"])
def test_equals_official_loss(name):
    output = official_output(OUTPUTS[name.replace("adpit", "output")])
    parts = adpit_loss(output, official_target(), onscreen_loss="official")
    assert abs(parts.total.item() - LOSSES[name]) < 1e-6


def test_masked_loss_is_default_and_sees_active_frames_only():
    output, target = random_case()
    parts = adpit_loss(output, target, positive_weight=2.0, onscreen_weight=0.5)
    active = target.number > 0
    assert parts.active == active.sum()
    assert torch.isclose(parts.total, parts.doa + parts.distance + 0.5 * parts.onscreen)
    changed = output.onscreen.clone()
    changed[~active] += 5.0
    assert torch.equal(
        adpit_loss(output._replace(onscreen=changed), target, positive_weight=2.0).onscreen, parts.onscreen
    )
    chosen = assign(output.xy, output.distance, *target)[..., 3]
    probability = torch.sigmoid(output.onscreen)
    entropy = -(2.0 * chosen * probability.log() + (1 - chosen) * (1 - probability).log())
    assert torch.isclose(parts.onscreen, entropy[active].mean(), atol=1e-6)


def test_assignment_is_the_best_of_all_permutations():
    output, target = random_case(2, 6, 4, seed=3)
    predicted = torch.cat((output.xy, output.distance[..., None]), -1)
    chosen = assign(output.xy, output.distance, *target)
    for cell in np.ndindex(*target.number.shape):
        count = int(target.number[cell])
        source = target.source[cell]
        if count == 0:
            assert not chosen[cell].any()
            continue
        orders = [p for p in product(range(count), repeat=3) if set(p) == set(range(count))]
        errors = [(predicted[cell] - source[list(p), :3]).square().sum().item() for p in orders]
        assert abs((predicted[cell] - chosen[cell][:, :3]).square().sum().item() - min(errors)) < 1e-5


def test_permuting_tracks_and_sources_changes_nothing():
    output, target = random_case(seed=5)
    order = [2, 0, 1]
    permuted = SeldOutput(output.xy[..., order, :], output.distance[..., order], output.onscreen[..., order])
    # Sources are permuted among the existing ones only: with three of them, by any order.
    full = target.number == 3
    source = torch.where(full[..., None, None], target.source[..., order, :], target.source)
    first, second = adpit_loss(output, target), adpit_loss(permuted, target._replace(source=source))
    assert all(torch.isclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def test_swapping_left_and_right_of_output_and_target_changes_nothing():
    output, target = random_case(seed=6)
    mirror = torch.tensor([1.0, -1.0])
    mirrored = target.source * torch.tensor([1.0, -1.0, 1.0, 1.0])
    first = adpit_loss(output, target)
    second = adpit_loss(output._replace(xy=output.xy * mirror), target._replace(source=mirrored))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradient_equals_that_of_the_minimum_over_losses():
    output, target = random_case(1, 4, 3, seed=8)
    xy = output.xy.clone().requires_grad_()
    adpit_loss(output._replace(xy=xy), target, onscreen_loss="none").total.backward()
    chosen = assign(output.xy, output.distance, *target)
    expected = 2 * (output.xy - chosen[..., :2]) / (output.distance.numel() * 3)
    assert torch.allclose(xy.grad, expected, atol=1e-7)


def test_log_distance_compares_logarithms():
    output, target = random_case(seed=9)
    # One source at most: with several, the distances could make another permutation the best one.
    target = SeldTarget(target.number.clamp(max=1), target.source * torch.tensor([1.0, 0, 0])[:, None])
    exact = assign(output.xy, output.distance, *target)
    output = output._replace(xy=exact[..., :2], distance=exact[..., 2] * 1.5)
    parts = adpit_loss(output, target, onscreen_loss="none", log_distance=True)
    expected = (
        (torch.log1p(exact[..., 2] * 1.5) - torch.log1p(exact[..., 2])).square().sum() / exact[..., 2].numel() / 3
    )
    assert torch.isclose(parts.distance, expected, rtol=1e-4)


def test_batch_without_events_has_a_finite_loss_and_gradient():
    output, target = random_case()
    logits = output.onscreen.clone().requires_grad_()
    silent = SeldTarget(torch.zeros_like(target.number), torch.zeros_like(target.source))
    parts = adpit_loss(output._replace(onscreen=logits), silent)
    parts.total.backward()
    assert parts.active == 0 and parts.onscreen == 0 and torch.isfinite(parts.total)
    assert not logits.grad.any()


def test_active_weight_scales_the_errors_of_active_class_frames_alone():
    output, target = random_case(seed=4)
    active = (target.number > 0)[..., None]
    still = output._replace(xy=output.xy * active[..., None], distance=output.distance * active)
    plain, weighted = (adpit_loss(still, target, onscreen_loss="none", active_weight=w) for w in (1.0, 4.0))
    assert torch.isclose(weighted.total, 4 * plain.total)
    noise = output._replace(xy=output.xy * ~active[..., None], distance=output.distance * ~active)
    silent = SeldTarget(torch.zeros_like(target.number), torch.zeros_like(target.source))
    plain, weighted = (adpit_loss(noise, silent, onscreen_loss="none", active_weight=w) for w in (1.0, 4.0))
    assert torch.equal(weighted.total, plain.total) and plain.total > 0


def test_distance_loss_of_active_frames_leaves_silence_alone():
    output, target = random_case(seed=6)
    distance = output.distance.clone().requires_grad_()
    parts = adpit_loss(output._replace(distance=distance), target, onscreen_loss="none", distance_loss="active")
    parts.total.backward()
    active = target.number > 0
    assert not distance.grad[~active].any() and distance.grad[active].any()
    everywhere = adpit_loss(output, target, onscreen_loss="none")
    assert torch.equal(parts.doa, everywhere.doa) and parts.distance < everywhere.distance
