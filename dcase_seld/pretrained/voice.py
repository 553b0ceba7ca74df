"""Women's and men's voices: the female/male network of inaSpeechSegmenter, read as data out of its package.

YAMNet's makers dropped the classes that would tell women from men; this network knows nothing else. Source: D. Doukhan
et al., "An open-source speaker gender detection framework", ICASSP 2018; its features are SIDEKIT's.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError, first_line
from dcase_seld.pretrained.catalogue import find_model, has_random_weights, known_model, require_package
from dcase_seld.pretrained.encoder import Gives, VoiceTokensConfig, fingerprint_weights
from dcase_seld.pretrained.transformers_models import ready_torchaudio

RATE, WINDOW, HOP, N_FFT, MELS, PATCH = 16_000, 400, 160, 512, 24, 68
"""Samples per second; samples of a frame, between frames, of the Fourier transform; mel bands; frames of a patch."""

SCALES = (2.0, 8.0)
"""What the logits' difference is divided by: 2 gives the difference of the posteriors, 8 how sure the network is."""

CONVOLUTIONS = ((1, 64), (64, 64), (64, 128), (128, 128), (128, 256))
LINEARS = ((256, 512), (512, 512), (512, 512), (512, 512), (512, 2))
_POOLS = {2: (1, 2), 4: (2, 2), 5: (28, 1)}

_EPSILON = 1e-3
"""Of its batch normalisation, as in the file's definition."""


class VoiceNetwork(nn.Sequential):
    """Maps patches (n, 1, 68 frames, 24 bands), each of mean 0 and deviation 1, to (n, 2): logits of female and male.

    Batch normalisation is part of the layers before it, and pooling comes before ReLU, with the same result.
    """

    def __init__(self) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (width_in, width_out) in enumerate(CONVOLUTIONS, start=1):
            layers[f"conv2d_{number}"] = nn.Conv2d(width_in, width_out, 3)
            if number in _POOLS:
                layers[f"pool_{number}"] = nn.MaxPool2d(_POOLS[number])
            layers[f"conv_relu_{number}"] = nn.ReLU(inplace=True)
        layers["flat"] = nn.Flatten()
        for number, (width_in, width_out) in enumerate(LINEARS, start=1):
            layers[f"dense_{number}"] = nn.Linear(width_in, width_out)
            if number < len(LINEARS):
                layers[f"dense_relu_{number}"] = nn.ReLU(inplace=True)
        super().__init__(layers)


def mel_filters() -> Tensor:
    """Return (257, 24): triangles evenly spaced in mel (HTK) from 100 Hz to 8 kHz, of area 1, as SIDEKIT makes them.

    SIDEKIT leaves out the last bin of every falling side; the network was trained so.
    """
    low, high = (2595.0 * math.log10(1.0 + edge / 700.0) for edge in (100.0, 8000.0))
    mels = low + torch.arange(MELS + 2, dtype=torch.float64) * (high - low) / (MELS + 1)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)[:, None]
    frequencies = bins * RATE / N_FFT
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp_min(0.0) * 2.0 / (right - left)
    triangles[bins == torch.floor(right * N_FFT / RATE)] = 0.0
    return triangles.to(torch.float32)


class VoiceMel(nn.Module):
    """The log-mel spectrogram that the network was trained on: pre-emphasis in each frame, Hann window, no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return (B, T', 24), natural logarithms, -inf in digital silence, of mono sound (B, S) at 16 kHz."""
        frames = wave.unfold(-1, WINDOW, HOP)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=N_FFT)
        return torch.log((spectrum.real.square() + spectrum.imag.square()) @ self.filters)


def patches_of(mel: Tensor, count: int) -> Tensor:
    """Return (B, count, 68, 24), patches of mel (B, T', 24) around the middles of equal stretches, mean 0, deviation 1.

    Patches at the ends lie within the sound, as the package has it. Where a frame is digital silence it is as loud as
    the quietest of its patch; a patch of nothing else is NaN.
    """
    finite = torch.isfinite(mel)
    if mel.shape[1] < PATCH:
        mel, finite = (nn.functional.pad(x, (0, 0, 0, PATCH - x.shape[1])) for x in (mel, finite))
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) * mel.shape[1] / count
    starts = (middles - PATCH / 2).round().long().clamp(0, mel.shape[1] - PATCH)
    places = (starts[:, None] + torch.arange(PATCH)).to(mel.device)
    patches, known = mel[:, places], finite[:, places]
    quietest = patches.masked_fill(~known, math.inf).amin(dim=(-2, -1), keepdim=True)
    patches = torch.where(known, patches, quietest)
    deviation, mean = torch.std_mean(patches, dim=(-2, -1), correction=0, keepdim=True)
    return (patches - mean) / deviation


def voice_token(difference: Tensor) -> Tensor:
    """Return (…, 8) of differences (…) of the logits of female and male: per scale tanh, sech, and both negated.

    The first number is P(female) - P(male). Every token has mean 0 and the same length, so that the layer norm before
    an attention to it, which would leave only a sign of plain posteriors, changes nothing.
    """
    scaled = torch.stack([difference / scale for scale in SCALES], dim=-1)
    both = torch.cat([scaled.tanh(), 1.0 / scaled.clamp(-40.0, 40.0).cosh()], dim=-1)
    return torch.cat([both, -both], dim=-1)


