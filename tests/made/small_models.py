"""Small networks and inputs for tests."""

from __future__ import annotations

import torch

from dcase_seld.model.config import CmcConfig, CrnnConfig, parse_model_config
from dcase_seld.model.types import ModelInput, SeldTarget

CLAP_TOKENS, VIDEO_FRAMES, TOKEN_WIDTH = 1, 2, 24


def small_cmc(track="b", fusion=("clap", "vision"), encoder=None, cross_modal=None, **fields) -> CmcConfig:
    """Return a configuration of a tiny network on 1 mel band in 4 of the full size."""
    config = parse_model_config(
        {
            "kind": "cmc",
            "track": track,
            "fusion": list(fusion),
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
            "cross_modal": {
                "layers": 1,
                "heads": 2,
                "feed_forward": 24,
                "kernel": 7,
                "clap_width": TOKEN_WIDTH,
                "vision_width": TOKEN_WIDTH,
                **(cross_modal or {}),
            },
            **fields,
        }
    )
    assert isinstance(config, CmcConfig)
    return config


def small_crnn(track="a", fusion=()) -> CrnnConfig:
    """Return the baseline's configuration with few filters and units."""
    config = parse_model_config(
        {
            "kind": "crnn",
            "track": track,
            "fusion": list(fusion),
            "filters": 8,
            "gru_units": 16,
            "vision_width": TOKEN_WIDTH,
            "heads": 2,
        }
    )
    assert isinstance(config, CrnnConfig)
    return config


def inputs(clips=2, frames=20, clap_tokens=CLAP_TOKENS, video_frames=VIDEO_FRAMES, seed=0) -> ModelInput:
    """Return noise of `frames` label frames with CLAP and vision tokens (5 per video frame)."""
    generator = torch.Generator().manual_seed(seed)
    return ModelInput(
        wave=torch.randn(clips, 2, frames * 2400, generator=generator) * 0.1,
        clap=torch.randn(clips, clap_tokens, TOKEN_WIDTH, generator=generator),
        vision=torch.randn(clips, video_frames, 5, TOKEN_WIDTH, generator=generator),
    )


def target(clips=2, frames=20, classes=13, seed=0) -> SeldTarget:
    """Return sources in about a third of the class-frames."""
    generator = torch.Generator().manual_seed(seed)
    number = (torch.rand(clips, frames, classes, generator=generator) < 0.3).long()
    number += (number > 0) & (torch.rand(clips, frames, classes, generator=generator) < 0.3)
    angle = torch.rand(clips, frames, classes, 3, generator=generator) * 3 - 1.5
    source = torch.stack((angle.cos(), angle.sin(), angle.abs() + 0.5, (angle > 0).float()), -1)
    return SeldTarget(number, source * (torch.arange(3) < number[..., None])[..., None])
