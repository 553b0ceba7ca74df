"""Estimates what a recipe takes before it is run: disk, memory, hours, floating-point operations.

Measured here: bytes per clip of everything the package writes (on a few simulated clips), bytes of a checkpoint, memory
and processor seconds of a training step at two batch sizes and of a prediction. Scaled from there: clips and passes of
the recipe. Computed: floating-point operations. The set of the challenge is taken as its description states it.

Run: python benchmarks/recipe_cost.py recipes/track_a.yaml [--batches 8 16] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcase_seld.cli.recipes import registry
from dcase_seld.recipe.graph import Step, build
from dcase_seld.recipe.load import find_recipe, load_recipe
from dcase_seld.recipe.stage import Context

OFFICIAL = {"DCASE25_ROOT": (16_214, 13_786, 0), "DCASE25_EVAL": (0, 0, 10_000)}
"""Clips of the training folds, the test folds and the evaluation set. Source: the challenge's task description."""
SAMPLE = 4
"""Clips that are simulated to measure bytes."""
VIDEO_FRAME_TOKENS = 24 * 24
"""Patches of a 768 × 768 picture in OWL-ViT base/32, beside its class token."""

PATCHES = {"yamnet": (10, 1024), "voice": (10, 8)}
"""Tokens of a clip by kind, at the default hop."""


def recipe_steps(path: Path) -> dict[str, Step]:
    """Return the steps of a recipe whose variables need not be set: each stands for its own name."""
    names = re.findall(r"\$\{(\w+)", find_recipe(path).read_text(encoding="utf-8"))
    return build(load_recipe(path, environment={name: name for name in names}), registry())


def count_clips(steps: dict[str, Step], store: str) -> dict[str, int]:
    """Return the clips of a prepare step by split."""
    prepare = config_of(steps[store])
    source = steps.get(prepare.corpus)
    if source is not None:
        scenes = config_of(source)
        counts, held = scenes.clips, scenes.rooms.validation_fraction
        train, test, evaluation = counts.train, counts.test, 0
    else:
        (train, test, evaluation), held = OFFICIAL[Path(prepare.corpus).name], prepare.split.fraction
    return {"train": train - round(held * train), "val": round(held * train), "test": test, "eval": evaluation}


def config_of(step: Step) -> Any:
    """Return a step's configuration, whose fields are its stage's."""
    return step.config


def names_in(value: str | list[str] | None) -> list[str]:
    """Return step names of a field that holds one or several."""
    return [value] if isinstance(value, str) else list(value or [])


