"""What each mechanism brings, on real sounds: run `python benchmarks/quality.py --sounds DIR --work DIR [--jobs 2]`.

Scenes are simulated from a folder of real recordings (one sub-folder per class), each of several random splits holding
out other collections or speakers: nothing is heard both in training and in test. On every split networks are trained
with several seeds. DIR/split_1/quality.yaml, … are ordinary recipes, run with `dcase-seld run`: a killed run goes on,
and a second one only prints. Scores are official, on the test scenes; every choice is made on validation scenes.

A row gives the mean over its runs (a run is a split and a seed), the smallest and largest value, the gain to the row
that it builds on with its 95 % interval by Student's t over the runs (runs of one split share their test scenes) and
in how many runs it is positive, and a training's wall-clock. Indented rows are tried and not built upon. CRNN and our
system are run with every seed on every split, the other rows once per split, each with another seed; rows that vary
the simulator train on scenes of their own and are tested on the common ones. Ensemble rows average the seeds of a
split. Left-right swap is in every training.

The encoders are YAMNet and the voice network (`dcase-seld models pull yamnet voice`); without them give
`--no-semantic`. YAMNet's time is counted in the comparison at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FEWEST_GROUPS = 3
"""A class is claimed only if so many groups (collections or speakers) are heard in the tests of all splits."""
T_95 = (0.0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31)
"""Student's t of 95 % by degrees of freedom."""
ALIGNED = {"attention": "aligned"}
LOUDER = {"loss": {"active_weight": 4, "distance_loss": "active"}}
SMALL: dict[str, Any] = {
    "kind": "conformer",
    "track": "a",
    "frontend": {"features": ["log_mel", "ild", "intensity"], "hop": 600, "window": 1024, "n_fft": 1024},
    "encoder": {
        "kind": "resnet_conformer",
        "channels": [16, 32, 64],
        "pool_first": 2,
        "frequency": "flatten",
        "shortcut_bands": 8,
        "layers": 1,
        "d_model": 128,
        "heads": 4,
        "feed_forward": 128,
        "kernel": 15,
        "dropout": 0.0,
    },
    "cross_modal": {"layers": 1, "heads": 4, "feed_forward": 128, "kernel": 15, "dropout": 0.0},
    "head": {"direction": "polar", "log_distance": True},
}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        label: what is printed.
        base: the row that its gain refers to.
        train: fields of its training that differ from the base's, or None for what is made of finished trainings.
        every: run with every seed on every split; else once per split.
        scenes: fields of its own training scenes, which take the place of the others'; empty: the common scenes.
        more: trains on as many further scenes in other rooms too, for half the epochs.
    """

    label: str
    base: str | None = None
    train: dict[str, Any] | None = field(default_factory=dict)
    every: bool = False
    scenes: dict[str, Any] = field(default_factory=dict)
    more: bool = False


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return `first` with the fields of `second`, mappings merged."""
    result = copy.deepcopy(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def all_rows(semantic: bool, responses: Path | None) -> dict[str, Row]:
    """Return the rows of the table in order."""
    crnn = {"model": {"kind": "crnn", "track": "a"}, "lr": 1e-3}
    louder = merged(LOUDER, {"model": {"head": {"log_distance": True}}})
    stpacc = {"model": {"frontend": {"features": ["log_mel", "ild", "intensity", "stpacc"]}}}
    heard = ["log_mel", "ild", "intensity", "stpacc", "mid_side", "coherence"]
    coincident = {"model": {"frontend": {"features": heard}}}
    own = "  thresholds and distances tuned"
    rows = {
        "crnn": Row("baseline CRNN", train=crnn, every=True),
        "crnn_own": Row(own, "crnn", None, every=True),
        "louder": Row("  with our loss", "crnn", louder),
        "encoder": Row("our encoder, head and loss", "crnn", merged({"model": SMALL, "lr": 2e-3}, LOUDER)),
        "metres": Row("  distances in metres, not their log", "encoder", {"model": {"head": {"log_distance": False}}}),
        "stpacc": Row("+ stpACC", "encoder", stpacc),
        "coincident": Row("+ mid, side and coherence", "stpacc", coincident),
        "semantic": Row("+ YAMNet", "coincident", {"model": {"fusion": {"yamnet": ALIGNED}}}, every=True),
        "semantic_own": Row(own, "semantic", None, every=True),
        "more": Row("  twice the scenes and rooms, same updates", "semantic", more=True),
        "voice": Row("  + voice network", "semantic", {"model": {"fusion": {"voice": ALIGNED}}}),
        "augment": Row("  + random gain and filter", "semantic", {"augment": {"gain": 0.5, "filter": 0.5}}),
        "speed": Row("  speed and pitch of dry sounds", "semantic", scenes={"vary": {"speed": [0.88, 1.14]}}),
        "spectra": Row(
            "  spectra of sounds and microphones",
            "semantic",
            scenes={"vary": {"equaliser_db": 4, "microphone_db": 3}},
        ),
        "dynamics": Row("  level dynamics", "semantic", scenes={"vary": {"dynamics_db": 5}}),
        "directivity": Row("  directivity of sources", "semantic", scenes={"vary": {"directivity": 1}}),
        "varied": Row(
            "  these four at once", "semantic",
            scenes={"vary": {"speed": [0.88, 1.14], "equaliser_db": 4, "microphone_db": 3, "dynamics_db": 5,
                             "directivity": 1}},
        ),
        "measured": Row(
            "  a fifth of the rooms measured", "semantic",
            scenes={"responses": str(responses), "rooms": {"train": 60, "measured_share": 0.2}},
        ),
        "ensemble": Row("+ ensemble of the seeds", "semantic", None),
        "tta": Row("+ swap at test time", "ensemble", None),
        "tuned": Row("+ tuned thresholds and distances", "tta", None),
        "crnn_tuned": Row("baseline CRNN: these three", "crnn", None),
    }  # fmt: skip
    if responses is None:
        del rows["measured"]
    if not semantic:
        del rows["coincident"], rows["semantic"], rows["voice"]
        rows["semantic"] = Row("+ mid, side and coherence", "stpacc", coincident, every=True)
    return rows


def training(rows: dict[str, Row], name: str) -> dict[str, Any]:
    """Return the fields of a row's training, with those of the rows that it builds on."""
    row = rows[name]
    assert row.train is not None
    before = training(rows, row.base) if row.base and row.train.get("model", {}).get("kind") is None else {}
    return merged(before, row.train)


def seeds_of(row: Row, split: int, seeds: int) -> list[int]:
    """Return the seeds with which a row is trained on a split (counted from 1)."""
    return list(range(1, seeds + 1)) if row.every else [(split - 1) % seeds + 1]


def make_recipe(options: argparse.Namespace, rows: dict[str, Row], split: int) -> dict[str, Any]:
    """Return the recipe of one split as plain data; what is most wanted comes first, in case that time runs out."""
    bank = {"split_seed": options.first_split + split - 1}
    scenes = {"stage": "simulate", "sounds": str(options.sounds.resolve()), "bank": bank, "rooms": {"train": 60}}
    steps: dict[str, Any] = {}

    def make_data(name: str, **fields: Any) -> None:
        steps[f"{name}_scenes"] = {**scenes, "clips": {"train": options.clips, "test": 0}, "seed": 10 + split, **fields}
        steps[name] = {"stage": "prepare", "corpus": f"{name}_scenes"}

    def tokens_of(data: str, model: dict[str, Any]) -> list[str]:
        for encoder in model.get("fusion", {}):
            steps.setdefault(f"{data}_{encoder}", {"stage": "embed", "data": data, "model": {"kind": encoder}})
        return [f"{data}_{encoder}" for encoder in model.get("fusion", {})]

    def judge(name: str, members: str, tta: str, model: dict[str, Any]) -> None:
        steps[f"{name}_events"] = {"stage": "predict", "data": "data", "members": [members], "tta": tta,
                                   "tokens": tokens_of("data", model)}  # fmt: skip
        steps[f"{name}_csv"] = {"stage": "export", "events": f"{name}_events", "track": "a"}
        steps[f"{name}_score"] = {"stage": "score", "csv": f"{name}_csv", "data": "data", "split": "test",
                                  "track": "a", "jackknife": "recording"}  # fmt: skip

    def train(name: str, seed: int) -> None:
        row, step = rows[name], merged(plain, training(rows, name))
        read = ["data"]
        if row.scenes and name not in steps:
            make_data(name, **row.scenes)
        if row.scenes:
            read = [name]
        if row.more:
            if "more" not in steps:
                make_data("further", seed=100 + split)
            read, step["epochs"] = ["data", "further"], options.epochs // 2
        step |= {"seed": seed, "data": read, "tokens": [t for data in read for t in tokens_of(data, step["model"])]}
        steps[f"{name}_{seed}"] = step
        judge(f"{name}_{seed}", f"{name}_{seed}", "none", step["model"])

    def finish(name: str, start: str, seeds: list[int], tuned: bool, tta: str) -> None:
        model = training(rows, start)["model"]
        made = {"stage": "ensemble", "members": [f"{start}_{seed}" for seed in seeds]}
        made |= {"data": "data", "tta": tta, "tokens": tokens_of("data", model)} if tuned else {"thresholds": "none"}
        steps[f"{name}_ensemble"] = made
        judge(name, f"{name}_ensemble", tta, model)

    plain = {"stage": "train", "epochs": options.epochs, "batch_size": 16, "augment": {"swap": 0.5},
             "tensorboard": False, "validate_every": options.epochs}  # fmt: skip
    make_data("data", clips={"train": options.clips, "test": options.test_clips}, rooms={"train": 60, "test": 20})
    every = list(range(1, options.seeds + 1))
    first = seeds_of(Row(""), split, options.seeds)
    for number, seed in enumerate(first + [seed for seed in every if seed not in first]):
        for name, row in rows.items():
            if row.train is not None and (row.every if number else not row.scenes):
                train(name, seed)
        for start in ("crnn", "semantic"):
            finish(f"{start}_own_{seed}", start, [seed], True, "none")
    finish("ensemble", "semantic", every, False, "none")
    finish("tta", "semantic", every, False, "swap")
    finish("tuned", "semantic", every, True, "swap")
    finish("crnn_tuned", "crnn", every, True, "swap")
    for name, row in rows.items():
        if row.scenes:
            train(name, first[0])
    return {"about": "What each mechanism brings on real sounds, one split.", "steps": steps}


def run_split(options: argparse.Namespace, rows: dict[str, Row], split: int) -> None:
    """Run one split's recipe in a process of its own."""
    folder = options.work / f"split_{split}"
    folder.mkdir(parents=True, exist_ok=True)
    path, printed = folder / "quality.yaml", folder / "run.log"
    path.write_text(yaml.safe_dump(make_recipe(options, rows, split), sort_keys=False), encoding="utf-8")
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    command = [sys.executable, "-m", "dcase_seld.cli.main", "run", str(path), "--work", str(folder)]
    with printed.open("a") as log:
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=log, stderr=log, check=False
        )
    print(f"split {split}: {'done' if done.returncode == 0 else f'failed, see {printed}'}", flush=True)


