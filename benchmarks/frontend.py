"""Times the front end (log-mel left/right, ILD, stpACC at hop 150) against a plain batched torch version of the same.

Run: python benchmarks/frontend.py [--clips 8] [--rounds 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.core.task import CLIP_SAMPLES, SAMPLE_RATE
from dcase_seld.model.config import FrontEndConfig
from dcase_seld.model.features import mel_filterbank
from dcase_seld.model.frontend import FrontEnd

HOP = 150


def plain_log_mel(wave: Tensor) -> Tensor:
    """Return (B, 2, 800, 64) log-mels in dB by torch.stft and one matrix product."""
    bank = torch.from_numpy(mel_filterbank(SAMPLE_RATE, 512, 64)).float()
    spectrum = torch.stft(
        wave.flatten(0, 1), 512, HOP, window=torch.hann_window(512), pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square().mT[:, :800]
    levels: Tensor = 10 * torch.log10((power @ bank).clamp(min=1e-10))
    return levels.view(-1, 2, *levels.shape[1:])


def plain_stpacc(mono: Tensor) -> Tensor:
    """Return (B, 800, 64) stpACC step by step as its authors state it, batched over clips and frames."""
    window = torch.hann_window(1024, periodic=False)
    spectrum = torch.stft(mono, 1024, HOP, window=window, pad_mode="reflect", return_complex=True)
    lags = torch.fft.irfft(spectrum.abs().square().mT, 1024)[..., :512].clamp(min=1e-30)
    lags = (lags / lags.amax(-1, keepdim=True)).square()
    kernel = torch.hann_window(8, periodic=False)[None, None]
    padded = functional.pad(lags.flatten(0, 1)[:, None], (4, 3))
    smooth = functional.conv1d(padded, kernel).view(*lags.shape[:2], -1)
    smooth = smooth / smooth.amax(-1, keepdim=True)
    kept = torch.fft.rfft(smooth)[..., :33].clone()
    kept[..., -1] *= 2
    envelope: Tensor = torch.fft.irfft(kept, 64) * (64 / 512)
    return envelope[:, :800]


def plain(wave: Tensor) -> Tensor:
    """Return (B, 4, 800, 64): left, right, ILD, stpACC of (L + R) / 2."""
    level = plain_log_mel(wave)
    ild = level[:, 0] - level[:, 1]
    return torch.stack((level[:, 0], level[:, 1], ild, plain_stpacc(wave.mean(1))), 1)


def paired(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median seconds of both, measured in turn so that other load on the machine hits both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, kept in zip((ours, other), times, strict=True):
            start = time.perf_counter()
            function()
            kept.append(time.perf_counter() - start)
    return tuple(sorted(kept)[len(kept) // 2] for kept in times)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wave = torch.randn(arguments.clips, 2, CLIP_SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1
    print(f"{arguments.clips} clips of 5 s a batch, {arguments.threads} threads, float32")
    print(f"{'':24}{'ours clips/s':>14}{'plain clips/s':>15}{'ratio':>8}{'max error':>11}")
    for name, features, reference in (
        ("log-mel + ILD + stpACC", ("log_mel", "ild", "stpacc"), plain),
        ("log-mel", ("log_mel",), plain_log_mel),
        ("stpACC", ("stpacc",), lambda w: plain_stpacc(w.mean(1))[:, None]),
    ):
        frontend = FrontEnd(FrontEndConfig(features=features))
        error = (frontend.extract(wave) - reference(wave)).abs().max().item()
        with torch.no_grad():
            ours, other = paired(partial(frontend.extract, wave), partial(reference, wave), arguments.rounds)
        rates = arguments.clips / ours, arguments.clips / other
        print(f"{name:24}{rates[0]:14.1f}{rates[1]:15.1f}{other / ours:8.2f}{error:11.1e}")


if __name__ == "__main__":
    main()
