"""A stranger's names reach the terminal escaped, whatever prints them."""

import ast
import re
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from corpus_made import write_corpus

import dcase_seld
from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError, listing, shown
from dcase_seld.core.work import say

STEERING = "\x1b[31mred\x1b]0;title\x07\u202e\x9b2J\r"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def said(*words, status=None):
    result = CliRunner().invoke(main, list(map(str, words)))
    text = result.output
    if isinstance(result.exception, SeldError):  # printed by the entry point, through the same function
        text += shown(f"{result.exception.problem} {result.exception.remedy}")
    else:
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not RAW.search(text), repr(RAW.search(text))
    return text


def test_text_is_escaped_and_lines_stay():
    assert shown("a\nb\tc ü 你 🎵") == "a\nb\tc ü 你 🎵"
    assert shown("\x1b\x9b\u202e\udc80") == r"\x1b\x9b\u202e\udc80"
    assert listing(["a\nb", "\x1b"]) == r"a\nb, \x1b"


def test_entries_of_a_zip_are_escaped(tmp_path):
    path = tmp_path / "x.zip"
    names = [f"task3a/{STEERING}.txt", "a\nerror: forged [zip-path]", "task3a/x\u202efdp.yaml", f"{STEERING}/y.csv"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
        label = "Example_EXU_task3a_1"
        archive.writestr(f"task3a/{label}/{label}.meta.yaml", 'submission: {label: "\\e[31m", "\\e[0m": 1}\n')
        archive.writestr(f"task3a/{label}/{label}/\u202ex.csv", "frame\n")
    text = said("check-submission", path)
    assert r"\x1b[31m" in text and r"\u202e" in text
    assert not [line for line in text.splitlines() if line.startswith("error: forged")]


def test_files_and_classes_are_escaped(tmp_path):
    root = write_corpus(tmp_path / "corpus", [("dev-train-tau", 3, 1, 0)], windows=1)
    for folder in ("stereo_dev", "metadata_dev"):
        (root / folder / "dev-train-tau" / f"x{STEERING.replace('/', '')}.wav").write_bytes(b"RIFF")
    (root / "taxonomy.yaml").write_text('name: x\nclasses: ["\\e[31mBell", "[/]", B, C]\n')
    assert r"\x1b" in said("data", "check", root)
    assert r"\x1b" in said("data", "stats", root)
    for name in ("pred", "ref"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"a{name}{STEERING}.csv").write_text("frame,class,source,azimuth,distance,onscreen\n1,2\n")
    assert r"\x1b" in said("score", "--pred", tmp_path / "pred", "--ref", tmp_path / "ref")


def test_progress_and_notes_are_escaped(capsys):
    say(f"note: {STEERING}")
    assert not RAW.search(capsys.readouterr().err)


def test_one_place_prints():
    """Commands print through `cli.echo`, the rest through `work.say`: both escape."""
    found = []
    for file in sorted(Path(dcase_seld.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print"):
                found.append(str(file.relative_to(Path(dcase_seld.__file__).parent)))
    assert set(found) == {"cli/__init__.py", "core/work.py"}


@pytest.mark.parametrize("name", ["work\x1b[31m", "a\udc80b"])
def test_runs_that_are_not_there(tmp_path, name):
    assert said("package-submission", "--system", tmp_path / name, "--out", tmp_path / "x.zip")
