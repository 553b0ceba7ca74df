"""The SELD network: front end, encoder, Cross-Modal Conformers and head; and from its output to events.

Letters: B clips, S samples, A front-end channels, T' front-end frames, F mel bands, T label frames, C classes,
N tracks, K tokens of sound, V video frames, P tokens per video frame, W token width, E width of the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import GEOMETRIES
from dcase_seld.core.registry import ENCODERS
from dcase_seld.core.task import Task
from dcase_seld.model.config import MOST_PARAMETERS, CrnnConfig, HeadConfig, SeldConfig
from dcase_seld.model.conformer import ConformerLayer, CrossModalConformer, to_all_tokens, to_own_moment
from dcase_seld.model.encoders import Crnn, EncoderShape
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.types import ModelInput, SeldOutput, Tokens, require_shape

FIRST_LENGTH = -2.0
"""Logit of an ACCDOA vector's length in an untrained polar head: 0.12."""


def audio_fields(config: HeadConfig, dimensions: int = 2) -> int:
    """Return how many outputs the head has per track and class, without the on-screen logit."""
    return dimensions + (2 if config.direction == "polar" else 1)


class SeldHead(nn.Module):
    """Maps embeddings (B, T, E) to a SeldOutput: two linear layers and what keeps their outputs in range.

    The outputs of a track are, in order: the direction (x, y and on a sphere z), distance, with `direction: polar` the
    length of the direction, on-screen.
    """

    def __init__(self, config: HeadConfig, width: int, classes: int, onscreen: bool, dimensions: int = 2) -> None:
        super().__init__()
        self.config = config
        self.onscreen, self.dimensions = onscreen, dimensions
        self.shape = (config.tracks, audio_fields(config, dimensions) + onscreen, classes)
        self.hidden = nn.Linear(width, config.hidden)
        self.out = nn.Linear(config.hidden, math.prod(self.shape))
        if config.direction == "polar":
            # Silence is the rule: from a length of 0.5 everywhere the first updates would only learn that.
            with torch.no_grad():
                self.out.bias.view(self.shape)[:, dimensions + 1] = FIRST_LENGTH

    def forward(self, x: Tensor) -> SeldOutput:
        """Return directions, distances in metres and, where there is such a head, on-screen logits."""
        # float32: half precision would round azimuths to tenths of a degree and the loss with them.
        fields = self.out(self.hidden(x)).float().unflatten(-1, self.shape)
        axes = self.dimensions
        direction = fields[..., :axes, :]
        if self.config.direction == "polar":
            length = torch.sigmoid(fields[..., axes + 1 : axes + 2, :])
            direction = functional.normalize(direction, dim=-2, eps=1e-3) * length
        else:
            direction = torch.tanh(direction)
        positive = functional.relu if self.config.distance_activation == "relu" else functional.softplus
        distance = positive(fields[..., axes, :]).transpose(2, 3)
        if self.config.log_distance:
            distance = torch.expm1(distance)
        onscreen = fields[..., -1, :].transpose(2, 3) if self.onscreen else None
        return SeldOutput(direction.permute(0, 1, 4, 2, 3), distance, onscreen)


ACTIVITY_THRESHOLD = 0.5
"""Length of the direction vector above which a track is active."""

UNIFY_DEG = 15.0
"""Active tracks of one class closer than this (degrees) are one source."""

_PAIRS = ((0, 1), (1, 2), (2, 0))


