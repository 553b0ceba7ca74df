"""A training's live line: on a narrow terminal its epoch stays, elsewhere plain lines say how far it is."""

import os
import pty
import re
import sys
import time

import pytest

from dcase_seld.core import work
from dcase_seld.scoring.figures import FIGURES
from dcase_seld.train.history import LiveLine

LOSSES = {"loss": 0.1234, "loss_doa": 0.0567, "loss_distance": 0.0456, "loss_onscreen": 0.0321}
ROW = {"epoch": 118, "loss": 0.1, "f_score": 0.31, "clips_per_second": 1234.0}


def test_at_80_columns_the_line_keeps_its_epoch_and_the_time_left(monkeypatch):
    reading, writing = pty.openpty()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(writing, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        live = LiveLine(120, 1200, 1180, quiet=False)
        live.epoch_done(ROW, FIGURES["f_score"], 0.31, True)
        live.update(118, 1190, LOSSES, 1e-3, 12_345.0)
        time.sleep(0.3)  # the line is drawn ten times a second
        live.close()
        monkeypatch.undo()
        shown = os.read(reading, 100_000).decode()
    os.close(reading)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in re.split(r"[\r\n]+", shown)]
    drawn = [line for line in lines if line.startswith("epoch 119/120 ")]
    assert re.match(r"epoch 119/120 \S+ +0:00:0\d left · best 31.0", drawn[-1]) and len(drawn[-1]) <= 80
    assert any(line.startswith("epoch 118/120: loss 0.1000") for line in lines)


@pytest.mark.parametrize("quiet", [False, True])
def test_without_a_terminal_a_long_epoch_is_heard_of(quiet, monkeypatch, capsys):
    monkeypatch.setattr(work, "PLAIN_S", 0.1)
    live = LiveLine(120, 1200, 0, quiet)
    live.update(0, 3, LOSSES, 1e-3, 50.0)
    time.sleep(0.25)
    live.close()
    said = capsys.readouterr().err.splitlines()
    assert quiet == (said == [])
    assert all(
        re.match(r"epoch 1/120: update 3 of 1,200 · \d+:\d\d:\d\d left · 50 clips/s · loss 0.1234", s) for s in said
    )
