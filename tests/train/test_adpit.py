import json
from itertools import product

import numpy as np
import pytest
import torch
from golden_model import GOLDEN, official_output, official_target
from small_models import placed, sources_of

from dcase_seld.model.types import SeldOutput
from dcase_seld.train.losses import adpit_loss, angle_term, assign, teacher_term

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
    return output, placed(number, source)


@pytest.mark.parametrize("name", ["adpit_audio", "adpit_audio_visual"])
def test_equals_official_loss(name):
    output = official_output(OUTPUTS[name.replace("adpit", "output")])
    parts = adpit_loss(output, official_target(), onscreen_loss="official")
    assert abs(parts.total.item() - LOSSES[name]) < 1e-6


def test_masked_loss_is_default_and_sees_active_frames_only():
    output, target = random_case()
    parts = adpit_loss(output, target, positive_weight=2.0, onscreen_weight=0.5)
    active = target.count > 0
    assert parts.active == active.sum()
    assert torch.isclose(parts.total, parts.terms["doa"] + parts.terms["distance"] + 0.5 * parts.terms["onscreen"])
    changed = output.onscreen.clone()
    changed[~active] += 5.0
    other = adpit_loss(output._replace(onscreen=changed), target, positive_weight=2.0)
    assert torch.equal(other.terms["onscreen"], parts.terms["onscreen"])
    chosen = assign(output.direction, output.distance, target).onscreen
    probability = torch.sigmoid(output.onscreen)
    entropy = -(2.0 * chosen * probability.log() + (1 - chosen) * (1 - probability).log())
    assert torch.isclose(parts.terms["onscreen"], entropy[active].mean(), atol=1e-6)


def test_assignment_is_the_best_of_all_permutations():
    output, target = random_case(2, 6, 4, seed=3)
    predicted = torch.cat((output.direction, output.distance[..., None]), -1)
    chosen = sources_of(assign(output.direction, output.distance, target))
    for cell in np.ndindex(*target.count.shape):
        count = int(target.count[cell])
        source = sources_of(target)[cell]
        if count == 0:
            assert not chosen[cell].any()
            continue
        orders = [p for p in product(range(count), repeat=3) if set(p) == set(range(count))]
        errors = [(predicted[cell] - source[list(p), :3]).square().sum().item() for p in orders]
        assert abs((predicted[cell] - chosen[cell][:, :3]).square().sum().item() - min(errors)) < 1e-5


def test_permuting_tracks_and_sources_changes_nothing():
    output, target = random_case(seed=5)
    order = [2, 0, 1]
    permuted = SeldOutput(output.direction[..., order, :], output.distance[..., order], output.onscreen[..., order])
    # Sources are permuted among the existing ones only: with three of them, by any order.
    full = target.count == 3
    source = torch.where(full[..., None, None], sources_of(target)[..., order, :], sources_of(target))
    first, second = adpit_loss(output, target), adpit_loss(permuted, placed(target.count, source))
    assert all(torch.isclose(first.terms[name], second.terms[name], atol=1e-6) for name in first.terms)


def test_swapping_left_and_right_of_output_and_target_changes_nothing():
    output, target = random_case(seed=6)
    mirror = torch.tensor([1.0, -1.0])
    mirrored = target._replace(direction=target.direction * mirror)
    first = adpit_loss(output, target)
    second = adpit_loss(output._replace(direction=output.direction * mirror), mirrored)
    assert all(torch.equal(first.terms[name], second.terms[name]) for name in first.terms)


def test_gradient_equals_that_of_the_minimum_over_losses():
    output, target = random_case(1, 4, 3, seed=8)
    xy = output.direction.clone().requires_grad_()
    adpit_loss(output._replace(direction=xy), target, onscreen_loss="none").total.backward()
    chosen = assign(output.direction, output.distance, target)
    expected = 2 * (output.direction - chosen.direction) / (output.distance.numel() * 3)
    assert torch.allclose(xy.grad, expected, atol=1e-7)


