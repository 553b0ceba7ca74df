"""Open-vocabulary detection: where in a picture something lies that a few words describe, by OWL-ViT's own heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcase_seld.errors import SeldError, listing
from dcase_seld.model.semantic.owlvit import OwlVit, OwlVitView, load_owlvit
from dcase_seld.model.semantic.transformers_load import import_transformers


class Boxes(NamedTuple):
    """Detections of one picture.

    Attributes:
        box: (D, 4) left, top, right, bottom as fractions of the picture.
        query: (D,) index of the text query.
        score: (D,) in [0, 1].
    """

    box: npt.NDArray[np.float32]
    query: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]


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

    Args:
        name_or_path: see model.registry.find_model.
        queries: what to look for.
        **options: batch, device, dtype of OwlVit.

    Raises:
        SeldError: weights or tokenizer are missing or incomplete.
    """
    from dcase_seld.model.registry import find_model

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
    except (OSError, ValueError, TypeError) as error:
        raise SeldError(f"The tokenizer in {folder} cannot be read: {error}.", remedy) from error
    if len(tokenizer.get_vocab()) < 10:
        raise SeldError(f"The tokenizer in {folder} knows no words.", remedy)
    return tokenizer
