"""Long work: its live line, its processes and threads, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, TypeVar

from dcase_seld.core.errors import SeldError, shown


def say(message: str) -> None:
    """Print one line of the program's own progress to standard error (standard output is for results)."""
    _said[0] = time.monotonic()
    print(shown(message), file=sys.stderr, flush=True)


PLAIN_S = 30.0
"""Seconds after which long work says how far it is, where no terminal shows it (nohup, SLURM, a pipe)."""

_said = [0.0]
"""When a line was last said."""

_telling: list[list[str]] = []
"""What is to be said, of the innermost work last."""


@contextmanager
def plain_lines(first: str = "") -> Iterator[Callable[[str], None]]:
    """Yield `tell(line)`: the latest line is said whenever nothing was for PLAIN_S, also while nothing new is told.

    Of work within other work the inner lines are said. Work that is over sooner says nothing.
    """
    line, over, began = [first], threading.Event(), time.monotonic()
    _telling.append(line)

    def repeat() -> None:
        since = began
        while not over.wait(max(since, _said[0]) + PLAIN_S - time.monotonic()):
            if time.monotonic() - max(since, _said[0]) >= PLAIN_S:
                since = time.monotonic()
                if line[0] and _telling[-1] is line:
                    say(f"{line[0]} · {duration(since - began)} so far")

    thread = threading.Thread(target=repeat, name="plain lines", daemon=True)
    thread.start()
    try:
        yield lambda told: line.__setitem__(0, told)
    finally:
        over.set()
        thread.join()
        _telling.remove(line)


@contextmanager
def progress(title: str, total: int, unit: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note="")`, which moves a live bar of `total` units (clips, files, …).

    Where standard error is no terminal, a plain line is said every PLAIN_S instead. With `quiet` nothing is said.
    """
    if quiet:
        yield lambda count=1, note="": None
        return
    if not sys.stderr.isatty():
        with plain_lines(f"{title}: 0 of {total:,} {unit}") as tell:
            began, done, before = time.monotonic(), 0, 0

            def count_up(count: int = 1, note: str = "") -> None:
                nonlocal done, before
                done += count
                passed = time.monotonic() - began
                before = done if passed < 0.1 else before  # counted at once: made by an earlier run
                pace = passed / (done - before) if done > before else 0.0
                left = f", {duration(pace * (total - done))} left" if pace and done < total else ""
                tell(f"{title}: {done:,} of {total:,} {unit}{left}" + (f" ({note})" if note else ""))

            yield count_up
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=min(len(title), 30))),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(shown(title), total=total, rate="", note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.1f} {unit}/s" if speed else "")
            if note:
                bar.update(task, note=note)

        yield advance


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
    too: bool = False,
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
        too: this process is one of them, and takes pieces from the end.

    Raises:
        SeldError: a process was ended from outside.
    """
    with deaf_to_ctrl_c():  # its locks start the tracker of shared memory
        pool = ProcessPoolExecutor(workers - too, multiprocessing.get_context("spawn"), _begin, (start, start_with))
    left = deque(pieces)
    try:
        with deaf_to_ctrl_c(), _alone():
            jobs = {pool.submit(work, left.popleft()) for _ in range(min(len(left), 3 * workers) if too else len(left))}
        if too and start is not None:
            start(*start_with)
        while jobs:  # none is ever cancelled: a pool whose processes are ended stumbles over such
            if left:
                yield work(left.pop())
            done = {job for job in jobs if job.done()} if left else wait(jobs, return_when=FIRST_COMPLETED).done
            jobs = jobs - done | {pool.submit(work, left.popleft()) for _ in range(min(len(left), len(done)))}
            yield from (job.result() for job in done)
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


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


@contextmanager
def _alone() -> Iterator[None]:
    """Start processes in this block that compute with one thread each: libraries look at the environment when loaded.

    With a thread per core in each of as many processes as there are cores, all wait for one another. Nor do they run
    the user's script again, as Python has it: a call at its top level would then begin the same work in each of them.
    """
    before = {name: os.environ[name] for name in _THREADS if name in os.environ}
    main, sys.modules["__main__"] = sys.modules["__main__"], type(sys)("__main__")
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in _THREADS:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes in this block, and Ctrl-C passes them by, from their first instruction on.

    A terminal sends Ctrl-C to all processes of a command. A process that is still importing when it arrives would print
    a traceback; one that is born while the signal is blocked has it blocked too. Ctrl-C in the block itself waits for
    its end. A terminal that is closed (SIGHUP) is treated alike.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # The tracker of shared memory passes over Ctrl-C by itself, and unblocks it here when it has been started.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # The system may hand a signal to any thread, blocked or not in this one; Python answers it in the main thread.
    came: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _begin(start: Callable[..., None] | None, start_with: tuple[Any, ...]) -> None:
    """Prepare a process: it leaves Ctrl-C to its parent, and ends when the parent was killed."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*start_with)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


Chunk = TypeVar("Chunk")


def read_ahead(read: Callable[[Chunk], Result], chunks: Sequence[Chunk], depth: int) -> Iterator[Result]:
    """Yield read(chunk) of all chunks, read by a thread up to `depth` batches ahead; its errors are raised here.

    The thread computes alone. With OpenMP threads of its own beside the model's there would be more of them than cores,
    and then all sleep between two pieces of work instead of waiting awake: updates took 1.2 × as long on 2 cores.
    """
    import torch

    queue: Queue[tuple[Result] | BaseException | None] = Queue(depth)
    stop, alone = threading.Event(), threading.Event()

    def put(item: tuple[Result] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return queue.put(item, timeout=0.2)
            except Full:
                continue

    def work() -> None:
        torch.get_num_threads()  # a thread takes over the common number when first asked, which must not come later
        torch.set_num_threads(1)
        alone.set()
        try:
            for chunk in chunks:
                if stop.is_set():
                    return
                put((read(chunk),))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    threads = torch.get_num_threads()
    thread.start()
    # The number holds for the thread that sets it, and for those that are started later: theirs is put back.
    alone.wait()
    torch.set_num_threads(threads)
    try:
        while True:
            try:
                item = queue.get(timeout=5.0)
            except Empty:
                if not thread.is_alive():
                    raise RuntimeError("the thread that reads batches ended without a word") from None
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stop.set()
        thread.join()


def run_threads(
    work: Callable[[Piece], Result], items: Sequence[Piece], workers: int, title: str, quiet: bool
) -> list[Result]:
    """Return work(item) of all items in order, done by threads; the first error cancels what has not begun."""
    with progress(title, len(items), "clips", quiet) as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            results = []
            for result in pool.map(work, items):
                results.append(result)
                advance()
            return results
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def duration(value: float) -> str:
    """Return seconds as people write them: 0.4 s, 12.3 s, 4 min 5 s, 2 h 3 min."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def launcher_rank() -> int | None:
    """Return this process' number among those that torchrun or SLURM started, or None for a process on its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("SLURM_PROCID", "0")) if "SLURM_NTASKS" in os.environ else None


def core_count() -> int:
    """Return how many cores this process may use: those it may run on, or fewer where SLURM or a container says so."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # control groups of versions 2 and 1
        with suppress(OSError, ValueError):
            texts = (Path("/sys/fs/cgroup", file).read_text(encoding="ascii") for file in files)
            quota, period = map(int, " ".join(texts).split())
            there = min(there, max(1, round(quota / period))) if quota > 0 else there
    told = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(there, int(told)) if told.isdecimal() and int(told) else there
