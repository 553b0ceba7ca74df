"""One small idea of each kind, as docs/extend.md shows them."""

import numpy as np
from torch import nn

import dcase_seld as seld


@seld.encoder("tiny")
class Tiny(nn.Module):
    class Settings(seld.Config):
        width: int = 64

    def __init__(self, s, shape):
        super().__init__()
        self.width, self.step = s.width, shape.frames_per_label
        self.lin = nn.Linear(shape.channels * shape.bands, s.width)

    def forward(self, x, tokens):
        return self.lin(x.transpose(1, 2).flatten(2).unflatten(1, (-1, self.step)).mean(2))


@seld.feature("phase", maps=("phase",), signed=("phase",))
def phase(spectrum, bank):
    return ((spectrum[:, 0] * spectrum[:, 1].conj()).angle() @ bank)[:, None]


@seld.loss_term("quiet")
def quiet(out, target):
    return (out.activity().sum((-1, -2)) - target.count.sum(-1)).relu().mean()


@seld.augmentation("flip")
def flip(x, target, which, rng):
    return x.replace(wave=x.wave * (1 - 2 * which[:, None, None].float())), target


@seld.semantic_encoder("rms", gives="sound")
class Rms:
    dimension, fingerprint, random_weights = 1, "rms-1", False

    def encode(self, wave):
        return wave.square().mean((1, 2)).sqrt()[:, None, None]


@seld.visual_rule("centre")
def centre(events, seen):
    return abs(events.azimuth_deg) < 5


@seld.metric("hit_rate", title="hits %", scale=100)
def hit_rate(n):
    return n["hit"] / (n["hit"] + n["miss"])


class Louder(seld.Config):
    events: seld.ref("events")
    least: float = 0.7


@seld.stage("louder", produces="events", config=Louder)
def louder(config, inputs, out, context):
    e = seld.Events.load(inputs["events"][0] / "events.npz")
    e.take(np.asarray(e.activity) > config.least).save(out / "events.npz")
