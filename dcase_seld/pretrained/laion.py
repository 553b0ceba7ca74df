"""Reading LAION's own CLAP checkpoints (.pt, HTSAT audio branch) into transformers' CLAP, without laion_clap.

Sizes are taken from the shapes of the weights, so HTSAT-tiny, -base and fused checkpoints need no table. Only the audio
half is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError, first_line, listing
from dcase_seld.core.files import refuse_no_weights
from dcase_seld.pretrained.transformers_models import import_transformers

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
