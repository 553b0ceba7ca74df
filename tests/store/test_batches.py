import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import write_wav
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE as STAGE
from dcase_seld.stages.data import PrepareConfig
from dcase_seld.store.batches import Batches, Sampling, clip_weights
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store, TargetTable
from dcase_seld.store.tokens import TokenReader, TokenSpec, TokenWriter


def indices(batches, epoch=0, start=0):
    return [batch.index.tolist() for batch in batches.epoch(epoch, start)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def source_of(store, chosen, readers=(), **options):
    return StoreSource(store, chosen, readers, frames=5, **options)


def tokens_of(store, folder, name="owlvit", gives="image"):
    spec = TokenSpec(name, gives, "tiny", "f", True, (2, 3), mirror=True)
    writer = TokenWriter(folder, spec, store.names[::-1], clips_per_shard=7)
    for shard, rows in writer.pending():
        names = [writer.names[row] for row in rows]
        values = np.stack([np.full((2, 3), store.names.index(name)) for name in names])
        flags = np.array([[True, store.names.index(name) % 2 == 0] for name in names])
        writer.write(shard, values, -values, flags if spec.mask else None)
    writer.finish()
    return TokenReader.open(folder)


def test_every_clip_once_with_its_sound_and_labels(store):
    chosen = store.indices("train")
    batches = Batches(source_of(store, chosen), 8)
    assert len(batches) == 4
    seen = []
    for batch in batches:
        assert batch.input.wave.shape[1:] == (2, 12_000) and batch.input.wave.dtype == torch.float32
        for row, index in enumerate(batch.index.tolist()):
            assert np.array_equal(batch.input.wave[row].numpy(), store.audio(index).T / np.float32(32768))
        wanted = TargetTable(store.events, store.task).encode(batch.index.numpy(), 5)
        assert all(np.array_equal(mine, one) for mine, one in zip(batch.target, wanted, strict=True))
        seen += batch.index.tolist()
    assert seen == chosen.tolist()


def test_order_is_a_function_of_seed_and_epoch(store):
    chosen = store.indices("train")
    batches = Batches(source_of(store, chosen), 4, shuffle_seed=3, targets=False)
    first = indices(batches)
    assert sorted(flat(first)) == chosen.tolist() and first != indices(batches, 1)
    assert first == indices(Batches(source_of(store, chosen), 4, shuffle_seed=3, targets=False, ahead=0))
    assert first != indices(Batches(source_of(store, chosen), 4, shuffle_seed=4, targets=False))


def test_resumes_at_a_batch(store):
    batches = Batches(source_of(store, store.indices("train")), 4, shuffle_seed=3, targets=False)
    assert indices(batches, 5)[3:] == indices(batches, 5, start=3)


def test_processes_share_an_epoch(store):
    chosen = store.indices("train")
    shards = [
        Batches(source_of(store, chosen), 5, shuffle_seed=1, rank=rank, world_size=3, targets=False)
        for rank in range(3)
    ]
    assert [len(shard) for shard in shards] == [2, 2, 2]
    taken = [flat(indices(shard)) for shard in shards]
    assert len(set(flat(taken))) == 30
    plain = [Batches(source_of(store, chosen), 4, rank=rank, world_size=4, targets=False) for rank in range(4)]
    assert sorted(flat(flat(indices(shard)) for shard in plain)) == chosen.tolist()


def test_drop_last(store):
    batches = Batches(source_of(store, store.indices("train")), 8, drop_last=True, targets=False)
    assert [len(part) for part in indices(batches)] == [8, 8, 8] and len(batches) == 3


def test_epochs_of_chosen_length_pass_over_all_clips(store):
    chosen = store.indices("train")
    batches = Batches(source_of(store, chosen), 5, shuffle_seed=0, sampling=Sampling(epoch_clips=10), targets=False)
    three = flat(flat(indices(batches, epoch)) for epoch in range(3))
    assert len(batches) == 2 and sorted(three) == chosen.tolist()


def test_class_balance_shows_rare_classes_more(store, tmp_path):
    import dataclasses

    events = store.events
    rare = events.clip % 15 != 0
    store.events = dataclasses.replace(events, class_index=np.where(rare, 0, 1).astype(np.int32))
    try:
        chosen = store.indices("train")
        source = source_of(store, chosen)
        plain, even = clip_weights(source, 0.0), clip_weights(source, 1.0)
        assert np.allclose(plain, 1 / 30) and even.sum() == pytest.approx(1)
        assert even[chosen % 15 == 0].sum() == pytest.approx(0.5, abs=0.01)
        batches = Batches(
            StoreSource(store, chosen, frames=1),
            300,
            shuffle_seed=0,
            sampling=Sampling(class_balance=1, epoch_clips=3000),
            targets=False,
        )
        drawn = np.concatenate(indices(batches))
        assert np.mean(drawn % 15 == 0) == pytest.approx(0.5, abs=0.05)
    finally:
        store.events = events


def test_several_stores_by_weight(store, tmp_path):
    sources = [
        source_of(store, store.indices("train"), weight=3.0),
        source_of(store, store.indices("test"), weight=1.0),
    ]
    batches = Batches(sources, batch_size=8, shuffle_seed=2, sampling=Sampling(epoch_clips=40))
    from_test = 0
    for batch in batches:
        test = np.isin(batch.index, store.indices("test"))
        assert np.array_equal(batch.source.numpy() == 1, test)
        from_test += test.sum()
        for row, index in enumerate(batch.index.tolist()):
            assert np.array_equal(batch.input.wave[row].numpy(), store.audio(index).T / np.float32(32768))
        count = TargetTable(store.events, store.task).encode(batch.index.numpy(), 5)[0]
        assert np.array_equal(batch.target.count, count)
    assert from_test == 10


def test_stores_of_different_classes_are_not_mixed(store, corpus_root, tmp_path):
    (tmp_path / "t.yaml").write_text("classes: [A, B, C, D]\n")
    STAGE.run(PrepareConfig(corpus=str(corpus_root), taxonomy=tmp_path / "t.yaml"), {}, tmp_path, Context(workers=2))
    other = Store.open(tmp_path)
    with pytest.raises(SeldError, match="cannot be mixed: the classes"):
        Batches([source_of(store, np.array([0])), source_of(other, np.array([0]))])


def test_tokens_of_other_weights_or_without_mirror_are_not_mixed(store, tmp_path):
    reader, alike = (tokens_of(store, tmp_path / name) for name in "ab")
    few = np.array([0, 1])
    assert len(Batches([source_of(store, few, [reader]), source_of(store, few, [alike])], mirror=True)) == 1
    for change, mirror in (({"fingerprint": "g"}, False), ({"mirror": False}, True), ({"shape": (5, 3)}, False)):
        other = TokenReader(alike.folder, replace(alike.spec, **change), alike.names, alike.clips_per_shard)
        with pytest.raises(SeldError, match="different weights, shapes or"):
            Batches([source_of(store, few, [reader]), source_of(store, few, [other])], mirror=mirror)


def test_tokens_follow_their_clips(store, tmp_path):
    reader = tokens_of(store, tmp_path)
    batches = Batches(source_of(store, store.indices("train"), [reader]), 8, shuffle_seed=1, mirror=True)
    for batch in batches:
        seen, mask = batch.input.tokens["owlvit"]
        assert torch.equal(seen[:, 0, 0].long(), batch.index)
        assert torch.equal(batch.mirror.tokens["owlvit"].values, -seen)
        assert torch.equal(mask[:, 1], batch.index % 2 == 0)
    assert next(iter(Batches(source_of(store, [0], [reader]), 1))).mirror is None


def test_cached_features_replace_the_sound(store, tmp_path):
    reader = tokens_of(store, tmp_path, "features", "features")
    batch = next(iter(Batches(source_of(store, store.indices("val"), cache=reader), 4)))
    assert batch.input.wave is None and torch.equal(batch.input.features[:, 0, 0].long(), batch.index)


def test_missing_tokens_are_named(store, tmp_path):
    writer = TokenWriter(tmp_path, TokenSpec("clap", "sound", "tiny", "f", True, (4,)), store.names[:3])
    writer.write(0, np.zeros((3, 4)))
    writer.finish()
    with pytest.raises(SeldError, match=r"no clap tokens of 42 window\(s\)"):
        source_of(store, store.indices("all"), [TokenReader.open(tmp_path)])


def test_windows_cover_long_clips(make_corpus, tmp_path):
    root = make_corpus(tmp_path / "c", [("dev-train-tau", 3, 1, 0)], windows=2)
    path = sorted((root / "stereo_dev" / "dev-train-tau").iterdir())[1]
    sound = np.random.default_rng(0).integers(-99, 99, (2, 31_000)).astype(np.int16)
    write_wav(path, sound)
    STAGE.run(PrepareConfig(corpus=str(root), split={"fraction": 0}), {}, tmp_path, Context())
    store = Store.open(tmp_path)
    batch = next(iter(Batches(source_of(store, [0, 1]), 9)))
    # 13 label frames in windows of 5: the last window ends with the clip.
    assert batch.index.tolist() == [0, 1, 1, 1] and batch.start.tolist() == [0, 0, 5, 8]
    for row, start in zip(batch.input.wave[1:], (0, 5, 8), strict=True):
        part = sound[:, start * 2400 : (start + 5) * 2400] / np.float32(32768)
        assert np.array_equal(row[:, : part.shape[1]].numpy(), part) and not row[:, part.shape[1] :].any()
    assert batch.target.count[2:].sum() == 0 and batch.target.count[1].sum() > 0
    assert len(next(iter(Batches(source_of(store, [1], hop_frames=1), 9))).index) == 9
    shares = [Batches(source_of(store, [0, 1]), 9, rank=rank, world_size=2) for rank in range(2)]
    assert [next(iter(share)).index.tolist() for share in shares] == [[0], [1, 1, 1]]


def test_tokens_of_windows(make_corpus, tmp_path):
    root = make_corpus(tmp_path / "c", [("dev-train-tau", 3, 1, 0)], windows=1, seconds=1.3)
    STAGE.run(PrepareConfig(corpus=str(root), split={"fraction": 0}), {}, tmp_path, Context())
    store = Store.open(tmp_path)
    spec = TokenSpec("clap", "sound", "tiny", "f", True, (1,))
    writer = TokenWriter(tmp_path / "t", spec, [store.names[0]] * 3, starts=[0, 5, 8])
    writer.write(0, np.arange(3)[:, None])
    writer.finish()
    reader = TokenReader.open(tmp_path / "t")
    batch = next(iter(Batches(source_of(store, [0], [reader]), 9)))
    assert batch.input.tokens["clap"].values[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(SeldError, match=r"from frame 2.*with the hop_frames"):
        source_of(store, [0], [reader], hop_frames=2)


def test_errors_and_early_ends_leave_no_thread(store, monkeypatch):
    before = threading.active_count()
    for batch in Batches(source_of(store, store.indices("train")), 2, targets=False):
        assert len(batch.index) == 2
        break
    reader = Batches(source_of(store, store.indices("train")), 2, targets=False)
    monkeypatch.setattr(reader, "_read", lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(reader)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_no_clips(store):
    with pytest.raises(SeldError, match="no clip to make batches of"):
        Batches(source_of(store, []), 4)
