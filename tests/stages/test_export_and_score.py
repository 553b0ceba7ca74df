import json

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_folder, write_csv
from dcase_seld.core.events import Events
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import write_wav
from dcase_seld.recipe.stage import Context
from dcase_seld.stages import load_stage

NAMES = ("fold3_room1_mix001_deg000_start0000", "fold4_room2_mix001_deg000_start0000", "sample1")
SPLITS = ("train", "test", "eval")


def events_of(name, azimuth=10.0):
    frames = np.arange(5, 15, dtype=np.int32)
    same = np.zeros(10, np.int32)
    return Events(
        (name,), same, frames, same + 2, same, same + azimuth, same + 1.5, same == 0,
        onscreen_probability=(same + 0.9).astype(np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    clips = []
    for name in NAMES:
        write_wav(root / f"{name}.wav", np.zeros((2, 120_000), np.int16), 24_000)
        labels = None if name == "sample1" else root / f"{name}.csv"
        if labels:
            write_csv(labels, events_of(name))
        clips.append(Clip(name, "part", root / f"{name}.wav", labels, None))
    out = tmp_path_factory.mktemp("store")
    build_store(clips, out, root=root, splits=SPLITS)
    return out


def export(events, out, **options):
    events.save(out / "events.npz")
    stage = load_stage("export")
    (out / "step").mkdir()
    facts = stage.run(stage.config(events="predict", **options), {"events": [out]}, out / "step", Context())
    return out / "step", facts


def score(csv, store, out, **options):
    stage = load_stage("score")
    facts = stage.run(stage.config(csv="csv", data="data", **options), {"csv": [csv], "data": [store]}, out, Context())
    return facts, json.loads((out / "scores.json").read_text())


def test_events_are_exported_and_scored_against_their_split(store, tmp_path):
    csv, facts = export(events_of(NAMES[1], azimuth=25.0), tmp_path)
    assert facts == {"track": "b", "clips": 1, "events": 10}
    assert [path.name for path in (csv / "csv").iterdir()] == [f"{NAMES[1]}.csv"]
    facts, scores = score(csv, store, tmp_path, average="micro")
    assert scores["f_score"] == scores["f_score_onscreen"] == facts["f_score"] == 1.0
    assert scores["doa_error_deg"] == 15.0 and scores["clips"] == 1
    assert "Clapping" in facts["show"]
    _, with_intervals = score(csv, store, tmp_path, jackknife="recording", protocol="complete", average="micro")
    assert with_intervals["jackknife"]["f_score"]["value"] == 1.0


def test_track_a_exports_off_screen_and_scores_no_onscreen_figures(store, tmp_path):
    csv, _ = export(events_of(NAMES[1]), tmp_path, track="a")
    assert not read_folder(csv).onscreen.any()
    _, scores = score(csv, store, tmp_path, track="a")
    assert scores["f_score_onscreen"] is None and scores["f_score"] == pytest.approx(1 / 13)


def test_clips_of_other_splits_and_without_labels_do_not_count(store, tmp_path):
    everything = Events.empty(NAMES)
    csv, _ = export(everything, tmp_path)
    _, scores = score(csv, store, tmp_path, split="test")
    assert scores["clips"] == 1 and scores["f_score"] == 0.0


def test_a_clip_without_prediction_is_named(store, tmp_path):
    csv, _ = export(Events.empty([NAMES[0]]), tmp_path)
    with pytest.raises(SeldError, match=NAMES[1]):
        score(csv, store, tmp_path)
