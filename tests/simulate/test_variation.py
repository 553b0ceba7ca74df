"""Sounds, sources and microphones vary in training and nowhere else; ambience is recorded where there is some."""

from dataclasses import replace

import numpy as np
import pytest

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import write_wav
from dcase_seld.simulate.config import SceneConfig, SoundsConfig, VariationConfig
from dcase_seld.simulate.render import _cut, _varied, microphones
from dcase_seld.simulate.rooms import sample_room
from dcase_seld.simulate.scenes import EQUALISER_HZ, plan_scene
from dcase_seld.simulate.sound_bank import ambience_bank, procedural_bank


def test_training_sounds_vary_and_tested_ones_do_not():
    taxonomy = DCASE2025
    config = SceneConfig(vary=VariationConfig(speed=(0.8, 1.25), equaliser_db=6.0))
    bank = procedural_bank(taxonomy, SoundsConfig(procedural_recordings=3), 0)
    room = sample_room(config.rooms, np.random.default_rng(0))
    prior = [1.0] * len(taxonomy)

    def plan(split, config=config):
        return plan_scene("a", split, room, bank, prior, config, taxonomy, np.random.default_rng(5))

    events = plan("train", SceneConfig(vary=VariationConfig(dynamics_db=6.0, directivity=0.5, microphone_db=3.0)))
    assert np.shape(events.microphone_db) == (4, len(EQUALISER_HZ))
    assert all(0 < np.linalg.norm(event.facing) <= 0.5 for event in events.events)
    for event in events.events:
        still = replace(event, swell_db=())
        swell = _cut(event, bank)[500:-500], _cut(still, bank)[500:-500]
        loud = np.abs(swell[1]) > 1e-3
        gains = swell[0][loud] / swell[1][loud]
        assert gains.max() > 1.1 * gains.min() and len(swell[0]) == len(swell[1])
    assert all(event.speed == 1.0 and not event.equaliser_db for event in plan("test").events)
    assert str(plan("test")) == str(plan("test", SceneConfig()))
    events = plan("train").events
    assert len({event.speed for event in events}) == len(events) > 1
    for event in events:
        assert 0.8 <= event.speed <= 1.25 and len(event.equaliser_db) == len(EQUALISER_HZ)
        piece = _cut(event, bank)
        assert len(piece) == event.samples and np.isfinite(piece).all()


def test_a_faster_sound_is_higher_and_shorter_and_an_equaliser_shapes_it():
    tone = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000).astype(np.float32)
    faster = _varied(tone, 1.25, ())
    assert len(faster) == 19_200
    assert np.argmax(np.abs(np.fft.rfft(faster))) * 24_000 / 19_200 == pytest.approx(1250, abs=2)
    louder = _varied(tone, 1.0, (0.0, 0.0, 6.0, 6.0, 6.0, 6.0))
    assert np.abs(louder[2000:-2000]).max() == pytest.approx(10 ** (6 / 20), rel=0.02)


def test_microphones_colour_each_channel_and_keep_levels_alike_where_they_are_alike():
    noise = np.tile(0.1 * np.random.default_rng(1).standard_normal(24_000).astype(np.float32), (2, 1))
    gains = ((0.0, 0.0, 0.0, 0.0, -12.0, -12.0), (1.0, 1.0, 1.0, 1.0, -11.0, -11.0))
    left, right = microphones(noise, gains)
    before, after = (np.abs(np.fft.rfft(sound)) ** 2 for sound in (noise[0], left))
    assert 10 * np.log10(after[5000:].sum() / before[5000:].sum()) == pytest.approx(-12, abs=1)
    assert np.square(right).sum() / np.square(left).sum() == pytest.approx(10**0.1, rel=0.01)


def test_recorded_ambience_is_of_one_split_alone_and_half_of_the_clips_have_it(tmp_path):
    for number in range(6):
        # Left and right are equal, so that nothing is to the side.
        sound = np.tile(0.1 * np.sin(np.arange(30_000) * 0.01 * (number + 1)), (2 if number else 1, 1))
        write_wav(tmp_path / f"{number}.wav", sound.astype(np.float32), 24_000)
    bank = ambience_bank(tmp_path, SoundsConfig())
    assert sorted(path for part in bank.files.values() for path in part) == sorted(tmp_path.glob("*.wav"))
    assert [len(bank.files[split]) for split in ("test", "val", "train")] == [2, 1, 3]
    found = [bank.stretch("train", seed, 4, 120_000) for seed in range(40)]
    heard = [sound for sound in found if sound is not None]
    assert 10 < len(heard) < 30 and all(sound.shape == (4, 120_000) for sound in heard)
    assert all(np.square(sound[0]).mean() == pytest.approx(1.0, rel=0.01) for sound in heard)
    assert any(np.abs(sound[1]).max() < 0.01 for sound in heard)
    again = bank.stretch("train", 3, 4, 120_000), found[3]
    assert (again[0] is None and again[1] is None) or np.array_equal(*again)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeldError, match="no recording of ambience"):
        ambience_bank(tmp_path / "empty", SoundsConfig())
