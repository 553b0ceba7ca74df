"""Memory that one batch frees is kept for the next, in training and prediction, instead of going to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Numbers of glibc's settings, as in its malloc.h."""
CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed in this block for what is asked for next; at its end all goes back to the system.

    glibc maps every block of some size anew, and the system clears its pages one by one: for the activations of a small
    network on a CPU that takes a third of each update and half of a prediction. The price is a higher peak of memory,
    since a heap has gaps. Where there is no glibc, or the environment sets one of CHOSEN_BY_USER, nothing is changed.
    Blocks do not nest: the end of the inner one would end both.
    Source: mallopt(3); 65536, 32 MiB and 64 MiB are what glibc's own adjustment reaches at most.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "malloc_trim") or set(CHOSEN_BY_USER) & os.environ.keys():
        yield
        return
    library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        library.mallopt(MMAP_MAX, 65536)
        library.mallopt(MMAP_THRESHOLD, 32 * 2**20)
        library.mallopt(TRIM_THRESHOLD, 64 * 2**20)
        library.malloc_trim(0)
