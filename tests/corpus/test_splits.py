from collections import Counter

import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import name_parts
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.splits import SplitConfig, assign, group_of


def clip(name, part="dev-train-tau"):
    return Clip(name, part, None, None, None)


def clips_of(rooms, part="dev-train-tau", fold=3, mixes=3, windows=5):
    return [
        clip(f"fold{fold}_room{room}_mix{mix:03d}_deg{window:03d}_start{window:04d}", part)
        for room in rooms
        for mix in range(mixes)
        for window in range(windows)
    ]


CORPUS = [
    *clips_of(range(1, 11)),
    *clips_of(range(21, 31), "dev-train-sony"),
    *clips_of(range(1, 9), "dev-train-synth", fold=1),
    *clips_of((5, 6), "dev-test-tau", fold=4),
    *(clip(f"sample{number}", "eval") for number in range(4)),
]


def test_official_folders_decide_and_validation_comes_from_training():
    splits = assign(CORPUS, SplitConfig())
    for one, split in zip(CORPUS, splits, strict=True):
        expected = {"dev-test-tau": {"test"}, "eval": {"eval"}}.get(one.part, {"train", "val"})
        assert split in expected
    counts = Counter(splits)
    assert 0.08 < counts["val"] / (counts["train"] + counts["val"]) < 0.25


@pytest.mark.parametrize("by", ["room", "recording", "part"])
def test_no_room_or_recording_is_on_both_sides(by):
    splits = assign(CORPUS, SplitConfig(by=by))
    sides = {}
    for one, split in zip(CORPUS, splits, strict=True):
        if split in ("train", "val"):
            assert sides.setdefault((one.part, group_of(one, by)), split) == split
    assert set(sides.values()) == {"train", "val"}


def test_every_part_gives_validation_rooms():
    splits = assign(CORPUS, SplitConfig())
    assert {one.part for one, split in zip(CORPUS, splits, strict=True) if split == "val"} == {
        "dev-train-tau",
        "dev-train-sony",
        "dev-train-synth",
    }


def test_order_of_clips_is_no_matter_and_seed_is():
    forward = dict(zip((c.name for c in CORPUS), assign(CORPUS, SplitConfig()), strict=True))
    backward = dict(zip((c.name for c in CORPUS[::-1]), assign(CORPUS[::-1], SplitConfig()), strict=True))
    assert forward == backward
    assert len({tuple(assign(CORPUS, SplitConfig(seed=seed))) for seed in range(5)}) > 1


def test_a_new_room_moves_no_other_between_train_and_test():
    before = assign(clips_of(range(1, 11)), SplitConfig(fraction=0.3))
    after = assign(clips_of(range(1, 12)), SplitConfig(fraction=0.3))
    changed = sum(a != b for a, b in zip(before, after, strict=False))
    assert changed <= 15  # at most one room


def test_one_room_cannot_be_held_out():
    with pytest.raises(SeldError, match=r"one room, 'fold3_room1'.*by: recording"):
        assign(clips_of([1]), SplitConfig())
    assert Counter(assign(clips_of([1]), SplitConfig(by="recording")))["val"] == 5
    assert set(assign(clips_of([1]), SplitConfig(fraction=0))) == {"train"}


def test_fold_decides_in_other_folders():
    others = [clip("fold4_room1_mix001_deg000_start0000", "mine"), *clips_of([1, 2], "mine")]
    assert assign(others, SplitConfig())[0] == "test"


def test_names_without_the_pattern_are_their_own_recording():
    mine = [clip(f"holiday{n}_start{s}", "dev-train-mine") for n in range(6) for s in range(4)]
    splits = assign(mine, SplitConfig())
    assert Counter(splits)["val"] == 4
    assert len({one.name.split("_")[0] for one, split in zip(mine, splits, strict=True) if split == "val"}) == 1


def test_own_file_of_a_corpus(tmp_path):
    mine = clips_of([1, 2, 3])
    with pytest.raises(SeldError, match=r"there is no .*splits.csv"):
        assign(mine, SplitConfig(by="corpus"), tmp_path)
    rows = ["name,split", "fold3_room1,val", "fold3_room2,train", "fold3_room2_mix001,test"]
    (tmp_path / "splits.csv").write_text("\n".join([*rows, f"{mine[0].name},eval", ""]))
    with pytest.raises(SeldError, match=r"nothing of 15 clip\(s\): fold3_room3"):
        assign(mine, SplitConfig(), tmp_path)
    found = assign(mine[:30], SplitConfig(), tmp_path)
    assert found[0] == "eval" and set(found[1:15]) == {"val"}
    assert Counter(found[15:]) == {"train": 10, "test": 5}
    assert Counter(assign(mine[:30], SplitConfig(by="room"), tmp_path))["val"] == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header"),
        ("clip,side\n", "line 1: expected the header"),
        ("name,split\nfold3_room1,training\n", "line 2: expected a name and one of train"),
        ("name,split\n\nfold3_room1\n", "line 3"),
    ],
)
def test_broken_file(tmp_path, text, message):
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(SeldError, match=message):
        assign(clips_of([1]), SplitConfig(), tmp_path)


def test_group_names_are_those_of_the_clip_names():
    one = clips_of([12])[0]
    assert group_of(one, "room") == "fold3_room12"
    assert name_parts(one.name) is not None and group_of(one, "recording") == name_parts(one.name).recording
