"""CLAP: one vector, or several over time, that say what a clip sounds like; through transformers' CLAP.

LAION's own checkpoints (.pt, HTSAT audio branch) are read into it without laion_clap; sizes follow from the weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError, first_line, listing
from dcase_seld.core.reading import read_json
from dcase_seld.pretrained.catalogue import find_model, has_random_weights
from dcase_seld.pretrained.encoder import ClapTokensConfig, Gives, cut_windows, fingerprint_weights, pad_window
from dcase_seld.pretrained.transformers_models import import_transformers, load_whole, ready_torchaudio

SAMPLE_RATE, N_FFT = 48000, 1024

F_MIN_HZ, F_MAX_HZ = 50.0, 14000.0
"""Of every LAION CLAP with an HTSAT audio branch. Source: laion-clap's model configurations."""

_BRANCH, _PROJECTION = "audio_branch.", "audio_projection."

_ENCODER = "audio_model.audio_encoder."

# The heads of HTSAT's own classifier, its fixed front end and buffers that the network computes itself.
_UNUSED = re.compile(
    r"spectrogram_extractor\.|logmel_extractor\.|tscam_conv\.|head\.|.*\.attn_mask$|.*\.relative_position_index$"
    r"|.*num_batches_tracked$"
)

_RENAMED = (
    (r"^bn0\.", "batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.relative_position_bias_table$", ".attention.self.relative_position_bias_table"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def read_laion_checkpoint(path: Path) -> tuple[Any, Tensor]:
    """Return transformers' ClapAudioModelWithProjection with a checkpoint's weights, and its mel filters (513, F).

    Raises:
        SeldError: the file is no LAION CLAP checkpoint with an HTSAT audio branch, or holds more than weights.
    """
    weights = _audio_weights(path)
    remedy = "Fetch the checkpoint again from its publisher."
    damaged = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if damaged:
        raise SeldError(f"{path} is damaged: {listing(damaged, 3)} holds values that are no numbers.", remedy)
    try:
        config = _config_of(weights, path)
        renamed = rename_weights(weights)
        with torch.device("meta"):  # sizes come from the file: nothing is allocated before they are known to fit
            wanted = import_transformers().ClapAudioModelWithProjection(config).state_dict()
        wrong = [name for name, value in renamed.items() if name in wanted and wanted[name].shape != value.shape]
        if wrong:
            raise SeldError(f"{path} is damaged: {listing(wrong, 3)} are of another shape than the rest.", remedy)
        model = import_transformers().ClapAudioModelWithProjection(config)
        left = model.load_state_dict(renamed, strict=False)
    except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, AttributeError) as error:
        raise SeldError(f"{path} is damaged: its weights make no network ({first_line(error)}).", remedy) from error
    computed = ("relative_position_index", "num_batches_tracked")
    missing = [key for key in left.missing_keys if not key.endswith(computed)]
    if missing or left.unexpected_keys:
        raise SeldError(
            f"{path} does not fit HTSAT: missing {listing(missing, 3) or 'nothing'}; unknown"
            f" {listing(left.unexpected_keys, 3) or 'nothing'}.",
            "Use a checkpoint of laion-clap with an HTSAT audio branch, as 630k-audioset-best.pt.",
        )
    model.eval().requires_grad_(False)
    return model, _mel_filters(weights, bool(config.enable_fusion), int(config.num_mel_bins), path)


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return transformers' names of the audio half of a LAION state dict ("audio_branch.…", "audio_projection.…")."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(_PROJECTION):
            number, _, kind = name.removeprefix(_PROJECTION).partition(".")
            renamed[f"{_PROJECTION}linear{1 + int(number) // 2}.{kind}"] = tensor
            continue
        inner = name.removeprefix(_BRANCH)
        if _UNUSED.match(inner):
            continue
        if qkv := re.fullmatch(r"(.*)\.attn\.qkv\.(weight|bias)", inner):
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"{_ENCODER}{qkv[1]}.attention.self.{part}.{qkv[2]}"] = piece.contiguous()
            continue
        for pattern, new in _RENAMED:
            inner = re.sub(pattern, new, inner)
        renamed[_ENCODER + inner] = tensor
    return renamed


