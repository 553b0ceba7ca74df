"""Properties of each augmentation: what it changes, what it leaves; sound, labels and tokens go together."""

import numpy as np
import pytest
import torch
from small_models import placed, sources_of

from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import GEOMETRIES, ROTATIONS
from dcase_seld.model.config import FrontEndConfig
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.types import ModelInput, Tokens
from dcase_seld.train import augment as augment_module
from dcase_seld.train.config import AugmentConfig

SIZE, FRAMES, CLASSES, TRACKS, SAMPLES = 4, 10, 5, 3, 24_000
ALL = torch.ones(SIZE, dtype=torch.bool)


@pytest.fixture(scope="module")
def frontend():
    made = FrontEnd(FrontEndConfig(features=("log_mel", "ild", "mid_side")))
    made.mean.copy_(torch.randn(len(made.channels), 64) - 40)
    made.mean[1] = made.mean[0]
    return made


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(SIZE, 2, SAMPLES, generator=generator) * 0.05
    number = torch.randint(0, 2, (SIZE, FRAMES, CLASSES), generator=generator)
    azimuth = torch.rand(SIZE, FRAMES, CLASSES, TRACKS, generator=generator) * np.pi - np.pi / 2
    source = torch.stack([azimuth.cos(), azimuth.sin(), azimuth.abs() + 1, (azimuth > 0).float()], -1)
    source = source * (torch.arange(TRACKS) < number[..., None])[..., None]
    vision = torch.randn(SIZE, 5, 3, 8, generator=generator)
    sound = torch.randn(SIZE, 1, 8, generator=generator)
    mask = torch.rand(SIZE, 5, generator=generator) > 0.2
    inputs = ModelInput(wave=wave, tokens={"clap": Tokens(sound), "owlvit": Tokens(vision, mask)})
    return inputs, placed(number, source), ModelInput(tokens={"owlvit": Tokens(-vision, mask)})


def tensors(batch):
    """Return every tensor of an input or a target."""
    found = []
    batch.map(lambda tensor: found.append(tensor) or tensor)
    return found


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_swap_twice_is_identity_and_once_moves_everything(batch, frontend):
    inputs, target, mirror = batch
    swapped, moved = augment_module.swap(inputs, target, ALL, frontend, mirror)
    assert torch.equal(swapped.wave, inputs.wave.flip(1))
    assert torch.equal(swapped.tokens["owlvit"].values, mirror.tokens["owlvit"].values)
    assert torch.equal(swapped.tokens["clap"].values, inputs.tokens["clap"].values)
    assert torch.equal(moved.direction[..., 1], -target.direction[..., 1])
    assert torch.equal(moved.direction[..., 0], target.direction[..., 0])
    assert torch.equal(moved.distance, target.distance) and torch.equal(moved.onscreen, target.onscreen)
    back = ModelInput(tokens={"owlvit": inputs.tokens["owlvit"]})
    again = augment_module.swap(swapped, moved, ALL, frontend, back)
    assert same(again[0], inputs) and same(again[1], target)


def test_swapped_features_are_the_features_of_the_swapped_sound(batch, frontend):
    inputs, target, _ = batch
    sound = ModelInput(wave=inputs.wave)
    from_wave = frontend.extract(augment_module.swap(sound, target, ALL, frontend)[0].wave)
    cached, _ = augment_module.swap(augment_module.extracted(sound, frontend), target, ALL, frontend)
    assert torch.allclose(cached.features, from_wave, atol=1e-3)


def test_swap_touches_only_the_chosen_clips(batch, frontend):
    inputs, target, mirror = batch
    which = torch.tensor([True, False, True, False])
    swapped, moved = augment_module.swap(inputs, target, which, frontend, mirror)
    for clip in (1, 3):
        assert torch.equal(swapped.wave[clip], inputs.wave[clip]) and torch.equal(
            moved.direction[clip], target.direction[clip]
        )
        assert torch.equal(swapped.tokens["owlvit"].values[clip], inputs.tokens["owlvit"].values[clip])
    assert torch.equal(swapped.wave[2], inputs.wave[2].flip(0))


