import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_folder
from dcase_seld.core.events import name_parts
from dcase_seld.core.task import SAMPLES_PER_FRAME
from dcase_seld.corpus.layout import index_corpus
from dcase_seld.corpus.splits import SplitConfig, assign
from dcase_seld.media.audio import read_audio, write_wav
from dcase_seld.recipe.stage import Context
from dcase_seld.simulate.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.simulate.render import add_parts, hear_scene, label_scene, render_scene, to_stereo
from dcase_seld.simulate.scenes import read_prior
from dcase_seld.simulate.simulation import (
    SOUNDS,
    ClipMaker,
    SimulationPlan,
    missing_clips,
    open_material,
    simulate,
    split_by_room,
)
from dcase_seld.simulate.sound_bank import procedural_bank
from dcase_seld.simulate.synthesis import LANES, PART, spectra_of
from dcase_seld.stages.data import SIMULATE_STAGE as STAGE
from dcase_seld.stages.data import SimulateConfig

FOUR = Taxonomy("four", ("Knock", "Bell", "Whale", "Music"), ("knock", "bell", "whale", "music"))
QUIET = {"levels": {"snr_db": [35, 35]}}


def job(out, scene=None, clips=(6, 3), taxonomy=DCASE2025, seed=0):
    return SimulationPlan(
        out=out,
        taxonomy=taxonomy,
        sounds=None,
        sound_config=SoundsConfig(procedural_recordings=10),
        scene=parse_config(SceneConfig, {"rooms": {"train": 4, "test": 2}, **(scene or {})}, "scene"),
        clips=ClipCounts(train=clips[0], test=clips[1]),
        seed=seed,
        prior=(1.0,) * len(taxonomy),
    )


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One event at a time, hardly any noise: 40 rendered scenes with their labels."""
    scene = {**QUIET, "polyphony": {"weights": [0, 1]}, "moving": 0.2}
    maker = ClipMaker(job(tmp_path_factory.mktemp("made"), scene))
    scenes = [maker.scene("train", index) for index in range(40)]
    heard = [hear_scene(scene, maker.bank) for scene in scenes]
    labels = [label_scene(scene, h) for scene, h in zip(scenes, heard, strict=True)]
    stereo = [to_stereo(render_scene(s, maker.bank, h, -75.0)) for s, h in zip(scenes, heard, strict=True)]
    return scenes, labels, stereo


def frame_power(stereo):
    return np.square(stereo).mean(axis=0).reshape(-1, SAMPLES_PER_FRAME).mean(axis=1)


def test_sound_begins_with_its_label_and_decays_after_it(made):
    rises, falls, checked = [], [], 0
    for _, events, stereo in zip(*made, strict=True):
        power = 10 * np.log10(frame_power(stereo) + 1e-12)
        active = np.zeros(50, bool)
        active[events.frame] = True
        starts = np.flatnonzero(active[1:] & ~active[:-1]) + 1
        ends = np.flatnonzero(~active[1:] & active[:-1]) + 1
        for start in starts:
            if start > 6 and not active[start - 6 : start].any() and active[start : start + 2].all():
                rises.append(power[start : start + 2].max() - power[start - 1])
        falls += [
            power[end - 3 : end].max() - power[min(end + 5, 49)] for end in ends if not active[end : end + 6].any()
        ]
        checked += len(starts)
    assert checked > 30 and len(rises) > 8 and len(falls) > 8
    assert np.median(rises) > 8 and np.mean(np.asarray(rises) > 1) > 0.9
    assert np.median(falls) > 8


def test_the_louder_channel_is_the_side_of_the_azimuth_and_the_difference_grows_with_it(made):
    azimuths, differences = [], []
    for _, events, stereo in zip(*made, strict=True):
        left, right = np.square(stereo).reshape(2, -1, SAMPLES_PER_FRAME).mean(axis=2)
        for source in np.unique(events.source):
            rows = events.source == source
            azimuths.append(np.median(events.azimuth_deg[rows]))
            differences.append(10 * np.log10(left[events.frame[rows]].sum() / right[events.frame[rows]].sum()))
    azimuths, differences = np.asarray(azimuths), np.asarray(differences)
    clear = np.abs(azimuths) > 30
    assert clear.sum() > 25
    assert np.mean(np.sign(differences[clear]) == np.sign(azimuths[clear])) > 0.95
    assert np.corrcoef(np.sin(np.radians(azimuths)), differences)[0, 1] > 0.8


def test_labels_are_folded_and_on_screen_only_in_front_within_the_view(made):
    for scene, events, _ in zip(*made, strict=True):
        assert np.abs(events.azimuth_deg).max(initial=0) <= 90
        assert np.abs(events.azimuth_deg[events.onscreen]).max(initial=0) <= 51
        behind = [
            number
            for number, event in enumerate(scene.events)
            if np.all(event.path_m[:, 0] < scene.room.microphone_m[0])
        ]
        assert not events.onscreen[np.isin(events.source, behind)].any()
    share = np.concatenate([events.onscreen for events in made[1]]).mean()
    assert 0.1 < share < 0.5


def test_moving_sources_change_azimuth_or_distance_smoothly(made):
    moved = 0
    for scene, events, _ in zip(*made, strict=True):
        for number, event in enumerate(scene.events):
            rows = events.source == number
            if len(event.path_m) > 1 and rows.sum() > 5:
                moved += np.ptp(events.distance_m[rows]) > 0.05 or np.ptp(events.azimuth_deg[rows]) > 1
                assert np.abs(np.diff(events.distance_m[rows])).max() < 1.4 * 0.7
            elif rows.any():
                assert np.ptp(events.distance_m[rows]) < 1e-9
    assert moved >= 3


def test_the_ambience_is_as_far_below_the_events_as_asked():
    found = {}
    for snr in (5, 30):
        maker = ClipMaker(job(Path("unused"), {"levels": {"snr_db": [snr, snr]}, "polyphony": {"weights": [0, 1]}}))
        ratios = []
        for index in range(12):
            scene = maker.scene("train", index)
            events = hear_scene(scene, maker.bank)
            power = frame_power(render_scene(scene, maker.bank, events, -75)[:1])
            if len(events.frame) and len(np.unique(events.frame)) < 40:
                ratios.append(10 * np.log10(power[np.unique(events.frame)].mean() / power.min()))
        found[snr] = np.median(ratios)
    assert found[5] == pytest.approx(6.5, abs=2) and found[30] > 20


def test_one_and_two_processes_and_an_interrupted_run_write_the_same_files(tmp_path):
    simulate(job(tmp_path / "one", clips=(10, 4)), workers=1)
    simulate(job(tmp_path / "two", clips=(10, 4)), workers=2)
    expected = digest(tmp_path / "one")
    assert len(expected) == 2 * 14 + 1 and digest(tmp_path / "two") == expected
    assert not list(tmp_path.glob("*/.*"))  # the dry sounds that the processes shared
    folder = tmp_path / "one"
    kept = sorted((folder / "metadata_dev/dev-train-synth").glob("*.csv"))
    for path in kept[:3]:
        path.unlink()
    (folder / "stereo_dev/dev-train-synth" / (kept[0].stem + ".wav")).unlink()
    (folder / "stereo_dev/dev-train-synth/.half.wav.1.part").write_bytes(b"cut off")
    (folder / SOUNDS).mkdir()
    (folder / SOUNDS / "0123.int16").write_bytes(b"cut off")
    untouched = {path: path.stat().st_mtime_ns for path in kept[3:]}
    simulate(job(folder, clips=(10, 4)), workers=1)
    assert digest(folder) == expected
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in untouched.items())


def test_processes_use_what_the_first_one_found(tmp_path):
    for name in ("sounds/bell", "sounds/knock", "sounds/music", "ambience", "pictures/people"):
        (tmp_path / name).mkdir(parents=True)
    rng = np.random.default_rng(0)

    def put(*names):
        for name in names:
            write_wav(tmp_path / name, 0.1 * rng.standard_normal((1, 9600)).astype(np.float32), 24_000)

    def paint(*names):
        for name in names:
            picture = rng.integers(0, 255, (40, 20, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "pictures/people" / f"{name}.png"), picture)

    put(*(f"sounds/{('bell', 'knock')[number % 2]}/{number}.wav" for number in range(6)))
    put(*(f"ambience/{number}.wav" for number in range(3)))
    paint(*"123")
    given = {name: tmp_path / name for name in ("sounds", "ambience", "pictures")}
    plan = replace(
        job(tmp_path / "a", clips=(16, 0), taxonomy=FOUR), **given, video=PictureConfig(silent_people=(1, 1))
    )
    found = open_material(plan)
    simulate(plan, 1, material=found)
    put("sounds/bell/0a.wav", "sounds/knock/0b.wav", "sounds/music/c.wav", "ambience/0a.wav", "ambience/z.wav")
    paint(*"045")
    simulate(replace(plan, out=tmp_path / "b"), 2, material=found)
    assert len(digest(tmp_path / "a")) == 49 and digest(tmp_path / "a") == digest(tmp_path / "b")


def test_clips_of_a_room_are_made_together(tmp_path):
    ten = job(tmp_path, clips=(10, 4))  # four rooms, and two for test
    batches = split_by_room(ten, [clip for clip in missing_clips(ten) if clip != ("train", 4)], 2)
    train = [[0, 8], [1, 5], [9], [2, 6], [3, 7]]
    assert batches == [[("train", i) for i in b] for b in train] + [[("test", i) for i in b] for b in ([0, 2], [1, 3])]


def test_a_sum_of_parts_is_that_of_their_convolutions_from_before_the_clip_to_beyond_its_end():
    rng = np.random.default_rng(0)
    samples = 2 * PART + 3000
    shapes = [(-PART - 7, 900, 2 * PART), (-40, 30_000, 5), (PART, 1, 1), (0, 4000, 25_000), (samples - 9, 9, 700)]
    parts, expected = [], np.zeros((2, samples))
    for start, length, response in shapes:
        dry, near, field = (rng.standard_normal(s).astype(np.float32) for s in (length, (2, response), (2, 30_000)))
        empty = start == 0
        parts.append((start, dry, near, spectra_of([(field, 0)])[0][: 0 if empty else None]))
        field[:, :response] += 0 if response > 30_000 else near[:, :30_000]
        for channel, heard in enumerate(near if empty else field):
            wet = np.convolve(dry.astype(float), heard)[max(0, -start) : samples - start]
            expected[channel, max(0, start) : max(0, start) + len(wet)] += wet
    assert len(parts) > LANES
    assert np.abs(add_parts(parts, 2, samples) - expected).max() < 1e-5 * np.abs(expected).max()
    assert not add_parts([], 4, 7).any() and add_parts([], 4, 7).shape == (4, 7)


def test_another_seed_is_another_set(tmp_path):
    scenes = [ClipMaker(job(tmp_path, seed=seed)).scene("train", 0) for seed in (0, 1)]
    assert scenes[0].room != scenes[1].room


def test_the_stage_writes_a_corpus_with_disjoint_rooms_and_sounds(tmp_path):
    config = parse_config(
        SimulateConfig,
        {"clips": {"train": 20, "test": 8}, "rooms": {"train": 5, "test": 2}, "bank": {"procedural_recordings": 10}},
        "simulate",
    )
    facts = STAGE.run(config, {}, tmp_path, Context())
    corpus = index_corpus(tmp_path)
    assert len(corpus.clips) == 28 and not corpus.problems
    assert all(name_parts(clip.name) and clip.audio and clip.labels for clip in corpus.clips)
    splits = assign(corpus.clips, SplitConfig(), tmp_path)
    rooms = {}
    for clip, split in zip(corpus.clips, splits, strict=True):
        rooms.setdefault((name_parts(clip.name).fold, name_parts(clip.name).room), set()).add(split)
        assert (split == "test") == (clip.part == "dev-test-synth")
    assert all(len(found) == 1 for found in rooms.values())
    assert sorted(split for found in rooms.values() for split in found) == ["test"] * 2 + ["train"] * 4 + ["val"]
    maker = ClipMaker(job(tmp_path, clips=(20, 8)))
    heard = {"train": set(), "val": set(), "test": set()}
    for fold, count in (("train", 20), ("test", 8)):
        for index in range(count):
            scene = maker.scene(fold, index)
            heard[scene.split] |= {(e.recording.class_index, e.recording.source) for e in scene.events}
    assert all(heard.values())
    assert not (heard["train"] & heard["val"] or heard["train"] & heard["test"] or heard["val"] & heard["test"])
    events = read_folder(tmp_path / "metadata_dev" / "dev-train-synth")
    audio = read_audio(corpus.clips[0].audio)
    assert audio.shape == (2, 120_000) and 0 < np.abs(audio).max() <= 0.95
    assert len(events.clips) == 20 and sum(facts["frames"].values()) > len(events)
    balance = (tmp_path / "balance.csv").read_text().splitlines()
    assert balance[0] == "split,class,clips,frames,onscreen_share" and len(balance) == 1 + 3 * 13


def test_a_class_list_of_four_goes_through(tmp_path):
    taxonomy = tmp_path / "four.yaml"
    taxonomy.write_text("classes: [Knock, Bell, Whale, Music]\n")
    config = parse_config(
        SimulateConfig,
        {"taxonomy": str(taxonomy), "clips": {"train": 6, "test": 2}, "bank": {"procedural_recordings": 5}},
        "simulate",
    )
    facts = STAGE.run(config, {}, tmp_path, Context())
    assert list(facts["frames"]) == ["Knock", "Bell", "Whale", "Music"] and "whale" in facts["notes"][0]
    events = read_folder(tmp_path / "metadata_dev", n_classes=4)
    assert set(np.unique(events.class_index)) <= {0, 1, 2, 3} and len(events) > 20


def test_overlaps_follow_the_config_and_labels_of_a_real_set_can_be_imitated(tmp_path):
    weights = {"polyphony": {"weights": [0, 0, 0, 0, 1], "pause_s": [0.1, 0.2]}}
    maker = ClipMaker(job(tmp_path, weights))
    overlaps = [np.bincount(hear_scene(maker.scene("train", i), maker.bank).frame).max() for i in range(12)]
    assert max(overlaps) == 4 and min(overlaps) >= 2
    empty = ClipMaker(job(tmp_path, {"polyphony": {"weights": [1]}}))
    scene = empty.scene("train", 0)
    silent = render_scene(scene, empty.bank, hear_scene(scene, empty.bank), -60.0)
    assert not scene.events and 10 * np.log10(np.square(silent[0]).mean()) == pytest.approx(-60, abs=0.5)
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.csv").write_text("".join(f"{f},1,0,10,0\n" for f in range(50)) + "60,0,1,5,0\n90,0,1,5,0\n")
    (labels / "b.csv").write_text("frame,class,source,azimuth,distance,onscreen\n0,2,0,1,100,0\n0,1,0,1,100,0\n")
    prior = read_prior(labels, FOUR)
    assert prior.classes == pytest.approx((2 / 5, 2 / 5, 1 / 5, 0)) and prior.layers == pytest.approx((0, 2 / 3, 1 / 3))
    (labels / "b.csv").write_text("0,9,0,1,100\n")
    with pytest.raises(SeldError, match="class 9"):
        read_prior(labels, FOUR)


def test_recordings_are_drawn_from_small_groups_too():
    bank = procedural_bank(FOUR, SoundsConfig(procedural_recordings=10), 0)
    drawn = {bank.draw(0, "test", np.random.default_rng(seed)).source for seed in range(60)}
    assert len(drawn) == 3
