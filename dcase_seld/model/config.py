"""Configuration of SELD networks: every open choice is a field with its default; imports no torch.

The defaults are the full-size network of the paper (Berghi & Jackson, arXiv 2507.04845); recipes state smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SerializeAsAny, Tag, field_validator, model_validator

from dcase_seld.core.config import LIST_OF_NAMES, Choice, Config, Names, parse_config
from dcase_seld.core.registry import ENCODERS, FEATURES
from dcase_seld.core.task import LABEL_RATE, MAX_TRACKS, SAMPLE_RATE

Gives = Literal["sound", "image"]

KNOWN_TOKENS: dict[str, tuple[Gives, int]] = {
    "clap": ("sound", 512),
    "yamnet": ("sound", 1024),
    "voice": ("sound", 8),
    "owlvit": ("image", 512),
}
"""Encoder → what its tokens are of, and their width; those of other encoders are taken from the tokens themselves."""


MOST_PARAMETERS = 2_000_000_000
"""Twenty times the deepest network of the recipes; 8 GB of weights, four times that in training."""

Pool = Annotated[int, Field(ge=1, le=1_024)]
Samples = Annotated[int, Field(ge=1, le=32_768)]
Hop = Annotated[int, Field(ge=10, le=32_768)]
Width = Annotated[int, Field(ge=1, le=65_536)]


class FrontEndConfig(Config):
    """What the network hears: channels made from the stereo waveform."""

    features: Annotated[tuple[str, ...], Names(FEATURES)] = Field(
        default=("log_mel", "ild", "stpacc"),
        description="channels: log_mel (left, right), ild (their difference), stpacc (of the mid signal), "
        "mid_side (log-mel of (L+R)/2 and (L-R)/2), coherence, intensity (normalised mid-side cross-spectrum), "
        "direct (sine of the azimuth of the direct sound and diffuse share of the power, from levels and "
        "cross-spectrum of coincident microphones); of Ambisonics: "
        "log_mel, stpacc, intensity_vector",
        min_length=1,
    )
    sample_rate: int = Field(
        default=SAMPLE_RATE, description="samples per second of the waveforms", ge=4_000, le=192_000
    )
    hop: Hop = Field(default=150, description="samples between front-end frames; must divide a label frame")
    window: Samples = Field(default=512, description="length of the Hann window of the mel channels in samples")
    n_fft: Samples = Field(default=512, description="FFT length of the mel channels in samples")
    mels: int = Field(default=64, description="mel bands, and bins of the stpACC channel", ge=8, le=1_024)
    range_db: float | None = Field(
        default=None,
        description="log-mels end this far below the clip's loudest value, dB; null: only at -100 dB",
        gt=0,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.features)) != len(self.features):
            raise ValueError("features names a channel twice")
        if self.window > self.n_fft:
            raise ValueError(f"window ({self.window}) is longer than n_fft ({self.n_fft})")
        if (self.sample_rate // LABEL_RATE) % self.hop:
            raise ValueError(
                f"hop ({self.hop}) does not divide a label frame of {self.sample_rate // LABEL_RATE} samples"
            )
        return self

    @property
    def frames_per_label(self) -> int:
        """Front-end frames of one 100 ms label frame."""
        return self.sample_rate // LABEL_RATE // self.hop


class BaselineFrontEndConfig(FrontEndConfig):
    """The challenge baseline's log-mels. Source: the official baseline program."""

    features: Annotated[tuple[str, ...], Names(FEATURES)] = Field(
        default=("log_mel",), description="channels", min_length=1
    )
    hop: Hop = Field(default=480, description="samples between front-end frames; must divide a label frame")
    window: Samples = Field(default=960, description="length of the Hann window of the mel channels in samples")
    n_fft: Samples = Field(default=1024, description="FFT length of the mel channels in samples")
    range_db: float | None = Field(
        default=80.0, description="log-mels end this far below the clip's loudest value, dB", gt=0
    )


