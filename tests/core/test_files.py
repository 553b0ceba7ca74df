"""Replacing a folder leaves one intact version, whatever moment it is interrupted at."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from dcase_seld.cli import named_file
from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import (
    OutputFolder,
    refuse_folder,
    replace_folder,
    settle,
    visible_files,
    whole,
    whole_file,
    write_json,
    write_text,
)
from dcase_seld.core.reading import read_table
from dcase_seld.media.audio import read_audio
from dcase_seld.media.frames import read_picture, video_info


def write(target: Path, text: str) -> None:
    with replace_folder(target) as folder:
        (folder / "a.txt").write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "state"
    for text in ("one", "two"):
        write(target, text)
        assert (target / "a.txt").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("moment", ["half written", "moved aside", "moved in", "taken away"])
def test_every_interruption_leaves_one_version(tmp_path: Path, moment: str) -> None:
    target, new, old = tmp_path / "state", tmp_path / ".state.new", tmp_path / ".state.old"
    write(target, "one")
    if moment == "half written":
        new.mkdir()
        (new / "b.part").write_text("hal")
        expected = "one"
    else:
        shutil.copytree(target, new)
        (new / "a.txt").write_text("two")
        target.rename(old)
        expected = "two"
        if moment == "moved in":
            new.rename(target)
        if moment == "taken away":
            shutil.rmtree(new)
            expected = "one"
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert (whole(target) / "a.txt").read_text() == expected
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before, "a reader takes nothing from a running training"
    assert (settle(target) / "a.txt").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    write(target, "three")
    assert (target / "a.txt").read_text() == "three"


def test_an_error_while_writing_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "state"
    write(target, "one")
    with pytest.raises(KeyError), replace_folder(target) as folder:
        (folder / "a.txt").write_text("two")
        raise KeyError
    assert (target / "a.txt").read_text() == "one"


@pytest.mark.parametrize("how", ["plain", "safetensors"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, how: str) -> None:
    target = tmp_path / "state"
    write(target, "one")
    # A limit on the size of files makes the system refuse to write on, as a full disk does.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with (
            pytest.raises(SeldError, match=r"The disk is full: .*what was there before is intact"),
            replace_folder(target) as folder,
        ):
            if how == "plain":
                (folder / "a.txt").write_text("x" * 200_000)
            save_file({"x": torch.zeros(100_000)}, folder / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (target / "a.txt").read_text() == "one"


def test_a_file_is_replaced_through_links_and_nothing_is_left_after_an_error(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("deep/real.json")
    (tmp_path / "dangling.json").symlink_to("deep/new.json")
    write_json(tmp_path / "link.json", {"a": 1.0, "b": float("nan")})
    write_text(tmp_path / "dangling.json", "there")
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "deep/real.json").read_text())["b"] is None
    assert (tmp_path / "dangling.json").is_symlink() and (tmp_path / "deep/new.json").read_text() == "there"
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "deep/real.json") as part:
        part.write_text("half")
        _ = 1 / 0
    assert "half" not in (tmp_path / "deep/real.json").read_text()
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["new.json", "real.json"]
    with pytest.raises(SeldError, match="is a folder"):
        write_text(tmp_path / "deep", "x")


def test_pipes_and_devices_are_written_into_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    heard = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "through")
    reader.join(10)
    assert heard == ["through"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    before = Path("/dev/null").stat()
    (tmp_path / "null").symlink_to("/dev/null")
    write_json(tmp_path / "null", {})
    assert (
        Path("/dev/null").stat().st_rdev == before.st_rdev
        and [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_the_systems_sentence():
    with pytest.raises(OSError, match="No space left"):
        write_text("/dev/full", "x" * 100_000)


def test_names_that_are_no_text_and_lines_in_names_can_be_written_again(tmp_path):
    names = [os.fsdecode(b"caf\xe9.csv"), "two\nlines\t.csv", "\u00e9.csv", 'q"\\.csv']
    for text in ("first", "second"):
        with OutputFolder(tmp_path / "out") as folder:
            for name in names:
                write_text(folder.file(name), text + name)
    assert (tmp_path / "out" / names[0]).read_text() == "secondcaf\\udce9.csv"
    (tmp_path / "out" / names[1]).write_text("mine, and longer than before")
    for _ in range(2):
        with (
            pytest.raises(SeldError, match="was not written by this command"),
            OutputFolder(tmp_path / "out") as folder,
        ):
            folder.file(names[1])


def test_what_commands_beside_each_other_and_users_wrote_is_told_apart(tmp_path):
    """The last one to end wrote its own list, and took what a user had changed meanwhile for its own."""
    with OutputFolder(tmp_path / "out") as first:
        write_text(first.file("a.csv"), "a")
    (tmp_path / "out" / "a.csv").write_text("a, and mine")
    with OutputFolder(tmp_path / "out") as second:
        write_text(second.file("b.csv"), "b")
        with OutputFolder(tmp_path / "out") as third:
            write_text(third.file("c.csv"), "c")
    with OutputFolder(tmp_path / "out") as again:
        assert [again.made(name) for name in ("a.csv", "b.csv", "c.csv")] == [False, True, True]


def test_a_full_disk_names_the_file_that_was_asked_for(tmp_path):
    target = tmp_path / "full.txt"
    target.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as found:
        write_text(target, "x")
    assert found.value.filename == str(target)
    with pytest.raises(OSError) as found, whole_file(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert found.value.filename == str(tmp_path / "a.txt") and not list(tmp_path.glob(".*"))


def test_what_ends_like_a_wanted_file_and_is_none_is_seen_and_refused_by_its_reader(tmp_path):
    for name in ("in/a.wav", "in/.hidden.wav"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"RIFF")
    for suffix in (".wav", ".mp4", ".png"):
        (tmp_path / f"in/broken{suffix}").symlink_to("nowhere")
        (tmp_path / f"in/loop{suffix}").symlink_to(f"loop{suffix}")
        (tmp_path / f"in/zero{suffix}").symlink_to("/dev/zero")
        (tmp_path / f"in/folder{suffix}").mkdir()
        os.mkfifo(tmp_path / f"in/pipe{suffix}")
    with (tmp_path / "in" / "sparse.png").open("wb") as stream:
        stream.truncate(3 * 2**30)
    assert len(visible_files(tmp_path / "in", (".wav",))) == 6
    for read, suffix in ((read_audio, ".wav"), (video_info, ".mp4"), (read_picture, ".png")):
        for path in visible_files(tmp_path / "in", (suffix,)):
            with pytest.raises(SeldError, match=path.name):
                read(path)
    assert [path.name for path in visible_files(tmp_path / "in")].count("a.wav") == 1  # without endings: files alone


def test_tables_are_bounded_and_have_no_missing_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(" file , group\n\na\n")
    assert read_table(path, "Mend it.") == (["file", "group"], [(3, {"file": "a", "group": ""})])
    with path.open("wb") as stream:
        stream.truncate(3 * 2**30)
    with pytest.raises(SeldError, match="at most"):
        read_table(path, "Mend it.")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SeldError, match="a device"):
        read_table(path, "Mend it.")


def test_folders_that_hold_something_else_are_refused_in_one_sentence(tmp_path):
    refuse_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    refuse_folder(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refuse_folder(tmp_path / "full", ours=True)
    for place, what in (("full", "holds files that this work did not make"), ("full/notes.txt", "is a file")):
        with pytest.raises(SeldError, match=what) as told:
            refuse_folder(tmp_path / place)
        assert "Give another place, or move it away." in str(told.value)
    with pytest.raises(SeldError, match=r"notes\.txt is a file"):
        refuse_folder(tmp_path / "full" / "notes.txt", ours=True)


@pytest.mark.parametrize("place", ["full", "full/notes.txt"])
def test_whatever_makes_a_folder_refuses_others(tmp_path, place):
    """Every command that fills a folder says so before it reads or makes anything."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "foa").mkdir()
    out, table = tmp_path / place, tmp_path / "t.csv"
    table.write_text("file,onset,offset,label,azimuth,distance\n")
    for words in (["data", "simulate", "--out", out], ["data", "import", table, "--audio", tmp_path, "--out", out],
                  ["data", "convert", "--source", tmp_path / "foa", "--out", out],
                  ["ensemble", "default", "--out", out], ["models", "make-random", "clap", out]):  # fmt: skip
        done = CliRunner().invoke(main, [str(word) for word in words])
        said = done.output + str(done.exception)
        assert done.exit_code and ("did not make" in said or "other files" in said or "is a file" in said), (
            words,
            said,
        )
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_nothing_is_written_among_results_by_whatever_way_it_is_named(tmp_path):
    """Every command with a place to write to: what is made of a result later would hold the file too."""
    result = tmp_path / "work" / ".results" / "export-1" / "csv"
    result.mkdir(parents=True)
    (result / "a.csv").write_text("frame,class,source,azimuth,distance,onscreen\n")
    (tmp_path / "work" / "r").mkdir()
    (tmp_path / "work" / "r" / "csv").symlink_to("../.results/export-1")
    wave = tmp_path / "a.wav"
    sound, table = ["--ref", str(result), "--pred", str(result)], str(wave)
    for out in (result, tmp_path / "work" / "r" / "csv", tmp_path / "work" / "r" / ".." / "r" / "csv" / "new" / "x"):
        file = out / "x.json"
        for words in (["data", "simulate", "--out", out], ["data", "import", table, "--audio", tmp_path, "--out", out],
                      ["data", "convert", "--source", tmp_path, "--out", out], ["ensemble", "default", "--out", out],
                      ["models", "make-random", "clap", out], ["score", *sound, "--json", file],
                      ["report", result, "--ref", result, "--out", file], ["schema", file],
                      ["data", "stats", result, "--json", file], ["data", "stats", result, "--picture", file],
                      ["package-submission", "--system", result, "--out", file]):  # fmt: skip
            done = CliRunner().invoke(main, [str(word) for word in words])
            assert "is among the results of a recipe" in str(done.exception), (words, done.output, done.exception)
        with pytest.raises(SeldError, match="among the results"), OutputFolder(out):
            pass
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.csv"]