class Results:
    """The scores of every run that is there."""

    def __init__(self, options: argparse.Namespace, rows: dict[str, Row]) -> None:
        self.folders = {split: options.work / f"split_{split}" / "quality" for split in range(1, options.splits + 1)}
        self.scores: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
        for name, row in rows.items():
            self.scores[name] = {}
            for split, folder in self.folders.items():
                together = row.train is None and not row.every
                for seed in [0] if together else seeds_of(row, split, options.seeds):
                    path = folder / (f"{name}_score" if together else f"{name}_{seed}_score") / "scores.json"
                    if path.exists():
                        self.scores[name][split, seed] = json.loads(path.read_text(encoding="utf-8"))

    def values(self, name: str, figure: str) -> dict[tuple[int, int], float]:
        """Return a figure of every run of a row that has it."""
        return {run: score[figure] for run, score in self.scores[name].items() if score[figure] is not None}

    def compared(self, name: str, base: str, figure: str) -> list[tuple[float, float]]:
        """Return (row, base) pairs; an ensemble is compared with the mean of the split's single runs."""
        mine, other = self.values(name, figure), self.values(base, figure)
        pairs = []
        for (split, seed), value in mine.items():
            same = [v for (s, k), v in other.items() if s == split and (k == seed or 0 in (seed, k))]
            if same:
                pairs.append((value, statistics.mean(same)))
        return pairs

    def seconds(self, row: str) -> float:
        """Return the mean wall-clock of a row's trainings over splits and seeds."""
        found = [
            json.loads(path.read_text(encoding="utf-8"))["seconds"]
            for folder in self.folders.values()
            for path in folder.glob(f"{row}_[0-9]/summary.json")
        ]
        return statistics.mean(found) if found else float("nan")

    def tokens_seconds(self, share: float) -> float:
        """Return the wall-clock of the semantic encoder on the training and validation clips."""
        found = [
            json.loads((folder / "data_yamnet" / "receipt.json").read_text(encoding="utf-8"))["seconds"]
            for folder in self.folders.values()
            if (folder / "data_yamnet" / "receipt.json").exists()
        ]
        return share * statistics.mean(found) if found else 0.0


