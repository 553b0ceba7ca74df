"""Models with random weights for trying things without a download: marked as such in their folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dcase_seld.errors import SeldError
from dcase_seld.model.registry import MARKER
from dcase_seld.model.semantic.transformers_load import import_transformers, quiet_transformers

TINY_CLAP_AUDIO = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 64,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
}
TINY_CLAP_TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TINY_OWLVIT_VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 128,
    "patch_size": 32,
}
TINY_OWLVIT_TEXT = {
    "vocab_size": 512,
    "hidden_size": 512,  # as wide as the projection: the detection head compares the two
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}
"""Sizes of the tiny models; their outputs keep 512 numbers a token."""


def make_random_model(kind: str, folder: Path, tiny: bool = True, seed: int = 0) -> None:
    """Write a "clap" or "owlvit" model with random weights, and the marker that says so.

    Args:
        kind: "clap" or "owlvit".
        folder: is made; must not exist or be empty.
        tiny: a small network of the same shape, in place of the real size.
        seed: of the weights.

    Raises:
        SeldError: the folder holds something, or the kind is unknown.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SeldError(f"{folder} is not empty.", "Give a new folder.")
    if kind not in ("clap", "owlvit"):
        raise SeldError(f"Models of kind {kind!r} cannot be made.", "Take clap or owlvit.")
    folder.mkdir(parents=True, exist_ok=True)
    # The marker first: an interrupted attempt must never look like trained weights.
    marker = {"random_weights": True, "kind": kind, "tiny": tiny, "seed": seed}
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers = import_transformers()
        with quiet_transformers(transformers):
            (_make_clap if kind == "clap" else _make_owlvit)(transformers, folder, tiny)


def _make_clap(transformers: Any, folder: Path, tiny: bool) -> None:
    """Write an unfused CLAP and its feature extractor."""
    text, audio = (TINY_CLAP_TEXT, TINY_CLAP_AUDIO) if tiny else ({}, {})
    config = transformers.ClapConfig(text_config=text, audio_config=audio)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)


def _make_owlvit(transformers: Any, folder: Path, tiny: bool) -> None:
    """Write an OWL-ViT with detection heads, and the settings of its image processor."""
    text, vision = (TINY_OWLVIT_TEXT, TINY_OWLVIT_VISION) if tiny else ({}, {})
    config = transformers.OwlViTConfig(text_config=text, vision_config=vision)
    model = transformers.OwlViTForObjectDetection(config)
    model.save_pretrained(folder)
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    content = {"size": size, "do_center_crop": False, "image_processor_type": "OwlViTImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
