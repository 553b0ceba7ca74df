"""Work shared between processes: all of it is done, and what ends a process is told."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcase_seld.core import work
from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import launcher_rank, plain_lines, progress, share_work


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


def tell_process(number):
    time.sleep(0.01)
    return number, os.getpid()


def test_the_process_that_shares_work_can_do_some_of_it_while_the_others_start():
    found = dict(share_work(tell_process, range(40), 2, "counts", too=True))
    assert sorted(found) == list(range(40)) and len(set(found.values())) == 2 and found[39] == os.getpid()


def test_each_process_computes_with_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENCV_FOR_THREADS_NUM", raising=False)
    assert list(share_work(count_threads, [0], 1, "counts")) == [(1, 1)]
    assert os.environ["OMP_NUM_THREADS"] == "3" and "OPENCV_FOR_THREADS_NUM" not in os.environ


def test_a_script_that_shares_work_is_not_run_again_by_each_process(tmp_path):
    lines = ("import math", "from dcase_seld.core.work import share_work", "print('begun')")
    (tmp_path / "script.py").write_text("\n".join((*lines, "print(*share_work(math.sqrt, [9.0, 9.0], 2, 'counts'))")))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert done.stdout == "begun\n3.0 3.0\n", done.stderr


def test_an_error_ends_the_others_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(SeldError, match="this piece is bad"):
        list(share_work(fail_once_noted, [str(tmp_path / "slow"), str(tmp_path / "bad")], 2, "sleeps"))
    assert time.monotonic() - began < 45
    assert not is_running(int((tmp_path / "slow").read_text()))


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(work, "PLAIN_S", 0.1)


def test_without_a_terminal_long_work_says_a_plain_line_now_and_then(soon, capsys):
    with progress("predict", 100, "windows", quiet=False) as advance:
        advance(20)  # made by an earlier run: it says nothing of the pace
        for _ in range(4):
            time.sleep(0.12)
            advance(10, "good")
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0].startswith("predict: 20 of 100 windows · 0.1 s so far")
    done, left = re.fullmatch(
        r"predict: (\d+) of 100 windows, (\S+) s left \(good\) · \S+ s so far", lines[-1]
    ).groups()
    assert int(done) >= 40 and 0.2 < float(left) < 5


def test_quiet_work_and_work_that_is_soon_over_say_nothing(soon, capsys):
    with progress("one", 3, "clips", quiet=True) as advance:
        time.sleep(0.25)
        advance()
    with progress("two", 3, "clips", quiet=False) as advance:
        advance()
    assert capsys.readouterr().err == ""


def test_of_work_within_work_the_inner_is_heard_and_what_says_nothing_is_heard_of(soon, capsys):
    with plain_lines("step (stage)"):
        time.sleep(0.25)
        with progress("inner", 2, "clips", quiet=False):
            time.sleep(0.25)
        for _ in range(4):  # somebody speaks: nothing needs to be added
            time.sleep(0.06)
            work.say("own word")
    said = [line.partition(" ·")[0] for line in capsys.readouterr().err.splitlines()]
    assert list(dict.fromkeys(said)) == ["step (stage)", "inner: 0 of 2 clips", "own word"]
    assert said.count("own word") == 4 and said[-1] == "own word"


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, None),
        ({"RANK": "3"}, None),  # another program's
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "2"}, 2),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, 1),
        ({"SLURM_NTASKS": "2"}, 0),  # a batch script's own process
    ],
)
def test_one_look_up_knows_both_launchers(monkeypatch, variables, rank):
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launcher_rank() == rank


@pytest.mark.parametrize(
    "told, quota, expected",
    [
        ("", {"cpu.max": "max 100000\n"}, 8),
        ("3", {"cpu.max": "max 100000\n"}, 3),
        ("3", {"cpu.max": "250000 100000\n"}, 2),
        ("", {"cpu.max": "50000 100000\n"}, 1),
        ("0", {"cpu.max": ""}, 8),
        ("", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("", {}, 8),
    ],
)
def test_cores_are_those_that_a_scheduler_or_a_container_leaves(monkeypatch, told, quota, expected):
    def read_text(self, encoding):
        if (file := str(self.relative_to("/sys/fs/cgroup"))) not in quota:
            raise FileNotFoundError(file)
        return quota[file]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(work.Path, "read_text", read_text)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", told)
    assert work.core_count() == expected