def print_table(results: Results, rows: dict[str, Row]) -> None:
    """Print the rows whose scores are there."""
    print(f"{'':42} runs  F20/1 % (min-max)   gain, 95 %, in runs       DOAE °    RDE  training")
    for name, row in rows.items():
        f = [100 * value for value in results.values(name, "f_score").values()]
        if not f:
            print(f"{row.label:42}  (not run)")
            continue
        gain = ""
        pairs = results.compared(name, row.base, "f_score") if row.base is not None else []
        if pairs:
            gains = [100 * (a - b) for a, b in pairs]
            gain = f"{statistics.mean(gains):+5.1f}"
            if len(gains) > 1:
                spread = T_95[min(len(gains), len(T_95)) - 1] * statistics.stdev(gains) / len(gains) ** 0.5
                gain += f" ± {spread:4.1f}, {sum(g > 0 for g in gains)} of {len(gains)}"
        errors = [statistics.mean(results.values(name, key).values()) if results.values(name, key) else float("nan")
                  for key in ("doa_error_deg", "relative_distance_error")]  # fmt: skip
        took = "" if row.train is None else f"{results.seconds(name):5.0f} s"
        print(f"{row.label:42} {len(f):3}   {statistics.mean(f):5.1f} ({min(f):4.1f}-{max(f):4.1f})    "
              f"{gain:24} {errors[0]:5.1f}  {errors[1]:5.2f}   {took}")  # fmt: skip


