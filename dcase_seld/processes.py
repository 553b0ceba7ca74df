"""Work shared between processes that leave Ctrl-C to the program that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from dcase_seld.errors import SeldError

ENDING_S = 5.0
"""Longest wait for a process that was told to end, in seconds."""
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def share_work(
    work: Callable[[Piece], Result],
    pieces: Iterable[Piece],
    workers: int,
    doing: str,
    start: Callable[..., None] | None = None,
    start_with: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield work(piece) of all pieces, in the order in which processes finish them.

    The processes are fresh ones: forking one that has run a model would copy its threads' locks. Whatever ends this
    early, an error, Ctrl-C, a caller who wants no more or the end of this process, ends them at once.

    Args:
        work: makes a piece; must be importable in a process of its own.
        pieces: what is to be made.
        workers: processes.
        doing: what a process does, for the sentence about one that the system ended ("simulates", …).
        start: called in each process before its first piece.
        start_with: what it is called with.

    Raises:
        SeldError: a process was ended from outside.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(start, start_with))
    try:
        with deaf_to_ctrl_c():
            jobs = [pool.submit(work, piece) for piece in pieces]
        yield from (job.result() for job in as_completed(jobs))
    except BrokenProcessPool as error:
        raise SeldError(
            f"A process that {doing} was ended from outside (by the system, if memory ran out).",
            "Run the same again: what is finished is kept. Fewer workers need less memory.",
        ) from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        ended = multiprocessing.active_children()
        for process in ended:
            process.terminate()
        for process in ended:
            process.join(ENDING_S)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


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


def _begin(start: Callable[..., None] | None, start_with: tuple[Any, ...]) -> None:
    """Prepare a process: it leaves Ctrl-C to its parent, and ends when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*start_with)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
