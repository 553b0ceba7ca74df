"""Tokens of a recording while it is predicted: the same encoders and frame times as an embed step, without a folder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcase_seld.data.embed import frame_times
from dcase_seld.errors import SeldError
from dcase_seld.media.video import read_frames
from dcase_seld.model.semantic.build import build_encoder
from dcase_seld.model.semantic.config import parse_tokens_config
from dcase_seld.model.semantic.protocol import SemanticEncoder
from dcase_seld.model.weights import read_facts
from dcase_seld.post.predict import Predictor
from dcase_seld.progress import say
from dcase_seld.task.facts import CLIP_SECONDS
from dcase_seld.train.checkpoint import model_folder

OPTIONS = {"vision": "owlvit"}
"""Option of the predict command for the weights of a kind of token, where it is not the kind's own name."""
KEPT_FRAMES = 64
"""Embedded frames kept, because overlapping windows look at the same ones."""


class LiveTokens:
    """Makes one kind of token for windows of a recording."""

    def __init__(self, kind: str, encoder: SemanticEncoder, fps: float = 1.0) -> None:
        """Take an encoder, and for pictures the frames per second that it looks at."""
        self.kind, self.encoder = kind, encoder
        self.offsets = frame_times(CLIP_SECONDS, fps)
        self.problems: dict[Path, str] = {}
        self._kept: OrderedDict[tuple[Path, float, bool], Tensor | None] = OrderedDict()

    def make(
        self, wave: Tensor, video: Path | None, starts_s: Sequence[float], *, mirror: bool = False
    ) -> dict[str, Tensor]:
        """Return ModelInput fields for windows that begin at `starts_s` (seconds) of a recording.

        Args:
            wave: (B, 2, S) sound of the windows.
            video: the recording's video, or None.
            starts_s: when the windows begin.
            mirror: for the left-right mirrored recording; sound tokens are the same, since they hear the sum.
        """
        if self.kind != "vision":
            return {} if mirror else {self.kind: self.encoder.encode(wave)}
        times = np.add.outer(np.asarray(starts_s), self.offsets)
        tokens = self._see(video, times.ravel().tolist(), mirror) if video is not None else [None] * times.size
        shape = (self.encoder.tokens, self.encoder.dimension)
        stacked = torch.stack([torch.zeros(shape) if token is None else token for token in tokens])
        mask = torch.tensor([token is not None for token in tokens]).reshape(times.shape)
        fields = {self.kind: stacked.reshape(*times.shape, *shape)}
        return fields if mirror else {**fields, "vision_mask": mask}

    def _see(self, video: Path, times_s: Sequence[float], mirror: bool) -> list[Tensor | None]:
        """Return (P, D) tokens of the frames at times, None where the video has none."""
        keys = [(video, round(time, 4), mirror) for time in times_s]
        missing = sorted({key[1] for key in keys if key not in self._kept})
        if missing:
            frames = read_frames(video, missing)
            if frames.problem:
                self.problems[video] = frames.problem
            there = {at: image for at, image in zip(missing, frames.images, strict=True) if image is not None}
            pictures = [image[:, ::-1] if mirror else image for image in there.values()]
            embedded = list(self.encoder.encode(pictures).cpu()) if pictures else []
            found = dict(zip(there, embedded, strict=True))
            for at in missing:
                self._kept[video, at, mirror] = found.get(at)
        result = [self._kept[key] for key in keys]
        while len(self._kept) > max(KEPT_FRAMES, len(keys)):
            self._kept.popitem(last=False)
        return result


def live_tokens(predictor: Predictor, weights: Mapping[str, str | None], device: str) -> dict[str, LiveTokens]:
    """Return makers of the tokens that the members read, by ModelInput field, as their trainings say.

    Args:
        predictor: the networks.
        weights: weights to use instead of the recorded ones, by field: a folder, file or known name; None: as recorded.
        device: where the encoders run.

    Raises:
        SeldError: weights are missing, or are not those of the training; members were trained with different ones.
    """
    rate = predictor.networks[0].config.frontend.sample_rate
    makers = {}
    for kind, spec in _specifications(predictor).items():
        settings = dict(spec.get("encoder") or {})
        given = weights.get(kind)
        if given is not None:
            settings["path" if Path(given).exists() else "name"] = given
            settings["name" if Path(given).exists() else "path"] = None
        config = parse_tokens_config(settings, f"{kind} encoder")
        encoder = build_encoder(config, rate, device)
        if encoder.weights_fingerprint != spec["fingerprint"]:
            raise SeldError(
                f"The {kind} encoder {config.source} has other weights ({encoder.weights_fingerprint}) than the one of "
                f"the training ({spec['fingerprint']}).",
                f"Give the weights of the training with --{OPTIONS.get(kind, kind)}.",
            )
        if encoder.random_weights:
            say(f"warning: the {kind} encoder has RANDOM weights (made for tests); its tokens mean nothing.")
        makers[kind] = LiveTokens(kind, encoder, getattr(config, "fps", 1.0))
    return makers


def _specifications(predictor: Predictor) -> dict[str, dict[str, Any]]:
    """Return the specification of each kind of token that the members read."""
    specs: dict[str, dict[str, Any]] = {}
    for member in predictor.settings.members:
        known = read_facts(model_folder(Path(member.folder))).get("facts", {}).get("tokens", {})
        for kind in predictor.needs & known.keys():
            if specs.setdefault(kind, known[kind])["fingerprint"] != known[kind]["fingerprint"]:
                raise SeldError(
                    f"The members were trained with {kind} tokens of different encoders.",
                    "Predict from a store with a recipe, where each step of tokens can be named.",
                )
    missing = sorted(kind for kind in predictor.needs if not specs.get(kind, {}).get("encoder"))
    if missing:
        raise SeldError(
            f"The checkpoint does not say which encoder made its {', '.join(missing)} tokens.",
            "Train it again with tokens of an embed step, or predict from a store with a recipe.",
        )
    return specs