def test_a_link_out_of_a_folder_is_not_followed_whatever_may_be_replaced_in_it(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").symlink_to(labels)
    (tmp_path / "out" / "b.csv").symlink_to("c.csv")
    with OutputFolder(tmp_path / "out", overwrite=True) as folder:
        with pytest.raises(SeldError, match="is a link to"):
            folder.file("a.csv")
        write_text(folder.file("b.csv"), "new")
    assert labels.read_text() == "precious" and (tmp_path / "out" / "c.csv").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no such users")
def test_a_folder_that_may_not_be_looked_into_is_seen_and_refused_by_its_reader():
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        (root / "locked").mkdir(mode=0)
        (root / "a.wav").write_bytes(b"")
        user = os.geteuid()
        os.seteuid(65_534 if user == 0 else user)
        try:
            assert visible_files(root, (".wav",)) == [root / "a.wav", root / "locked"]
            with pytest.raises(SeldError, match="may not be looked into"):
                read_audio(root / "locked")
        finally:
            os.seteuid(user)
            (root / "locked").chmod(0o755)


def test_what_killed_processes_left_unfinished_goes_and_what_others_write_stays(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = ended.stdout.strip()
    with OutputFolder(tmp_path / "out") as folder:
        write_text(folder.file("a.csv"), "old")
    with whole_file(tmp_path / "a") as part:
        here = part.name.split(".")[2].removesuffix(str(os.getpid()))
        part.touch()
    ours = {f".a.csv.{here}{dead}.part", f".r.html.{here}{dead}.part"}
    others = {f".{name}.part" for name in ("a.csv.x", f"a.csv.{here}{os.getppid()}", f"mine.csv.{here}{dead}")}
    # On a disk that machines share, a process of another one has the number of one that ended here.
    others |= {f".a.csv.{here}{10**30}.part", f".a.csv.{dead}.part", f".a.csv.{int(here[:-1], 16) ^ 1:08x}-{dead}.part"}
    for name in ours | others:
        (tmp_path / "out" / name).write_text("half")
    with OutputFolder(tmp_path / "out"):
        pass
    named_file(tmp_path / "out" / "r.html", "<title>", ())
    assert {path.name for path in (tmp_path / "out").glob(".*.part")} == others
