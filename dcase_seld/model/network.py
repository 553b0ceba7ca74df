"""The SELD network: front end, encoder, Cross-Modal Conformers and head behind one interface.

Letters as in ARCHITECTURE.md: B clips, S samples, A front-end channels, T' front-end frames, F mel bands, T label
frames, C classes, N tracks, K CLAP tokens, V video frames, P tokens per video frame, D token width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.model.config import CmcConfig, CrnnConfig
from dcase_seld.model.conformer import ConformerLayer, CrossModalConformer, to_all_tokens, to_own_moment
from dcase_seld.model.encoders import Crnn, SeldEncoder
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.heads import SeldHead
from dcase_seld.model.types import ModelInput, SeldOutput


class SeldNetwork(nn.Module):
    """A SELD network of either kind.

    Attributes:
        config: its configuration.
        taxonomy: the classes it knows.
        frontend: waveform → channels; holds the statistics of the training set.
        needs: names of the ModelInput fields that it reads beyond `wave` (or `features`).
    """

    def __init__(self, config: CmcConfig | CrnnConfig, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.config = config
        self.taxonomy = taxonomy
        self.frontend = FrontEnd(config.frontend)
        self.needs = frozenset(config.fusion)
        inputs, onscreen = len(self.frontend.channels), config.track == "b"
        self.cmc1: CrossModalConformer | None = None
        self.cmc2: CrossModalConformer | None = None
        self.conformer = nn.ModuleList()
        if isinstance(config, CrnnConfig):
            self.encoder: nn.Module = Crnn(config, inputs)
            width = config.gru_units
        else:
            self.encoder = SeldEncoder(config.encoder, inputs, config.frontend.frames_per_label, config.frontend.mels)
            width, cross = config.encoder.d_model, config.cross_modal
            if "clap" in config.fusion:
                self.cmc1 = CrossModalConformer(width, cross.clap_width, cross)
            elif config.plain_without_clap:
                self.conformer.extend(
                    ConformerLayer(width, cross.heads, cross.feed_forward, cross.kernel, cross.dropout)
                    for _ in range(cross.layers)
                )
            if "vision" in config.fusion:
                self.cmc2 = CrossModalConformer(width, cross.vision_width, cross)
        self.head = SeldHead(config.head, width, len(taxonomy), onscreen)

    def forward(self, inputs: ModelInput) -> SeldOutput:
        """Return the output for T whole label frames of the input.

        Raises:
            SeldError: a field of the input that the network needs is missing, or its tokens have another width.
        """
        if inputs.features is not None:
            features = inputs.features
        elif inputs.wave is not None:
            features = self.frontend.extract(inputs.wave)
        else:
            raise SeldError("The network got neither waveforms nor features.", "Give one of them.")
        x = self.frontend.standardise(features)
        frames = x.shape[2] // self.config.frontend.frames_per_label
        vision, mask = self._vision(inputs)
        if isinstance(self.encoder, Crnn):
            x = self.encoder(x, vision, mask)
        else:
            x = self._fuse(self.encoder(x), inputs.clap, vision, mask)
        # Temporal average pool: the identity where the encoder already gives label frames.
        x = x.reshape(len(x), frames, -1, x.shape[-1]).mean(2) if x.shape[1] != frames else x
        output: SeldOutput = self.head(x)
        return output

    def _vision(self, inputs: ModelInput) -> tuple[Tensor | None, Tensor | None]:
        """Return vision tokens (B, V, P, D) and mask (B, V); in training some clips lose theirs (modality dropout)."""
        if "vision" not in self.needs or inputs.vision is None:
            return None, None
        cross = self.config.cross_modal if isinstance(self.config, CmcConfig) else None
        width = cross.vision_width if cross else getattr(self.config, "vision_width", 0)
        _check_width("vision", inputs.vision, 4, width)
        vision, mask = inputs.vision.to(self.frontend.mean.dtype), inputs.vision_mask
        if self.training and cross is not None and cross.vision_dropout > 0:
            kept = torch.rand(len(vision), 1, device=vision.device) >= cross.vision_dropout
            mask = kept.expand(vision.shape[:2]) if mask is None else mask & kept
        return vision, mask

    def _fuse(self, x: Tensor, clap: Tensor | None, vision: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return the audio embedding (B, T, E) after both Cross-Modal Conformers."""
        assert isinstance(self.config, CmcConfig)
        cross = self.config.cross_modal
        for layer in self.conformer:
            x = layer(x)
        if self.cmc1 is not None:
            if clap is None:
                raise SeldError("The network needs CLAP tokens, and the input has none.", "Name a CLAP tokens step.")
            _check_width("clap", clap, 3, cross.clap_width)
            if clap.shape[1] != cross.clap_tokens:
                raise SeldError(
                    f"The network takes {cross.clap_tokens} CLAP token(s) per clip, the input has {clap.shape[1]}.",
                    "Set cross_modal.clap_tokens to what the tokens step makes.",
                )
            hearing = to_own_moment if cross.clap_attention == "aligned" else to_all_tokens
            x = self.cmc1(x, hearing(clap.to(x.dtype)[:, :, None]))
        if self.cmc2 is not None:
            if vision is None:
                # Without video the layers still run, and their attention contributes nothing.
                vision, mask = x.new_zeros(len(x), 1, 1, cross.vision_width), x.new_zeros(len(x), 1, dtype=torch.bool)
            seeing = to_own_moment if cross.vision_attention == "aligned" else to_all_tokens
            x = self.cmc2(x, seeing(vision, mask))
        return x


def _check_width(name: str, tokens: Tensor, dimensions: int, width: int) -> None:
    if tokens.ndim != dimensions or tokens.shape[-1] != width:
        raise SeldError(
            f"{name} tokens have shape {tuple(tokens.shape)}, expected {dimensions} dimensions, the last of {width}.",
            f"Give tokens of that width, or set {name}_width in the model's configuration.",
        )


def build_model(config: CmcConfig | CrnnConfig, taxonomy: Taxonomy, seed: int = 0) -> SeldNetwork:
    """Return a network with random weights that depend on `seed` alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SeldNetwork(config, taxonomy)


def network_features(network: SeldNetwork, cached: Tensor | None, wave: Tensor | None, device: torch.device) -> Tensor:
    """Return features (B, A, T', F) on the device, from a cache or from the waveforms, always in float32."""
    if cached is not None:
        return cached.to(device, non_blocking=True).float()
    assert wave is not None
    with torch.autocast(device.type, enabled=False):
        features: Tensor = network.frontend.extract(wave.to(device, non_blocking=True))
        return features
