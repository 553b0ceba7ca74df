"""Frozen encoders: their speed, the error of flipping the token grid for mirrored frames, a linear probe, and voices.

Run: python benchmarks/embed.py speed [--clips 8] [--rounds 3]
     python benchmarks/embed.py cores [--clips 64] [--workers 1 2] [--rounds 3]
     python benchmarks/embed.py voices SOUNDS
     python benchmarks/embed.py mirror [PICTURES] [--model FOLDER_OR_NAME]
     python benchmarks/embed.py probe SOUNDS [--onnx MODEL.onnx [--output TENSOR] [--scale 0.0479 --zero-point 144]]

Without `--model`, networks of the published size with random weights are made: right for speed, not for meaning.
`cores` and `voices` need what `dcase-seld models pull yamnet voice` fetches. Without `--onnx`, the probe is of YAMNet,
whose milliseconds per clip are told too.
SOUNDS has one sub-folder per class; files are grouped by the part of their name before the first "_" (a collection or a
speaker), and no group is in training and in test at once.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from dcase_seld.infer.devices import kept_memory, pytorch_threads
from dcase_seld.infer.embed import SOUND_CLIPS_AT_ONCE, embed_sound
from dcase_seld.media.audio import read_audio
from dcase_seld.pretrained.clap import load_clap
from dcase_seld.pretrained.encoder import (
    LogMelConfig,
    OnnxTokensConfig,
    QuantisationConfig,
    SemanticEncoder,
    YamnetTokensConfig,
    build_encoder,
    pad_window,
    parse_tokens_config,
)
from dcase_seld.pretrained.owlvit import OwlVit, load_owlvit, pool_grid
from dcase_seld.pretrained.transformers_models import import_transformers, make_random_model
from dcase_seld.store.tokens import mirrored_order

RATE = 24_000


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def speed(clips: int, rounds: int) -> None:
    """Print seconds per clip, and our CLAP front end against transformers' extractor in alternating rounds."""
    with tempfile.TemporaryDirectory() as scratch:
        make_random_model("clap", Path(scratch) / "clap", tiny=False)
        make_random_model("owlvit", Path(scratch) / "owlvit", tiny=False)
        clap = load_clap(Path(scratch) / "clap", batch=clips)
        owlvit = load_owlvit(Path(scratch) / "owlvit", batch=clips)
        extractor = import_transformers().ClapFeatureExtractor.from_pretrained(Path(scratch) / "clap")
    rng = np.random.default_rng(0)
    wave = torch.tensor(rng.normal(0, 0.1, (clips, 2, 5 * RATE)), dtype=torch.float32)
    mono = torch.tensor(rng.normal(0, 0.1, (clips, 10 * RATE)), dtype=torch.float32)
    pictures = [rng.integers(0, 256, (360, 640, 3), dtype=np.uint8) for _ in range(clips)]
    ours, theirs, clap_s, owlvit_s = [], [], [], []
    for turn in range(rounds + 1):  # the first one warms up
        ours.append(seconds(lambda: clap.mel(pad_window(mono, 480_000, "repeatpad"))))
        theirs.append(seconds(lambda: extractor(list(mono.numpy()), sampling_rate=48_000)))
        clap_s.append(seconds(lambda: clap.encode(wave)))
        owlvit_s.append(seconds(lambda: owlvit.encode(pictures)))
        if turn == 0:
            for record in (ours, theirs, clap_s, owlvit_s):
                record.clear()
    medians = [statistics.median(record) / clips for record in (ours, theirs, clap_s, owlvit_s)]
    ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
    print(
        f"threads {torch.get_num_threads()}, {clips} clips at once, median of {rounds} rounds, published sizes, float32"
    )
    print(f"CLAP log-mel        {1e3 * medians[0]:8.1f} ms/clip   transformers' extractor takes {ratio:.1f} x as long")
    print(f"CLAP, whole         {1e3 * medians[2]:8.1f} ms/clip   30,000 clips: {30_000 * medians[2] / 3600:.1f} h")
    print(f"OWL-ViT, 577 tokens {1e3 * medians[3]:8.1f} ms/frame  150,000 frames: {150_000 * medians[3] / 3600:.1f} h")