def decode(
    output: SeldOutput,
    clips: Sequence[str],
    *,
    thresholds: float | npt.ArrayLike = ACTIVITY_THRESHOLD,
    unify_deg: float = UNIFY_DEG,
    onscreen_threshold: float = 0.5,
    distance_scale: float = 1.0,
    geometry: str = "half_circle",
) -> Events:
    """Return the events of an output, sorted by clip, frame and class, with activity and on-screen probability.

    In a frame of a class, pairs of active tracks closer than `unify_deg` are similar. One similar pair becomes one
    event (means of direction and distance; on-screen of the pair's first track), two or three pairs make one event of
    all three tracks. Source numbers count the events of a class in a frame, single tracks first.

    Args:
        output: directions, distances and on-screen logits (None: nothing is on screen, without a probability).
        clips: names of the B clips.
        thresholds: activity threshold, one or (C,).
        unify_deg: angle in degrees.
        onscreen_threshold: probability above which an event is on screen.
        distance_scale: factor of all distances.
        geometry: what the direction vectors mean, see `geometry.GEOMETRIES`.

    Source: the official baseline program.
    """
    with torch.no_grad():
        vector = output.direction.detach().float().cpu().numpy()
        length = np.sqrt(np.square(vector).sum(-1))
        limit = np.asarray(thresholds, np.float32).reshape(-1, 1)
        active = length > limit
        cells = np.flatnonzero(active.any(-1))
        tracks = vector.shape[3]
        vector = vector.reshape(-1, tracks, vector.shape[-1])[cells].astype(np.float64)
        distance = output.distance.detach().float().cpu().numpy().reshape(-1, tracks)[cells].astype(np.float64)
        onscreen = None
        if output.onscreen is not None:
            onscreen = torch.sigmoid(output.onscreen.detach().float()).cpu().numpy().reshape(-1, tracks)[cells]
    length, active = length.reshape(-1, tracks)[cells], active.reshape(-1, tracks)[cells]
    members, first = _groups(vector, active, unify_deg)
    row, group = np.nonzero(members.any(-1))
    chosen = members[row, group]
    weight = chosen / chosen.sum(-1, keepdims=True)
    azimuth, elevation = GEOMETRIES[geometry].to_angles(np.einsum("en,enk->ek", weight, vector[row]))
    probability = None if onscreen is None else onscreen[row, first[row, group]]
    clip, frame, class_index = np.unravel_index(cells[row], tuple(output.distance.shape[:3]))
    # Rows come cell by cell: an event's number within its cell is its distance from the cell's first row.
    source = np.arange(len(row)) - np.searchsorted(row, row)
    return Events(
        clips=tuple(clips),
        clip=clip.astype(np.int32),
        frame=frame.astype(np.int32),
        class_index=class_index.astype(np.int32),
        source=source.astype(np.int32),
        azimuth_deg=azimuth,
        distance_m=distance_scale * np.einsum("en,en->e", weight, distance[row]),
        onscreen=np.zeros(len(row), np.bool_) if probability is None else probability > onscreen_threshold,
        activity=np.minimum(np.where(chosen, length[row], 0.0).max(-1), 1.0).astype(np.float32),
        onscreen_probability=probability,
        elevation_deg=elevation,
    )


def _groups(
    vector: npt.NDArray[np.float64], active: npt.NDArray[np.bool_], unify_deg: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return which tracks make up each event of M cells, (M, N groups, N tracks), and each event's first track (M, N).

    Args:
        vector: (M, N, D).
        active: (M, N).
        unify_deg: angle in degrees.
    """
    cells, tracks = active.shape
    members = np.eye(tracks, dtype=np.bool_) & active[:, None, :]
    first = np.broadcast_to(np.arange(tracks), (cells, tracks)).copy()
    if tracks == 1:
        return members, first
    unit = vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-10)
    together = _PAIRS if tracks == 3 else _PAIRS[:1]
    cosine = np.stack([(unit[:, a] * unit[:, b]).sum(-1) for a, b in together], 1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    similar = np.stack([active[:, a] & active[:, b] for a, b in together], 1) & (angle < unify_deg)
    if tracks == 2:
        members[similar[:, 0]] = [[True, True], [False, False]]
        return members, first
    pairs = similar.sum(1)
    for index, (a, b) in enumerate(_PAIRS):
        rows = np.flatnonzero((pairs == 1) & similar[:, index])
        lone = 3 - a - b
        members[rows] = False
        members[rows, 0, lone] = active[rows, lone]
        members[rows, 1, a] = members[rows, 1, b] = True
        first[rows] = np.array([lone, a, b])
    rows = np.flatnonzero(pairs >= 2)
    members[rows] = False
    members[rows, 0] = True
    first[rows] = 0
    return members, first


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

    def __repr__(self) -> str:
        """Return one line; `dcase-seld model-summary` lists the layers."""
        what = f"{sum(p.numel() for p in self.parameters()):,} parameters, {len(self.task.classes)} classes"
        return f"SeldNetwork({self.config.kind}, {what}, reads {', '.join(sorted(self.needs)) or 'sound alone'})"

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
            if not isinstance(getattr(encoder, "width", None), int):
                raise SeldError(f"The encoder {config.encoder.kind!r} has no width.", "Set self.width in its __init__.")
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
        self.width = width
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
        rows = frames if x.ndim < 2 or x.shape[1] % frames else x.shape[1]
        require_shape("The encoder", x, (len(features), rows, self.width), "clips, label frames, the encoder's width")
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


def network_features(network: SeldNetwork, cached: Tensor | None, wave: Tensor | None, device: torch.device) -> Tensor:
    """Return features (B, A, T', F) on the device, from a cache or from the waveforms, always in float32."""
    if cached is not None:
        return cached.to(device, non_blocking=True).float()
    assert wave is not None
    with torch.autocast(device.type, enabled=False):
        sound = ModelInput(wave=wave.to(device, non_blocking=True)).floats().wave
        features: Tensor = network.frontend.extract(sound)  # type: ignore[arg-type]
        return features
