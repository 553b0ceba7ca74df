"""The documentation holds: examples run as they stand, the reference is complete, the site builds, links lead."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcase_seld.stages import STAGE_MODULES, load_stage

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Return (language, file name or None, text) of a page's code blocks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for language, code in BLOCK.findall(text):
        name = re.match(r"# file: (\S+)\n", code)
        found.append((language, name[1] if name else None, code))
    return found


def run_page(page, folder):
    """Write a page's files into a folder, then run its Python examples there one after the other."""
    scope = {}
    for _, name, code in blocks(page):
        if name:
            (folder / name).write_text(code, encoding="utf-8")
    for language, name, code in blocks(page):
        if language == "python" and name is None:
            exec(compile(code, page, "exec"), scope)
    return scope


def write_events(folder, seed):
    from dcase_seld.core.event_files import write_folder
    from dcase_seld.core.events import Events

    rng = np.random.default_rng(seed)
    frame = np.tile(np.arange(0, 40, dtype=np.int32), 2)
    rows = len(frame)
    write_folder(
        Events(
            ("one", "two"),
            np.repeat(np.arange(2, dtype=np.int32), 40),
            frame,
            np.full(rows, 11, np.int32),
            np.zeros(rows, np.int32),
            20 + rng.normal(0, 3, rows),
            np.full(rows, 2.0),
            rng.random(rows) < 0.5,
        ),
        folder,
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_every_piece_of_the_example_plug_in_is_shown():
    """The file itself runs in tests/plugins; the page shows it whole, piece by piece."""
    pieces = [text.strip() for language, _, text in blocks("extend.md") if language == "python"]
    ideas = (ROOT / "tests" / "plugins" / "ideas.py").read_text(encoding="utf-8")
    assert "\n\n\n".join(pieces) == ideas.split("\n\n", 1)[1].strip()


def test_the_recipe_that_needs_the_example_plug_in_is_accepted(here):
    (recipe,) = (text for language, _, text in blocks("extend.md") if language == "yaml")
    (here / "own.yaml").write_text(recipe, encoding="utf-8")
    plugin = str(ROOT / "tests" / "plugins" / "ideas.py")
    command = [sys.executable, "-m", "dcase_seld", "run", "own.yaml", "--plugin", plugin, "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "8 of 8 steps would run" in done.stdout + done.stderr, done.stderr


def test_the_calls_of_the_docs_run(here, capsys):
    from dcase_seld.core.task import Task
    from dcase_seld.media.audio import write_wav
    from dcase_seld.model.config import parse_model_config
    from dcase_seld.model.network import build_model
    from dcase_seld.model.weights import save_model

    write_events(here / "labels", 0)
    write_events(here / "predictions", 1)
    write_wav(here / "clip.wav", np.random.default_rng(0).normal(0, 0.1, (2, 200_000)).astype(np.float32))
    model = build_model(parse_model_config({"kind": "crnn"}, "test"), Task(), 0)
    save_model(model, here / "work" / "quickstart" / "finetune_1" / "best")
    (here / "small.yaml").write_text(
        "steps:\n  scenes: {stage: simulate, clips: {train: 2, test: 1}, rooms: {train: 2, test: 1}}\n"
        "  data: {stage: prepare, corpus: scenes}\n"
    )
    scope = run_page("python.md", here)
    assert scope["bell"] == pytest.approx(1.0) and scope["events"].clips == ("clip",)
    assert (scope["folders"]["data"] / "store.json").is_file()
    assert "F20/1 7.7%" in capsys.readouterr().out


def test_the_light_calls_import_nothing_heavy(here):
    write_events(here / "labels", 0)
    code = (
        "import dcase_seld, sys\nassert dcase_seld.score('labels', 'labels').f_score > 0\n"
        "print([name for name in ('torch', 'scipy', 'pandas', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_yaml_block_is_a_recipe_that_can_be_read_or_a_part_of_one(tmp_path):
    from dcase_seld.recipe.graph import Registry, build
    from dcase_seld.recipe.load import load_recipe, parse_value

    registry = Registry(tuple(STAGE_MODULES), load_stage)
    for page in DOCS.glob("*.md"):
        for language, name, code in blocks(page.name):
            if language == "yaml" and name is None and "plugins:" not in code:
                if "steps:" in code:
                    (tmp_path / "r.yaml").write_text(code, encoding="utf-8")
                    assert build(load_recipe(tmp_path / "r.yaml", environment={"DCASE25_ROOT": "data"}), registry)
                else:
                    assert isinstance(parse_value(code), dict), page.name


def test_every_table_has_its_head():
    """Rows that an empty line parts from their table are shown as they are written."""
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]:
        for block in page.read_text(encoding="utf-8").split("\n\n"):
            rows = [*block.strip("\n").splitlines(), "", ""]
            if rows[0].startswith("|"):
                assert rows[1].startswith("|---"), (page.name, rows[0])


def test_the_recipes_steps_keys_and_modules_that_commands_name_are_there():
    from dcase_seld.recipe.graph import Registry, build
    from dcase_seld.recipe.load import find_recipe, load_recipe

    class Anything(dict):
        def get(self, name, default=None):
            return "somewhere"

    registry, tried = Registry(tuple(STAGE_MODULES), load_stage), 0
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        if page.name == "log.md":  # what was run on its day
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for recipe, sets in re.findall(r"\brun\s+(recipes/[\w/]+\.yaml|[a-z]\w+)((?:\s+--set \S+)*)", text):
            if find_recipe(recipe).is_file():
                tried += bool(sets)
                assert build(load_recipe(recipe, re.findall(r"--set (\S+)", sets), Anything()), registry)
            assert not recipe.startswith("recipes/") or (ROOT / recipe).is_file(), (page.name, recipe)
        for module in re.findall(r"-m (dcase_seld\S*)", text):
            assert importlib.util.find_spec(f"{module}.__main__"), f"{page.name}: python -m {module}"
    assert tried >= 3


def test_the_pages_of_keys_and_of_commands_are_up_to_date_and_complete():
    sys.path.insert(0, str(DOCS))
    try:
        pages = importlib.import_module("make_reference").PAGES
    finally:
        sys.path.remove(str(DOCS))
    for name, page in pages.items():
        assert (DOCS / name).read_text(encoding="utf-8") == page(), "run python docs/make_reference.py"
    assert "## dcase-seld data check\n" in pages["commands.md"]()
    text = pages["recipe_reference.md"]()
    for name in STAGE_MODULES:
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        fields = load_stage(name).config.model_fields
        assert all(f"| `{key}` |" in part for key in fields)
        assert all(info.description for info in fields.values()), f"{name}: every key has a description"


def test_commands_and_files_that_the_docs_name_exist():
    from dcase_seld.cli.main import COMMANDS

    for page in (*DOCS.glob("*.md"), ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        unknown = {name for name in re.findall(r"dcase-seld ([a-z][a-z-]+)", text) if name not in COMMANDS}
        assert not unknown, f"{page.name}: {unknown}"
        for link in re.findall(r"\]\(([a-z_]+\.md)", text):
            assert (DOCS / link).exists(), f"{page.name}: {link}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    import shutil

    copy = tmp_path / "project"
    shutil.copytree(DOCS, copy / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", copy / "mkdocs.yml")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "multi-ACCDOA" in (tmp_path / "site" / "models.html").read_text(encoding="utf-8")


def test_no_page_is_in_the_menu_twice():
    pages = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(pages) == len(set(pages)) > 5


def test_the_import_of_own_data_runs_as_documented(here):
    """The table and the commands of the page, with two recordings."""
    from dcase_seld.media.audio import write_wav

    (here / "recordings").mkdir()
    for number, name in enumerate(("kitchen", "garden")):
        noise = np.random.default_rng(number).normal(0, 0.1, (2, 72_000)).astype(np.float32)
        write_wav(here / "recordings" / f"{name}.wav", noise)
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    table, commands = re.findall(
        r"^```\n(file,onset.*?)^```\n\n^```\n(dcase-seld data import.*?)^```", page, re.M | re.S
    )[0]
    (here / "events.csv").write_text(table + "garden.wav,0,1,kettle,0,1,0\n", encoding="utf-8")
    for line in commands.replace("\\\n", " ").splitlines():
        words = [sys.executable, "-m", *line.replace("dcase-seld", "dcase_seld").split()]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "2 clips" in done.stdout and "No problem was found." in done.stdout
    assert "dishes" in (here / "home" / "taxonomy.yaml").read_text()


@pytest.mark.slow
def test_the_tutorial_runs_in_an_empty_folder(here, capsys, monkeypatch):
    """Its code cells, one after the other, as a notebook runs them; nothing of jupyter is needed."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    book = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    assert book["nbformat"] == 4 and len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    scope = {"__name__": "__main__"}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"tutorial, {cell['id']}", "exec"), scope)
    said = capsys.readouterr().out
    print(said)
    assert "Predictor(1 network" in said and "6 recordings to test with" in said
    assert scope["scores"].clips == 6 and scope["scores"].f_score > 0.05, "the package's network"
    assert scope["page"].read_text(encoding="utf-8").count("<svg") > 3
    assert (here / "tutorial" / "azimuths.png").read_bytes()[:4] == b"\x89PNG"
