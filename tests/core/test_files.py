"""Replacing a folder leaves one intact version, whatever moment it is interrupted at."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import replace_folder, settle, whole


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
            pytest.raises(SeldError, match=r"The disk is full: .*the checkpoint before it is intact"),
            replace_folder(target) as folder,
        ):
            if how == "plain":
                (folder / "a.txt").write_text("x" * 200_000)
            save_file({"x": torch.zeros(100_000)}, folder / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (target / "a.txt").read_text() == "one"
