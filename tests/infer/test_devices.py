"""A device that cannot be used is refused before anything starts; a numbered one is the one that was named."""

import os
import subprocess
import sys

import pytest
import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.core.work import core_count
from dcase_seld.infer.devices import open_fabric, single_device


@pytest.mark.parametrize("name", ["cuda:999", "cuda:x", "cuda:", "mps:7", "cpu:1", "nonsense", "", "cuda:" + "9" * 500])
def test_what_is_not_there_is_refused_everywhere(name):
    for ask in (single_device, lambda named: open_fabric(named, devices=1, nodes=1)):
        with pytest.raises(SeldError, match="not to be had"):
            ask(name)


def test_a_machine_with_an_apple_gpu_computes_on_its_cpu(monkeypatch):
    """PyTorch cannot place the front end's float64 tables there."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert single_device("auto") == open_fabric("auto", 1, 1).device == torch.device("cpu")
    with pytest.raises(SeldError, match="lack numbers of 64 bits"):
        single_device("mps")


def test_numbered_devices_are_those_that_were_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert single_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(SeldError, match="cuda:2"):
        single_device("cuda:2")
    with pytest.raises(SeldError, match="is one device"):
        open_fabric("cuda:1", devices=2, nodes=1)
    with pytest.raises(SeldError, match="this machine has 2"):
        open_fabric("cuda", devices=3, nodes=1)


def test_what_trains_speaks_for_itself():
    code = "from dcase_seld.infer.devices import open_fabric; open_fabric('cpu', 1, 1, 'bf16-mixed')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("", "")


def test_cpu_is_a_device_by_both_its_names():
    assert open_fabric("cpu", 1, 1).device == open_fabric("cpu:0", 1, 1).device == torch.device("cpu")


def said(code, **environment):
    given = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**given, **environment}, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(core_count() < 2, reason="one core")
def test_threads_are_as_many_as_there_are_cores_left():
    code = "import dcase_seld.infer.devices, torch; print(torch.get_num_threads())"
    assert said(code, SLURM_CPUS_PER_TASK="1") == "1\n"
    assert said(code, SLURM_CPUS_PER_TASK="1", OMP_NUM_THREADS="2") == "2\n"
    assert int(said(code)) > 1


def test_threads_wait_briefly_for_each_other_where_other_programs_run():
    code = "import os, pathlib; pathlib.Path.read_text = lambda *_, **__: '{}'; import dcase_seld; "
    code += "print(os.environ.get('GOMP_SPINCOUNT'))"
    assert said(code.format("0.50 0.40 0.30 1/300 4711")) == "None\n"
    assert said(code.format("0.50 0.40 0.30 2/300 4711")) == "1000\n"
    assert said(code.format("0.50 0.40 0.30 2/300 4711"), GOMP_SPINCOUNT="7") == "7\n"
    assert said(code.format("no such file")) == "None\n"
