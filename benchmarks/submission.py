"""Print how long packaging and checking take, as whole processes: python benchmarks/submission.py [CLIPS] [SYSTEMS]."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from score import scenes

from dcase_seld.core.event_files import write_folder


def timed(*arguments: str) -> tuple[float, float]:
    """Return seconds and processor seconds of one `dcase-seld` process; findings may make its exit status 1."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "dcase_seld.cli.main", *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "Traceback" in done.stderr:
        raise RuntimeError(done.stderr)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=int, nargs="?", default=10_000)
    parser.add_argument("systems", type=int, nargs="?", default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_folder(scenes(options.clips)[1], Path(folder) / "csv")
        zip_file = str(Path(folder) / "x.zip")
        systems = [text for _ in range(options.systems) for text in ("--system", f"{folder}/csv:b")]
        rows = [("package-submission (checks too)", timed("package-submission", *systems, "--out", zip_file))]
        rows.append(("check-submission", timed("check-submission", zip_file, "--eval", f"{folder}/csv")))
        size = Path(zip_file).stat().st_size / 2**20
        print(f"{options.clips:,} clips, {options.systems} systems, {size:.1f} MiB    seconds  processor seconds")
        for name, (seconds, processor) in rows:
            print(f"{name:46s} {seconds:8.2f} {processor:8.2f}")


if __name__ == "__main__":
    main()
