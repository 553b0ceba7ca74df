"""OWL-ViT: tokens of what is where in a picture; through transformers, one forward pass for tokens and detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.errors import SeldError
from dcase_seld.model.registry import find_model, has_random_weights
from dcase_seld.model.semantic.grid import grid_side
from dcase_seld.model.semantic.protocol import EncoderKind, fingerprint_weights
from dcase_seld.model.semantic.transformers_load import import_transformers, load_whole

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green, blue in [0, 1]. Source: the image processor of OWL-ViT, as published with CLIP."""

_HEADS = ("class_head.", "box_head.", "layer_norm.")


class OwlVitView(NamedTuple):
    """What one forward pass over B pictures gives.

    Attributes:
        tokens: (B, P, D) float32, post-layernorm and visual projection; first the class token, then the grid by rows.
        feature_map: (B, rows, columns, hidden), as the detection heads of OwlViTForObjectDetection take it.
    """

    tokens: Tensor
    feature_map: Tensor


class OwlVit:
    """Frozen OWL-ViT behind the SemanticEncoder protocol, shared by tokens and open-vocabulary detection."""

    kind: EncoderKind = "vision"
    frozen = True

    def __init__(
        self,
        model: Any,
        *,
        has_detector: bool = True,
        random_weights: bool = False,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        pool: int = 1,
        batch: int = 4,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Take an OwlViTForObjectDetection.

        Args:
            model: the network.
            has_detector: whether its detection heads were loaded too.
            random_weights: whether the weights are untrained.
            mean: of red, green, blue, for standardisation.
            std: of red, green, blue.
            pool: side of the squares of grid tokens that are averaged; 1 keeps all.
            batch: pictures per forward pass.
            device: where to compute.
            dtype: "float32", "bfloat16" or "float16".

        Raises:
            SeldError: the token grid cannot be pooled by `pool`.
        """
        vision = model.config.vision_config
        self.size = int(vision.image_size)
        self.grid = self.size // int(vision.patch_size)
        if self.grid % pool:
            sides = [side for side in range(1, self.grid + 1) if self.grid % side == 0]
            raise SeldError(f"A grid of {self.grid} x {self.grid} tokens cannot be pooled by {pool}.", f"Take {sides}.")
        self.weights_fingerprint = fingerprint_weights(model.owlvit.state_dict())
        self.model = model.to(device=device, dtype=getattr(torch, dtype))
        self.has_detector, self.random_weights = has_detector, random_weights
        self.pool, self.batch, self.device = pool, batch, device
        self.dimension = int(model.config.projection_dim)
        self.tokens = 1 + (self.grid // pool) ** 2
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return (B, 3, size, size) standardised RGB of uint8 BGR pictures (H, W, 3), squashed, not cropped.

        Resized on the CPU as 8-bit pictures (bicubic), as the published image processor does.
        """
        size = (self.size, self.size)
        planes = []
        for image in images:
            plane = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).permute(2, 0, 1).unsqueeze(0)
            if plane.shape[-2:] != size:
                plane = functional.interpolate(plane, size, mode="bicubic", antialias=True)
            planes.append(plane)
        pictures = torch.cat(planes).to(self.device).to(torch.float32)
        return (pictures / 255.0 - self._mean) / self._std

    @torch.inference_mode()
    def see(self, images: Sequence[np.ndarray]) -> OwlVitView:
        """Return tokens (unpooled) and feature map of uint8 BGR pictures (H, W, 3) of any size."""
        owlvit = self.model.owlvit
        hidden = owlvit.vision_model(pixel_values=self.prepare(images)).last_hidden_state
        normed = owlvit.vision_model.post_layernorm(hidden)
        tokens = owlvit.visual_projection(normed).to(torch.float32)
        # The detector sees each grid token multiplied by the class token.
        merged = self.model.layer_norm(normed[:, 1:] * normed[:, :1])
        return OwlVitView(tokens, merged.reshape(len(merged), self.grid, self.grid, -1))

    def encode(self, batch: Sequence[np.ndarray]) -> Tensor:
        """Return (B, P, D) float32 tokens of pictures, pooled as configured."""
        parts = [self.see(batch[k : k + self.batch]).tokens for k in range(0, len(batch), self.batch)]
        return pool_grid(torch.cat(parts), self.pool)


def pool_grid(tokens: Tensor, pool: int) -> Tensor:
    """Return (..., 1 + (side / pool)², D): grid tokens averaged over `pool` x `pool` squares, the class token kept."""
    if pool == 1:
        return tokens
    side = grid_side(tokens.shape[-2])
    lead, width = tokens.shape[:-2], tokens.shape[-1]
    grid = tokens[..., 1:, :].reshape(*lead, side // pool, pool, side // pool, pool, width).mean(dim=(-4, -2))
    return torch.cat([tokens[..., :1, :], grid.flatten(-3, -2)], dim=-2)


def load_owlvit(name_or_path: str | Path, **options: Any) -> OwlVit:
    """Return OWL-ViT from a known name, a pulled hub name, or a folder of save_pretrained.

    Args:
        name_or_path: see model.registry.find_model.
        **options: pool, batch, device, dtype of OwlVit.

    Raises:
        SeldError: the weights are missing, incomplete, or of another model. A folder without the detection heads is
            accepted; `has_detector` is then False.
    """
    path = find_model(name_or_path, kind="vision")
    model_class = import_transformers().OwlViTForObjectDetection
    model, missing = load_whole(model_class, path, "OWL-ViT", may_miss=lambda key: key.startswith(_HEADS))
    settings = path / "preprocessor_config.json"
    published: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    return OwlVit(
        model,
        has_detector=not missing,
        random_weights=has_random_weights(path),
        mean=published.get("image_mean", CLIP_MEAN),
        std=published.get("image_std", CLIP_STD),
        **options,
    )
