"""The long trial: damaged inputs by the thousand, and runs that are killed and resumed (`make soak`).

    python tests/faults/soak.py --inputs 20000 --kills 60 --seed 0 --folder soak

It goes on where it was broken off (FOLDER/progress.json), prints the seed of every input that did not end in a result
or a sentence, and exits with 1 if there was one. `--again KIND SEED` tries one input and shows the traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "made")]
CHUNK = 300
MOST_MB = 1_024

RECIPE = """
steps:
  scenes: {stage: simulate, clips: {train: 8, test: 2}, rooms: {train: 3, test: 1}}
  around: {stage: simulate, output: foa, clips: {train: 2, test: 1}, rooms: {train: 2, test: 1}, seed: 3}
  views: {stage: convert, source: around, count: 6, video: false}
  data: {stage: prepare, corpus: scenes}
  heard: {stage: embed, data: data, model: {kind: onnx, path: MODEL, sample_rate: 8000, patch_s: 0.5, hop_s: 0.5}}
  train:
    stage: train
    data: data
    epochs: 2
    batch_size: 2
    tensorboard: false
    model:
      frontend: {features: [log_mel, ild], hop: 600, window: 1024, n_fft: 1024, mels: 16}
      encoder: {channels: [8, 16], layers: 1, d_model: 16, heads: 2, feed_forward: 16, kernel: 5}
      cross_modal: {layers: 1, heads: 2, feed_forward: 16, kernel: 5}
      head: {hidden: 16}
  tuned: {stage: ensemble, members: train, data: data}
  events: {stage: predict, data: data, members: tuned}
  csv: {stage: export, events: events, track: a}
  score: {stage: score, csv: csv, data: data, split: test, track: a}
  table: {stage: compare, rows: [{label: one, score: score}]}
  page: {stage: report, scores: [score]}
  zip: {stage: package, csv: [csv], tracks: [a], scores: [score]}
"""
RECORDS = {"receipt.json", "summary.json", "report.html", "scores.json", "epochs.csv", "model.json", "ensemble.json"}
"""Files that hold times or paths; what they say of the data is compared through the files beside them."""


def work(kind: str, seeds: range, folder: Path) -> None:
    """Try inputs of one kind; a line for each, then the peak of memory and the longest time."""
    from hostile import Bench

    bench, longest = Bench(kind, folder / "bench"), 0.0
    for seed in seeds:
        began = time.monotonic()
        print(json.dumps([seed, bench.problem(seed)]), flush=True)
        longest = max(longest, time.monotonic() - began)
    most = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, round(longest, 2)]
    print(json.dumps(["most", most]), flush=True)


def chunk(kind: str, first: int, last: int) -> tuple[dict[str, str], list[float]]:
    """Return the problems of seeds first … last - 1, each by its seed, most memory (MB) and time (s)."""
    found: dict[str, str] = {}
    most = [0.0, 0.0]
    while first < last:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, __file__, "--work", kind, str(first), str(last), folder],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
            )  # fmt: skip
        for line in done.stdout.splitlines():
            seed, said = json.loads(line)
            if seed == "most":
                most = list(map(max, most, said))
                continue
            first = seed + 1
            if said:
                found[str(seed)] = said
        if first < last:  # the process died with the input: a fault too
            found[str(first)] = f"the process ended with {done.returncode}"
            first += 1
    if most[0] > MOST_MB:
        found[f"{last - 1}"] = f"{most[0]} MB"
    return found, most


def contents(results: Path) -> dict[str, str]:
    """Return the digest of every file of finished results that holds no times or paths; weights and scores among them.

    Of scores.json the figures are compared, without when and where.
    """
    found = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.name == "scores.json":
            scores = json.loads(path.read_text())
            found[name] = json.dumps({key: scores.get(key) for key in ("f_score", "doa_error_deg", "clips")})
        elif path.is_file() and path.name not in RECORDS and path.suffix not in (".lock", ".json"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def start(recipe: Path, place: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dcase_seld", "run", str(recipe), "--work", str(place)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def reached(process: subprocess.Popen[bytes], lock: Path | None, then: float) -> bool:
    """Wait until a run is so many seconds into a step; False where it ends before. None lets it end."""
    while lock is not None and process.poll() is None:
        if lock.exists():
            try:
                process.wait(then)
            except subprocess.TimeoutExpired:
                return True
        time.sleep(0.01)
    process.wait()
    return False


def receipts(place: Path) -> dict[str, dict]:
    """Return the receipts of a work folder by the step that made them, each with its folder's name."""
    found = [(path.parent.name, json.loads(path.read_text())) for path in (place / ".results").glob("*/receipt.json")]
    return {receipt["step"]: {**receipt, "folder": folder} for folder, receipt in found}


def following(step: str, done: dict[str, dict]) -> set[str]:
    """Return a step and all that comes from it."""
    chosen, before = {step}, set()
    while chosen != before:
        before = set(chosen)
        folders = {done[name]["folder"] for name in chosen}
        chosen |= {name for name, of in done.items() if folders & {f for read in of["inputs"].values() for f in read}}
    return chosen


