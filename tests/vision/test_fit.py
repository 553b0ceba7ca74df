"""Learning the weights on labelled clips, the warnings, and the visual stage from folder to folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from people_made import clip_people

from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import write_csv
from dcase_seld.core.events import Events, concatenate
from dcase_seld.corpus.layout import Clip
from dcase_seld.corpus.prepare import build_store
from dcase_seld.media.audio import write_wav
from dcase_seld.recipe.stage import Context
from dcase_seld.stages import load_stage
from dcase_seld.vision.fit import check_predictions, fit_weights, match_rows
from dcase_seld.vision.keypoints import KEYPOINTS
from dcase_seld.vision.rules import VisualConfig, gather_evidence, judge

CONFIG = VisualConfig()


def scene(seed, noise_deg=10.0, speaker_on=None):
    """Return (name, reference, prediction, people) of a clip: a voice, on screen or not, and silent bystanders.

    The prediction is the reference with a wrong azimuth (one error per event, and some per frame) and an on-screen
    probability that says little.
    """
    rng = np.random.default_rng(seed)
    name = f"clip{seed}"
    on = bool(rng.random() < 0.5) if speaker_on is None else speaker_on
    people = (np.arange(-36, 37, 24) + rng.uniform(-6, 6, 4))[rng.permutation(4)[: rng.integers(1, 3)]]
    azimuth = people[0] if on else rng.uniform(55, 88) * rng.choice([-1, 1])
    zeros = np.zeros(50, np.int32)
    reference = Events(
        (name,), zeros, np.arange(50, dtype=np.int32), zeros + int(rng.choice([0, 1])), zeros,
        np.full(50, azimuth), np.full(50, 2.0), np.full(50, on),
    )  # fmt: skip
    heard = np.clip(azimuth + rng.normal(0, noise_deg) + rng.normal(0, 2, 50), -90, 90)
    probability = np.full(50, np.clip((0.42 if on else 0.25) + rng.normal(0, 0.1), 0.02, 0.98), np.float32)
    prediction = replace(reference, azimuth_deg=heard, onscreen=probability >= 0.5, onscreen_probability=probability)
    return name, reference, prediction, clip_people(sorted(people.tolist()))


def scenes(seeds, **options):
    made = [scene(seed, **options) for seed in seeds]
    people = {name: seen for name, _, _, seen in made}
    return concatenate([m[1] for m in made]), concatenate([m[2] for m in made]), people


def azimuth_error(events, reference, rows):
    return float(np.abs(events.azimuth_deg - reference.azimuth_deg)[rows].mean())


def test_the_pictures_raise_on_screen_accuracy_and_lower_the_azimuth_error():
    reference, prediction, people = scenes(range(200))
    judged = judge(prediction, gather_evidence(prediction, people, DCASE2025, CONFIG), CONFIG).events
    before = np.mean(prediction.onscreen == reference.onscreen)
    after = np.mean(judged.onscreen == reference.onscreen)
    assert before < 0.75 and after >= 0.9
    on = reference.onscreen
    assert azimuth_error(judged, reference, on) <= 0.75 * azimuth_error(prediction, reference, on)


def test_learned_weights_hold_on_unseen_clips_and_are_not_worse_than_the_defaults():
    reference, prediction, people = scenes(range(300))
    fit = fit_weights(prediction, reference, gather_evidence(prediction, people, DCASE2025, CONFIG), CONFIG)
    assert set(fit.weights) == {"mouth"} and fit.rows["mouth"] > 5000
    learned = fit.weights["mouth"]
    assert learned.near > 1 and learned.refine > 0.8, "the pictures tell more than a voice that is 10° off"
    assert fit.accuracy["mouth"][1] > fit.accuracy["mouth"][0] + 0.2
    config = CONFIG.model_copy(update={"weights": fit.weights})
    reference, prediction, people = scenes(range(1000, 1200))
    evidence = gather_evidence(prediction, people, DCASE2025, CONFIG)
    default, tuned = judge(prediction, evidence, CONFIG).events, judge(prediction, evidence, config).events
    accuracy = [float(np.mean(e.onscreen == reference.onscreen)) for e in (default, tuned)]
    assert accuracy[1] >= accuracy[0] - 0.01
    assert azimuth_error(tuned, reference, reference.onscreen) < azimuth_error(default, reference, reference.onscreen)


def test_a_precise_ear_learns_not_to_follow_the_eye():
    reference, prediction, people = scenes(range(200), noise_deg=0.0)
    precise = replace(prediction, azimuth_deg=reference.azimuth_deg + 0.01)
    shifted = {
        name: replace(seen, keypoints=seen.keypoints + np.array([12.0, 0, 0], np.float32))
        for name, seen in people.items()
    }
    fit = fit_weights(precise, reference, gather_evidence(precise, shifted, DCASE2025, CONFIG), CONFIG)
    assert fit.weights["mouth"].refine < 0.05


def test_too_few_rows_teach_nothing():
    reference, prediction, people = scenes([1])
    fit = fit_weights(prediction, reference, gather_evidence(prediction, people, DCASE2025, CONFIG), CONFIG)
    assert fit.weights == {}


def test_predictions_meet_the_nearest_reference_of_their_own_cell():
    zeros, floats = np.zeros(4, np.int32), np.ones(4)
    reference = Events(("b", "a"), zeros + 1, zeros + 3, np.array([0, 0, 1, 0], np.int32), zeros,
                       np.array([10.0, 30.0, 12.0, -50.0]), floats, floats > 0)  # fmt: skip
    prediction = Events(("a", "c"), np.array([0, 0, 1, 0], np.int32), np.array([3, 3, 3, 4], np.int32), zeros, zeros,
                        np.array([22.0, -29.0, 10.0, 10.0]), floats, floats > 0)  # fmt: skip
    match, error = match_rows(prediction, reference)
    assert match.tolist() == [1, -1, -1, -1]
    assert error[0] == pytest.approx(8.0) and np.isnan(error[1:]).all()


def names_of(signs):
    return {sign.name for sign in signs}


def test_the_three_signs_of_failure_are_named():
    reference, prediction, _ = scenes(range(100), noise_deg=2.0)
    good = replace(prediction, onscreen=reference.onscreen)
    assert check_predictions(good, reference) == []
    never = replace(good, onscreen=np.zeros(len(good), bool))
    assert names_of(check_predictions(never, reference)) == {"always-off-screen"}
    stretched = replace(good, azimuth_deg=reference.azimuth_deg * np.where(reference.onscreen, 1.3, 1.0))
    assert names_of(check_predictions(stretched, reference)) == {"azimuth-error-at-edges"}
    near = replace(reference, distance_m=np.where(reference.clip % 2 == 0, 1.0, 3.0))
    far = replace(good, distance_m=np.where(reference.clip % 2 == 0, 1.6, 3.0))
    signs = check_predictions(far, near)
    assert names_of(signs) == {"distance-too-large-when-dry"} and "1.60 times" in signs[0].text


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A store of 40 labelled clips (30 val, 10 test), predictions of both splits, and their keypoints."""
    root = tmp_path_factory.mktemp("visual")
    made = [scene(seed) for seed in range(40)]
    clips = []
    for name, reference, _, _ in made:
        write_wav(root / f"{name}.wav", np.zeros((2, 120_000), np.int16), 24_000)
        write_csv(root / f"{name}.csv", reference)
        clips.append(Clip(name, "part", root / f"{name}.wav", root / f"{name}.csv", None))
    for folder in ("store", "val", "test", "keypoints"):
        (root / folder).mkdir()
    build_store(clips, root / "store", root=root, splits=("val",) * 30 + ("test",) * 10)
    concatenate([m[2] for m in made[:30]]).save(root / "val" / "events.npz")
    concatenate([m[2] for m in made[30:]]).save(root / "test" / "events.npz")
    KEYPOINTS.write(root / "keypoints", [m[0] for m in made], lambda i: made[i][3], {"fps": 2.0})
    return root