class EncoderConfig(Config):
    """The audio branch: convolutions, then Conformer layers; `kind` may be the name of a plug-in's encoder too."""

    kind: Literal["conformer", "resnet_conformer"] = Field(
        default="conformer", description="conformer: four double-convolution blocks; resnet_conformer: residual stages"
    )
    channels: tuple[Annotated[int, Field(ge=1, le=8_192)], ...] = Field(
        default=(64, 128, 256, 512), description="channels of the convolution blocks", min_length=1, max_length=10
    )
    frequency: Literal["mean", "flatten"] = Field(
        default="mean",
        description="what becomes of the mel bands that the blocks leave: mean (the paper), or flatten, which keeps "
        "them apart and learns faster in small networks",
    )
    shortcut_bands: int = Field(
        default=0,
        description="the front end's channels, averaged to label frames and so many bands, join what the blocks leave: "
        "levels reach the Conformer unchanged; 0: no shortcut (the paper)",
        ge=0,
        le=1_024,
    )
    layers: int = Field(default=4, description="Conformer layers (8 in the deep variant)", ge=0, le=64)
    d_model: int = Field(default=512, description="width of the embedding", ge=8, le=8_192)
    heads: int = Field(default=8, description="attention heads", ge=1, le=512)
    feed_forward: Width = Field(default=1024, description="width of the Conformer's feed-forward modules")
    kernel: Pool = Field(default=51, description="length of the depthwise convolution in label frames (odd)")
    dropout: float = Field(default=0.1, description="dropout in Conformer layers", ge=0.0, lt=1.0)
    pool_first: int = Field(
        default=1,
        description="average pooling over mel bands before the first block (fast small models)",
        ge=1,
        le=1_024,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.d_model % self.heads:
            raise ValueError(f"d_model ({self.d_model}) is no multiple of heads ({self.heads})")
        size = self.layers * self.d_model * (7 * self.d_model + 4 * self.feed_forward)  # said before the first step
        if size > MOST_PARAMETERS:
            raise ValueError(f"{size:,} weights of its layers; at most {MOST_PARAMETERS:,} are built")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel ({self.kernel}) must be odd")
        return self


class FusionConfig(Config):
    """How the network reads the tokens of one frozen encoder; what is null is taken from the tokens."""

    gives: Gives | None = Field(default=None, description="sound: tokens of what is heard; image: of what is seen")
    width: int | None = Field(default=None, description="numbers of a token", ge=1, le=65_536)
    attention: Literal["all", "aligned"] | None = Field(
        default=None,
        description="all: a label frame attends to every token, told apart by a time embedding; aligned: to the tokens "
        "of its own time; null: all of sound, aligned of images",
    )
    dropout: float = Field(
        default=0.0, description="probability that a training clip loses all these tokens", ge=0.0, lt=1.0
    )

    @property
    def aligned(self) -> bool:
        """Return whether a label frame sees the tokens of its own time only."""
        return (self.attention or ("aligned" if self.gives == "image" else "all")) == "aligned"


Fusion = dict[str, FusionConfig]


def fusion_of(value: Any) -> Any:
    """Return a list of encoders' names as the mapping that it is short for; known encoders get what is known."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        if len(set(value)) != len(value):
            raise ValueError("an encoder is named twice")
        value = {name: {} for name in value}
    if not isinstance(value, dict):
        return value
    known = {
        name: dict(zip(("gives", "width"), KNOWN_TOKENS[name], strict=True)) for name in value if name in KNOWN_TOKENS
    }
    return {
        name: {**known.get(name, {}), **(given or {})} if given is None or isinstance(given, dict) else given
        for name, given in value.items()
    }


class CrossModalConfig(Config):
    """Cross-Modal Conformers: Conformer layers whose attention looks at frozen semantic tokens."""

    layers: int = Field(default=2, description="layers of each Cross-Modal Conformer", ge=1, le=64)
    heads: int = Field(default=8, description="attention heads", ge=1, le=512)
    feed_forward: Width = Field(default=1024, description="width of the feed-forward modules")
    kernel: Pool = Field(default=51, description="length of the depthwise convolution in label frames (odd)")
    dropout: float = Field(default=0.1, description="dropout", ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel ({self.kernel}) must be odd")
        return self


class HeadConfig(Config):
    """From the embedding to the SELD output."""

    hidden: Width = Field(default=128, description="width of the hidden linear layer")
    tracks: int = Field(
        default=MAX_TRACKS, description="tracks: simultaneous sources of one class", ge=1, le=MAX_TRACKS
    )
    direction: Literal["cartesian", "polar"] = Field(
        default="cartesian",
        description="cartesian: x and y of the ACCDOA vector by tanh (the paper); polar: its length and its direction "
        "are outputs of their own, so that a doubtful class does not blur where it is",
    )
    distance_activation: Literal["softplus", "relu"] = Field(
        default="softplus", description="keeps the distance positive"
    )
    log_distance: bool = Field(
        default=False, description="the head predicts log(1 + metres), and the distance loss is taken there"
    )


class _ModelBase(Config):
    track: Literal["a", "b"] = Field(default="a", description="a: audio only; b: audio-visual, with the on-screen head")
    frontend: FrontEndConfig = Field(default=FrontEndConfig(), description="channels made from the waveform")
    head: HeadConfig = Field(default=HeadConfig(), description="output layers")
    fusion: Annotated[Fusion, LIST_OF_NAMES] = Field(
        default={},
        description="frozen encoders whose tokens the network reads, by name: a list, as [clap, owlvit], or a mapping "
        "with what is said of each; those of images (owlvit) only in track b",
    )

    @field_validator("fusion", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        return fusion_of(value)

    @model_validator(mode="after")
    def _track_a_is_blind(self) -> Self:
        seeing = [name for name, one in self.fusion.items() if one.gives == "image"]
        if seeing and self.track == "a":
            raise ValueError(f"fusion: {seeing[0]} needs track: b (track a is audio only)")
        return self

    def with_tokens(self, found: Mapping[str, tuple[Gives, int]]) -> Self:
        """Return the configuration with what the tokens at hand say of themselves: what they are of, their width."""
        fusion = {
            name: one.model_copy(
                update={
                    key: value
                    for key, value in zip(("gives", "width"), found.get(name, ()), strict=False)
                    if getattr(one, key) is None
                }
            )
            for name, one in self.fusion.items()
        }
        return type(self).model_validate(
            {**self.model_dump(), "fusion": {k: v.model_dump() for k, v in fusion.items()}}
        )


class SeldConfig(_ModelBase):
    """CNN-Conformer with Cross-Modal Conformers over frozen tokens. Source: arXiv 2507.04845."""

    kind: Literal["conformer"] = Field(default="conformer", description="encoder, Cross-Modal Conformers, head")
    encoder: Annotated[SerializeAsAny[EncoderConfig], Choice(ENCODERS)] = Field(
        default=EncoderConfig(), description="the audio branch"
    )
    cross_modal: CrossModalConfig = Field(default=CrossModalConfig(), description="the Cross-Modal Conformers")
    plain_without_sound: bool = Field(
        default=True,
        description="where no sound encoder is in fusion, plain Conformer layers stand in its Cross-Modal Conformer's "
        "place",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not isinstance(self.encoder, EncoderConfig):
            return self
        if self.frontend.mels % (2 ** len(self.encoder.channels) * self.encoder.pool_first):
            raise ValueError(
                f"frontend.mels ({self.frontend.mels}) must be a multiple of 2 per convolution block "
                f"({len(self.encoder.channels)}) times encoder.pool_first ({self.encoder.pool_first})"
            )
        if self.encoder.shortcut_bands and self.frontend.mels % self.encoder.shortcut_bands:
            raise ValueError(
                f"encoder.shortcut_bands ({self.encoder.shortcut_bands}) does not divide frontend.mels "
                f"({self.frontend.mels})"
            )
        if self.encoder.d_model % self.cross_modal.heads:
            raise ValueError(f"encoder.d_model is no multiple of cross_modal.heads ({self.cross_modal.heads})")
        return self


class CrnnConfig(_ModelBase):
    """The challenge's baseline network: CNN, GRU, self-attention. Source: the official baseline program."""

    kind: Literal["crnn"] = Field(default="crnn", description="the challenge's baseline network")
    frontend: BaselineFrontEndConfig = Field(
        default=BaselineFrontEndConfig(), description="channels made from the waveform"
    )
    head: HeadConfig = Field(default=HeadConfig(distance_activation="relu"), description="output layers")
    filters: int = Field(default=64, description="filters of the three convolutions", ge=1, le=4_096)
    pooling: tuple[tuple[Pool, Pool], ...] = Field(
        default=((5, 4), (1, 4), (1, 2)),
        min_length=1,
        max_length=10,
        description="max pooling (time, mel) after each convolution; times multiply to "
        "the front-end frames of one label frame",
    )
    gru_units: int = Field(default=128, description="GRU units per direction", ge=1, le=8_192)
    gru_layers: int = Field(default=2, description="GRU layers", ge=1, le=64)
    attention_layers: int = Field(default=2, description="self-attention layers", ge=0, le=64)
    heads: int = Field(default=8, description="attention heads", ge=1, le=512)
    dropout: float = Field(default=0.05, description="dropout", ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        times = 1
        mels = 1
        for time, mel in self.pooling:
            times, mels = times * time, mels * mel
        if times != self.frontend.frames_per_label:
            raise ValueError(
                f"pooling reduces time by {times}, but a label frame has "
                f"{self.frontend.frames_per_label} front-end frames"
            )
        if self.frontend.mels % mels:
            raise ValueError(f"pooling reduces mel bands by {mels}, which does not divide mels ({self.frontend.mels})")
        if len(self.fusion) > 1:
            raise ValueError("fusion: the baseline reads the image tokens of one encoder at most")
        return self


def _kind(value: Any) -> str:
    return str(value.get("kind", "conformer") if isinstance(value, dict) else getattr(value, "kind", "conformer"))


ModelConfig = Annotated[
    Annotated[SeldConfig, Tag("conformer")] | Annotated[CrnnConfig, Tag("crnn")],
    Discriminator(
        _kind, custom_error_type="model_kind", custom_error_message="the model's kind must be conformer or crnn"
    ),
]
"""The configuration of a SELD network; `kind` (conformer unless stated) chooses the class."""


class _Holder(Config):
    model: ModelConfig = Field(default=SeldConfig(), description="the network")


def parse_model_config(data: object, where: str = "The model's configuration") -> SeldConfig | CrnnConfig:
    """Return the model configuration in plain data. Raises SeldError: lists every error at once, each with its path."""
    return parse_config(_Holder, {"model": data}, where).model
