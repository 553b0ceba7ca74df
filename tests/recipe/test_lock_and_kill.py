import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_stages import REGISTRY

from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.plan import make_plan
from dcase_seld.recipe.results import held_by, lock_path, locked
from dcase_seld.recipe.run import RunOptions, run_recipe

PROGRAM = """
import sys
from toy_stages import REGISTRY
from dcase_seld.recipe.run import RunOptions, run_recipe
run_recipe(sys.argv[1], REGISTRY, sys.argv[2], sys.argv[3:], RunOptions(quiet=True))
"""


def start(recipe, work, *overrides):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "made")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(recipe), str(work), *overrides], env=environment, stderr=subprocess.PIPE
    )


def wait_for_lines(path, count, process):
    deadline = time.monotonic() + 30
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def slow(tmp_path):
    recipe = tmp_path / "counting.yaml"
    recipe.write_text("steps:\n  a: {stage: numbers}\n  c: {stage: slow, numbers: a, steps: 8}\n")
    return recipe


def test_killed_in_the_middle_and_run_again_ends_the_same(slow, tmp_path):
    process = start(slow, tmp_path, "c.pause=60")
    lines = tmp_path / "counting" / "c" / "lines.txt"
    wait_for_lines(lines, 1, process)
    with pytest.raises(SeldError, match=f"being made by process {process.pid}"):
        run_recipe(slow, REGISTRY, tmp_path, options=RunOptions(quiet=True))
    assert f"process {process.pid}" in make_plan(slow, REGISTRY, tmp_path).steps["c"].why
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    folder = make_plan(slow, REGISTRY, tmp_path).steps["c"].folder
    assert lock_path(folder).exists() and held_by(folder) is None
    plan, made = run_recipe(slow, REGISTRY, tmp_path, options=RunOptions(quiet=True))
    assert made == ["c"] and plan.steps["c"].receipt["facts"] == {"resumed_at": 1}
    assert lines.read_text() == "".join(f"{n}\n" for n in range(8))
    assert not lock_path(folder).exists()


def test_two_at_once_one_works_and_one_is_told(slow, tmp_path):
    first = start(slow, tmp_path, "c.pause=60")
    wait_for_lines(tmp_path / "counting" / "c" / "lines.txt", 1, first)
    second = start(slow, tmp_path)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1 and f"is being made by process {first.pid}".encode() in said
    assert first.poll() is None
    first.kill()
    first.communicate(timeout=30)


def test_an_interrupted_process_gives_its_lock_back(slow, tmp_path):
    process = start(slow, tmp_path, "c.pause=60")
    wait_for_lines(tmp_path / "counting" / "c" / "lines.txt", 1, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert list((tmp_path / ".results").glob("*.lock")) == []


def test_locks_of_the_dead_and_of_reused_process_ids_are_taken_over(tmp_path):
    folder = tmp_path / "x"
    with locked(folder):
        mine = json.loads(lock_path(folder).read_text())
        with pytest.raises(SeldError), locked(folder):
            pass
    assert not lock_path(folder).exists()
    lock_path(folder).write_text(json.dumps({**mine, "born": "1"}))  # the same id, another process
    assert held_by(folder) is None
    lock_path(folder).write_text(json.dumps({**mine, "host": "elsewhere"}))
    with pytest.raises(SeldError, match="elsewhere"), locked(folder):
        pass
    lock_path(folder).write_text(json.dumps({**mine, "pid": "many"}))
    assert held_by(folder) is None
    lock_path(folder).write_text("half a fi")
    with locked(folder):
        assert held_by(folder).pid == os.getpid()
