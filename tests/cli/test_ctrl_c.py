"""Ctrl-C, SIGTERM and SIGHUP, sent to all processes of a run while they start: one sentence, no traceback."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import dcase_seld
from dcase_seld.cli import main as entry_point
from dcase_seld.cli.main import told_to_end
from dcase_seld.core.work import deaf_to_ctrl_c

RECIPE = "steps:\n  scenes: {stage: simulate, clips: {train: 200, test: 0}, rooms: {train: 4, test: 2}}\n"
SAID = "interrupted: what was finished is kept; the same command goes on from there."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "times", "status"), [(signal.SIGINT, 1, 130), (signal.SIGTERM, 2, 143), (signal.SIGHUP, 2, 129)]
)
def test_a_run_that_is_told_to_end_says_so_in_a_sentence(tmp_path, number, times, status):
    (tmp_path / "r.yaml").write_text(RECIPE)
    words = [sys.executable, "-m", "dcase_seld.cli.main", "run", "r.yaml", "--workers", "2"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("work/.results/**/splits.csv")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.15)
    for _ in range(times):  # who ends a job sends it to the process, then to its group
        os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    assert SAID in said
    assert list(tmp_path.glob("work/.results/*.lock")) == []


def test_ctrl_c_while_processes_start_comes_late_and_is_not_lost():
    reached = []
    idle = threading.Thread(target=time.sleep, args=(5,), daemon=True)
    idle.start()  # the signal may reach another thread, in which it is not blocked
    with pytest.raises(KeyboardInterrupt), deaf_to_ctrl_c():
        os.kill(os.getpid(), signal.SIGINT)
        code = "import signal; print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        reached.append(child.stdout.strip())
    assert reached == [str(sorted((int(signal.SIGINT), int(signal.SIGHUP))))]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_is_ignored_from_the_start_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with told_to_end() as which:
            signal.raise_signal(signal.SIGHUP)
            assert which() == 0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            assert which() == signal.SIGTERM
            signal.raise_signal(signal.SIGTERM)  # once is enough
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_ctrl_c_while_the_commands_are_imported_ends_in_a_sentence(tmp_path):
    """The signal comes while click is being imported: a click of its own sends it from there."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "dcase_seld", "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(dcase_seld.__file__).parents[1])])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was begun.\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_a_library_makes_of_a_signal_that_it_swallowed_is_no_traceback(number, status, monkeypatch, capsys):
    """An import that swallows Ctrl-C leaves half a module, and the next use of it fails."""

    def fail(**_):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise AttributeError("module 'numpy' has no attribute 'matrix'") from None

    monkeypatch.setattr(entry_point, "main", fail)
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(SystemExit) as ended:
            entry_point.entry()
    finally:
        for one, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(one, handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert ended.value.code == status and capsys.readouterr().err.strip() == SAID
