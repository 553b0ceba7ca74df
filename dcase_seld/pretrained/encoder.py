"""Which frozen encoder makes the tokens, and how: the `model:` of an embed step. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field, SerializeAsAny, model_validator

from dcase_seld.core.config import Choice, Config, Outside, RunTime, parse_config
from dcase_seld.core.registry import SEMANTIC_ENCODERS

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]


class _SourceConfig(Config):
    """Where the weights come from: a known or hub name that was pulled, or a path, whose contents are followed."""

    name: str | None = Field(
        default=None, description="known model (`dcase-seld models list`) or hub name, pulled before"
    )
    path: Annotated[str | None, Outside()] = Field(
        default=None, description="folder or file of weights, in place of a name; its contents are part of the result"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Any:
        if self.name is not None and self.path is not None:
            raise ValueError("give name or path, not both")
        return self

    @property
    def source(self) -> str:
        """Return the path, the name, or the kind's default model."""
        return self.path or self.name or str(getattr(self, "kind", ""))


class _WeightsConfig(_SourceConfig):
    """Weights that PyTorch runs, on any device."""

    dtype: Precision = Field(default="float32", description="arithmetic of the encoder; tokens are stored as float16")
    batch: Annotated[int, RunTime()] = Field(default=8, ge=1, le=65_536, description="windows or pictures at once")


class ClapTokensConfig(_WeightsConfig):
    """CLAP vectors of a clip's mono sum. Default weights: the known model "clap"."""

    kind: Literal["clap"] = "clap"
    tokens: int = Field(default=1, ge=1, le=600, description="vectors per clip: 1 of all, or of overlapping windows")


class OwlVitTokensConfig(_WeightsConfig):
    """OWL-ViT tokens of video frames. Default weights: the known model "owlvit"."""

    kind: Literal["owlvit"] = "owlvit"
    fps: float = Field(default=1.0, gt=0, le=30, description="frames per second that are looked at, each mid-interval")
    pool: int = Field(default=1, ge=1, le=24, description="side of averaged squares of tokens: 1 → 577 tokens, 2 → 145")


class LogMelConfig(Config):
    """Log-mel spectrogram that an ONNX model takes. Defaults: VGGish and YAMNet. Source: the published YAMNet code."""

    n_fft: int = Field(default=512, ge=16, le=32_768, description="samples of the Fourier transform")
    window: int = Field(default=400, ge=16, le=32_768, description="samples of the Hann window")
    hop: int = Field(default=160, ge=1, le=32_768, description="samples between frames")
    mels: int = Field(default=64, ge=1, le=1_024, description="mel bands (HTK scale, triangles of height 1)")
    f_min: float = Field(default=125.0, ge=0, description="lowest frequency in hertz")
    f_max: float = Field(default=7500.0, gt=0, description="highest frequency in hertz")
    power: float = Field(default=1.0, gt=0, description="of the magnitude: 1 magnitude, 2 power")
    offset: float = Field(default=1e-3, gt=0, description="added before the natural logarithm")


class QuantisationConfig(Config):
    """Linear quantisation: integer = round(value / scale) + zero point."""

    scale: float = Field(gt=0, description="value of one step")
    zero_point: int = Field(default=0, description="integer that stands for 0")


class OnnxTokensConfig(Config):
    """Embeddings of any exported ONNX model, one per patch of sound."""

    kind: Literal["onnx"] = "onnx"
    path: Annotated[str, Outside()] = Field(description="the .onnx file")
    sample_rate: int = Field(default=16000, ge=1000, le=768_000, description="samples per second that the model takes")
    input: str | None = Field(default=None, description="name of the input; null: the only one")
    output: str | None = Field(default=None, description="name of the output or inner tensor; null: the first output")
    patch_s: float = Field(default=0.96, gt=0, description="seconds per forward pass")
    hop_s: float = Field(default=0.48, gt=0, description="seconds between patches")
    centred: bool = Field(
        default=False,
        description="whether patches lie around the middles of equal stretches of the clip, round(clip / hop_s) of them"
        " with zeros beyond its ends, as tokens are read; false: the first one begins with the clip",
    )
    log_mel: LogMelConfig | None = Field(default=None, description="front end; null: the model takes the waveform")
    input_quantisation: QuantisationConfig | None = Field(default=None, description="where the model takes integers")
    output_quantisation: QuantisationConfig | None = Field(default=None, description="where the tensor holds integers")
    batch: Annotated[int, RunTime()] = Field(
        default=16, ge=1, le=65_536, description="patches per forward pass, if it allows many"
    )

    @property
    def source(self) -> str:
        """Return the path of the model."""
        return self.path


class YamnetTokensConfig(_SourceConfig):
    """YAMNet's embeddings of a clip's mono sum, evenly spread over it. Default weights: the known model "yamnet"."""

    kind: Literal["yamnet"] = "yamnet"
    hop_s: float = Field(default=0.5, gt=0, description="seconds between tokens, each of which hears 0.96 s around it")


