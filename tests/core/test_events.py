from dataclasses import replace

import numpy as np
import pytest

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events, concatenate


def table(clips=("a", "b"), clip=(1, 0, 1), frame=(5, 1, 2)):
    n = len(clip)
    ints = np.arange(n, dtype=np.int32)
    return Events(
        tuple(clips),
        np.array(clip, np.int32),
        np.array(frame, np.int32),
        ints,
        ints * 0,
        ints * 10.0,
        ints + 0.5,
        ints % 2 == 0,
        activity=(ints / 10).astype(np.float32),
    )


def test_selecting_clips_reorders_them_and_keeps_silent_ones():
    chosen = table(("a", "b", "silent")).select_clips(["silent", "b"])
    assert chosen.clips == ("silent", "b") and chosen.clip.tolist() == [1, 1] and chosen.frame.tolist() == [5, 2]
    with pytest.raises(KeyError):
        table().select_clips(["c"])


def test_sorting_goes_by_clip_then_frame():
    assert table().sorted().frame.tolist() == [1, 2, 5]
    np.testing.assert_array_equal(table().sorted().activity, np.float32([0.1, 0.2, 0.0]))


def test_a_table_survives_its_file(tmp_path):
    table().save(tmp_path / "events.npz")
    again = Events.load(tmp_path / "events.npz")
    assert again.clips == ("a", "b") and again.onscreen_probability is None
    for name in ("clip", "frame", "azimuth_deg", "distance_m", "onscreen", "activity"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table(), name))
        assert getattr(again, name).dtype == getattr(table(), name).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["events.npz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", None])
def test_what_is_no_table_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "events.npz").write_bytes(content)
    with pytest.raises(SeldError, match=r"is damaged|lacks|no file"):
        Events.load(tmp_path / "events.npz")


def test_joined_tables_keep_their_clips():
    joined = concatenate([table(), Events.empty(["quiet"]), table(("c", "d"))])
    assert joined.clips == ("a", "b", "quiet", "c", "d") and joined.clip.tolist() == [1, 0, 1, 4, 3, 4]
    assert joined.activity is None  # one of the tables has none
    with pytest.raises(ValueError, match="two event tables"):
        concatenate([table(), table()])


def test_columns_must_agree():
    with pytest.raises(ValueError, match="differ in length"):
        Events(("a",), *(np.zeros(n, np.int32) for n in (1, 1, 1, 2)), np.zeros(1), np.zeros(1), np.zeros(1, bool))


def test_users_get_a_data_frame():
    frame = table().to_pandas()
    assert frame["clip"].tolist() == ["b", "a", "b"] and "activity" in frame and len(frame) == 3
    assert Events.empty().to_pandas().empty


def test_a_data_frame_names_classes_and_seconds():
    events = table()
    frame = events.to_pandas()
    assert frame["class_name"].tolist() == [DCASE2025.classes[index] for index in events.class_index]
    assert frame["onset_s"].tolist() == (events.frame / 10).tolist()
    assert (frame["offset_s"] - frame["onset_s"]).round(9).eq(0.1).all()
    assert list(frame)[:7] == ["clip", "frame", "class_index", "source", "azimuth_deg", "distance_m", "onscreen"]
    own = Taxonomy("own", tuple(f"Class {n}" for n in range(14)), tuple(f"c{n}" for n in range(14)))
    known = replace(events, taxonomy=own)
    assert known.take(np.array([0])).to_pandas()["class_name"].tolist() == [f"Class {events.class_index[0]}"]
    assert events.to_pandas(own)["class_name"].tolist() == known.to_pandas()["class_name"].tolist()
    with pytest.raises(SeldError, match="Class 13 is none of the 13 classes"):
        replace(events, class_index=np.full(3, 13, np.int32)).to_pandas()


def test_a_table_says_in_a_line_what_it_is():
    assert repr(Events.empty(["a"])) == "Events(1 clip(s), 0 rows)"
    assert repr(table()).startswith("Events(2 clip(s), 3 rows, 3 class(es), ") and len(repr(table())) < 80
