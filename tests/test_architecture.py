"""The structure that ARCHITECTURE.md promises: one-way imports, small files, light commands."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dcase_seld"
EVERYONE = {"errors", "config", "progress", "processes", "__version__"}
MARKS = "dcase_seld.recipe.stage"  # Ref, Outside, RunTime: what any configuration may mark its fields with
MAY_IMPORT = {
    "task": set(),
    "media": {"task"},
    "metrics": {"task"},
    "model": {"task"},
    "data": {"task", "media", "model"},
    "synth": {"task", "media"},
    "train": {"task", "data", "model", "metrics"},
    "post": {"task", "media", "model", "data", "metrics", "train"},
    "submission": {"task", "metrics"},
    "report": {"task", "media", "metrics", "data", "recipe"},
    "recipe": set(),
    "stages": {"task", "media", "metrics", "model", "data", "synth", "train", "post", "submission", "report", "recipe"},
}
HEAVY = ("torch", "torchaudio", "transformers", "scipy", "pandas", "cv2", "mediapipe", "matplotlib", "lightning_fabric")
LONGEST_FILE = 330


def imports_of(path):
    """Return the rooms that a file imports, anywhere in it, `if TYPE_CHECKING` included."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = [alias.name for alias in node.names] if node.module == "dcase_seld" else [""]
            names = [f"{node.module}.{name}" for name in inner]
        inside = [name for name in names if name.startswith("dcase_seld.") and not name.startswith(MARKS)]
        rooms |= {name.split(".")[1] for name in inside}
    return rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    allowed = MAY_IMPORT[room] | EVERYONE | {room}
    wrong = {str(f.relative_to(PACKAGE)): imports_of(f) - allowed for f in files if imports_of(f) - allowed}
    assert wrong == {}


def test_every_room_is_in_the_table_and_in_the_rules():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert rooms == {*MAY_IMPORT, "commands"}
    table = re.findall(r"^\| `(\w+)/`", (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rooms == set(table)


def test_files_are_rooms_not_halls():
    lengths = {f.relative_to(PACKAGE): len(f.read_text(encoding="utf-8").splitlines()) for f in PACKAGE.rglob("*.py")}
    assert {str(name): lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (PACKAGE.parent / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


PROBE = """
import json, sys
from dcase_seld.cli import COMMANDS, main
from dcase_seld.stages import STAGE_MODULES, load_stage
found, before = {}, set()
for kind, names, load in (
    ("command", COMMANDS, lambda name: main.get_command(None, name).get_short_help_str()),
    ("stage", STAGE_MODULES, lambda name: load_stage(name).config.model_json_schema()),
):
    for name in names:
        load(name)
        heavy = {module for module in HEAVY if module in sys.modules} - before
        if heavy:
            found[f"{kind} {name}"] = sorted(heavy)
        before |= heavy
print(json.dumps(found))
"""


def test_no_command_and_no_stage_imports_anything_heavy_before_it_works():
    code = f"HEAVY = {HEAVY!r}\n{PROBE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


CPU = """
import io, resource, sys
from contextlib import redirect_stdout
from dcase_seld.cli import main
with redirect_stdout(io.StringIO()) as said:
    main([*sys.argv[1:], "--help"], standalone_mode=False)
assert said.getvalue().startswith("Usage:")
print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
"""


@pytest.mark.parametrize("command", [[], ["run"], ["score"], ["package-submission"], ["predict"]])
def test_help_answers_at_once(command):
    """Processor time, not time on the wall: other tests run beside this one."""
    times = [
        float(subprocess.run([sys.executable, "-c", CPU, *command], capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]
    assert min(times) < 0.6