def run_stage(root, out, events=None, fit=True, keypoints=True, **options):
    stage = load_stage("visual")
    inputs = {"events": [events or root / "test"], "data": [root / "store"]}
    options |= {"events": "test", "data": "store"}
    if keypoints:
        inputs["keypoints"], options["keypoints"] = [root / "keypoints"], "people"
    if fit:
        inputs["fit"], options["fit"] = [root / "val"], "val"
    out.mkdir(exist_ok=True)
    return stage.run(stage.config(**options), inputs, out, Context())


def test_the_stage_learns_judges_and_logs(folders, tmp_path, capsys):
    facts = run_stage(folders, tmp_path)
    assert facts["fitted_on_rows"]["mouth"] > 500 and facts["weights"]["mouth"]["refine"] > 0.5
    assert facts["not_fitted"] == ["ankles", "wrists"], "nobody walks or claps in these clips"
    assert "the weights of ankles, wrists are not learned" in capsys.readouterr().err
    after, before = Events.load(tmp_path / "events.npz"), Events.load(folders / "test" / "events.npz")
    assert after.clips == before.clips and len(after) == len(before)
    log = (tmp_path / "changes.csv").read_text().splitlines()
    changed = (after.onscreen != before.onscreen) | (np.abs(after.azimuth_deg - before.azimuth_deg) > 1e-9)
    assert len(log) == 1 + int(changed.sum()) > 100
    assert json.loads((tmp_path / "visual.json").read_text()) == facts
    first = (tmp_path / "events.npz").read_bytes()
    run_stage(folders, tmp_path)
    assert (tmp_path / "events.npz").read_bytes() == first


def test_the_stage_without_pictures_only_applies_the_limit_and_warns(folders, tmp_path, capsys):
    never = Events.load(folders / "test" / "events.npz")
    (tmp_path / "never").mkdir()
    replace(never, onscreen=never.onscreen & False, onscreen_probability=None).save(tmp_path / "never" / "events.npz")
    facts = run_stage(folders, tmp_path / "out", tmp_path / "never", fit=False, keypoints=False)
    assert facts["moved"] == 0 and "always-off-screen" in facts["warnings"]
    assert "warning: always-off-screen" in capsys.readouterr().err


def test_the_stage_refuses_keypoints_of_other_clips(folders, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    KEYPOINTS.write(other, ["stranger"], lambda i: clip_people([0.0]), {})
    stage = load_stage("visual")
    config = stage.config(events="test", data="store", keypoints=["people"])
    inputs = {"events": [folders / "test"], "data": [folders / "store"], "keypoints": [other]}
    with pytest.raises(SeldError, match="10 of 10 clips are not in the keypoints"):
        stage.run(config, inputs, tmp_path, Context())


def test_the_stage_does_not_learn_on_what_it_corrects(folders, tmp_path):
    with pytest.raises(SeldError, match="30 clips of `fit` are of recordings whose events are corrected"):
        run_stage(folders, tmp_path, folders / "val")
