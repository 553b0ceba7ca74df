"""Memory that is freed and asked for again: kept in the block, given back at its end."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcase_seld.infer.devices import kept_memory

BYTES = 64 * 2**20
GLIBC = sys.platform == "linux" and "CS_GNU_LIBC_VERSION" in os.confstr_names

pytestmark = pytest.mark.skipif(not GLIBC, reason="a setting of glibc")


def faults_of_reuse() -> int:
    """Return how many pages the system had to bring while a large block was taken and freed eight times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(BYTES // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_blocks_are_used_again_and_given_back() -> None:
    outside = faults_of_reuse()
    with kept_memory():
        faults_of_reuse()
        again = faults_of_reuse()
        inside = resident_bytes()
    assert outside >= 8 * BYTES // 2**21  # even where the system's pages are of 2 MiB
    assert again < outside / 100
    assert resident_bytes() < inside - BYTES / 2


def test_what_the_environment_says_is_left_alone() -> None:
    code = "from test_kept_memory import *\nwith kept_memory(): print(faults_of_reuse())"
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072", "PYTHONPATH": str(Path(__file__).parent)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(said.stdout) >= 8 * BYTES // 2**21


def test_an_error_in_the_block_ends_it_too() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        faults_of_reuse()
        inside = resident_bytes()
        _ = 1 / 0
    assert resident_bytes() < inside - BYTES / 2
