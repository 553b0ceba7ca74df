"""Reading the next batches in a thread while the model works on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

import torch

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Chunk], Result], chunks: Sequence[Chunk], depth: int) -> Iterator[Result]:
    """Yield read(chunk) of all chunks, read by a thread up to `depth` batches ahead; its errors are raised here.

    The thread computes alone. With OpenMP threads of its own beside the model's there would be more of them than cores,
    and then all sleep between two pieces of work instead of waiting awake: updates took 1.2 × as long on 2 cores.
    """
    queue: Queue[tuple[Result] | BaseException | None] = Queue(depth)
    stop, alone = Event(), Event()

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

    thread = Thread(target=work, name="batches", daemon=True)
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