def _audio_weights(path: Path) -> dict[str, Tensor]:
    """Return the audio half of the state dict in a checkpoint, without the "module." of data-parallel training."""
    scalars = [np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8"))]
    # Training records are saved beside the weights as NumPy scalars, which old NumPy pickled under other names.
    scalar: Any = np.float64(0).__reduce__()[0]
    named: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), *scalars]
    refuse_no_weights(path)
    try:
        with torch.serialization.safe_globals(named):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch's reader raise whatever they happen to spell
        raise SeldError(
            f"{path} cannot be read as a checkpoint that holds weights only: {first_line(error)}",
            "Fetch it again from its publisher; a file with other contents is not opened.",
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    plain = {str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    audio = {name: value.float() for name, value in plain.items() if name.startswith((_BRANCH, _PROJECTION))}
    if f"{_BRANCH}patch_embed.proj.weight" not in audio or f"{_PROJECTION}2.weight" not in audio:
        raise SeldError(
            f"{path} is no LAION CLAP checkpoint with an HTSAT audio branch:"
            f" it holds {listing(plain, 3) or 'no weights'}.",
            "Give a .pt file of laion-clap, as 630k-audioset-best.pt.",
        )
    return audio


def _config_of(weights: Mapping[str, Tensor], path: Path) -> Any:
    """Return the ClapAudioConfig that the shapes of the weights imply."""
    blocks = [re.match(rf"{_BRANCH}layers\.(\d+)\.blocks\.(\d+)\.", name) for name in weights]
    depths: dict[int, int] = {}
    for block in blocks:
        if block:
            depths[int(block[1])] = max(depths.get(int(block[1]), 0), int(block[2]) + 1)
    first = f"{_BRANCH}layers.{{}}.blocks.0."
    try:
        tables = [weights[first.format(layer) + "attn.relative_position_bias_table"] for layer in sorted(depths)]
        patches = weights[f"{_BRANCH}patch_embed.proj.weight"]
        width = int(patches.shape[0])
        return import_transformers().ClapAudioConfig(
            patch_embeds_hidden_size=width,
            patch_size=int(patches.shape[-1]),
            depths=[depths[layer] for layer in sorted(depths)],
            num_attention_heads=[int(table.shape[1]) for table in tables],
            window_size=(math.isqrt(int(tables[0].shape[0])) + 1) // 2,
            num_mel_bins=int(weights[f"{_BRANCH}bn0.weight"].shape[0]),
            hidden_size=width * 2 ** (len(depths) - 1),
            mlp_ratio=float(weights[first.format(0) + "mlp.fc1.weight"].shape[0]) / width,
            projection_dim=int(weights[f"{_PROJECTION}2.weight"].shape[0]),
            enable_fusion=f"{_BRANCH}patch_embed.mel_conv2d.weight" in weights,
            fusion_type="aff_2d",
        )
    except (KeyError, IndexError) as error:
        raise SeldError(
            f"{path} lacks the weights {error} of an HTSAT audio branch.", "Fetch the checkpoint again."
        ) from error


def _mel_filters(weights: Mapping[str, Tensor], fused: bool, mels: int, path: Path) -> Tensor:
    """Return (513, F), the mel filters of a checkpoint.

    Unfused models carry theirs. Fused ones were trained on torchaudio's default (HTK) filters, computed outside.
    """
    if fused:
        from transformers.audio_utils import mel_filter_bank

        bank = mel_filter_bank(N_FFT // 2 + 1, mels, F_MIN_HZ, F_MAX_HZ, SAMPLE_RATE, norm=None, mel_scale="htk")
        return torch.from_numpy(np.asarray(bank)).float()
    filters = weights.get(f"{_BRANCH}logmel_extractor.melW")
    if filters is None or filters.shape != (N_FFT // 2 + 1, mels):
        raise SeldError(f"{path} lacks its mel filters (logmel_extractor.melW).", "Fetch the checkpoint again.")
    return filters


_EXTRACTOR_SETTINGS = (
    "feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size", "frequency_min",
    "frequency_max", "truncation", "padding",
)  # fmt: skip


class ClapMel(nn.Module):
    """The log-mel spectrogram that CLAP was trained on, in decibels, on the device of the sound."""

    def __init__(self, filters: Tensor, n_fft: int = 1024, hop: int = 480) -> None:
        """Take the mel filters (n_fft // 2 + 1, F)."""
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", filters.to(torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft, periodic=True), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return (B, 1, T', F), decibels relative to 1, floor -100, of mono sound (B, S)."""
        spectrum = torch.stft(wave, self.n_fft, self.hop, window=self.window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self.filters
        return 10.0 * torch.log10(mel.clamp_min(1e-10)).unsqueeze(1)


class ClapEncoder:
    """Frozen CLAP behind the SemanticEncoder protocol: stereo sound → unit vectors of its joint space.

    Windows are padded as CLAP's extractor does. Nothing is random: the extractor's random crop of long sound is an
    error here, and its random choice of a "longer" clip in a batch (fused models) is never made.
    """

    gives: Gives = "sound"

    def __init__(
        self,
        model: Any,
        mel: ClapMel,
        *,
        tokens: int = 1,
        input_rate: int = 24000,
        rate: int = 48000,
        seconds: float = 10.0,
        padding: str = "repeatpad",
        random_weights: bool = False,
        batch: int = 8,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Take a ClapAudioModelWithProjection and its mel front end.

        Args:
            model: transformers' audio half of CLAP.
            mel: its front end.
            tokens: K, overlapping windows over a clip; 1 is the whole clip.
            input_rate: samples per second of the sound that encode() gets.
            rate: samples per second of CLAP.
            seconds: length that every window is padded to.
            padding: "repeatpad", "repeat" or "pad".
            random_weights: whether the weights are untrained.
            batch: windows per forward pass.
            device: where to compute.
            dtype: "float32", "bfloat16" or "float16".
        """
        self.fingerprint = fingerprint_weights(model.state_dict())
        self.model = model.to(device=device, dtype=getattr(torch, dtype))
        self.mel = mel.to(device)
        self.tokens, self.batch, self.device = tokens, batch, device
        self.input_rate, self.rate, self.samples, self.padding = input_rate, rate, round(seconds * rate), padding
        self.random_weights = random_weights
        self.dimension = int(model.config.projection_dim)
        self.parameters = sum(weight.numel() for weight in model.parameters())

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Tensor:
        """Return (B, K, D), unit vectors of stereo sound (B, 2, S) in [-1, 1].

        Raises:
            SeldError: a window is longer than CLAP takes.
        """
        ready_torchaudio()
        from torchaudio.functional import resample

        mono = batch.to(self.device, torch.float32).mean(dim=1)
        windows = cut_windows(resample(mono, self.input_rate, self.rate), self.tokens)
        if windows.shape[-1] > self.samples:
            longest = self.samples / self.rate
            raise SeldError(
                f"CLAP takes {longest:g} s at once, but a window has {windows.shape[-1] / self.rate:g} s.",
                "Give more windows (`tokens:` of the embedding model), or cut the recordings into clips.",
            )
        flat = pad_window(windows.flatten(0, 1), self.samples, self.padding)
        parts = [self._vectors(flat[k : k + self.batch]) for k in range(0, len(flat), self.batch)]
        return torch.cat(parts).reshape(len(batch), self.tokens, self.dimension)

    def _vectors(self, wave: Tensor) -> Tensor:
        """Return (B, D), unit vectors of padded mono windows (B, samples) at CLAP's rate."""
        features = self.mel(wave).to(self.model.dtype)
        if self.model.config.enable_fusion:
            features = features.expand(-1, 4, -1, -1)
        longer = torch.zeros(len(wave), 1, dtype=torch.bool, device=wave.device)
        embedded = self.model(input_features=features, is_longer=longer).audio_embeds
        return nn.functional.normalize(embedded.to(torch.float32), dim=-1)


def load_clap(name_or_path: str | Path, **options: Any) -> ClapEncoder:
    """Return CLAP from a known name, a pulled hub name, a folder of save_pretrained, or a LAION .pt checkpoint.

    Options: tokens, input_rate, batch, device, dtype of ClapEncoder. Raises SeldError: the weights are missing,
    incomplete, or of another model.
    """
    path = find_model(name_or_path, kind="clap")
    if path.is_dir() and not (path / "config.json").is_file():
        checkpoints = sorted(path.glob("*.pt"))
        path = checkpoints[0] if len(checkpoints) == 1 else path
    if path.is_file():
        model, filters = read_laion_checkpoint(path)
        return ClapEncoder(model, ClapMel(filters), random_weights=has_random_weights(path), **options)
    transformers = import_transformers()
    model, _ = load_whole(transformers.ClapAudioModelWithProjection, path, "CLAP")
    settings = _extractor_settings(path)
    extractor = transformers.ClapFeatureExtractor(**settings)
    # Fused and unfused models were trained on different mel filters.
    filters = extractor.mel_filters if extractor.truncation == "fusion" else extractor.mel_filters_slaney
    return ClapEncoder(
        model,
        ClapMel(torch.from_numpy(filters), extractor.fft_window_size, extractor.hop_length),
        rate=extractor.sampling_rate,
        seconds=extractor.max_length_s,
        padding=extractor.padding,
        random_weights=has_random_weights(path),
        **options,
    )


def _extractor_settings(folder: Path) -> dict[str, Any]:
    """Return the arguments of CLAP's feature extractor from preprocessor_config.json.

    Raises:
        SeldError: the file is not there or not readable; guessing would give other features.
    """
    file = folder / "preprocessor_config.json"
    try:
        content = read_json(file)
    except SeldError as error:
        raise SeldError(
            f"The CLAP folder {folder} has no readable preprocessor_config.json, which tells its mel filters.",
            "Save the feature extractor beside the model, or pull the model again.",
        ) from error
    return {key: content[key] for key in _EXTRACTOR_SETTINGS if key in content}


def from_config(config: ClapTokensConfig, sample_rate: int, device: str) -> ClapEncoder:
    """Return the configured encoder, for sound of `sample_rate`."""
    return load_clap(
        config.source,
        tokens=config.tokens,
        input_rate=sample_rate,
        batch=config.batch,
        device=device,
        dtype=config.dtype,
    )
