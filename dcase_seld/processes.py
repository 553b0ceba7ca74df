"""Starting helper processes that leave Ctrl-C to the program that started them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes in this block, and Ctrl-C passes them by, from their first instruction on.

    A terminal sends Ctrl-C to all processes of a command. A process that is still importing when it arrives would print
    a traceback; one that is born while the signal is ignored ignores it too. Ctrl-C in the block itself, which should
    only start processes, is lost.
    """
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