def core_rates(
    clips: int, workers: list[int], rounds: int, kinds: Sequence[str] = ("yamnet", "voice")
) -> dict[tuple[str, int], tuple[float, float]]:
    """Return by encoder and workers the best clips per second, and per second of processor time; rounds alternate."""
    clip = np.random.default_rng(0).integers(-3000, 3000, (5 * RATE, 2), np.int16)
    source: Any = SimpleNamespace(sound=lambda rows: np.repeat(clip[None], len(rows), axis=0), name_of=str)
    nowhere: Any = SimpleNamespace(write=lambda *given: None)
    rows = [(0, range(clips))]
    encoders = {kind: build_encoder(parse_tokens_config({"kind": kind}, kind), RATE) for kind in kinds}
    told: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(rounds + 1):  # the first one warms up
        for (kind, encoder), count in itertools.product(encoders.items(), workers):
            began, spent = time.perf_counter(), time.process_time()
            with pytorch_threads(1), kept_memory():
                embed_sound(source, encoder, nowhere, rows, lambda number: None, count, SOUND_CLIPS_AT_ONCE // 4)
            rates = clips / (time.perf_counter() - began), clips / (time.process_time() - spent)
            told.setdefault((kind, count), []).append(rates)
    return {key: (max(a for a, _ in found[1:]), max(b for _, b in found[1:])) for key, found in told.items()}


def cores(clips: int, workers: list[int], rounds: int) -> None:
    """Print what `core_rates` finds."""
    for (kind, count), (best, each) in core_rates(clips, workers, rounds).items():
        print(f"{kind:8} {count:3} workers {best:8.1f} clips/s {each:8.1f} clips per second of processor time")


def voices(sounds: Path) -> None:
    """Print how many recordings of female and male speech the voice network is right about, by mean posterior."""
    encoder, right, total = build_encoder(parse_tokens_config({"kind": "voice"}, "voice"), RATE), 0, 0
    for name in ("female_speech", "male_speech"):
        folders = [
            folder for folder in sounds.iterdir() if folder.name.split("_", 1)[-1] == name or folder.name == name
        ]
        files = sorted(file for folder in folders for file in folder.iterdir())
        wanted = [file for file in files if file.suffix.lower() in (".wav", ".flac", ".ogg", ".mp3")]
        hits = 0
        for file in wanted:
            wave = torch.from_numpy(read_audio(file, rate=RATE, resample=True, mono="duplicate"))[None, :, : 20 * RATE]
            hits += (float(encoder.encode(wave)[0, :, 0].mean()) > 0) == (name == "female_speech")
        right, total = right + hits, total + len(wanted)
        print(f"{name:14} {hits:4} of {len(wanted):4} recordings")
    print(f"accuracy {right / max(total, 1):.3f}")


def example_pictures(folder: Path | None) -> list[np.ndarray]:
    """Return the pictures of a folder, or drawn ones with shapes at random places."""
    if folder is not None:
        read = [cv2.imread(str(file)) for file in sorted(folder.iterdir())]
        return [cv2.resize(picture, (640, 360)) for picture in read if picture is not None]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(8):
        picture = np.full((360, 640, 3), rng.integers(60, 200, 3), np.uint8)
        for _ in range(12):
            centre = (int(rng.integers(640)), int(rng.integers(360)))
            cv2.circle(picture, centre, int(rng.integers(8, 70)), rng.integers(0, 256, 3).tolist(), -1)
        drawn.append(cv2.GaussianBlur(picture, (5, 5), 0))
    return drawn


def mirror(owlvit: OwlVit, pictures: list[np.ndarray]) -> None:
    """Print how far flipped, unflipped, and another picture's tokens are from those of the mirrored pictures."""
    plain = owlvit.encode(pictures)
    truth = owlvit.encode([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    print(f"{len(pictures)} pictures, grid {owlvit.grid} x {owlvit.grid}, random weights: {owlvit.random_weights}")
    print("tokens compared with those of the mirrored picture      relative error   cosine")
    for pool in (side for side in (1, 2, 4) if owlvit.grid % side == 0):
        ours, real = pool_grid(plain, pool), pool_grid(truth, pool)
        flipped = ours[:, mirrored_order(ours.shape[1])]
        mean = real.mean(dim=(0, 1), keepdim=True)
        for name, tokens in (("grid flipped", flipped), ("not flipped", ours), ("another picture", real.roll(1, 0))):
            # Without the mean over all tokens, which every token shares and which would flatter all three alike.
            error = ((tokens - real).norm() / (real - mean).norm()).item()
            cosine = torch.nn.functional.cosine_similarity(tokens - mean, real - mean, dim=-1).mean().item()
            print(f"  pool {pool} ({real.shape[1]:3} tokens): {name:16}              {error:14.3f} {cosine:8.3f}")


def probe(sounds: Path, encoder: SemanticEncoder, folds: int = 5, seed: int = 0) -> None:
    """Print the accuracy per class of a ridge classifier on clip means, grouped cross-validation."""
    vectors, labels, groups, spent = [], [], [], []
    classes = sorted(folder.name for folder in sounds.iterdir() if folder.is_dir())
    for label, name in enumerate(classes):
        for file in sorted((sounds / name).iterdir()):
            if file.suffix.lower() not in (".wav", ".flac", ".ogg", ".mp3"):
                continue
            wave = torch.from_numpy(read_audio(file, rate=RATE, resample=True, mono="duplicate"))[None, :, : 5 * RATE]
            began = time.perf_counter()
            tokens = encoder.encode(wave)[0]
            spent.append(time.perf_counter() - began)
            vectors.append(torch.cat([tokens.mean(0), tokens.amax(0)]).numpy())
            labels.append(label)
            # By collection alone: two classes of one collection share its microphone and room.
            groups.append(file.name.split("_")[0])
    x, y = np.array(vectors), np.array(labels)
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: index % folds for index, place in enumerate(order)}
    fold = np.array([fold_of[group] for group in groups])
    guess = np.full(len(y), -1)
    for number in range(folds):
        train, test = fold != number, fold == number
        mean, scale = x[train].mean(0), x[train].std(0) + 1e-3
        a = np.c_[(x[train] - mean) / scale, np.ones(train.sum())]
        weight = 1.0 / np.bincount(y[train], minlength=len(classes))[y[train]]
        gram = (a * weight[:, None]) @ a.T + 30.0 * weight.mean() * np.eye(len(a))
        dual = np.linalg.solve(gram, weight[:, None] * (2.0 * np.eye(len(classes))[y[train]] - 1.0))
        guess[test] = (np.c_[(x[test] - mean) / scale, np.ones(test.sum())] @ (a.T @ dual)).argmax(1)
    print(
        f"{len(y)} recordings, {len(names)} groups, {x.shape[1]} numbers a clip, {folds}-fold by group,"
        f" encoding took {1e3 * statistics.median(spent):.1f} ms a recording (median)"
    )
    recalls = []
    for label, name in enumerate(classes):
        here = y == label
        recalls.append(float((guess[here] == label).mean()))
        count = len({g for g, h in zip(groups, here, strict=True) if h})
        mark = "" if count >= 3 else "   (fewer than 3 groups: no claim)"
        print(f"  {name:24} {here.sum():4} recordings {count:3} groups   recall {recalls[-1]:.2f}{mark}")
    chance = 1.0 / len(classes)
    print(f"accuracy {(guess == y).mean():.3f}, mean recall {np.mean(recalls):.3f} (chance {chance:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timing = commands.add_parser("speed")
    timing.add_argument("--clips", type=int, default=8)
    timing.add_argument("--rounds", type=int, default=3)
    flipping = commands.add_parser("mirror")
    flipping.add_argument("pictures", type=Path, nargs="?")
    flipping.add_argument("--model")
    sharing = commands.add_parser("cores")
    sharing.add_argument("--clips", type=int, default=64)
    sharing.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    sharing.add_argument("--rounds", type=int, default=3)
    commands.add_parser("voices").add_argument("sounds", type=Path)
    probing = commands.add_parser("probe")
    probing.add_argument("sounds", type=Path)
    probing.add_argument("--onnx")
    probing.add_argument("--output")
    probing.add_argument("--scale", type=float)
    probing.add_argument("--zero-point", type=int, default=0)
    given = parser.parse_args()
    if given.command == "speed":
        speed(given.clips, given.rounds)
    elif given.command == "cores":
        cores(given.clips, given.workers, given.rounds)
    elif given.command == "voices":
        voices(given.sounds)
    elif given.command == "mirror":
        with tempfile.TemporaryDirectory() as scratch:
            if given.model is None:
                make_random_model("owlvit", Path(scratch) / "owlvit", tiny=False)
            mirror(load_owlvit(given.model or Path(scratch) / "owlvit"), example_pictures(given.pictures))
    else:
        quantisation = (
            None if given.scale is None else QuantisationConfig(scale=given.scale, zero_point=given.zero_point)
        )
        if given.onnx is None and (given.output, quantisation) != (None, None):
            parser.error("--output and --scale go with --onnx")
        config = (
            YamnetTokensConfig()
            if given.onnx is None
            else OnnxTokensConfig(
                path=given.onnx, output=given.output, log_mel=LogMelConfig(), input_quantisation=quantisation
            )
        )
        probe(given.sounds, build_encoder(config, RATE))


if __name__ == "__main__":
    main()
