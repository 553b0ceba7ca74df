"""What each mechanism brings: run `python benchmarks/quality.py --work DIR [--sounds DIR] [--seeds 3] [--clips 500]`.

Writes a recipe DIR/quality.yaml, runs it with `dcase-seld run` (so a killed run goes on, and a second one only prints)
and prints one table, from the baseline CRNN to the tuned ensemble; each row adds one thing to the row above. Scenes,
network and rates are those of recipes/quickstart.yaml; with --sounds the scenes are made of a folder of real recordings
(one sub-folder per class), whose groups are disjoint between training, validation and test. Scores are official, on the
test scenes; every choice is made on validation scenes.

A row gives the mean over seeds and the smallest and largest value, the jackknife interval by recording of the first
seed, and the training's wall-clock. "gain" is the difference to the row above; it is called "yes" only where every seed
is better than the same seed above. Ensemble rows have one value: their members are the seeds. The row of the semantic
encoder needs --semantic FILE.yaml with the `model` of an embed step whose weights are there.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
FIGURES = (("f_score", 100.0, 1), ("doa_error_deg", 1.0, 1), ("relative_distance_error", 1.0, 2))
ROWS = {
    "crnn": "baseline CRNN, log-mel",
    "encoder": "our encoder, log-mel + ILD",
    "stpacc": "+ stpACC",
    "semantic": "+ semantic encoder",
    "augment": "+ augmentation",
    "pretrained": "+ pre-training",
    "ema": "+ EMA weights",
    "ensemble": "+ ensemble of the seeds",
    "tta": "+ swap at test time",
    "thresholds": "+ tuned thresholds",
}
AUGMENT = {"swap": 0.5, "mask": 0.5, "filter": 0.3}


def make_recipe(options):
    """Return the recipe as plain data, and the names of its rows in order."""
    quick = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8"))["steps"]
    steps = {name: copy.deepcopy(quick[name]) for name in ("scenes", "target", "pretrain_data", "data")}
    for name, clips in (("scenes", options.pretrain_clips), ("target", options.clips)):
        steps[name]["clips"] = {"train": clips, "test": options.test_clips if name == "target" else 0}
        if options.sounds:
            steps[name]["sounds"] = str(options.sounds.resolve())
    plain = {
        "stage": "train",
        "data": "data",
        "epochs": options.epochs,
        "batch_size": options.batch,
        "lr": options.lr,
        "augment": {"swap": 0},
        "tensorboard": False,
    }
    ours = quick["pretrain"]["model"]
    without = copy.deepcopy(ours)
    without["frontend"]["features"] = ["log_mel", "ild"]
    rows = [name for name in ROWS if name != "semantic" or options.semantic]
    if options.rows:
        rows = [name for name in rows if name in options.rows.split(",")]
    semantic = copy.deepcopy(ours)
    if options.semantic:
        embed = yaml.safe_load(options.semantic.read_text(encoding="utf-8"))
        semantic["fusion"] = ["clap"]
        semantic["cross_modal"] |= embed.pop("cross_modal", {})
        for name, data in (("tokens", "data"), ("pretrain_tokens", "pretrain_data")):
            steps[name] = {"stage": "embed", "data": data, "model": embed["model"]}
        plain_tokens = {"tokens": ["tokens"]}
    else:
        plain_tokens = {}
    trained = {
        "crnn": {"model": {"kind": "crnn", "track": "a"}},
        "encoder": {"model": without},
        "stpacc": {"model": ours},
        "semantic": {"model": semantic, **plain_tokens},
        "augment": {"model": semantic, **plain_tokens, "augment": AUGMENT},
        "pretrained": {"model": semantic, **plain_tokens, "augment": AUGMENT},
        "ema": {"model": semantic, **plain_tokens, "augment": AUGMENT, "ema": 0.99},
    }
    for seed in range(1, options.seeds + 1):
        together = {"pretrained", "ema", "ensemble", "tta", "thresholds"} & set(rows)
        first = {"data": "pretrain_data", "model": semantic, "augment": AUGMENT, "seed": seed}
        if options.semantic:
            first["tokens"] = ["pretrain_tokens"]
        if together:
            steps[f"pretraining_{seed}"] = {**plain, **first}
        needed = {*rows, "ema"} if together - {"pretrained"} else set(rows)
        for name in (row for row in trained if row in needed):
            step = {**plain, **trained[name], "seed": seed}
            if name in ("pretrained", "ema"):
                step |= {"init": f"pretraining_{seed}", "lr": options.lr / 2}
            steps[f"{name}_{seed}"] = step
            judge(steps, f"{name}_{seed}", f"{name}_{seed}", plain_tokens, "none")
    members = [f"ema_{seed}" for seed in range(1, options.seeds + 1)]
    if {"ensemble", "tta"} & set(rows):
        steps["averaged"] = {"stage": "ensemble", "members": members, "thresholds": "none"}
    if "thresholds" in rows:
        steps["tuned"] = {"stage": "ensemble", "members": members, "data": "data", "tta": "swap", **plain_tokens}
    ends = {"ensemble": ("averaged", "none"), "tta": ("averaged", "swap"), "thresholds": ("tuned", "swap")}
    for row in (row for row in rows if row in ends):
        judge(steps, row, ends[row][0], plain_tokens, ends[row][1])
    if not together:
        del steps["scenes"], steps["pretrain_data"]
    return {"about": "What each mechanism brings.", "steps": steps}, rows


def judge(steps, name, member, tokens, tta):
    """Add the steps that predict, write and score the test scenes of a row."""
    steps[f"{name}_events"] = {"stage": "predict", "data": "data", "members": [member], "tta": tta, **tokens}
    steps[f"{name}_csv"] = {"stage": "export", "events": f"{name}_events", "track": "a"}
    steps[f"{name}_score"] = {
        "stage": "score", "csv": f"{name}_csv", "data": "data", "split": "test", "track": "a", "jackknife": "recording",
    }  # fmt: skip


def print_table(folder, rows, seeds):
    """Print the rows whose scores are there."""
    print(f"{'':28}  F20/1 % (min-max)    interval by recording   gain   every seed   DOAE °   RDE   training")
    before = None
    for row in rows:
        names = [row] if row in ("ensemble", "tta", "thresholds") else [f"{row}_{seed}" for seed in range(1, seeds + 1)]
        found = [folder / f"{name}_score" / "scores.json" for name in names]
        if not all(path.exists() for path in found):
            print(f"{ROWS[row]:28}  (not run)")
            continue
        scores = [json.loads(path.read_text(encoding="utf-8")) for path in found]
        values = {
            name: [factor * score[name] for score in scores if score[name] is not None] for name, factor, _ in FIGURES
        }
        low, high = (100 * bound for bound in scores[0]["jackknife"]["f_score"]["interval"])
        f = values["f_score"]
        gain = better = ""
        if before is not None:
            gain = f"{statistics.mean(f) - statistics.mean(before):+5.1f}"
            if len(before) == len(f):
                better = "yes" if all(a > b for a, b in zip(f, before, strict=True)) else "no"
        summaries = [folder / name / "summary.json" for name in names]
        seconds = [json.loads(p.read_text(encoding="utf-8"))["seconds"] for p in summaries if p.exists()]
        took = f"{statistics.mean(seconds):6.0f} s" if seconds else ""
        spread = f"({min(f):.1f}-{max(f):.1f})" if len(f) > 1 else ""
        errors = [
            statistics.mean(v) if v else float("nan")
            for v in (values["doa_error_deg"], values["relative_distance_error"])
        ]
        print(
            f"{ROWS[row]:28}  {statistics.mean(f):5.1f} {spread:14}   {low:5.1f} - {high:5.1f}         {gain:6} "
            f"{better:10} {errors[0]:7.1f} {errors[1]:6.2f}   {took}"
        )
        before = f
    last = folder / "crnn_1_score" / "scores.json"
    final = folder / "thresholds_score" / "scores.json"
    if last.exists() and final.exists():
        crnn = statistics.mean(
            json.loads((folder / f"crnn_{seed}_score" / "scores.json").read_text())["f_score"]
            for seed in range(1, seeds + 1)
        )
        print(f"last row / baseline: {json.loads(final.read_text())['f_score'] / crnn:.2f}")


def print_classes(folder, rows, seeds, sounds):
    """Print class-wise F of the first and the last row that are there; classes with few test groups are not claimed."""
    from dcase_seld.synth.config import SoundsConfig
    from dcase_seld.synth.folder_bank import folder_bank
    from dcase_seld.task.taxonomy import DCASE2025

    columns = []
    for row in rows:
        names = [row] if row in ("ensemble", "tta", "thresholds") else [f"{row}_{seed}" for seed in range(1, seeds + 1)]
        found = [folder / f"{name}_score" / "scores.json" for name in names]
        if all(path.exists() for path in found):
            scores = [json.loads(path.read_text(encoding="utf-8"))["classwise"]["f_score"] for path in found]
            columns.append((row, [statistics.mean(values) for values in zip(*scores, strict=True)]))
    if not columns:
        return
    groups = None
    if sounds:
        recordings = folder_bank(sounds, DCASE2025, SoundsConfig()).recordings
        groups = [{r.group for r in recordings if r.class_index == c and r.split == "test"} for c in range(13)]
    shown = [columns[0], columns[-1]] if len(columns) > 1 else columns
    print(f"\n{'F20/1 % by class':24}" + "".join(f"{row:>12}" for row, _ in shown) + "   test groups")
    for index, name in enumerate(DCASE2025.classes):
        count = "" if groups is None else len(groups[index])
        few = "  too few: not claimed" if groups is not None and len(groups[index]) < 3 else ""
        print(f"{name:24}" + "".join(f"{100 * values[index]:12.1f}" for _, values in shown) + f"   {count}{few}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="results, kept between runs")
    parser.add_argument("--sounds", type=Path, help="real recordings; default: procedural sounds")
    parser.add_argument("--semantic", type=Path, help="YAML file: model: (of an embed step), cross_modal: widths")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=500, help="training scenes")
    parser.add_argument("--pretrain-clips", type=int, default=900)
    parser.add_argument("--test-clips", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rows", help=f"only these rows, of {','.join(ROWS)}")
    parser.add_argument("--table", action="store_true", help="run nothing; print what is there")
    options = parser.parse_args()
    recipe, rows = make_recipe(options)
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "quality.yaml"
    if not options.table:
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "dcase_seld.cli", "run", str(path), "--work", str(options.work)]
        subprocess.run(command, check=True)
    print_table(options.work / "quality", rows, options.seeds)
    print_classes(options.work / "quality", rows, options.seeds, options.sounds)


if __name__ == "__main__":
    main()
