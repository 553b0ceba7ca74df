"""Reading in a thread: order, errors, and the number of threads that everybody computes with."""

import threading
import time

import pytest
import torch

from dcase_seld.core.work import read_ahead


def threads_of_a_new_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_reader_computes_alone_and_nobody_else_is_changed(three_threads):
    seen = []

    def read(chunk):
        time.sleep(0.02)  # long enough for the main thread to have put its number back
        return torch.get_num_threads()

    for number, threads in enumerate(read_ahead(read, range(5), 2)):
        seen.append((number, threads, torch.get_num_threads(), threads_of_a_new_thread()))
    assert seen == [(number, 1, 3, 3) for number in range(5)]
    assert torch.get_num_threads() == 3


def test_results_keep_their_order_and_errors_are_raised_where_they_are_read():
    def read(chunk):
        if chunk == 3:
            raise ValueError("broken")
        return chunk * 10

    got = []
    with pytest.raises(ValueError, match="broken"):
        for value in read_ahead(read, range(6), 2):
            got.append(value)
    assert got == [0, 10, 20]


def test_an_abandoned_reader_ends():
    before = set(threading.enumerate())
    reader = read_ahead(lambda chunk: chunk, range(1000), 1)
    assert next(reader) == 0
    assert len(set(threading.enumerate()) - before) == 1
    reader.close()
    assert not set(threading.enumerate()) - before