def print_comparison(results: Results, test_share: float) -> None:
    """Print our system against the baseline, run by run: at no more wall-clock, and both after the same finish."""
    ours, theirs = results.seconds("semantic"), results.seconds("crnn")
    tokens = results.tokens_seconds(1.0 - test_share)
    print(f"\nwall-clock of one training: CRNN {theirs:.0f} s, ours {ours:.0f} s + {tokens:.0f} s of semantic encoder "
          f"= {(ours + tokens) / theirs:.2f} of the CRNN's")  # fmt: skip
    for name, base, label in (("semantic", "crnn", "single networks, threshold 0.5"),
                              ("semantic_own", "crnn_own", "single networks, tuned"),
                              ("tuned", "crnn_tuned", "ensembles with swap, tuned")):  # fmt: skip
        pairs = results.compared(name, base, "f_score")
        if not pairs:
            continue
        a, b = (statistics.mean(side) for side in zip(*pairs, strict=True))
        print(f"{label}: F20/1 {100 * a:.1f} against {100 * b:.1f} %, {a / b:.2f} x, better in "
              f"{sum(x > y for x, y in pairs)} of {len(pairs)}", end="")  # fmt: skip
        for figure, unit in (("doa_error_deg", "DOAE °"), ("relative_distance_error", "RDE")):
            both = results.compared(name, base, figure)
            if not both:
                continue
            x, y = (statistics.mean(side) for side in zip(*both, strict=True))
            print(f"; {unit} {x:.2f} against {y:.2f} (lower in {sum(p < q for p, q in both)})", end="")
        print()


