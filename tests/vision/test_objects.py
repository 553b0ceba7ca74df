"""Detected objects: the folder, their azimuths, and OWL-ViT's own heads through the real loading code."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from dcase_seld.core.classes import DCASE2025, Taxonomy, queries_of
from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import azimuth_to_column
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import write_video
from dcase_seld.pretrained.owlvit import (
    OpenVocabularyDetector,
    load_clip_tokenizer,
    load_detector,
    load_owlvit,
    suppress,
)
from dcase_seld.pretrained.transformers_models import make_random_model
from dcase_seld.recipe.stage import Context
from dcase_seld.stages import load_stage
from dcase_seld.vision.objects import DETECTIONS, ClipObjects, Detections, read_detections, see_objects
from dcase_seld.vision.rules import REASONS, VisualConfig, gather_evidence, judge

TELEPHONE, DOOR, TAP = 3, 7, 10


def objects(azimuths, class_index=TELEPHONE, half_width=0.03):
    """Return one object per azimuth in each of 5 frames."""
    times = np.arange(5) + 0.5
    centre = azimuth_to_column(np.tile(azimuths, 5), 1000) / 1000 if len(azimuths) else np.zeros(0)
    box = np.stack([centre - half_width, centre * 0 + 0.4, centre + half_width, centre * 0 + 0.6], axis=1)
    count = len(centre)
    return ClipObjects(
        times, np.ones(5, bool), np.repeat(np.arange(5), len(azimuths)), box.astype(np.float32),
        np.full(count, class_index), np.zeros(count, np.int64), np.full(count, 0.5, np.float32),
    )  # fmt: skip


def events_at(azimuth, class_index, probability=0.3):
    zeros = np.zeros(50, np.int32)
    return Events(("clip",), zeros, np.arange(50, dtype=np.int32), zeros + class_index, zeros,
                  np.full(50, float(azimuth)), np.ones(50), np.full(50, probability >= 0.5),
                  onscreen_probability=np.full(50, probability, np.float32))  # fmt: skip


def test_boxes_become_azimuths_with_a_width():
    seen = see_objects(objects([20.0, -30.0]), TELEPHONE, 50, fov_deg=100.0, max_gap_s=0.6)
    np.testing.assert_allclose(np.sort(seen.azimuth_deg[7]), [-30.0, 20.0], atol=0.3)
    assert (seen.spread_deg[7] > 2.0).all() and seen.watched.all()
    assert see_objects(objects([20.0]), DOOR, 50, fov_deg=100.0, max_gap_s=0.6).azimuth_deg.shape == (50, 0)


def test_an_object_at_the_sound_puts_it_on_screen_and_its_absence_off(tmp_path):
    DETECTIONS.write(tmp_path, ["clip"], lambda i: objects([20.0]), {"classes": list(DCASE2025.classes)})
    config = VisualConfig()
    found = Detections([tmp_path], DCASE2025, config)

    def run(azimuth, class_index, probability):
        events = events_at(azimuth, class_index, probability)
        return judge(events, gather_evidence(events, {}, DCASE2025, config, found), config)

    near = run(24.0, TELEPHONE, 0.3)
    assert near.events.onscreen.all() and {REASONS[i] for i in near.reason} == {"object near"}
    np.testing.assert_array_equal(near.events.azimuth_deg, 24.0)
    far = run(-40.0, TELEPHONE, 0.6)
    assert not far.events.onscreen.any() and {REASONS[i] for i in far.reason} == {"object far"}
    other = run(20.0, DOOR, 0.6)
    assert other.events.onscreen.all(), "a class without any detection is left to the network"


def test_the_folder_gives_back_what_was_written(tmp_path):
    made = [objects([20.0, -5.0]), objects([]), replace(objects([1.0]), problem="cut off")]
    DETECTIONS.write(tmp_path, ["a", "b", "c"], made.__getitem__, {"classes": list(DCASE2025.classes)})
    again = read_detections([tmp_path], DCASE2025)
    for name, clip in zip("abc", made, strict=True):
        for field in fields(ClipObjects):
            np.testing.assert_array_equal(getattr(again[name], field.name), getattr(clip, field.name))
    with pytest.raises(SeldError, match="other classes"):
        read_detections([tmp_path], Taxonomy("own", ("Bark",), ("bark",)))
    with pytest.raises(SeldError, match="no finished detections folder"):
        read_detections([tmp_path / "none"], DCASE2025)


def test_a_long_clip_that_is_looked_at_rarely_has_sightings_to_its_end(tmp_path):
    clip = replace(objects([20.0]), times_s=np.arange(5) * 4.0 + 2.0)
    DETECTIONS.write(tmp_path, ["a"], lambda i: clip, {"classes": list(DCASE2025.classes)})
    seen = Detections([tmp_path], DCASE2025, VisualConfig())["a"][TELEPHONE]
    assert len(seen.watched) >= 200 and seen.watched[20] and not seen.watched[199]


def test_every_class_has_words_and_own_words_replace_them():
    words, classes = queries_of(DCASE2025, {"Telephone": ["an old phone"]})
    assert set(classes) == set(range(13))
    assert words[classes.index(TELEPHONE)] == "an old phone" and classes.count(TELEPHONE) == 1
    assert queries_of(Taxonomy("own", ("Dog bark",), ("dog_bark",)), {}) == (["a dog bark"], [0])
    with pytest.raises(SeldError, match="'Phone'"):
        queries_of(DCASE2025, {"Phone": ["x"]})


def test_of_overlapping_boxes_of_one_kind_the_surest_stays():
    box = np.array([[0, 0, 1, 1], [0.05, 0, 1, 1], [0, 0, 1, 1], [0.6, 0.6, 0.9, 0.9], [0, 0, 1, 1]], np.float32)
    kept = suppress(box, np.array([0, 0, 1, 0, 0]), np.array([0.5, 0.9, 0.4, 0.3, 0.0]))
    assert kept.tolist() == [1, 2, 3]


@pytest.fixture(scope="module")
def owlvit_folder(tmp_path_factory):
    """A tiny OWL-ViT with random weights, and a small tokenizer of letters, in the published file format."""
    folder = tmp_path_factory.mktemp("owl") / "owlvit"
    make_random_model("owlvit", folder, tiny=True, seed=3)
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def test_the_heads_give_what_the_whole_model_gives(owlvit_folder):
    owl, tokenizer = load_owlvit(owlvit_folder), load_clip_tokenizer(owlvit_folder)
    queries = ["a telephone", "a door"]
    detector = OpenVocabularyDetector(owl, tokenizer, queries)
    images = [np.random.default_rng(i).integers(0, 255, (90, 160, 3), dtype=np.uint8) for i in range(2)]
    length = owl.model.config.text_config.max_position_embeddings
    tokens = tokenizer(queries * 2, padding="max_length", max_length=length, return_tensors="pt")
    with torch.inference_mode():
        whole = owl.model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=owl.prepare(images)
        )
    score, query = torch.sigmoid(whole.logits[..., :2]).max(dim=-1)
    found = detector.detect(owl.see(images), 0.0)
    for index, boxes in enumerate(found):
        best = int(score[index].argmax())
        assert boxes.score[0] == pytest.approx(float(score[index, best]), abs=1e-5)
        assert boxes.query[0] == int(query[index, best])
        x, y, width, height = whole.pred_boxes[index, best].tolist()
        expected = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 1)
        np.testing.assert_allclose(boxes.box[0], expected, atol=1e-5)
        assert (np.diff(boxes.score) <= 0).all()


def test_a_folder_without_tokenizer_is_refused(owlvit_folder, tmp_path):
    bare = tmp_path / "bare"
    make_random_model("owlvit", bare, tiny=True)
    with pytest.raises(SeldError, match="no tokenizer"):
        load_detector(bare, ["a door"])
    (bare / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (bare / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(SeldError, match="knows no words"):
        load_detector(bare, ["a door"])


def test_the_stage_looks_at_every_clip(owlvit_folder, tmp_path, capsys):
    picture = np.random.default_rng(1).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    clips = []
    for name in ("seen", "blind"):
        write_wav(tmp_path / f"{name}.wav", np.zeros((2, 120_000), np.int16), 24_000)
        video = tmp_path / f"{name}.mp4" if name == "seen" else None
        if video:
            write_video(video, [picture] * 50, 10)
        clips.append(Clip(name, "part", tmp_path / f"{name}.wav", None, video))
    for folder in ("store", "out"):
        (tmp_path / folder).mkdir()
    build_store(clips, tmp_path / "store", root=tmp_path, splits=("test", "test"))
    stage = load_stage("detections")
    config = stage.config(data="data", path=str(owlvit_folder), threshold=0.0, thresholds={"Bell": 1.0})
    facts = stage.run(config, {"data": [tmp_path / "store"]}, tmp_path / "out", Context(device="cpu"))
    assert facts["clips"] == 2 and facts["objects"] > 0 and facts["clips_with_problems"] == 1
    assert "RANDOM" in capsys.readouterr().err and facts["random_weights"]
    read = read_detections([tmp_path / "out"], DCASE2025)
    assert read["blind"].problem == "there is no video" and read["seen"].seen.all()
    assert DCASE2025.classes.index("Bell") not in read["seen"].class_index
