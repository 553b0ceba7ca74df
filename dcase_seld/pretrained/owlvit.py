"""OWL-ViT: tokens of what is where in a picture; through transformers, one forward pass for tokens and detections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.core.errors import SeldError, first_line, listing
from dcase_seld.core.reading import read_json
from dcase_seld.pretrained.catalogue import find_model, has_random_weights
from dcase_seld.pretrained.encoder import Gives, OwlVitTokensConfig, fingerprint_weights
from dcase_seld.pretrained.transformers_models import import_transformers, load_whole

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

    gives: Gives = "image"

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
        self.fingerprint = fingerprint_weights(model.owlvit.state_dict())
        self.model = model.to(device=device, dtype=getattr(torch, dtype))
        self.has_detector, self.random_weights = has_detector, random_weights
        self.pool, self.batch, self.device = pool, batch, device
        self.dimension = int(model.config.projection_dim)
        self.parameters = sum(weight.numel() for weight in model.owlvit.parameters())
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
    side = math.isqrt(tokens.shape[-2] - 1)
    lead, width = tokens.shape[:-2], tokens.shape[-1]
    grid = tokens[..., 1:, :].reshape(*lead, side // pool, pool, side // pool, pool, width).mean(dim=(-4, -2))
    return torch.cat([tokens[..., :1, :], grid.flatten(-3, -2)], dim=-2)


def load_owlvit(name_or_path: str | Path, **options: Any) -> OwlVit:
    """Return OWL-ViT from a known name, a pulled hub name, or a folder of save_pretrained.

    Options: pool, batch, device, dtype of OwlVit. Raises SeldError: the weights are missing, incomplete, or of another
    model. A folder without the detection heads is accepted; `has_detector` is then False.
    """
    path = find_model(name_or_path, kind="vision")
    model_class = import_transformers().OwlViTForObjectDetection
    model, missing = load_whole(model_class, path, "OWL-ViT", may_miss=lambda key: key.startswith(_HEADS))
    settings = path / "preprocessor_config.json"
    published: dict[str, Any] = read_json(settings) if settings.is_file() else {}
    return OwlVit(
        model,
        has_detector=not missing,
        random_weights=has_random_weights(path),
        mean=published.get("image_mean", CLIP_MEAN),
        std=published.get("image_std", CLIP_STD),
        **options,
    )


class Boxes(NamedTuple):
    """Detections of one picture."""

    box: npt.NDArray[np.float32]  # (D, 4) left, top, right, bottom as fractions of the picture
    query: npt.NDArray[np.int64]  # (D,) index of the text query
    score: npt.NDArray[np.float32]  # (D,) in [0, 1]


class OpenVocabularyDetector:
    """OWL-ViT with a fixed list of text queries; the text is embedded once."""

    def __init__(self, owlvit: OwlVit, tokenizer: Any, queries: Sequence[str]) -> None:
        """Take a loaded OWL-ViT and its tokenizer.

        Raises:
            SeldError: the model has no detection heads, or a query has no tokens.
        """
        if not owlvit.has_detector:
            raise SeldError(
                "The OWL-ViT weights hold no detection heads; they can make tokens, but find no objects.",
                "Use a folder saved from OwlViTForObjectDetection (`dcase-seld models pull owlvit`).",
            )
        self.owlvit, self.queries = owlvit, tuple(queries)
        self.text = self._embed(tokenizer)

    @torch.inference_mode()
    def _embed(self, tokenizer: Any) -> Tensor:
        """Return (Q, D) embeddings of the queries."""
        length = int(self.owlvit.model.config.text_config.max_position_embeddings)
        tokens = tokenizer(list(self.queries), padding="max_length", max_length=length, truncation=True)
        ids = torch.tensor(tokens["input_ids"], device=self.owlvit.device)
        mask = torch.tensor(tokens["attention_mask"], device=self.owlvit.device)
        # A query has at least a word between the marks of its beginning and end.
        empty = [query for query, count in zip(self.queries, mask.sum(dim=1).tolist(), strict=True) if count < 3]
        if empty:
            raise SeldError(f"The tokenizer makes nothing of {listing(empty)}.", "Check the model folder's tokenizer.")
        features = self.owlvit.model.owlvit.get_text_features(input_ids=ids, attention_mask=mask)
        pooled = features if isinstance(features, Tensor) else features.pooler_output
        return torch.nn.functional.normalize(pooled, dim=-1)

    @torch.inference_mode()
    def detect(self, view: OwlVitView, threshold: float) -> list[Boxes]:
        """Return the detections of B pictures from the view that `OwlVit.see` gave, scores at least `threshold`."""
        model, features = self.owlvit.model, view.feature_map
        flat = features.reshape(len(features), -1, features.shape[-1])
        logits, _ = model.class_predictor(flat, self.text.to(flat.dtype).expand(len(flat), -1, -1))
        centre = model.box_predictor(flat, features).to(torch.float32)
        score, query = torch.sigmoid(logits.to(torch.float32)).max(dim=-1)
        low, high = centre[..., :2] - centre[..., 2:] / 2, centre[..., :2] + centre[..., 2:] / 2
        boxes = torch.cat([low, high], dim=-1).clamp(0.0, 1.0)
        results = []
        for box, kind, sure in zip(boxes.cpu().numpy(), query.cpu().numpy(), score.cpu().numpy(), strict=True):
            kept = suppress(box, kind, np.where(sure >= threshold, sure, 0.0))
            results.append(Boxes(box[kept], kind[kept].astype(np.int64), sure[kept]))
        return results


def suppress(
    box: npt.NDArray[np.float32], kind: npt.NDArray[Any], score: npt.NDArray[np.floating], overlap: float = 0.5
) -> npt.NDArray[np.int64]:
    """Return the rows that stay when of overlapping boxes of one kind the surest is kept; rows of score 0 go."""
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > 0]
    area = np.maximum(box[:, 2] - box[:, 0], 0) * np.maximum(box[:, 3] - box[:, 1], 0)
    kept: list[int] = []
    for row in order.tolist():
        rivals = [k for k in kept if kind[k] == kind[row]]
        shared = np.maximum(
            np.minimum(box[rivals, 2:], box[row, 2:]) - np.maximum(box[rivals, :2], box[row, :2]), 0
        ).prod(axis=1)
        union = area[rivals] + area[row] - shared
        if not rivals or float((shared / np.maximum(union, 1e-9)).max()) < overlap:
            kept.append(row)
    return np.asarray(kept, np.int64)


def load_detector(name_or_path: str | Path, queries: Sequence[str], **options: Any) -> OpenVocabularyDetector:
    """Return a detector for text queries from a known model's name or a folder with weights and tokenizer.

    Options: batch, device, dtype of OwlVit. Raises SeldError: weights or tokenizer are missing or incomplete.
    """
    from dcase_seld.pretrained.catalogue import find_model

    path = find_model(name_or_path, kind="vision")
    return OpenVocabularyDetector(load_owlvit(path, **options), load_clip_tokenizer(path), queries)


def load_clip_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a model's folder.

    Raises:
        SeldError: there is none, or it knows no words (an offline load can come back silently empty).
    """
    files = ("tokenizer.json", "vocab.json")
    remedy = "Pull the model again, or copy tokenizer.json into its folder."
    if not any((folder / name).is_file() for name in files):
        raise SeldError(f"{folder} holds no tokenizer ({' or '.join(files)}).", remedy)
    try:
        tokenizer = import_transformers().CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers' own errors share no base class but this
        raise SeldError(f"The tokenizer in {folder} cannot be read: {first_line(error)}.", remedy) from error
    if len(tokenizer.get_vocab()) < 10:
        raise SeldError(f"The tokenizer in {folder} knows no words.", remedy)
    return tokenizer


def from_config(config: OwlVitTokensConfig, sample_rate: int, device: str) -> OwlVit:
    """Return the configured encoder of pictures."""
    return load_owlvit(config.source, pool=config.pool, batch=config.batch, device=device, dtype=config.dtype)
