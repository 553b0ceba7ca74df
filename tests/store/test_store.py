import json
import os
import shutil

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import frames_of
from dcase_seld.corpus import audio_pack
from dcase_seld.corpus import prepare as prepare_module
from dcase_seld.corpus.layout import index_corpus
from dcase_seld.media.audio import read_int16, write_wav
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE as STAGE
from dcase_seld.stages.data import PrepareConfig
from dcase_seld.store.store import Store

SMALL = [("dev-train-tau", 3, 1, 0), ("dev-train-tau", 3, 2, 0), ("dev-test-tau", 4, 8, 0)]


def prepare(root, out, **config):
    out.mkdir(exist_ok=True)
    return STAGE.run(PrepareConfig(corpus=str(root), **config), {}, out, Context(workers=2))


@pytest.fixture
def small(tmp_path, make_corpus):
    return make_corpus(tmp_path / "corpus", SMALL)


def test_holds_every_clip_bit_for_bit(store, corpus_root):
    clips = index_corpus(corpus_root).clips
    assert store.names == tuple(clip.name for clip in clips) and len(store) == 45
    for index in range(0, len(store), 7):
        assert np.array_equal(store.audio(index), read_int16(clips[index].audio).T)
    assert np.array_equal(store.read_many(np.array([3, 40, 3]))[1], store.audio(40))


def test_table(store):
    assert store.counts == {"train": 30, "val": 6, "test": 6, "eval": 3}
    assert set(store.frames) == {5} and set(store.samples) == {12_000}
    assert store.indices("all").tolist() == list(range(45))
    assert len(store.indices(["train", "val"])) == 36
    assert not store.labelled[store.indices("eval")].any() and store.labelled[store.indices("train")].all()
    assert store.videos == [None] * 45 and len(store.taxonomy) == 13
    with pytest.raises(SeldError, match="no split 'tset'"):
        store.indices("tset")


def test_labels_have_store_indices(store):
    assert store.events.clips == store.names
    assert np.bincount(store.events.clip, minlength=45).tolist() == [3 * bool(flag) for flag in store.labelled]
    assert set(store.events.distance_m) == {1.0, 1.5}


def test_windows_and_zeros_beyond_the_end(store):
    part = store.read_many([2, 5], start_samples=np.array([11_000, 0]), samples=4000)
    assert np.array_equal(part[0, :1000], store.audio(2, 11_000)) and not part[0, 1000:].any()
    assert np.array_equal(part[1], store.audio(5, 0, 4000))
    assert not store.audio(0).flags.writeable
    assert not store.read_many([0], start_samples=np.array([99_999]), samples=10).any()


