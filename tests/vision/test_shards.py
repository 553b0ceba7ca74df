"""Folders of shards: what is there is counted and kept, what is damaged is named."""

import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.vision.keypoints import KEYPOINTS, ClipPeople, Keypoints
from dcase_seld.vision.seen import CLIPS_PER_SHARD, done_clips

NAMES = [f"clip{i}" for i in range(2 * CLIPS_PER_SHARD + 5)]


def nothing(index):
    return ClipPeople.nothing(f"no video {index}", [0.5])


def test_a_resumed_folder_counts_what_is_there_and_makes_the_rest(tmp_path):
    KEYPOINTS.write_shard(tmp_path, NAMES, 1, nothing)
    pending = KEYPOINTS.pending(tmp_path, len(NAMES))
    assert pending == [0, 2] and done_clips(len(NAMES), pending) == CLIPS_PER_SHARD
    made, advanced = [], []
    KEYPOINTS.write(tmp_path, NAMES, lambda i: made.append(i) or nothing(i), {}, advanced.append)
    assert made == [*range(CLIPS_PER_SHARD), *range(2 * CLIPS_PER_SHARD, len(NAMES))]
    assert advanced[0] == CLIPS_PER_SHARD and sum(advanced) == len(NAMES)
    folder = Keypoints([tmp_path])
    assert [folder[name].problem for name in NAMES] == [f"no video {i}" for i in range(len(NAMES))]
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_without_clips_is_complete(tmp_path):
    KEYPOINTS.write(tmp_path, [], nothing, {"fps": 1.0})
    assert len(Keypoints([tmp_path])) == 0


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    KEYPOINTS.write(tmp_path, NAMES, nothing, {})
    KEYPOINTS.shard(tmp_path, 2).write_bytes(damage)
    with pytest.raises(SeldError, match="no finished keypoints folder"):
        Keypoints([tmp_path])
