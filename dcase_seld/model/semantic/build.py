"""From the `model:` of an embed step to the encoder itself."""

from __future__ import annotations

from dcase_seld.model.semantic.config import (
    AnyTokensConfig,
    ClapTokensConfig,
    OwlVitTokensConfig,
    YamnetTokensConfig,
)
from dcase_seld.model.semantic.protocol import SemanticEncoder


def build_encoder(config: AnyTokensConfig, sample_rate: int, device: str = "cpu") -> SemanticEncoder:
    """Return the configured encoder with its weights loaded.

    Args:
        config: which and how.
        sample_rate: samples per second of the sound that it will be given.
        device: where to compute; ONNX models run on the CPU.

    Raises:
        SeldError: weights are missing or do not fit.
    """
    if isinstance(config, ClapTokensConfig):
        from dcase_seld.model.semantic.clap import load_clap

        return load_clap(
            config.source,
            tokens=config.tokens,
            input_rate=sample_rate,
            batch=config.batch,
            device=device,
            dtype=config.dtype,
        )
    if isinstance(config, OwlVitTokensConfig):
        from dcase_seld.model.semantic.owlvit import load_owlvit

        return load_owlvit(config.source, pool=config.pool, batch=config.batch, device=device, dtype=config.dtype)
    from dcase_seld.model.semantic.onnx_model import OnnxEncoder
    from dcase_seld.model.yamnet import onnx_settings

    if isinstance(config, YamnetTokensConfig):
        config = onnx_settings(config)

    encoder: SemanticEncoder = OnnxEncoder(config, sample_rate)
    return encoder
