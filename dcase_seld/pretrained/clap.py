"""CLAP: one vector, or several over time, that say what a clip sounds like; through transformers' CLAP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import read_json
from dcase_seld.pretrained.catalogue import find_model, has_random_weights
from dcase_seld.pretrained.encoder import ClapTokensConfig, Gives, cut_windows, fingerprint_weights, pad_window
from dcase_seld.pretrained.transformers_models import import_transformers, load_whole, ready_torchaudio

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

    Args:
        name_or_path: see model.registry.find_model.
        **options: tokens, input_rate, batch, device, dtype of ClapEncoder.

    Raises:
        SeldError: the weights are missing, incomplete, or of another model.
    """
    path = find_model(name_or_path, kind="clap")
    if path.is_dir() and not (path / "config.json").is_file():
        checkpoints = sorted(path.glob("*.pt"))
        path = checkpoints[0] if len(checkpoints) == 1 else path
    if path.is_file():
        from dcase_seld.pretrained.laion import read_laion_checkpoint

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
