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


def test_an_error_ends_the_others_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(SeldError, match="this piece is bad"):
        list(share_work(fail_once_noted, [str(tmp_path / "slow"), str(tmp_path / "bad")], 2, "sleeps"))
    assert time.monotonic() - began < 45
    assert not is_running(int((tmp_path / "slow").read_text()))