def print_classes(results: Results, options: argparse.Namespace) -> None:
    """Print class-wise F of both ends; classes with few test groups over all splits are not claimed."""
    from dcase_seld.core.classes import DCASE2025
    from dcase_seld.simulate.config import SoundsConfig
    from dcase_seld.simulate.folder_bank import folder_bank

    shown = [name for name in ("crnn_own", "semantic_own", "crnn_tuned", "tuned") if results.scores.get(name)]
    groups: list[set[str]] = [set() for _ in DCASE2025.classes]
    for split in results.folders:
        bank = folder_bank(
            options.sounds, DCASE2025, SoundsConfig(split_seed=options.first_split + split - 1)
        ).recordings
        for recording in bank:
            if recording.split == "test":
                groups[recording.class_index].add(recording.group)
    print(f"\n{'F20/1 % by class':24}" + "".join(f"{name:>12}" for name in shown) + "   test groups over all splits")
    claimed = [index for index, found in enumerate(groups) if len(found) >= FEWEST_GROUPS]
    for index, label in enumerate(DCASE2025.classes):
        means = [
            statistics.mean(score["classwise"]["f_score"][index] for score in results.scores[name].values())
            for name in shown
        ]
        few = "" if index in claimed else "  too few: not claimed"
        print(f"{label:24}" + "".join(f"{100 * value:12.1f}" for value in means) + f"   {len(groups[index])}{few}")
    if claimed:
        means = [
            statistics.mean(
                score["classwise"]["f_score"][c] for score in results.scores[name].values() for c in claimed
            )
            for name in shown
        ]
        print(f"{'mean of those claimed':24}" + "".join(f"{100 * value:12.1f}" for value in means))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=Path, required=True, help="real recordings, one sub-folder per class")
    parser.add_argument("--work", type=Path, required=True, help="results, kept between runs")
    parser.add_argument("--splits", type=int, default=3, help="random divisions of the collections")
    parser.add_argument("--first-split", type=int, default=1, help="split_seed of the first of them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=1000, help="training and validation scenes of a split")
    parser.add_argument("--test-clips", type=int, default=250)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1, help="splits at once")
    parser.add_argument("--responses", type=Path, help="measured rooms, for the row that mixes them in")
    parser.add_argument("--no-semantic", action="store_true", help="leave the semantic encoder out")
    parser.add_argument("--table", action="store_true", help="run nothing; print what is there")
    options = parser.parse_args()
    rows = all_rows(not options.no_semantic, options.responses)
    if not options.table:
        with ThreadPoolExecutor(options.jobs) as pool:
            for _ in pool.map(lambda split: run_split(options, rows, split), range(1, options.splits + 1)):
                pass
    results = Results(options, rows)
    print_table(results, rows)
    print_comparison(results, options.test_clips / (options.clips + options.test_clips))
    print_classes(results, options)


if __name__ == "__main__":
    main()
