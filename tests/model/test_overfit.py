"""A small network must be able to learn 8 clips by heart: sound, labels, loss, decoder and score agree."""

import numpy as np
import pytest
import torch
from scored import score_events
from small_models import TASK, placed

from dcase_seld.core.events import Events
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import build_model, decode
from dcase_seld.model.types import ModelInput, Tokens
from dcase_seld.train.losses import adpit_loss

CLIPS, FRAMES, RATE, STEPS = 8, 20, 24000, 100


def scene():
    """Return 8 clips of 2 s with two overlapping tones each (a pitch per class, panned), and what they are."""
    generator = np.random.default_rng(0)
    time = np.arange(FRAMES * RATE // 10) / RATE
    wave = generator.normal(0, 1e-4, (CLIPS, 2, len(time)))
    rows = []
    number = torch.zeros(CLIPS, FRAMES, 13, dtype=torch.int64)
    source = torch.zeros(CLIPS, FRAMES, 13, 3, 4)
    vision = generator.normal(0, 1, (CLIPS, 2, 4, 16))
    for clip in range(CLIPS):
        for index, name in enumerate(generator.choice(13, 2, replace=False)):
            start, stop = (0, 14) if index == 0 else (6, 20)
            azimuth, distance = generator.uniform(-80, 80), generator.uniform(1, 4)
            onscreen = bool(generator.random() < 0.5)
            tone = 0.3 / distance * np.sin(2 * np.pi * 200 * 1.3**name * time)
            tone *= (time >= start / 10) & (time < stop / 10)
            pan = np.sin(np.radians(azimuth))
            wave[clip] += np.stack(((1 + pan) * tone, (1 - pan) * tone))
            vision[clip, :, index] += 3.0 * (1 if onscreen else -1)
            angle = np.radians(azimuth)
            number[clip, start:stop, name] = 1
            source[clip, start:stop, name, 0] = torch.tensor([np.cos(angle), np.sin(angle), distance, onscreen])
            rows += [(clip, frame, name, 0, azimuth, distance, onscreen) for frame in range(start, stop)]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    integers = [column.astype(np.int32) for column in columns[:4]]
    names = tuple(f"clip{index}" for index in range(CLIPS))
    events = Events(names, *integers, *columns[4:6], columns[6].astype(bool)).sorted()
    seen = Tokens(torch.from_numpy(vision).float(), torch.ones(CLIPS, 2, dtype=torch.bool))
    given = ModelInput(wave=torch.from_numpy(wave).float(), tokens={"owlvit": seen})
    return given, placed(number, source), events


@pytest.mark.slow
@pytest.mark.parametrize("track", ["a", "b"])
def test_learns_eight_clips_by_heart(track):
    torch.manual_seed(0)
    given, target, events = scene()
    config = parse_model_config(
        {
            "track": track,
            "fusion": {"owlvit": {"width": 16}} if track == "b" else [],
            "frontend": {"hop": 600, "window": 1024, "n_fft": 1024},
            "encoder": {
                "channels": [16, 32, 64],
                "layers": 1,
                "d_model": 64,
                "heads": 4,
                "feed_forward": 128,
                "kernel": 7,
                "dropout": 0.0,
            },
            "cross_modal": {
                "layers": 1,
                "heads": 4,
                "feed_forward": 128,
                "kernel": 7,
                "dropout": 0.0,
            },
        }
    )
    model = build_model(config, TASK).train()
    features = model.frontend.extract(given.wave)
    model.frontend.set_statistics(features.mean((0, 2)), features.std((0, 2)))
    given = given._replace(wave=None, features=features)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
    for _ in range(STEPS):
        loss = adpit_loss(model(given), target).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = decode(model.eval()(given), events.clips)
    scores = score_events(predicted, events, average="micro", protocol="complete", track=track)
    assert scores.f_score > 0.95, scores
    if track == "b":
        assert scores.f_score_onscreen > 0.95, scores
