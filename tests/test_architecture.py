"""The structure that ARCHITECTURE.md promises: one-way imports, small files, light commands."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dcase_seld"
MAY_IMPORT = {
    "core": set(),
    "media": {"core"},
    "scoring": {"core"},
    "recipe": {"core"},
    "model": {"core"},
    "pretrained": {"core"},
    "store": {"core", "model"},
    "simulate": {"core", "media"},
    "vision": {"core", "media", "pretrained"},
    "submission": {"core", "recipe"},
    "corpus": {"core", "media", "store"},
    "infer": {"core", "media", "store", "model", "pretrained", "scoring"},
    "report": {"core", "media", "store", "scoring", "recipe", "vision"},
    "train": {"core", "store", "model", "infer", "scoring"},
    "stages": {
        *("core", "scoring", "recipe", "pretrained", "store", "simulate", "vision", "submission", "corpus", "infer"),
        *("report", "train"),
    },
    "cli": {
        *("core", "media", "scoring", "corpus", "model", "infer", "pretrained", "vision", "recipe", "report"),
        *("submission", "stages"),
    },
    "api": {"core", "infer", "scoring", "recipe", "stages"},
}
"""Room → the rooms that its files may import; `api` is a file of its own."""

MOST_ARROWS, MOST_FLOORS, MOST_FILES, MOST_LINES = 80, 9, 150, 35_011
HEAVY = ("torch", "torchaudio", "transformers", "scipy", "pandas", "cv2", "mediapipe", "matplotlib", "lightning_fabric")
LONGEST_FILE = 350


def imports_of(path):
    """Return the modules of the package that a file imports, anywhere in it, `if TYPE_CHECKING` included."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = [alias.name for alias in node.names] if node.module == "dcase_seld" else [""]
            names = [f"{node.module}.{name}".rstrip(".") for name in inner]
        modules |= {name for name in names if name.startswith("dcase_seld.") and name != "dcase_seld.__version__"}
    return modules


def room_of(path):
    """Return the room of a file: its folder in the package, or its own name at the package's top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_of(path):
    return {name.split(".")[1] for name in imports_of(path)} - {room_of(path)}


FILES = sorted(PACKAGE.rglob("*.py"))
OPEN_FILES = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}


def test_imports_run_one_way():
    wrong = {
        str(file.relative_to(PACKAGE)): rooms_of(file) - MAY_IMPORT[room_of(file)]
        for file in FILES
        if file not in OPEN_FILES and rooms_of(file) - MAY_IMPORT[room_of(file)]
    }
    assert wrong == {}


def test_the_house_is_as_low_and_as_plain_as_planned():
    arrows = {(room_of(file), room) for file in FILES if file not in OPEN_FILES for room in rooms_of(file)}
    floors = {}

    def floor(room, above=()):
        assert room not in above, f"a circle of rooms: {(*above, room)}"
        if room not in floors:
            floors[room] = 1 + max((floor(other, (*above, room)) for one, other in arrows if one == room), default=0)
        return floors[room]

    assert max(floor(room) for room in MAY_IMPORT) <= MOST_FLOORS
    assert len(arrows) <= MOST_ARROWS
    assert len(FILES) <= MOST_FILES
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in FILES) <= MOST_LINES


def test_no_two_files_import_each_other():
    names = {str(f.relative_to(PACKAGE).with_suffix("")).replace("/", "."): f for f in FILES if f not in OPEN_FILES}
    graph = {
        name: {other for other in (full.removeprefix("dcase_seld.") for full in imports_of(file)) if other in names}
        for name, file in names.items()
    }
    done, trail = set(), []

    def visit(name):
        assert name not in trail, " → ".join((*trail[trail.index(name) :], name))
        if name not in done:
            trail.append(name)
            for other in sorted(graph[name] - {name}):
                visit(other)
            trail.pop()
            done.add(name)

    for name in graph:
        visit(name)


def test_every_room_is_in_the_table_and_in_the_rules():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert {*rooms, "api"} == {*MAY_IMPORT}
    table = re.findall(r"^\| `(\w+)/?`", (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*MAY_IMPORT} == set(table)


def test_files_are_rooms_not_halls():
    lengths = {f.relative_to(PACKAGE): len(f.read_text(encoding="utf-8").splitlines()) for f in PACKAGE.rglob("*.py")}
    assert {str(name): lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


RENAMES = {
    "dcase_seld/core/files.py",
    "dcase_seld/pretrained/fetch.py",
    "dcase_seld/pretrained/catalogue.py",
    "dcase_seld/corpus/download.py",
}
"""Who renames files: the one module that makes them whole, and what goes on with downloads that broke off."""


def test_what_comments_and_docstrings_refer_to_exists():
    names = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            own = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            own += [target.id for target in targets if isinstance(target, ast.Name)]
            names.setdefault(path.stem, set()).update(own)
    files_or_keys = re.compile(r".*\.(csv|npz|json|i16|html|safetensors|yaml|md|tex|key|kind|encoder)$")
    stale = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        said = [node.value.value for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)]  # fmt: skip
        said += [line for line in text.splitlines() if line.lstrip().startswith("#")]
        for whole, file, name in re.findall(
            r"(?<![\w./])((?:[a-z_]+\.)*([a-z_]+)\.([A-Za-z_]\w+))(?![\w/])", "\n".join(said)
        ):
            rooms = whole.split(".")[0] in MAY_IMPORT
            ours = rooms or (file in names and whole.split(".")[0] == file)
            if ours and name not in names.keys() | names.get(file, set()) and not files_or_keys.match(whole):
                stale.append(f"{path.relative_to(PACKAGE)}: {whole}")
    assert not stale


def test_one_module_makes_files_whole():
    found = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            renames = isinstance(node, ast.Attribute) and (
                node.attr in ("rename", "renames") or (node.attr == "replace" and ast.unparse(node.value) == "os")
            )
            part = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".part")
            if renames or (part and len(node.value) < 40):
                found.add(str(file.relative_to(PACKAGE.parent)))
    assert found <= RENAMES


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (PACKAGE.parent / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


PROBE = """
import json, sys
from dcase_seld.cli.main import COMMANDS, main
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


def test_what_predicts_loads_neither_a_compiler_nor_the_trainers_engine():
    """Each takes as long to import as PyTorch itself, which a first answer would wait for."""
    code = "import sys, dcase_seld.infer.predictor; print({'torch._dynamo', 'lightning_fabric'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr


CPU = """
import io, resource, sys
from contextlib import redirect_stdout
from dcase_seld.cli.main import main
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


def test_the_list_of_files_is_true():
    sys.path.insert(0, str(PACKAGE.parent / "docs"))
    try:
        import make_house
    finally:
        sys.path.pop(0)
    stale = "ARCHITECTURE.md lists other files than there are: run python docs/make_house.py"
    assert make_house.page() == make_house.PAGE.read_text(encoding="utf-8"), stale