def test_log_distance_compares_logarithms():
    output, target = random_case(seed=9)
    # One source at most: with several, the distances could make another permutation the best one.
    target = placed(target.count.clamp(max=1), sources_of(target) * torch.tensor([1.0, 0, 0])[:, None])
    exact = assign(output.direction, output.distance, target)
    output = output._replace(direction=exact.direction, distance=exact.distance * 1.5)
    parts = adpit_loss(output, target, onscreen_loss="none", log_distance=True)
    expected = (
        (torch.log1p(exact.distance * 1.5) - torch.log1p(exact.distance)).square().sum() / exact.distance.numel() / 3
    )
    assert torch.isclose(parts.terms["distance"], expected, rtol=1e-4)


def test_batch_without_events_has_a_finite_loss_and_gradient():
    output, target = random_case()
    logits = output.onscreen.clone().requires_grad_()
    silent = target.map(torch.zeros_like)
    parts = adpit_loss(output._replace(onscreen=logits), silent)
    parts.total.backward()
    assert parts.active == 0 and parts.terms["onscreen"] == 0 and torch.isfinite(parts.total)
    assert not logits.grad.any()


def test_active_weight_scales_the_errors_of_active_class_frames_alone():
    output, target = random_case(seed=4)
    active = (target.count > 0)[..., None]
    still = output._replace(direction=output.direction * active[..., None], distance=output.distance * active)
    plain, weighted = (adpit_loss(still, target, onscreen_loss="none", active_weight=w) for w in (1.0, 4.0))
    assert torch.isclose(weighted.total, 4 * plain.total)
    noise = output._replace(direction=output.direction * ~active[..., None], distance=output.distance * ~active)
    silent = target.map(torch.zeros_like)
    plain, weighted = (adpit_loss(noise, silent, onscreen_loss="none", active_weight=w) for w in (1.0, 4.0))
    assert torch.equal(weighted.total, plain.total) and plain.total > 0


def test_distance_loss_of_active_frames_leaves_silence_alone():
    output, target = random_case(seed=6)
    distance = output.distance.clone().requires_grad_()
    parts = adpit_loss(output._replace(distance=distance), target, onscreen_loss="none", distance_loss="active")
    parts.total.backward()
    active = target.count > 0
    assert not distance.grad[~active].any() and distance.grad[active].any()
    everywhere = adpit_loss(output, target, onscreen_loss="none")
    assert torch.equal(parts.terms["doa"], everywhere.terms["doa"])
    assert parts.terms["distance"] < everywhere.terms["distance"]


def test_angles_count_alike_whatever_the_activity_and_only_where_a_class_sounds():
    _, target = random_case(seed=8)
    # One source a class, so that no other one is nearer than the one that is 25 degrees away.
    single = target._replace(count=target.count.clamp(max=1))
    chosen = assign(torch.zeros_like(target.direction), torch.zeros_like(target.distance), single)
    turn = torch.deg2rad(torch.tensor(25.0))
    x, y = chosen.direction.unbind(-1)
    turned = torch.stack((turn.cos() * x - turn.sin() * y, turn.sin() * x + turn.cos() * y), -1)
    for activity in (0.2, 1.0):
        direction = (activity * turned).requires_grad_()
        term = angle_term(SeldOutput(direction, chosen.distance, None), single)
        assert term.item() == pytest.approx(2 * np.sin(np.deg2rad(12.5)), abs=1e-3)
        term.backward()
        sounding = single.count > 0
        assert not direction.grad[~sounding].any() and direction.grad[sounding].any()


def test_teacher_is_followed_whatever_numbers_its_tracks_have():
    output, _ = random_case(seed=3)
    order = [2, 0, 1]
    same = SeldOutput(output.direction[..., order, :], output.distance[..., order], None)
    for log_distance in (True, False):
        assert teacher_term(output, same, 4.0, log_distance).item() == pytest.approx(0.0, abs=1e-6)
    # One class-frame off by 0.5 in one coordinate of one track, which the teacher calls fully active.
    taught = SeldOutput(torch.zeros_like(output.direction), torch.ones_like(output.distance), None)
    taught.direction[0, 0, 0, :, 0] = 1.0
    mine = SeldOutput(taught.direction.clone(), torch.zeros_like(output.distance), None)
    mine.direction[0, 0, 0, 1, 1] = 0.5
    count = output.distance.numel() * 3
    # Three tracks of one class-frame have a distance error of 1 metre; silent class-frames have none that counts.
    assert teacher_term(mine, taught, 4.0, False).item() == pytest.approx(4.0 * (0.25 + 3.0) / count)
