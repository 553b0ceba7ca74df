"""Small networks and inputs for tests."""

from __future__ import annotations

import torch

from dcase_seld.core.task import Task
from dcase_seld.model.config import CrnnConfig, SeldConfig, parse_model_config
from dcase_seld.model.types import ModelInput, SeldTarget, Tokens

SOUND_TOKENS, VIDEO_FRAMES, TOKEN_WIDTH = 1, 2, 24
TASK = Task()


def small_network(
    track="b", fusion=("clap", "owlvit"), encoder=None, cross_modal=None, said=None, **fields
) -> SeldConfig:
    """Return a configuration of a tiny network on 1 mel band in 4 of the full size; `said` of its tokens."""
    config = parse_model_config(
        {
            "kind": "conformer",
            "track": track,
            "fusion": {name: {"width": TOKEN_WIDTH, **(said or {}).get(name, {})} for name in fusion},
            "frontend": {"hop": 600, "window": 1024, "n_fft": 1024, "mels": 16},
            "encoder": {
                "channels": [8, 12, 16],
                "layers": 1,
                "d_model": 16,
                "heads": 2,
                "feed_forward": 24,
                "kernel": 7,
                **(encoder or {}),
            },
            "cross_modal": {"layers": 1, "heads": 2, "feed_forward": 24, "kernel": 7, **(cross_modal or {})},
            **fields,
        }
    )
    assert isinstance(config, SeldConfig)
    return config


def small_crnn(track="a", fusion=(), **fields) -> CrnnConfig:
    """Return the baseline's configuration with few filters and units."""
    config = parse_model_config(
        {
            "kind": "crnn",
            "track": track,
            "fusion": {name: {"width": TOKEN_WIDTH} for name in fusion},
            "filters": 8,
            "gru_units": 16,
            "heads": 2,
            **fields,
        }
    )
    assert isinstance(config, CrnnConfig)
    return config


def inputs(clips=2, frames=20, sound_tokens=SOUND_TOKENS, video_frames=VIDEO_FRAMES, seed=0) -> ModelInput:
    """Return noise of `frames` label frames with CLAP and OWL-ViT tokens (5 per video frame)."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(clips, 2, frames * 2400, generator=generator) * 0.1
    sound = torch.randn(clips, sound_tokens, TOKEN_WIDTH, generator=generator)
    image = torch.randn(clips, video_frames, 5, TOKEN_WIDTH, generator=generator)
    there = torch.ones(clips, video_frames, dtype=torch.bool)
    return ModelInput(wave=wave, tokens={"clap": Tokens(sound), "owlvit": Tokens(image, there)})


def with_tokens(given: ModelInput, name: str, values=None, mask=None) -> ModelInput:
    """Return the input with other tokens, or another mask, of one encoder; neither: without its tokens."""
    tokens = dict(given.tokens)
    before = tokens.pop(name)
    if values is not None or mask is not None:
        tokens[name] = Tokens(before.values if values is None else values, before.mask if mask is None else mask)
    return given.replace(tokens=tokens)


def target(clips=2, frames=20, classes=13, seed=0) -> SeldTarget:
    """Return sources in about a third of the class-frames."""
    generator = torch.Generator().manual_seed(seed)
    number = (torch.rand(clips, frames, classes, generator=generator) < 0.3).long()
    number += (number > 0) & (torch.rand(clips, frames, classes, generator=generator) < 0.3)
    angle = torch.rand(clips, frames, classes, 3, generator=generator) * 3 - 1.5
    source = torch.stack((angle.cos(), angle.sin(), angle.abs() + 0.5, (angle > 0).float()), -1)
    return placed(number, source * (torch.arange(3) < number[..., None])[..., None])


def placed(count: torch.Tensor, source: torch.Tensor) -> SeldTarget:
    """Return the target of sources (B, T, C, N, 4): x, y, metres, on-screen."""
    return SeldTarget(count, source[..., :2], source[..., 2], source[..., 3])


def sources_of(target: SeldTarget) -> torch.Tensor:
    """Return (B, T, C, N, 4): x, y, metres, on-screen; the inverse of `placed`."""
    return torch.cat((target.direction, target.distance[..., None], target.onscreen[..., None]), -1)
