"""The SELD network: front end, encoder, Cross-Modal Conformers and head behind one interface.

Letters as in ARCHITECTURE.md: B clips, S samples, A front-end channels, T' front-end frames, F mel bands, T label
frames, C classes, N tracks, K tokens of sound, V video frames, P tokens per video frame, W token width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import GEOMETRIES
from dcase_seld.core.registry import ENCODERS
from dcase_seld.core.task import Task
from dcase_seld.model.config import CrnnConfig, SeldConfig
from dcase_seld.model.conformer import ConformerLayer, CrossModalConformer, to_all_tokens, to_own_moment
from dcase_seld.model.encoders import Crnn, EncoderShape
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.heads import SeldHead
from dcase_seld.model.types import ModelInput, SeldOutput, Tokens


class SeldNetwork(nn.Module):
    """A SELD network of either kind.

    Attributes:
        config: its configuration.
        task: classes, window, channels and directions that it was made for.
        frontend: waveform → channels; holds the statistics of the training set.
        needs: names of the encoders whose tokens it reads.
        sees: those of them that look at pictures, without which it can do.
        fusion: by encoder, the Cross-Modal Conformer that reads its tokens.
    """

    def __init__(self, config: SeldConfig | CrnnConfig, task: Task) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.frontend = FrontEnd(config.frontend, task.channels)
        self.needs = frozenset(config.fusion)
        self.sees = frozenset(name for name, one in config.fusion.items() if one.gives == "image")
        inputs, onscreen = len(self.frontend.channels), config.track == "b"
        self.conformer = nn.ModuleList()
        for name, one in config.fusion.items():
            if one.gives is None or one.width is None:
                raise SeldError(
                    f"model.fusion.{name} does not say what its tokens are of, or how wide they are.",
                    f"Write fusion: {{{name}: {{gives: sound, width: 512}}}}, or train with its tokens.",
                )
        if isinstance(config, CrnnConfig):
            self.encoder: nn.Module = Crnn(config, inputs)
            width = config.gru_units
            self.fusion = nn.ModuleDict()
        else:
            shape = EncoderShape(inputs, config.frontend.mels, config.frontend.frames_per_label)
            encoder = ENCODERS[config.encoder.kind](config.encoder, shape)
            width, cross = int(encoder.width), config.cross_modal
            self.encoder, self.fusion = encoder, nn.ModuleDict()
            if self.needs and width % cross.heads:
                raise SeldError(
                    f"The encoder's width ({width}) is no multiple of model.cross_modal.heads ({cross.heads}).",
                    "Change one of them.",
                )
            if self.needs == self.sees and config.plain_without_sound:
                self.conformer.extend(
                    ConformerLayer(width, cross.heads, cross.feed_forward, cross.kernel, cross.dropout)
                    for _ in range(cross.layers)
                )
            for name, one in config.fusion.items():
                assert one.width is not None
                self.fusion[name] = CrossModalConformer(width, one.width, cross)
        self.head = SeldHead(config.head, width, len(task.classes), onscreen, GEOMETRIES[task.geometry].dimensions)

    @property
    def taxonomy(self) -> Taxonomy:
        """Return the classes that it knows."""
        return self.task.classes

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
        tokens = self._tokens(inputs.tokens, len(x))
        x = self.encoder(x, tokens)
        for layer in self.conformer:
            x = layer(x)
        for name, layer in self.fusion.items():
            look = to_own_moment if self.config.fusion[name].aligned else to_all_tokens
            x = layer(x, look(*tokens[name]))
        # Temporal average pool: the identity where the encoder already gives label frames.
        x = x.reshape(len(x), frames, -1, x.shape[-1]).mean(2) if x.shape[1] != frames else x
        output: SeldOutput = self.head(x)
        return output

    def _tokens(self, given: Mapping[str, Tokens], clips: int) -> dict[str, Tokens]:
        """Return the tokens that the network reads as (B, moments, tokens of a moment, W), with masks.

        In training some clips lose those of an encoder (its dropout). Without pictures the layers still run, and their
        attention contributes nothing.
        """
        read = {}
        for name, one in self.config.fusion.items():
            assert one.width is not None
            mean = self.frontend.mean
            if name not in given:
                if name not in self.sees:
                    raise SeldError(
                        f"The network needs {name} tokens, and the input has none.", f"Embed the clips with {name}."
                    )
                read[name] = Tokens(mean.new_zeros(clips, 1, 1, one.width), mean.new_zeros(clips, 1, dtype=torch.bool))
                continue
            values, mask = given[name]
            dimensions = 4 if name in self.sees else 3
            if values.ndim != dimensions or values.shape[-1] != one.width:
                raise SeldError(
                    f"{name} tokens have shape {tuple(values.shape)}, expected {dimensions} dimensions, the last of "
                    f"{one.width}.",
                    f"Give tokens of that width, or set model.fusion.{name}.width.",
                )
            values = (values if dimensions == 4 else values[:, :, None]).to(mean.dtype)
            if self.training and one.dropout > 0:
                kept = torch.rand(clips, 1, device=values.device) >= one.dropout
                mask = kept.expand(values.shape[:2]) if mask is None else mask & kept
            read[name] = Tokens(values, mask)
        return read


def build_model(config: SeldConfig | CrnnConfig, task: Task, seed: int = 0) -> SeldNetwork:
    """Return a network with random weights that depend on `seed` alone; the global random state is left as it was.

    Raises:
        SeldError: parts do not fit each other, or it would have more than `MOST_PARAMETERS` weights.
    """
    with torch.device("meta"):  # sizes without numbers: nothing is allocated before it is known to fit
        size = sum(weight.numel() for weight in SeldNetwork(config, task).parameters())
    if size > MOST_PARAMETERS:
        raise SeldError(
            f"The network would have {size:,} parameters; at most {MOST_PARAMETERS:,} are built.",
            "Make it smaller: fewer layers, channels, or a smaller d_model or feed_forward.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SeldNetwork(config, task)


MOST_PARAMETERS = 2_000_000_000
"""Twenty times the deepest network of the recipes; 8 GB of weights, four times that in training."""


def network_features(network: SeldNetwork, cached: Tensor | None, wave: Tensor | None, device: torch.device) -> Tensor:
    """Return features (B, A, T', F) on the device, from a cache or from the waveforms, always in float32."""
    if cached is not None:
        return cached.to(device, non_blocking=True).float()
    assert wave is not None
    with torch.autocast(device.type, enabled=False):
        sound = ModelInput(wave=wave.to(device, non_blocking=True)).floats().wave
        features: Tensor = network.frontend.extract(sound)
        return features