def test_swap_refuses_a_picture_without_its_mirror(batch, frontend):
    inputs, target, _ = batch
    with pytest.raises(SeldError, match=r"mirrored frames.*mirror: store"):
        augment_module.swap(inputs, target, ALL, frontend)


@pytest.mark.parametrize("seed", range(3))
def test_frame_swap_keeps_sound_labels_and_frames_together(seed):
    """Each tensor counts time; after the cut all of them must tell the same time."""
    frames = torch.arange(FRAMES)
    time = frames.repeat_interleave(SAMPLES // FRAMES).float()
    inputs = ModelInput(
        wave=time.expand(SIZE, 2, -1),
        features=frames.repeat_interleave(16).float()[None, None, :, None].expand(SIZE, 1, -1, 4),
        tokens={
            "owlvit": Tokens(
                torch.arange(5).float()[None, :, None, None].expand(SIZE, -1, 2, 2),
                (torch.arange(5) == 2).expand(SIZE, -1),
            )
        },
    )
    number = frames[None, :, None].expand(SIZE, -1, CLASSES)
    target = placed(number, torch.zeros(SIZE, FRAMES, CLASSES, TRACKS, 4))
    cut, moved = augment_module.frame_swap(inputs, target, ALL, torch.rand(SIZE, generator=rng(seed)))
    labels = moved.count[:, :, 0]
    seen, mask = cut.tokens["owlvit"]
    assert torch.equal(cut.wave[:, 0].reshape(SIZE, FRAMES, -1)[..., 0].long(), labels)
    assert torch.equal(cut.features[:, 0].reshape(SIZE, FRAMES, 16, 4)[:, :, 0, 0].long(), labels)
    assert torch.equal(seen[:, :, 0, 0].long(), labels[:, ::2] // 2)
    assert torch.equal(mask, seen[:, :, 0, 0] == 2)
    assert (labels[:, 0] != 0).all() and torch.equal(labels.sort(1).values, number[:, :, 0])


def test_frame_swap_leaves_other_clips_and_has_an_inverse(batch):
    inputs, target, _ = batch
    none, plain = augment_module.frame_swap(inputs, target, ~ALL, torch.rand(SIZE))
    assert same(none, inputs) and same(plain, target)
    sound = ModelInput(wave=inputs.wave)
    half = torch.full((SIZE,), 0.5)  # 10 frames: cut after 5
    back = augment_module.frame_swap(*augment_module.frame_swap(sound, target, ALL, half), ALL, half)
    assert same(back[0], sound) and same(back[1], target)


def test_gain_of_sound_and_of_features_agree(batch, frontend):
    sound = ModelInput(wave=batch[0].wave)
    level_db = torch.tensor([0.0, 6.0, -3.0, 1.0])
    loud = augment_module.gain(sound, level_db, frontend)
    assert torch.equal(loud.wave[0], sound.wave[0])
    assert loud.wave[1].std() / sound.wave[1].std() == pytest.approx(10 ** (6 / 20), rel=1e-5)
    cached = augment_module.gain(augment_module.extracted(sound, frontend), level_db, frontend)
    assert torch.allclose(cached.features, frontend.extract(loud.wave), atol=2e-3)


def test_mix_adds_sound_and_merges_labels(batch):
    inputs, target, mirror = batch
    partner = torch.tensor([1, 0, 2, 1])
    mixed, merged, _ = augment_module.mix(inputs, target, ALL, partner, mirror)
    assert torch.equal(merged.count[0], target.count[0] + target.count[1])
    assert torch.equal(merged.count[2], target.count[2]) and torch.equal(mixed.wave[2], inputs.wave[2])
    assert torch.allclose(mixed.wave[0], inputs.wave[0] + inputs.wave[1])
    for frame in range(FRAMES):
        for sound in range(CLASSES):
            want = [sources_of(target)[0, frame, sound, i] for i in range(target.count[0, frame, sound])]
            for row in sources_of(target)[1, frame, sound, : target.count[1, frame, sound]]:
                want.append(torch.cat([row[:3], torch.zeros(1)]))  # not in this picture
            got = sources_of(merged)[0, frame, sound]
            assert torch.equal(got[: len(want)], torch.stack(want)) if want else not got.any()
            assert not got[len(want) :].any()


def test_mix_respects_the_tracks(batch):
    inputs, target, _ = batch
    number = torch.full_like(target.count, 2)
    number[2:] = 1
    partner = torch.tensor([1, 0, 3, 0])
    mixed, merged, _ = augment_module.mix(inputs, target._replace(count=number), ALL, partner)
    assert merged.count.max() == 3
    assert torch.equal(mixed.wave[0], inputs.wave[0]) and torch.equal(sources_of(merged)[0], sources_of(target)[0])
    assert (merged.count[2] == 2).all() and (merged.count[3] == 3).all()


def test_mix_never_exceeds_full_scale_and_needs_sound(batch):
    inputs, target, _ = batch
    loud = inputs._replace(wave=inputs.wave / inputs.wave.abs().max())
    assert augment_module.mix(loud, target, ALL, torch.tensor([1, 2, 3, 0]))[0].wave.abs().max() <= 1.0
    with pytest.raises(SeldError, match="needs waveforms"):
        augment_module.mix(ModelInput(features=torch.zeros(4, 1, 1, 1)), target, ALL, torch.arange(4))


def difference(features, frontend, one, other):
    return features[:, frontend.channels.index(one)] - features[:, frontend.channels.index(other)]


@pytest.mark.parametrize("name", ["mask", "filter"])
def test_masks_and_filters_keep_level_differences(batch, frontend, name):
    inputs, target, _ = batch
    before = frontend.extract(inputs.wave)
    config = AugmentConfig(swap=0, **{name: 1.0})
    after = augment_module.Augment(config, frontend)(ModelInput(wave=inputs.wave), target, rng())[0].features
    assert not torch.allclose(after, before, atol=0.5)
    for pair in (("left", "right"), ("mid", "side")):
        assert torch.allclose(difference(after, frontend, *pair), difference(before, frontend, *pair), atol=1e-3)
    ild = frontend.channels.index("ild")
    assert torch.equal(after[:, ild], before[:, ild])


def test_masked_levels_are_the_mean(batch, frontend):
    features = frontend.extract(batch[0].wave)
    hidden = augment_module.mask_stripes(features, AugmentConfig(mask=1), 16, rng())
    assert 0.02 < hidden.float().mean() < 0.9
    masked = augment_module.mask_levels(features, hidden, frontend)
    common = masked[:, :2].mean(1)
    assert torch.allclose(common[hidden], frontend.mean[0].expand_as(common)[hidden], atol=1e-4)
    assert torch.equal(masked[:, :2].movedim(1, -1)[~hidden], features[:, :2].movedim(1, -1)[~hidden])


def test_filters_stay_within_their_range():
    config = AugmentConfig(filter=1, filter_db=4.0)
    curves = augment_module.filter_curves(50, 64, config, rng())
    assert curves.shape == (50, 64) and 3.0 < curves.abs().max() <= 4.0
    assert curves.diff(dim=1).abs().max() > 0.01


def everything(frontend):
    return augment_module.Augment(
        AugmentConfig(swap=0.5, frame_swap=0.5, gain=0.5, mixup=0.5, mask=0.5, filter=0.5), frontend
    )


def test_same_seed_same_result(batch, frontend):
    inputs, target, mirror = batch
    first = everything(frontend)(inputs, target, rng(3), mirror)
    second = everything(frontend)(inputs, target, rng(3), mirror)
    other = everything(frontend)(inputs, target, rng(4), mirror)
    assert same(first[0], second[0]) and same(first[1], second[1]) and not same(first[0], other[0])
    assert all(torch.isfinite(value).all() for value in (*tensors(first[0]), *tensors(first[1])))


def test_inputs_are_not_written_to(batch, frontend):
    inputs, target, mirror = batch
    copies = [value.clone() for value in (*tensors(inputs), *tensors(target))]
    everything(frontend)(inputs, target, rng(), mirror)
    assert all(map(torch.equal, copies, [*tensors(inputs), *tensors(target)]))


def test_off_means_unchanged(batch, frontend):
    inputs, target, _ = batch
    off = AugmentConfig(swap=0)
    assert not off.active and not off.needs_wave and AugmentConfig(mixup=0.1).needs_wave
    result = augment_module.Augment(off, frontend)(inputs, target, rng())
    assert same(result[0], inputs) and same(result[1], target)


def test_probability_is_met(batch, frontend):
    inputs, target, _ = batch
    sound, generator = ModelInput(wave=inputs.wave[..., :2400]), rng()
    augment = augment_module.Augment(AugmentConfig(swap=0.3), frontend)
    swapped = [
        not torch.equal(augment(sound, target, generator)[0].wave[clip], sound.wave[clip])
        for _ in range(150)
        for clip in range(SIZE)
    ]
    assert np.mean(swapped) == pytest.approx(0.3, abs=0.1)


FOA_FEATURES = ("log_mel", "intensity_vector", "stpacc")


def plane_wave(azimuth_deg, elevation_deg, seed=0):
    """Return (1, 4, S) Ambisonics (W, Y, Z, X) of noise from one direction, and its unit vector (x, y, z)."""
    x, y, z = GEOMETRIES["sphere"].to_vector(azimuth_deg, elevation_deg).tolist()
    noise = torch.randn(SAMPLES, generator=rng(seed)) * 0.05
    return torch.stack([noise, y * noise, z * noise, x * noise])[None], torch.tensor([x, y, z])


@pytest.mark.parametrize("pattern", range(16))
def test_a_turned_sphere_sounds_like_sources_there(pattern):
    foa = FrontEnd(FrontEndConfig(features=FOA_FEATURES), "foa")
    wave, vector = plane_wave(35.0, 20.0)
    direction = vector.expand(1, FRAMES, CLASSES, TRACKS, 3)
    plain = placed(torch.ones(1, FRAMES, CLASSES, dtype=torch.int64), torch.zeros(1, FRAMES, CLASSES, TRACKS, 4))
    target = plain._replace(direction=direction)
    turned, moved = augment_module.rotate(ModelInput(wave=wave), target, torch.tensor([pattern]), foa)
    seen = moved.direction[0, 0, 0, 0]
    azimuth, elevation = GEOMETRIES["sphere"].to_angles(seen.double().numpy())
    there, again = plane_wave(float(azimuth), float(elevation))
    assert torch.allclose(turned.wave, there, atol=1e-6) and torch.allclose(seen, again, atol=1e-6)
    # A cache of features turns as the sound does.
    cached, _ = augment_module.rotate(ModelInput(features=foa.extract(wave)), target, torch.tensor([pattern]), foa)
    assert torch.allclose(cached.features, foa.extract(turned.wave), atol=1e-3)


def test_sixteen_different_turns_and_their_inverses():
    vectors = [(0.2, 0.5, 0.8)[r.order[axis]] * r.sign[axis] for r in ROTATIONS for axis in range(3)]
    assert len(set(zip(vectors[::3], vectors[1::3], vectors[2::3], strict=True))) == 16
    for rotation in ROTATIONS:
        back = rotation.inverse
        there = [rotation.sign[axis] * (1.0, 2.0, 3.0)[rotation.order[axis]] for axis in range(3)]
        assert [there[back.order[axis]] * back.sign[axis] for axis in range(3)] == [1.0, 2.0, 3.0]


def test_turning_is_refused_of_stereo_and_of_pictures(batch, frontend):
    with pytest.raises(SeldError, match="stereo recordings cannot be turned"):
        augment_module.Augment(AugmentConfig(rotate=0.5), frontend)
    foa = FrontEnd(FrontEndConfig(features=FOA_FEATURES), "foa")
    with pytest.raises(SeldError, match=r"Pictures \(owlvit tokens\)"):
        augment_module.rotate(batch[0], batch[1], torch.zeros(SIZE, dtype=torch.int64), foa)