def train_passes(steps: dict[str, Step], name: str) -> tuple[int, int]:
    """Return (clips trained on, clips validated) over all epochs of a train step."""
    config = config_of(steps[name])
    clips = [count_clips(steps, store) for store in names_in(config.data)]
    an_epoch = config.epoch_clips or sum(c[split] for c in clips for split in config.train_on)
    held = 0 if "val" in config.train_on else sum(c["val"] for c in clips)
    return config.epochs * an_epoch, -(-config.epochs // config.validate_every) * held


def members_of(steps: dict[str, Step], names: list[str]) -> list[str]:
    """Return the train steps behind members, which may be an ensemble; networks that are there already are none."""
    found = []
    for name in filter(steps.__contains__, names):
        inner = names_in(config_of(steps[name]).members) if steps[name].stage.name == "ensemble" else [name]
        found += filter(steps.__contains__, inner)
    return found


def forward_passes(steps: dict[str, Step]) -> Iterator[tuple[str, int]]:
    """Yield (train step, clips that its network predicts) of every ensemble and predict step."""
    for step in steps.values():
        config = config_of(step)
        if step.stage.name == "predict":
            clips, tta = count_clips(steps, config.data)[config.split], config.tta
        elif step.stage.name == "ensemble" and config.data is not None and config.settings_of is None:
            clips, tta = count_clips(steps, config.data)["val"], config.tta
        else:
            continue
        for train in members_of(steps, names_in(config.members)):
            yield train, clips * (2 if tta == "swap" else 1)


def token_shapes(step: Step) -> dict[str, tuple[int, ...]]:
    """Return the shape of a clip's tokens that an embed step writes."""
    model = config_of(step).model
    if model.kind in PATCHES:
        return {model.kind: PATCHES[model.kind]}
    if model.kind == "clap":
        return {"clap": (model.tokens, 512)}
    return {"owlvit": (round(5 * model.fps), 1 + VIDEO_FRAME_TOKENS // model.pool**2, 512)}


def folder_bytes(folder: Path, pattern: str = "*") -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def sample_bytes(steps: dict[str, Step], folder: Path) -> dict[str, float]:
    """Return bytes per clip of what simulate, prepare, the feature cache and embed write, by writing some."""
    import numpy as np

    from dcase_seld.core.config import parse_config
    from dcase_seld.model.network import build_model
    from dcase_seld.simulate.config import ClipCounts
    from dcase_seld.store.store import Store
    from dcase_seld.store.tokens import TokenSpec, TokenWriter
    from dcase_seld.train.setup import build_cache, cache_folder

    stages = registry()
    found: dict[str, float] = {}
    simulated = [config_of(step) for step in steps.values() if step.stage.name == "simulate"]
    # With a video where any step has one; recipes that simulate nothing have other corpora of such clips.
    scenes = max(simulated, key=lambda one: one.video, default=stages.load("simulate").config())
    few = {"clips": ClipCounts(train=SAMPLE, test=0), "sounds": None, "pictures": None}
    config = scenes.model_copy(update={**few, "rooms": scenes.rooms.model_copy(update={"train": 2})})
    (folder / "corpus").mkdir()
    stages.load("simulate").run(config, {}, folder / "corpus", Context())
    for title, pattern in (("scenes: sound", "*.wav"), ("scenes: labels", "fold*.csv"), ("scenes: video", "*.mp4")):
        found[title] = folder_bytes(folder / "corpus", pattern) / SAMPLE
    prepare = stages.load("prepare")
    (folder / "store").mkdir()
    prepare.run(
        parse_config(prepare.config, {"corpus": "corpus"}, "prepare"),
        {"corpus": [folder / "corpus"]},
        folder / "store",
        Context(),
    )
    found["store"] = folder_bytes(folder / "store") / SAMPLE
    store = Store.open(folder / "store")
    network = next(config_of(step).model for step in steps.values() if step.stage.name == "train")
    frontend = build_model(network, store.task).frontend
    build_cache(store, frontend)
    found["features"] = folder_bytes(cache_folder(store, frontend), "*.npy") / SAMPLE
    for name, step in steps.items():
        for kind, shape in token_shapes(step).items() if step.stage.name == "embed" else ():
            writer = TokenWriter(
                folder / name,
                TokenSpec(kind, "sound" if len(shape) == 2 else "image", "size", "size", True, shape),
                store.names,
            )
            for shard, names in writer.pending():
                writer.write(shard, np.zeros((len(names), *shape), np.float16))
            writer.finish()
            found[kind] = folder_bytes(folder / name, "*.npy") / SAMPLE
    return found


def measure_network(path: Path, name: str, clips: int, threads: int) -> None:
    """Print what one train step's network takes in this process: memory, processor seconds, bytes on disk."""
    import torch
    from model import batch_of, training_step

    from dcase_seld.core.task import Task
    from dcase_seld.model.network import build_model
    from dcase_seld.model.weights import save_model
    from dcase_seld.train.state import Position, WeightAverage, save_state

    def processor_seconds(function: Any, rounds: int = 2) -> float:
        taken = []
        for _ in range(rounds + 1):
            start = time.process_time()
            function()
            taken.append(time.process_time() - start)
        return min(taken[1:]) / clips

    torch.set_num_threads(threads)
    steps = recipe_steps(path)
    config = config_of(steps[name])
    shapes: dict[str, tuple[int, ...]] = {}
    for tokens in names_in(config.tokens):
        shapes |= token_shapes(steps[tokens])
    model = build_model(config.model, Task()).train()
    optimizer = torch.optim.AdamW(model.parameters())
    average = WeightAverage(model, config.ema) if config.ema else None
    inputs, target = batch_of(model, clips, "cpu", shapes.get("owlvit", (5, 577, 512)))
    wave = inputs.wave
    assert wave is not None
    with torch.no_grad():
        hearing = processor_seconds(lambda: model.frontend.extract(wave), 1)
        cached = inputs._replace(features=model.frontend.extract(wave), wave=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {"training": processor_seconds(lambda: training_step(model, optimizer, cached, target, half=False))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.eval()
    with torch.no_grad():
        result["forward"] = processor_seconds(lambda: model(cached))
    result |= {"frontend": hearing, "before": before * 1024, "peak": peak * 1024}
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "best", None)
        result["weights"] = folder_bytes(Path(folder) / "best")
        save_state(Path(folder) / "state", model, optimizer, average, {}, Position())
        result["state"] = folder_bytes(Path(folder) / "state")
    print(json.dumps(result))


def networks_of(steps: dict[str, Step]) -> dict[str, list[str]]:
    """Return one train step of each different network → all train steps that have it."""
    groups: dict[str, list[str]] = {}
    for name, step in steps.items():
        if step.stage.name == "train":
            like = next((g for g in groups if config_of(steps[g]).model == config_of(step).model), name)
            groups.setdefault(like, []).append(name)
    return groups


def disk_table(steps: dict[str, Step], per_clip: dict[str, float], weights: float, state: float) -> None:
    """Print bytes per clip and GB of every folder that the recipe leaves."""
    rows: list[tuple[str, float, int]] = []
    stores = {name: sum(count_clips(steps, name).values()) for name, s in steps.items() if s.stage.name == "prepare"}
    for name, step in steps.items():
        if step.stage.name == "simulate":
            clips = config_of(step).clips.train + config_of(step).clips.test
            parts = {title[8:]: size for title, size in per_clip.items() if title.startswith("scenes: ")}
            shown = [part for part in parts if part != "video" or config_of(step).video]
            rows += [(f"{name} ({part})", parts[part], clips) for part in shown]
        elif step.stage.name == "prepare":
            rows.append((name, per_clip["store"], stores[name]))
        elif step.stage.name == "embed":
            rows.append((name, per_clip[next(iter(token_shapes(step)))], stores[config_of(step).data]))
    trained = {store for s in steps.values() if s.stage.name == "train" for store in names_in(config_of(s).data)}
    print(f"\n{'on disk':28}{'bytes a clip':>14}{'clips':>9}{'GB':>8}")
    for title, size, clips in rows:
        print(f"{title:28}{size:14,.0f}{clips:9,}{size * clips / 1e9:8.2f}")
    trainings = sum(step.stage.name == "train" for step in steps.values())
    print(f"{f'{trainings} trainings, best + last':51}{trainings * 2 * weights / 1e9:8.2f}")
    total = sum(size * clips for _, size, clips in rows) + trainings * 2 * weights
    print(f"{'all':51}{total / 1e9:8.2f}")
    print(f"{'while one trains: its state':51}{state / 1e9:8.2f}")
    cached = sum(stores[store] for store in trained)
    title = "on a CPU: cached features"
    print(f"{title:28}{per_clip['features']:14,.0f}{cached:9,}{per_clip['features'] * cached / 1e9:8.2f}")


def report(path: Path, batches: list[int], threads: int, measured: dict[str, list[dict[str, float]]]) -> None:
    """Print the tables of one recipe; `measured` keeps what networks take, since several recipes train the same."""
    from dcase_seld.core.task import Task
    from dcase_seld.model.summary import summarise

    steps = recipe_steps(path)
    if any(config_of(step).output == "foa" for step in steps.values() if step.stage.name == "simulate"):
        print(f"{path.name}: networks of Ambisonics are not measured here.")
        return
    forward = list(forward_passes(steps))
    disk = {"weights": 0.0, "state": 0.0}
    core_hours = operations = 0.0
    for name, group in networks_of(steps).items():
        config = config_of(steps[name])
        vision = next(
            (v for t in names_in(config.tokens) if (v := token_shapes(steps[t]).get("owlvit"))), (5, 577, 512)
        )
        key = f"{config.model.model_dump_json()} {config.ema > 0} {vision}"
        if key not in measured:
            command = [sys.executable, __file__, str(path), "--network", name, "--threads", str(threads), "--batch"]
            measured[key] = [
                json.loads(subprocess.run([*command, str(b)], check=True, capture_output=True, text=True).stdout)
                for b in batches
            ]
        small, large = measured[key]
        disk = {key: max(value, large[key]) for key, value in disk.items()}
        slope = (large["peak"] - small["peak"]) / (batches[1] - batches[0])
        part = config.batch_size // config.accumulate
        scaled = small["peak"] + slope * (part - batches[0])
        summary = summarise(
            config.model, Task(), clips=part, video_frames=vision[0], tokens_per_frame=vision[1], depth=1
        )
        trained = sum(train_passes(steps, step)[0] for step in group)
        heard = sum(train_passes(steps, step)[1] for step in group)
        heard += sum(clips for step, clips in forward if step in group)
        hours = (trained * large["training"] + heard * large["forward"]) / 3600
        done = 2.0 * summary.multiply_adds * (3 * trained + heard)
        core_hours, operations = core_hours + hours, operations + done
        print(f"\n{path.name}: {', '.join(group)}: {summary.parameters:,} parameters")
        print(
            f"  memory, float32 on a CPU: {small['peak'] / 1e9:.2f} GB at {batches[0]} clips, "
            f"{large['peak'] / 1e9:.2f} at {batches[1]} (measured); {slope / 1e9:.3f} a clip → {scaled / 1e9:.1f} "
            f"at {part}; summary computes {summary.training_bytes / 1e9:.1f}"
        )
        print(
            f"  processor seconds a clip, {threads} thread(s), batch {batches[1]}: training {large['training']:.3f} "
            f"(batch {batches[0]}: {small['training']:.3f}), prediction {large['forward']:.3f}, "
            f"front end {large['frontend']:.3f} (once, then cached)"
        )
        print(
            f"  {trained:,} clip passes of training, {heard:,} of validation and prediction → {hours:,.0f} core hours; "
            f"{summary.multiply_adds / 1e9:.2f} G multiply-adds a clip → {done / 1e18:.2f} EFLOP"
        )
    print(f"{path.name}: all networks: {core_hours:,.0f} core hours or {operations / 1e18:.2f} EFLOP (computed)")
    with tempfile.TemporaryDirectory() as folder:
        disk_table(steps, sample_bytes(steps, Path(folder)), disk["weights"], disk["state"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--batches", type=int, nargs=2, default=[8, 16], help="batch sizes that are measured")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.network:
        measure_network(arguments.recipes[0], arguments.network, arguments.batch, arguments.threads)
        return
    measured: dict[str, list[dict[str, float]]] = {}
    for path in arguments.recipes:
        report(path, arguments.batches, arguments.threads, measured)


if __name__ == "__main__":
    main()
