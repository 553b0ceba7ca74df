"""`--json FILE` of every command writes what it prints; `--json -` prints the JSON alone."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from dcase_seld.cli import answer
from dcase_seld.cli.main import COMMANDS, main
from dcase_seld.core.errors import SeldError

ROOT = Path(__file__).parent.parent.parent
LABELS = ROOT / "tests" / "golden" / "scores" / "typical" / "reference"
PREDICTED = LABELS.parent / "prediction"
CASES = {
    "score": ["score", "--pred", str(PREDICTED), "--ref", str(LABELS)],
    "data stats": ["data", "stats", str(LABELS)],
    "data check": ["data", "check", "CORPUS"],
    "check-submission": ["check-submission", "ZIP"],
    "model-summary": ["model-summary", str(ROOT / "recipes" / "quickstart.yaml")],
}


def commands_with_json():
    for name in COMMANDS:
        command = main.get_command(None, name)
        for path, one in (
            (name, command),
            *((f"{name} {key}", c) for key, c in getattr(command, "commands", {}).items()),
        ):
            if any("--json" in parameter.opts and not parameter.is_flag for parameter in one.params):
                yield path


def test_all_commands_that_write_json_are_here():
    assert set(commands_with_json()) - {"people"} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_json_to_standard_output_is_what_the_file_holds_and_nothing_else(name, corpus_root, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    words = [{"CORPUS": str(corpus_root), "ZIP": str(tmp_path / "no.zip")}.get(word, word) for word in CASES[name]]
    printed = CliRunner().invoke(main, [*words, "--json", "-"], standalone_mode=True)
    written = CliRunner().invoke(main, [*words, "--json", str(tmp_path / "out.json")])
    assert printed.exit_code == written.exit_code
    assert json.loads(printed.stdout) == json.loads((tmp_path / "out.json").read_text())
    assert not written.stdout.startswith("{") and written.stdout.strip()
    assert not Path("-").exists()


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_the_command_did_not_write_is_not_written_over(name, corpus_root, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    words = [{"CORPUS": str(corpus_root), "ZIP": str(tmp_path / "no.zip")}.get(word, word) for word in CASES[name]]
    own, link = tmp_path / "own.json", tmp_path / "link.json"
    link.symlink_to(own)
    for content in ("frame,class\n1,2\n", '{"format": 1, "names": []}', "classes: [a]\n"):
        for place in (own, link):
            own.write_text(content)
            refused = CliRunner().invoke(main, [*words, "--json", str(place)])
            assert isinstance(refused.exception, SeldError)
            assert own.read_text() == content
    own.unlink()
    for _ in range(2):  # what it wrote itself it may write again, through a link too
        assert not isinstance(CliRunner().invoke(main, [*words, "--json", str(link)]).exception, SeldError)
    assert json.loads(own.read_text()) and link.is_symlink()
    (tmp_path / "receipt.json").write_text("{}")
    assert "recipe" in str(CliRunner().invoke(main, [*words, "--json", str(own)]).exception)


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["report", str(PREDICTED), "--ref", str(LABELS), "--out", "FILE"], "labels.csv"),
        (["schema", "FILE"], "mine.yaml"),
        (["data", "stats", str(LABELS), "--picture", "FILE"], "holiday.png"),
        (["package-submission", "--system", str(PREDICTED), "--out", "FILE"], "photos.zip"),
        (["people", "FILE", "--json", "FILE"], "p.png"),
    ],
)
def test_other_files_that_a_user_names_are_kept_too(words, target, tmp_path):
    file = tmp_path / target
    file.write_bytes(b"\x89PNG\r\n\x1a\n precious")
    done = CliRunner().invoke(main, [word.replace("FILE", str(file)) for word in words])
    assert isinstance(done.exception, SeldError) and file.read_bytes().endswith(b"precious")
    assert sorted(p.name for p in tmp_path.iterdir()) == [target]


def test_numbers_that_are_none_are_null(capsys):
    answer("x", {"a": math.nan, "b": [math.inf, 1.5]}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5]}
