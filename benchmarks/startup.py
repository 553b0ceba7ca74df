"""Seconds until an answer: `--help` of each command, and `run` and `status` of a recipe that is up to date.

Wall and processor time of whole processes, the best of `--rounds`; `python` is what the interpreter alone takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dcase_seld.cli.main import COMMANDS

RECIPE = """
steps:
  scenes: {stage: simulate, clips: {train: 2, test: 2}, rooms: {train: 2, test: 1}}
  data: {stage: prepare, corpus: scenes}
"""


def best(words: list[str], folder: str, rounds: int) -> tuple[float, float]:
    """Return (wall, processor) seconds of a command, the best of some rounds."""
    found = []
    for _ in range(rounds):
        before, began = os.times(), time.perf_counter()
        subprocess.run(words, cwd=folder, capture_output=True, check=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        found.append((time.perf_counter() - began, used))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commands", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    given = parser.parse_args()
    cli = [sys.executable, "-m", "dcase_seld.cli.main"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "r.yaml").write_text(RECIPE)
        subprocess.run([*cli, "run", "r.yaml", "--quiet"], cwd=folder, check=True, capture_output=True)
        rows = [("python", best([sys.executable, "-c", "pass"], folder, given.rounds))]
        rows += [(f"{name} --help", best([*cli, name, "--help"], folder, given.rounds)) for name in given.commands]
        rows += [("--help", best([*cli, "--help"], folder, given.rounds))]
        again = [(name, best([*cli, name, "r.yaml"], folder, given.rounds)) for name in ("run", "status")]
        rows += [(f"{name} (up to date)", times) for name, times in again]
    print(f"{'command':32}{'wall s':>9}{'cpu s':>9}")
    for name, (wall, cpu) in rows:
        print(f"{name:32}{wall:9.2f}{cpu:9.2f}")


if __name__ == "__main__":
    main()
