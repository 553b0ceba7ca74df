"""What an installation carries: recipes and networks are found and run from any folder."""

import configparser
import os
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dcase_seld.recipe.load import load_recipe, shipped_recipes

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a folder with the package as a wheel would hold it."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    names = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
    source.mkdir()
    for name in names:
        shutil.copy(ROOT / name, source / name)
    for name in ("dcase_seld", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder / "lib")]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    return folder / "lib"


def call(installed, folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "dcase_seld", *words], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip


def test_recipes_are_listed_copied_and_run_by_name(installed, tmp_path):
    listed = call(installed, tmp_path, "recipes")
    lines = listed.stdout.partition("\n\n")[0].splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names == list(shipped_recipes()) and {"quickstart", "track_a", "track_b_eval", "ablations/small"} <= {*names}
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines if line[0] != " "), "each has its line"
    assert call(installed, tmp_path, "recipes", "copy", "track_a").returncode == 0
    assert (tmp_path / "track_a.yaml").read_text() == (ROOT / "recipes/track_a.yaml").read_text()
    again = call(installed, tmp_path, "recipes", "copy", "track_a")
    assert again.returncode == 1 and "is there already" in again.stderr
    assert "Did you mean quickstart?" in call(installed, tmp_path, "recipes", "copy", "quikstart").stderr
    dry = call(installed, tmp_path, "run", "recipes/quickstart.yaml", "--dry-run")
    assert dry.returncode == 0 and "steps would run" in dry.stdout
    assert "Did you mean quickstart?" in call(installed, tmp_path, "run", "quikstart", "--dry-run").stderr
    assert "did you mean 'predict'?" in call(installed, tmp_path, "perdict").stderr


def test_a_file_of_the_users_goes_before_a_recipe_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("quickstart").path == shipped_recipes()["quickstart"]
    (tmp_path / "quickstart.yaml").write_text("steps:\n  mine: {stage: simulate}\n")
    assert list(load_recipe("quickstart.yaml").steps) == ["mine"]


def test_no_requirement_brings_another_opencv_into_the_folder_of_the_one_without_a_screen():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = [Requirement(line) for line in config["options"]["install_requires"].split("\n") if line]
    (mediapipe,) = (one for one in wanted if one.name == "mediapipe")
    assert "0.10.31" in mediapipe.specifier and "0.10.32" not in mediapipe.specifier  # which requires opencv-contrib
    names, seen = [one.name for one in wanted], set()
    while names:
        name = names.pop()
        if name not in seen:
            seen.add(name)
            needs = map(Requirement, requires(name) or ())
            names += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert {name for name in seen if name.startswith("opencv")} == {"opencv-python-headless"}