class VoiceTokensConfig(_WeightsConfig):
    """Whether voices of a clip's mono sum are women's or men's, evenly spread. Default weights: the model "voice"."""

    kind: Literal["voice"] = "voice"
    hop_s: float = Field(default=0.5, gt=0, description="seconds between tokens, each of which hears 0.7 s around it")
    dtype: Precision = Field(
        default="bfloat16",
        description="arithmetic of the network; bfloat16 on a processor that lacks it: float32 with the same weights",
    )
    batch: Annotated[int, RunTime()] = Field(default=40, ge=1, le=65_536, description="patches per forward pass")


AnyTokensConfig = ClapTokensConfig | OwlVitTokensConfig | OnnxTokensConfig | YamnetTokensConfig | VoiceTokensConfig

TokensConfig = Annotated[
    SerializeAsAny[Annotated[AnyTokensConfig, Field(discriminator="kind")]], Choice(SEMANTIC_ENCODERS)
]
"""The `model:` of an embed step; `kind` chooses the class, one of a plug-in too."""


_MODEL_KINDS = {"clap": "clap", "owlvit": "vision", "voice": "voice"}


def weights_of(config: Any) -> list[tuple[str, str]]:
    """Return the name or path of the weights of an encoder and the kind of model; none of a plug-in's."""
    if SEMANTIC_ENCODERS.plugin_of(config.kind) is not None:
        return []
    return [(config.source, _MODEL_KINDS.get(config.kind, "onnx"))]


class _Holder(Config):
    model: TokensConfig = Field(description="the encoder")


def parse_tokens_config(data: Any, where: str) -> AnyTokensConfig:
    """Return the configuration of an encoder in plain data.

    Raises:
        SeldError: lists every error at once, each with its path.
    """
    return parse_config(_Holder, {"model": data}, where).model


Gives = Literal["sound", "image"]


class SemanticEncoder(Protocol):
    """A frozen network that turns sound or pictures into tokens."""

    gives: Gives  # what its tokens are of: it takes "sound", or pictures ("image")
    dimension: int  # D, numbers per token
    tokens: int  # tokens per clip (sound; 0 where it depends on the clip's length) or per frame (pictures)
    fingerprint: str  # equal exactly where the weights are equal
    random_weights: bool  # the weights were made from a configuration, not trained
    parameters: int  # numbers in its weights; 0: not known

    def encode(self, batch: Any) -> Tensor:
        """Return (B, tokens, D) float32 of sound (B, 2, S) in [-1, 1], or of a list of B pictures (uint8 BGR)."""
        ...


def fingerprint_weights(weights: Mapping[str, Tensor]) -> str:
    """Return 16 hexadecimal digits that depend on every name, shape and value of `weights`."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()[:16]


def build_encoder(config: AnyTokensConfig, sample_rate: int, device: str = "cpu") -> SemanticEncoder:
    """Return the configured encoder with its weights loaded.

    ONNX models run on the CPU, whatever the device. Raises SeldError: weights are missing or do not fit.
    """
    entry = SEMANTIC_ENCODERS[config.kind]
    if SEMANTIC_ENCODERS.plugin_of(config.kind) is None:
        encoder: SemanticEncoder = entry(config, sample_rate, device)
        return encoder
    made = entry(config) if hasattr(entry, "Settings") else entry()
    for name, default in (("tokens", 0), ("parameters", 0)):
        if not hasattr(made, name):
            setattr(made, name, default)
    plugin: SemanticEncoder = made
    return plugin


def window_starts(samples: int, windows: int) -> tuple[list[int], int]:
    """Return the first samples of `windows` equal windows that cover a clip, and their length in samples.

    One window is the whole clip; more overlap by half, so that each instant but the ends lies in two.
    """
    if windows == 1:
        return [0], samples
    hop = samples / (windows + 1)
    length = min(samples, round(2 * hop))
    return [min(round(k * hop), samples - length) for k in range(windows)], length


def cut_windows(wave: Tensor, windows: int) -> Tensor:
    """Return (B, windows, length), overlapping windows of mono sound (B, S)."""
    import torch

    starts, length = window_starts(wave.shape[-1], windows)
    return torch.stack([wave[:, start : start + length] for start in starts], dim=1)


def centred_windows(wave: Tensor, windows: int, length: int) -> Tensor:
    """Return (B, windows, length), the sound around the middles of equal stretches of mono sound (B, S).

    Neighbours overlap where windows are longer than stretches; beyond the ends of the sound there are zeros.
    """
    import torch
    from torch.nn import functional

    middles = (torch.arange(windows, dtype=torch.float64) + 0.5) * wave.shape[-1] / windows
    margin = length // 2 + 1
    starts = (middles - length / 2).round().long() + margin
    places = starts[:, None] + torch.arange(length)
    return functional.pad(wave, (margin, margin))[:, places]


def pad_window(wave: Tensor, samples: int, padding: str) -> Tensor:
    """Return (B, samples): "repeatpad" repeats whole copies, then zeros; "repeat" repeats and cuts; "pad" zeros.

    Source: the three ways of LAION CLAP's feature extraction.
    """
    from torch.nn import functional

    length = wave.shape[-1]
    if length < samples and padding == "repeatpad":
        wave = wave.repeat(1, samples // length)
    elif length < samples and padding == "repeat":
        wave = wave.repeat(1, samples // length + 1)[:, :samples]
    return functional.pad(wave, (0, samples - wave.shape[-1]))
