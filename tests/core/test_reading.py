"""What others may have written is bounded before it is built: YAML, JSON, arrays, weights."""

import json
import os
import time

import numpy as np
import pytest

from dcase_seld.core.classes import load_taxonomy
from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import Facts, parse_yaml, read_arrays, read_json, read_text
from dcase_seld.core.task import load_task
from dcase_seld.recipe.load import load_recipe
from dcase_seld.submission.layout import load_layout, load_team

MERGES = "a0: &a0 {x: 1, y: 2}\n" + "\n".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}" for i in range(1, 30)
)
ALIASES = "a0: &a0 [1, 2]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30))
BOMBS = {
    "merge keys": MERGES,
    "aliases": ALIASES,
    "of itself": "a: &x [*x]",
    "merged with itself": "a: &x {<<: *x}",
    "digits": "a: " + "1" * 5_000,
    "levels": "[" * 100_000,
    "dashes": "- " * 3_000,
    "no number": "a: !!int zz",
    "no truth": "a: !!bool q",
    "code": "a: !!python/object/apply:os.system [x]",
    "zero byte": "a: \0",
    "key of keys": "? [1]\n: 2",
    "twice": "a: 1\na: 2",
}


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_texts_that_unfold_or_are_no_data_are_refused_at_once(text, version):
    begun = time.process_time()
    with pytest.raises(SeldError, match=r"f\.yaml"):
        parse_yaml(text, "f.yaml", version=version)
    assert time.process_time() - begun < 5


READERS = {
    "recipe": load_recipe,
    "taxonomy": load_taxonomy,
    "task": lambda path: load_task(str(path)),
    "team": load_team,
    "layout": lambda path: load_layout(path.parent),
}


@pytest.mark.parametrize("content", [MERGES.encode(), b"a: \xff\xfe", b"\xef\xbb\xbf[", b"", b"a: " + b"1" * 5_000])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_every_yaml_that_a_user_names_goes_through_the_one_reader(tmp_path, reader, content):
    path = tmp_path / "layout.yaml"
    path.write_bytes(content)
    with pytest.raises(SeldError, match=r"layout\.yaml"):
        reader(path)


def test_the_versions_differ_where_the_challenge_reads_another_one():
    assert parse_yaml("a: off", "f")["a"] == "off" and parse_yaml("a: off", "f", version="1.1")["a"] is False
    assert parse_yaml("a: 1e-3", "f")["a"] == 0.001 and parse_yaml("a: 2024-99-99", "f", version="1.1")["a"]
    assert parse_yaml("a: !!null text", "f", version="1.1") == {"a": None} and parse_yaml("", "f") is None


def test_pipes_folders_and_giants_are_no_text_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"a" * 11)
    for name, words in (("pipe", "a pipe"), (".", "a folder"), ("none", "no file"), ("large", "11 bytes")):
        with pytest.raises(SeldError, match=words):
            read_text(tmp_path / name, 10)


class Ages(Facts):
    format: int
    ages: dict[str, float]


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"format": "1", "ages": {}}', "[" * 100_000, '{"format": ' + "1" * 5_000 + "}"]
)
def test_json_is_held_against_its_schema(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SeldError, match=r"a\.json"):
        read_json(path, Ages)
    path.write_text(json.dumps({"format": 1, "ages": {"a": 2}, "more": None}))
    assert read_json(path, Ages)["ages"] == {"a": 2}


def test_arrays_have_names_kinds_and_one_axis(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(3), b=np.zeros(3), name=np.array(["x"]))
    assert read_arrays(path, {"a": "iu", "name": "U"}, {"c": "f"}, "")["a"].tolist() == [0, 1, 2]
    for columns, words in (({"b": "iu"}, "column b"), ({"c": "f"}, "lacks the column c")):
        with pytest.raises(SeldError, match=words):
            read_arrays(path, columns, {}, "")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_arrays(path, {"a": "iu", "b": "f", "name": "U"}, {}, "")
        except SeldError as error:
            assert "a.npz" in error.problem


def test_archives_that_unpack_to_far_more_are_not_unpacked(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(40_000_000))
    with pytest.raises(SeldError, match="unpack to"):
        read_arrays(path, {"a": "f"}, {}, "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b'{"error": "not found"}', "error message"),
    ],
)
def test_what_stands_in_place_of_weights_is_named(tmp_path, content, words):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(SeldError, match=words):
        refuse_no_weights(path)