def kills(wanted: int, seed: int, folder: Path, state: dict, save) -> None:
    """Kill runs in one step after another, resume them, and compare what is done at last with an undisturbed run.

    A trial begins from a copy of the undisturbed run in which the step that is to be hit, and all that comes from it,
    are taken away. On its way to the end the resumed run is killed again, at times.
    """
    import numpy as np
    from onnx_made import FLOAT, model, node

    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "tiny.yaml"
    weights = {"w": np.random.default_rng(0).normal(size=(4_000, 6)).astype(np.float32)}
    onnx = model(node("MatMul", ["x", "w"], "y"), [("x", FLOAT, ["n", 4_000])], ("y", FLOAT, ["n", 6]), weights)
    (folder / "m.onnx").write_bytes(onnx)
    recipe.write_text(RECIPE.replace("MODEL", str((folder / "m.onnx").absolute())))
    place, kept = folder / "work", folder / "whole"
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(kept, ignore_errors=True)
    began = time.monotonic()
    assert start(recipe, place).wait() == 0, "the undisturbed run failed"
    whole, files, made = contents(place / ".results"), listing(place), receipts(place)
    place.rename(kept)
    lengths = {step: receipt["seconds"] for step, receipt in made.items()}
    print(f"the undisturbed run took {time.monotonic() - began:.0f} s: {lengths}", flush=True)
    problems = state["kill_faults"]  # saved with every kill
    rng = random.Random(f"{seed} {state['kills']}")
    hit = state.setdefault("stages", {})

    def least_hit(steps: Iterable[str]) -> str:
        # The steps take turns: left to chance alone, nearly every kill would hit the training.
        return min(sorted(steps), key=lambda step: (hit.get(step, 0), rng.random()))

    while state["kills"] < wanted:
        shutil.copytree(kept, place, symlinks=True)
        aim: str | None = least_hit(made)
        for step in following(aim, made):
            shutil.rmtree(place / ".results" / made[step]["folder"])
        while True:
            lock = None if aim is None else place / ".results" / f"{made[aim]['folder']}.lock"
            process = start(recipe, place)
            if not reached(process, lock, rng.uniform(0, 1.05) * lengths.get(aim, 0)):
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            held = {path.stem for path in (place / ".results").glob("*.lock")}
            for step in [step for step, of in made.items() if of["folder"] in held] or ["between steps"]:
                hit[step] = hit.get(step, 0) + 1
                print(f"kill {state['kills'] + 1}: {step}", flush=True)
            state["kills"] += 1
            save()
            to_come = made.keys() - receipts(place).keys()
            aim = least_hit(to_come) if to_come and rng.random() < 0.6 else None
        if process.returncode != 0:
            problems.append(f"kill {state['kills']}: the resumed run ended with {process.returncode}")
        now = contents(place / ".results")
        if now != whole:
            differ = sorted(name for name in {*now, *whole} if now.get(name) != whole.get(name))
            problems.append(f"kill {state['kills']}: results differ: {differ[:5]}")
        if listing(place) != files:
            problems.append(f"kill {state['kills']}: other files: {sorted(listing(place) ^ files)[:5]}")
        for problem in problems[state.setdefault("told", 0) :]:
            print(f"FAULT {problem}", flush=True)
        state["told"] = len(problems)
        shutil.rmtree(place)
        state["resumed"] = state.get("resumed", 0) + 1
        save()


def listing(place: Path) -> set[str]:
    """Return the names of all files, folders and links of a work folder: nothing may be left or be missing."""
    return {path.relative_to(place).as_posix() for path in place.rglob("*")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("soak"))
    parser.add_argument("--again", nargs=2, metavar=("KIND", "SEED"))
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, first, last, folder = options.work
        work(kind, range(int(first), int(last)), Path(folder))
        return
    if options.again:
        kind, seed = options.again
        found, _ = chunk(kind, int(seed), int(seed) + 1)
        print(*found.values() or ["no fault"])
        return
    from hostile import KINDS

    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "progress.json"
    state = {"seed": options.seed, "done": {}, "most": {}, "faults": {}, "kills": 0, "kill_faults": [], "seconds": 0.0}
    if path.exists() and json.loads(path.read_text())["seed"] == options.seed:
        state = json.loads(path.read_text())

    def save() -> None:
        path.with_suffix(".new").write_text(json.dumps(state, indent=1))
        path.with_suffix(".new").replace(path)

    base = options.seed * 1_000_000
    each = -(-options.inputs // len(KINDS))
    # Every kind a little at a time, so that a trial that is broken off has seen all of them.
    while any(state["done"].get(kind, 0) < each for kind in KINDS):
        for kind in sorted(KINDS, key=lambda kind: int(state["done"].get(kind, 0))):
            first = state["done"].get(kind, 0)
            last = min(each, first + CHUNK)
            if first >= last:
                continue
            began = time.monotonic()
            found, most = chunk(kind, base + first, base + last)
            state["done"][kind] = last
            state["most"][kind] = list(map(max, most, state["most"].get(kind, [0, 0])))
            state["seconds"] += time.monotonic() - began
            for seed, said in found.items():
                state["faults"][f"{kind} {seed}"] = said
                print(f"FAULT {kind} seed {seed}: {said.strip().splitlines()[-1][:200]}", flush=True)
            save()
        print(f"{sum(state['done'].values()):,} inputs, {len(state['faults'])} faults", flush=True)
    if state["kills"] < options.kills:
        kills(options.kills, options.seed, options.folder / "kills", state, save)
        save()
    print(json.dumps({key: value for key, value in state.items() if key != "faults"}, indent=1))
    print(*state["kill_faults"], sep="\n")
    sys.exit(bool(state["faults"] or state["kill_faults"]))


if __name__ == "__main__":
    main()
