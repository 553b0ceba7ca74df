"""Ctrl-C, sent to all processes of a run as a terminal does, while they start: one sentence, no traceback."""

import os
import signal
import subprocess
import sys
import time

import pytest

RECIPE = "steps:\n  scenes: {stage: simulate, clips: {train: 200, test: 0}, rooms: {train: 4, test: 2}}\n"


@pytest.mark.slow
def test_ctrl_c_is_answered_in_a_sentence(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    words = [sys.executable, "-m", "dcase_seld.cli.main", "run", "r.yaml", "--workers", "2"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("work/.results/**/splits.csv")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.15)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    assert "interrupted: what was finished is kept; the same command goes on from there." in said
    assert list(tmp_path.glob("work/.results/*.lock")) == []