class VoiceEncoder:
    """Frozen female/male network behind the SemanticEncoder protocol: stereo sound → a narrow token per stretch."""

    gives: Gives = "sound"
    tokens = 0
    dimension = 4 * len(SCALES)

    def __init__(
        self, network: VoiceNetwork, config: VoiceTokensConfig, input_rate: int, device: str, random_weights: bool
    ) -> None:
        """Take the network.

        Args:
            network: with its weights.
            config: how it is run.
            input_rate: samples per second of the sound that encode() gets.
            device: where to compute.
            random_weights: whether the weights are untrained.
        """
        self.fingerprint = fingerprint_weights(network.state_dict())
        self.parameters = sum(weight.numel() for weight in network.parameters())
        self.config, self.input_rate, self.device, self.random_weights = config, input_rate, device, random_weights
        network = network.to(device=device, dtype=getattr(torch, config.dtype)).eval()
        if config.dtype != "float32" and torch.device(device).type == "cpu" and not _has_bfloat16():
            network = network.float()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = next(network.parameters()).dtype
        self.mel = VoiceMel().to(device)

    def encode(self, batch: Tensor) -> Tensor:
        """Return (B, K, 8), `voice_token` of every stretch of sound (B, 2, S) in [-1, 1]."""
        logits = self.logits(batch)
        return voice_token(logits[..., 0] - logits[..., 1])

    @torch.inference_mode()
    def logits(self, batch: Tensor) -> Tensor:
        """Return (B, K, 2) float32, logits of female and male of sound (B, 2, S) in [-1, 1]; 0 in digital silence."""
        ready_torchaudio()
        from torchaudio.functional import resample

        mono = resample(batch.to(self.device, torch.float32).mean(dim=1), self.input_rate, RATE)
        count = max(1, round(mono.shape[-1] / RATE / self.config.hop_s))
        mono = nn.functional.pad(mono, (0, max(0, WINDOW - mono.shape[-1])))
        patches = patches_of(self.mel(mono), count).flatten(0, 1)
        heard = torch.isfinite(patches).all(dim=-1).all(dim=-1)
        todo = torch.where(heard[:, None, None], patches, 0.0)[:, None].to(self.dtype)
        step = self.config.batch
        said = torch.cat([self.network(todo[k : k + step]).float() for k in range(0, len(todo), step)])
        return torch.where(heard[:, None], said, 0.0).reshape(len(batch), count, 2)


def _has_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16; elsewhere PyTorch imitates it, slower than float32."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def read_network(path: Path) -> VoiceNetwork:
    """Return the network with the weights of a Keras HDF5 file; only its arrays are read, nothing in it is run.

    Raises:
        SeldError: h5py is missing, or the file lacks an array, or holds one of another shape.
    """
    require_package("h5py", "The weights of voice")
    import h5py

    remedy = "Fetch it with `dcase-seld models pull voice`."
    network = VoiceNetwork()
    refuse_no_weights(path, remedy)
    try:
        with h5py.File(path, "r") as file:

            def array(layer: str, name: str, shape: tuple[int, ...]) -> Tensor:
                # Keras repeats the layer's name inside, at times with a number added.
                within = next(iter(file["model_weights"][layer].values()))
                values = torch.from_numpy(within[f"{name}:0"][()]).double()
                if tuple(values.shape) != shape:
                    raise SeldError(f"{path}: {name} of {layer} has shape {tuple(values.shape)}, not {shape}.", remedy)
                return values

            norm = 0
            for layer, module in network.named_children():
                if not isinstance(module, nn.Conv2d | nn.Linear):
                    continue
                shape = tuple(module.weight.shape)
                # Keras has the axes of a kernel as (height, width, in, out).
                kernel = array(layer, "kernel", (*shape[2:], shape[1], shape[0]))
                weight = kernel.permute(3, 2, 0, 1) if len(shape) == 4 else kernel.T
                bias = array(layer, "bias", shape[:1])
                if shape[0] != LINEARS[-1][1]:
                    norm += 1
                    gamma, beta, mean, variance = (
                        array(f"batch_normalization_{norm}", name, shape[:1])
                        for name in ("gamma", "beta", "moving_mean", "moving_variance")
                    )
                    scale = gamma / torch.sqrt(variance + _EPSILON)
                    weight = weight * scale.reshape(-1, *([1] * (len(shape) - 1)))
                    bias = (bias - mean) * scale + beta
                with torch.no_grad():
                    module.weight.copy_(weight)
                    module.bias.copy_(bias)  # type: ignore[union-attr]
    except (OSError, LookupError, StopIteration, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise SeldError(f"{path} is no file of the voice network: {first_line(error)}.", remedy) from error
    return network


def from_config(config: VoiceTokensConfig, sample_rate: int, device: str) -> VoiceEncoder:
    """Return the configured encoder, for sound of `sample_rate`.

    Raises:
        SeldError: the weights are not there, or are others.
    """
    found = find_model(config.source, kind="voice")
    path = found / known_model("voice").files[0] if found.is_dir() else found
    return VoiceEncoder(read_network(path), config, sample_rate, device, has_random_weights(path))
