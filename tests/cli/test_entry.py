"""The command as a shell sees it: a refusal of the system is a sentence and exit status 1, a closed pipe is silence."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dcase_seld.cli import main, score
from dcase_seld.core.errors import SeldError

RECIPE = "steps:\n  scenes: {stage: simulate, clips: {train: 2, test: 0}, rooms: {train: 1, test: 1}}\n"


def test_a_file_as_work_directory_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "work").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dcase-seld", "run", "r.yaml", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        main.entry()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and f"{tmp_path / 'work'}" in said and "Not a directory." in said
    assert (tmp_path / "work").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileExistsError(errno.EEXIST, "File exists", "out"), "out: a file is in the place of a folder."),
        (PermissionError(errno.EACCES, "Permission denied", "work/.results"), "work/.results: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device", "read", None, "written"), "written: No space left"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk: No space left on device (in step train)."),
    ],
)
def test_what_the_system_refuses_is_said_with_its_path_and_step(error, said, monkeypatch, capsys):
    if error.errno == errno.ENOSPC:
        error.add_note("in step train")

    def refuse(**_):
        raise error

    monkeypatch.setattr(main, "main", refuse)
    with pytest.raises(SystemExit) as ended:
        main.entry()
    assert ended.value.code == 1 and said in capsys.readouterr().err


@pytest.mark.parametrize("group", ["recipes", "data", "models"])
def test_the_list_of_a_groups_commands_says_whole_sentences(group):
    listed = CliRunner().invoke(main.main, [group, "--help"], terminal_width=80).output.partition("Commands:")[2]
    assert listed and "..." not in listed and listed.rstrip().endswith(".")


def options(command):
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)
    yield from command.params


def test_every_number_on_the_line_is_a_finite_one():
    numbers = [one for name in main.COMMANDS for one in options(main.main.get_command(None, name))]
    numbers = [one for one in numbers if isinstance(one.type, (click.types.FloatParamType, score.FrameCount))]
    assert len(numbers) > 8
    for option in numbers:
        for text in ("nan", "inf", "-inf", "1e999", "9" * 5_000):
            with pytest.raises(click.BadParameter):
                option.type.convert(text, option, None)


@pytest.mark.parametrize("error", [OSError("no number"), ConnectionResetError(errno.ECONNRESET, "reset", "x")])
def test_other_errors_keep_their_traceback(error, monkeypatch):
    def fail(**_):
        raise error

    monkeypatch.setattr(main, "main", fail)
    with pytest.raises(type(error)):
        main.entry()


def test_a_reader_that_has_gone_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "dcase_seld.cli.main", "--help"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == "" and done.returncode == 1


SCORES = Path(__file__).parent.parent / "golden" / "scores" / "typical"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "1</dev/null", "2</dev/null"])
def test_streams_that_are_closed_or_cannot_be_written_are_passed_over(tmp_path, closed):
    """The number of a closed stream is not given to a file of the user's, which every print would then end in."""
    words = ["score", "--pred", SCORES / "prediction", "--ref", SCORES / "reference", "--json", tmp_path / "s.json"]
    line = f'exec "$0" -m dcase_seld "$@" {closed}'
    done = subprocess.run(["sh", "-c", line, sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["clips"]


def test_a_folder_that_was_removed_below_the_feet_is_told_so(tmp_path):
    line = 'cd "$1" && rmdir "$1" && exec "$0" -m dcase_seld --help'
    done = subprocess.run(["sh", "-c", line, sys.executable, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: The current folder cannot be used"), done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["data", "check", ".", "--seconds", "nan"],
        ["data", "check", ".", "--seconds", "9" * 400],
        ["data", "convert", "--source", ".", "--out", "o", "--count", "9" * 9],
        ["ensemble", "default", "--out", "o", "--weights", "0"],
        ["ensemble", "default", "--out", "o", "--weights", "1e308"],
        ["models", "make-random", "clap", "o", "--seed", "9" * 30],
        ["model-summary", "quickstart", "--batch", "9" * 12],
        ["people", "x.png", "--fps", "1e300"],
        ["ensemble", "", "--out", "o"],
    ],
)
def test_numbers_that_no_machine_holds_and_empty_names_are_refused(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main.main, words)
    assert done.exit_code and isinstance(done.exception, (SystemExit, SeldError)), done.exception
    assert not list(tmp_path.iterdir())
