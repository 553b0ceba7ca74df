"""Dry sounds vary in training, by speed and equaliser, and nowhere else."""

import numpy as np
import pytest

from dcase_seld.core.classes import DCASE2025
from dcase_seld.simulate.config import SceneConfig, SoundsConfig, VariationConfig
from dcase_seld.simulate.render import _cut, _varied
from dcase_seld.simulate.rooms import sample_room
from dcase_seld.simulate.scenes import EQUALISER_HZ, plan_scene
from dcase_seld.simulate.sound_bank import procedural_bank


def test_training_sounds_vary_and_tested_ones_do_not():
    taxonomy = DCASE2025
    config = SceneConfig(vary=VariationConfig(speed=(0.8, 1.25), equaliser_db=6.0))
    bank = procedural_bank(taxonomy, SoundsConfig(procedural_recordings=3), 0)
    room = sample_room(config.rooms, np.random.default_rng(0))
    prior = [1.0] * len(taxonomy)

    def plan(split, config=config):
        return plan_scene("a", split, room, bank, prior, config, taxonomy, np.random.default_rng(5))

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
