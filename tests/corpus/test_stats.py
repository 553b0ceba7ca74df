import json

import numpy as np
import pytest

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.events import Events
from dcase_seld.corpus.stats import draw, label_stats, read_labels, summary, table_rows

TWO = Taxonomy("two", ("Bark", "Meow"), ("bark", "meow"))


def table(rows, clips):
    columns = np.array(rows, np.float64).T
    ints = [column.astype(np.int32) for column in columns[:4]]
    return Events(tuple(clips), *ints, columns[4], columns[5], columns[6].astype(bool))


@pytest.fixture
def found():
    rows = [
        (0, 0, 0, 0, -90, 0.2, 1),
        (0, 0, 0, 1, 90, 2.0, 0),
        (0, 0, 1, 0, 5, 99.0, 1),
        (0, 1, 0, 0, -85, 1.0, 1),
        (2, 1, 0, 0, -85, 1.0, 1),
    ]
    return label_stats([table(rows, "abc")], TWO)


def test_figures(found):
    assert (found.clips, found.silent_clips) == (3, 1)
    assert found.source_frames.tolist() == [4, 1] and found.clips_with.tolist() == [2, 1]
    assert found.onscreen.tolist() == [0.75, 1.0]
    assert found.polyphony.tolist() == [2, 0, 1] and found.same_class.tolist() == [3, 1]
    assert found.azimuth[0, 0] == 3 and found.azimuth[0, -1] == 1 and found.azimuth[1, 9] == 1
    assert found.distance[1, -1] == 1 and found.distance.sum() == 5
    assert found.distance_quartiles_m[0, 1] == pytest.approx(1.0)


def test_labels_without_distances_have_no_quartiles():
    """STARSS22 gives none; they are read as 0."""
    found = label_stats([table([(0, 0, 0, 0, 5, 0, 0), (0, 0, 1, 0, 5, 0, 0), (0, 1, 1, 0, 5, 2, 0)], "a")], TWO)
    assert np.isnan(found.distance_quartiles_m[0]).all() and found.distance_quartiles_m[1].tolist() == [0.5, 1, 1.5]
    assert table_rows(found)[0][-1] == "–" and found.distance[0].sum() == 0 and found.distance[1].sum() == 2


def test_rows_and_summary(found):
    assert table_rows(found)[0][:6] == ("0", "Bark", "4", "80.0%", "2", "75%")
    text = summary(found)
    assert (
        "3 clips, 1 of them silent; 5 source frames" in text
        and "80% on screen" in text
        and "67% 1, 0% 2, 33% 3" in text
    )


def test_json_has_no_nan():
    stats = label_stats([Events.empty(["a"])], TWO)
    data = json.loads(json.dumps(stats.to_json(), allow_nan=False))
    assert data["onscreen"] == [None, None] and data["distance_quartiles_m"] == [[None] * 3] * 2
    assert table_rows(stats)[1] == ("1", "Meow", "0", "0.0%", "0", "–", "–") and "none" in summary(stats)


def test_picture(found, tmp_path, monkeypatch):
    import cv2
    from matplotlib import pyplot

    figures = []
    with monkeypatch.context() as patch:
        patch.setattr(pyplot, "close", figures.append)
        draw(found, tmp_path / "p.png")
    said = [
        label.get_text() for axes in figures[0].axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    pyplot.close(figures[0])
    assert "1" in said and not any("$" in text for text in said), "no formula stands there as it is written"

    image = cv2.imread(str(tmp_path / "p.png"))
    assert image.shape[1] > 1000 and image.std() > 10


def test_of_a_corpus_and_of_its_store(store, corpus_root):
    from_corpus, classes = read_labels(corpus_root, DCASE2025)
    whole = label_stats(from_corpus, classes)
    assert classes is DCASE2025 and whole.clips == 42
    from_store, classes = read_labels(store.folder, TWO)
    assert whole.source_frames.sum() == 126 and label_stats(from_store, classes).to_json() == whole.to_json()
    (test,), _ = read_labels(store.folder, TWO, ("test",))
    assert len(test) == 18


def test_some_clips_at_a_time_give_the_same_figures():
    rng = np.random.default_rng(3)
    rows = [
        (clip, rng.integers(0, 20), rng.integers(0, 2), 0, rng.integers(-90, 91), rng.integers(20, 1200) / 100, 1)
        for clip in range(30)
        for _ in range(clip)
    ]
    names = [f"c{n}" for n in range(30)]
    every = table(rows, names)
    whole = label_stats([every], TWO)
    parts = label_stats((every.select_clips(names[k : k + 7]) for k in range(0, 30, 7)), TWO)
    assert parts.to_json() == whole.to_json()
    for index in range(2):
        expected = np.quantile(every.distance_m[every.class_index == index], (0.25, 0.5, 0.75))
        assert whole.distance_quartiles_m[index] == pytest.approx(expected, abs=1e-12)
