from dataclasses import replace

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE as STAGE
from dcase_seld.stages.data import PrepareConfig
from dcase_seld.store.source import tokens_of
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader, TokenSpec, TokenWriter

NAMES = [f"clip{index}" for index in range(7)]
SPEC = TokenSpec("owlvit", "image", "tiny", "abc", True, (2, 3, 4), mirror=True)


def content(names, add=0.0):
    return np.stack([np.full(SPEC.shape, NAMES.index(name) + add, np.float32) for name in names])


def fill(writer, shards=None):
    for shard, rows in writer.pending():
        names = [writer.names[row] for row in rows]
        if shards is None or shard in shards:
            mask = np.array([[True, name != "clip5"] for name in names])
            writer.write(shard, content(names), content(names, 0.5), mask)


def test_round_trip_by_name_and_position(tmp_path):
    writer = TokenWriter(tmp_path / "t", SPEC, NAMES, clips_per_shard=3)
    assert writer.shards == 3
    fill(writer)
    writer.finish()
    reader = TokenReader.open(tmp_path / "t")
    assert reader.spec == SPEC and reader.names == tuple(NAMES)
    read = reader.read(["clip6", "clip0", "clip6"])
    assert read.dtype == np.float16 and np.array_equal(read, content(["clip6", "clip0", "clip6"]))
    assert np.array_equal(reader.read(np.array([2, 5])), content(["clip2", "clip5"]))
    assert np.array_equal(reader.read(["clip4"], mirror=True), content(["clip4"], 0.5))
    assert reader.read_mask(["clip4", "clip5"]).tolist() == [[True, True], [True, False]]


def test_resumes_after_a_kill(tmp_path):
    fill(TokenWriter(tmp_path, SPEC, NAMES, clips_per_shard=2), shards={0, 2})
    with pytest.raises(SeldError, match="no finished tokens"):
        TokenReader.open(tmp_path)
    again = TokenWriter(tmp_path, SPEC, NAMES, clips_per_shard=2)
    assert [shard for shard, _ in again.pending()] == [1, 3]
    with pytest.raises(ValueError, match="not written"):
        again.finish()
    fill(again)
    again.finish()
    assert np.array_equal(TokenReader.open(tmp_path).read(NAMES), content(NAMES))


def test_another_list_of_clips_begins_anew(tmp_path):
    fill(TokenWriter(tmp_path, SPEC, NAMES, clips_per_shard=2))
    assert len(list(TokenWriter(tmp_path, SPEC, NAMES[:4], clips_per_shard=2).pending())) == 2


def test_unknown_clip_and_missing_mirror_are_named(tmp_path):
    writer = TokenWriter(tmp_path, TokenSpec("clap", "sound", "tiny", "abc", True, (4,)), ["a"])
    writer.write(0, np.zeros((1, 4)))
    writer.finish()
    reader = TokenReader.open(tmp_path)
    with pytest.raises(SeldError, match=r"no clap tokens of 1 window\(s\): other"):
        reader.read(["a", "other"])
    with pytest.raises(SeldError, match="no clap tokens of mirrored input"):
        reader.read(["a"], mirror=True)


def test_wrong_shape_and_infinities_are_refused(tmp_path):
    writer = TokenWriter(tmp_path, TokenSpec("clap", "sound", "tiny", "abc", True, (4,)), ["a"])
    with pytest.raises(ValueError, match="expected shape"):
        writer.write(0, np.zeros((1, 5)))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="half precision"):
        writer.write(0, np.full((1, 4), 1e9))


def test_of_tokens_with_the_same_names_those_of_the_store_win(store, tmp_path):
    spec = TokenSpec("clap", "sound", "tiny", "abc", True, (1, 4), store=store.identity)
    own = TokenReader(tmp_path / "own", spec, store.names, 9)
    strange = TokenReader(tmp_path / "strange", replace(spec, store="another"), [*store.names, "more"], 9)
    few = TokenReader(tmp_path / "few", replace(spec, name="owlvit"), store.names[1:], 9)
    for readers in ([own, strange, few], [few, strange, own]):
        assert tokens_of(store, store.names, readers) == {"clap": own}
    assert tokens_of(store, store.names, [strange]) == {"clap": strange}
    assert set(tokens_of(store, store.names[1:], [own, few])) == {"clap", "owlvit"}


def test_a_store_is_known_by_names_and_sound(store, make_corpus, tmp_path):
    found = {store.identity}
    for number, seed in enumerate((0, 0, 1)):
        root = make_corpus(tmp_path / f"corpus{number}", [("dev-train-tau", 3, 1, 0)], seed=seed)
        (tmp_path / str(number)).mkdir()
        STAGE.run(PrepareConfig(corpus=str(root), split={"fraction": 0}), {}, tmp_path / str(number), Context())
        found.add(Store.open(tmp_path / str(number)).identity)
    assert len(found) == 3, "the same sound prepared twice is one store, other sound under the same names another"
