"""Work shared between processes: all of it is done, and what ends a process is told."""

import os
import signal
import time
from pathlib import Path

import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import share_work


def end_this_process(numbers):
    os.kill(os.getpid(), signal.SIGKILL)


def count_clips(numbers):
    return sum(number + 1 for number in numbers)


def count_threads(piece):
    import cv2
    import torch

    return cv2.getNumThreads(), torch.get_num_threads()


def note_and_sleep(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def fail_once_noted(file):
    if not file.endswith("bad"):
        return note_and_sleep(file)
    while not (Path(file).with_name("slow").exists() and Path(file).with_name("slow").read_text()):
        time.sleep(0.01)
    raise SeldError("this piece is bad.", "Mend it.")


def test_processes_share_the_work_and_one_that_is_killed_is_told():
    assert sorted(share_work(count_clips, [[0], [4]], 2, "counts")) == [1, 5]
    with pytest.raises(SeldError, match="A process that counts was ended from outside"):
        list(share_work(end_this_process, [[0]], 1, "counts"))


def test_each_process_computes_with_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENCV_FOR_THREADS_NUM", raising=False)
    assert list(share_work(count_threads, [0], 1, "counts")) == [(1, 1)]
    assert os.environ["OMP_NUM_THREADS"] == "3" and "OPENCV_FOR_THREADS_NUM" not in os.environ


def test_an_error_ends_the_others_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(SeldError, match="this piece is bad"):
        list(share_work(fail_once_noted, [str(tmp_path / "slow"), str(tmp_path / "bad")], 2, "sleeps"))
    assert time.monotonic() - began < 45
    assert not is_running(int((tmp_path / "slow").read_text()))