def test_clips_of_any_length(tmp_path, make_corpus):
    root = make_corpus(tmp_path / "c", SMALL)
    folder = root / "stereo_dev" / "dev-train-tau"
    longer = sorted(folder.iterdir())[0]
    write_wav(longer, np.ones((2, 31_200), np.int16))
    prepare(root, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    index = store.names.index(longer.stem)
    assert store.frames[index] == 13 and store.audio(index).shape == (31_200, 2)
    assert store.read_many([index, index + 1]).shape == (2, 31_200, 2)
    assert frames_of([120_000, 119_000, 121_300, 5], 24_000).tolist() == [50, 50, 51, 1]


def test_a_system_without_reads_and_writes_at_positions_has_the_same_store(small, tmp_path, monkeypatch):
    """Windows has neither pwrite nor preadv."""
    prepare(small, tmp_path / "usual")
    usual = Store.open(tmp_path / "usual")
    asked = {"start_samples": np.array([0, 11_000, 5]), "samples": 4000}
    expected = usual.read_many([0, 2, 1], **asked)
    for name in ("pwrite", "preadv", "posix_fallocate"):
        monkeypatch.delattr(os, name)
    prepare(small, tmp_path / "other")
    assert (tmp_path / "other" / "audio.i16").read_bytes() == (tmp_path / "usual" / "audio.i16").read_bytes()
    assert np.array_equal(Store.open(tmp_path / "other").read_many([0, 2, 1], **asked), expected) and expected.any()


def test_interrupted_build_goes_on(small, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_pack, "CHUNK", 2)
    read, calls = read_int16, []

    def dying(path, **options):
        calls.append(path)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read(path, **options)

    monkeypatch.setattr(audio_pack, "read_int16", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(small, tmp_path / "s")
    with pytest.raises(SeldError, match="no finished store"):
        Store.open(tmp_path / "s")
    before = len(calls)
    prepare(small, tmp_path / "s")
    assert len(calls) - before < 9
    made = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert made == ["audio.i16", "clips.npz", "events.npz", "store.json"]
    prepare(small, tmp_path / "whole")
    assert (tmp_path / "s" / "audio.i16").read_bytes() == (tmp_path / "whole" / "audio.i16").read_bytes()


def test_changed_files_are_not_mixed_with_an_interrupted_build(small, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "_save_table", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(small, tmp_path / "s")
    monkeypatch.undo()
    changed = sorted((small / "stereo_dev" / "dev-train-tau").iterdir())[0]
    write_wav(changed, np.full((2, 12_000), 7, np.int16))
    os.utime(changed, ns=(1, 1))
    prepare(small, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    assert (store.audio(store.names.index(changed.stem)) == 7).all()


def test_broken_clips_are_all_named_or_left_out(small, tmp_path):
    train = sorted((small / "stereo_dev" / "dev-train-tau").iterdir())
    train[0].write_bytes(train[0].read_bytes()[:5000])
    labels = small / "metadata_dev" / "dev-train-tau" / f"{train[1].stem}.csv"
    labels.write_text(labels.read_text() + "3,13,0,0,100,0\n")
    with pytest.raises(SeldError) as caught:
        prepare(small, tmp_path / "s")
    message = str(caught.value)
    assert "2 of 9 clips" in message and "cut short" in message and f"{train[1].stem}.csv, line 5" in message
    facts = prepare(small, tmp_path / "s", broken="skip")
    assert facts["clips"] == 7 and len(facts["problems"]) == 2
    assert not {train[0].stem, train[1].stem} & set(Store.open(tmp_path / "s").names)


def test_sound_that_breaks_off_while_packing(small, tmp_path, monkeypatch):
    import soundfile

    # A FLAC header is whole although its frames are not: only decoding finds it.
    victim = sorted((small / "stereo_dev" / "dev-train-tau").iterdir())[2]
    soundfile.write(victim.with_suffix(".flac"), np.random.default_rng(0).normal(0, 0.1, (12_000, 2)), 24_000)
    content = victim.with_suffix(".flac").read_bytes()
    victim.with_suffix(".flac").unlink()
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(SeldError, match=victim.stem):
        prepare(small, tmp_path / "s")
    facts = prepare(small, tmp_path / "s", broken="skip")
    assert facts["clips"] == 8 and any(victim.stem in line for line in facts["problems"])
    store = Store.open(tmp_path / "s")
    for index in range(len(store)):
        kind = store.parts[index]
        assert np.array_equal(
            store.audio(index), read_int16(small / "stereo_dev" / kind / f"{store.names[index]}.wav").T
        )


def test_two_clips_of_one_name(small, tmp_path):
    clip = sorted((small / "stereo_dev" / "dev-train-tau").iterdir())[0]
    shutil.copy(clip, small / "stereo_dev" / "dev-test-tau" / clip.name)
    with pytest.raises(SeldError, match="is also in"):
        prepare(small, tmp_path / "s")
    assert prepare(small, tmp_path / "s", broken="skip")["clips"] == 9


def test_other_rates_and_mono_by_option_only(small, tmp_path):
    train = sorted((small / "stereo_dev" / "dev-train-tau").iterdir())
    write_wav(train[0], np.ones((2, 22_050), np.int16), 44_100)
    write_wav(train[1], np.ones((1, 12_000), np.int16))
    with pytest.raises(SeldError, match=r"(?s)44100 Hz.*resample: true.*is mono.*mono: duplicate"):
        prepare(small, tmp_path / "s")
    facts = prepare(small, tmp_path / "s", resample=True, mono="duplicate")
    store = Store.open(tmp_path / "s")
    assert facts["clips"] == 9 and set(store.samples) == {12_000}


def test_video_may_be_required(small, tmp_path):
    with pytest.raises(SeldError, match=r"9 of 9 clips .* have no video"):
        prepare(small, tmp_path / "s", video="required")


def test_parts(small, tmp_path):
    assert prepare(small, tmp_path / "s", parts=["dev-test-tau"])["splits"] == {"test": 3}
    with pytest.raises(SeldError, match="no part dev-tset"):
        prepare(small, tmp_path / "s", parts=["dev-tset"])


def test_full_disk_is_told_before_the_work(small, tmp_path):
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SeldError, match="432,000 more bytes are needed"):
            prepare(small, tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert prepare(small, tmp_path / "s")["clips"] == 9


def test_own_taxonomy(small, tmp_path):
    (tmp_path / "four.yaml").write_text("classes: [Bark, Meow, Horn, Rain]\n")
    prepare(small, tmp_path / "s", taxonomy=tmp_path / "four.yaml")
    assert Store.open(tmp_path / "s").taxonomy.classes == ("Bark", "Meow", "Horn", "Rain")
    (tmp_path / "three.yaml").write_text("classes: [Bark, Meow, Horn]\n")
    with pytest.raises(SeldError, match="cannot be used"):
        prepare(small, tmp_path / "t", taxonomy=tmp_path / "three.yaml")


def test_broken_stores(small, tmp_path):
    out = tmp_path / "s"
    prepare(small, out)
    description = (out / "store.json").read_text()
    (out / "store.json").write_text(json.dumps({**json.loads(description), "format": 99}))
    with pytest.raises(SeldError, match="format 99"):
        Store.open(out)
    (out / "store.json").write_text(description)
    with (out / "audio.i16").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(SeldError, match=r"432,001 bytes; 432,000 are expected"):
        Store.open(out)


def test_a_fourth_source_of_one_class_is_reported(small, tmp_path, capsys):
    labels = sorted((small / "metadata_dev" / "dev-train-tau").iterdir())[0]
    labels.write_text(labels.read_text() + "".join(f"2,7,{source},0,100,0\n" for source in range(5)))
    facts = prepare(small, tmp_path / "s")
    assert (
        facts["dropped_sources"] == 2 and "2 of 32 label rows are a fourth or later source " in capsys.readouterr().err
    )
    assert len(Store.open(tmp_path / "s").events) == 32


def test_problems_that_do_not_stop_are_told(small, tmp_path, capsys):
    sorted((small / "metadata_dev" / "dev-train-tau").iterdir())[0].unlink()
    facts = prepare(small, tmp_path / "s")
    assert facts["problem_count"] == 1 and "no labels" in facts["problems"][0]
    assert "1 problem(s)" in capsys.readouterr().err
    assert facts["labelled"] == 8 and facts["clips"] == 9


@pytest.mark.parametrize(
    ("row", "message"), [("3,1,0,361,100,0", "azimuths up to 361°"), ("3,1,0,0,100001,0", "distances up to 100,001 cm")]
)
def test_labels_that_cannot_be_are_refused(small, tmp_path, row, message):
    path = sorted((small / "metadata_dev" / "dev-train-tau").iterdir())[0]
    before = path.read_text()
    path.write_text(before + row + "\n")
    with pytest.raises(SeldError, match=f"1 of 9 clips.*\n.*{path.name}.*{message}"):
        prepare(small, tmp_path / "s")
    assert not (tmp_path / "s" / "store.json").exists()
    assert prepare(small, tmp_path / "s", broken="skip")["clips"] == 8
    path.write_text(before + "3,1,0,360,100000,0\n")
    assert prepare(small, tmp_path / "s")["clips"] == 9


def test_silent_clips_are_told(small, tmp_path, capsys):
    path = sorted((small / "stereo_dev" / "dev-train-tau").iterdir())[0]
    prepare(small, tmp_path / "s")
    assert "silent" not in capsys.readouterr().err
    write_wav(path, np.full((2, 12_000), 2, np.int16))
    prepare(small, tmp_path / "s")
    assert f"note: 1 of 9 clips are silent: {path.stem}" in capsys.readouterr().err


def test_a_store_says_in_a_line_what_it_holds(store):
    counts = ", ".join(f"{number} {split}" for split, number in store.counts.items())
    assert f", {len(store.names)} clips: {counts}; " in repr(store) and repr(store).endswith("13 classes)")
