"""The keys of recipes as people and editors look them up: complete, true for every shipped recipe, plug-ins' too."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from dcase_seld.cli.recipes import registry
from dcase_seld.recipe.keys import all_keys, find_keys, groups, near_keys, recipe_schema
from dcase_seld.recipe.load import load_recipe, shipped_recipes
from dcase_seld.stages import STAGE_MODULES

ROOT = Path(__file__).parents[2]
IDEAS = ROOT / "tests" / "plugins" / "ideas.py"
EVERY = {name: "data" for name in ("SOUNDS", "PICTURES", "DCASE25_ROOT", "DCASE25_EVAL", "STARSS23", "TEAM", "OTHERS")}


def as_written(name):
    """Return a shipped recipe as an editor sees it."""
    recipe = load_recipe(name, environment=EVERY)
    assert not recipe.problems
    return {"about": recipe.about, "steps": recipe.steps}


@pytest.fixture(scope="module")
def check():
    schema = recipe_schema(registry())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def wrong(check, recipe):
    """Return what the schema says of a recipe, the innermost message of each error with its place."""
    return [(list(error.absolute_path), error.message) for error in check.iter_errors(recipe)]


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_fits_the_schema_and_a_misspelt_key_at_any_depth_does_not(check, name):
    recipe = as_written(name)
    assert wrong(check, recipe) == []
    places = []

    def walk(tree, place):
        if isinstance(tree, dict):
            places.extend((place, key) for key in tree)
            for key, value in tree.items():
                walk(value, (*place, key))

    walk(recipe, ())
    free = {"steps", "parts", "queries", "thresholds", "fusion", "weights"}  # mappings whose keys are the user's own
    assert len(places) > 30
    for place, key in places:
        if place and place[-1] in free:
            continue
        # The schema looks at each step by itself: the spoilt one is enough.
        steps = {place[1]: recipe["steps"][place[1]]} if len(place) > 1 else recipe["steps"]
        spoilt = copy.deepcopy({**recipe, "steps": steps})
        inner = spoilt
        for part in place:
            inner = inner[part]
        inner[f"{key}_x"] = inner.pop(key)
        assert not check.is_valid(spoilt), f"{'.'.join(place)}: {key}_x passes"


def test_an_editor_is_told_which_key_is_wrong_and_in_which_step(check):
    steps = {"t": {"stage": "train", "data": "d", "epohcs": 3, "model": {"kind": "crnn", "encoder": {}}}}
    (place, said), (other, too) = wrong(check, {"steps": steps})
    assert place == ["steps", "t"] and "'epohcs' was unexpected" in said
    assert other == ["steps", "t", "model"] and "'encoder' was unexpected" in too


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("epochs", 3, True),
        ("epochs", "${EPOCHS:-3}", True),
        ("epochs", "three", False),
        ("epochs", 0, False),
        ("lr", 1e-3, True),
        ("precision", "fp8", False),
        ("model", {"track": "b", "fusion": ["clap", "owlvit"]}, True),
        ("model", {"kind": "crnn", "pooling": [[5, 4], [1, 4], [1, 2]]}, True),
        ("model", {"kind": "lstm"}, False),
        ("model", {"frontend": {"features": ["log_mel", "cepstrum"]}}, False),
        ("augment", {"swap": 0.5, "flip": 0.5}, False),
        ("loss", {"terms": {"adpit": 1, "quiet": 0.1}}, False),
    ],
)
def test_values_are_checked_as_the_configuration_does(check, key, value, fits):
    assert (wrong(check, {"steps": {"t": {"stage": "train", "data": "d", key: value}}}) == []) == fits


def test_a_list_is_short_for_rules_and_an_encoder_needs_its_kind(check):
    visual = {"stage": "visual", "events": "e", "data": "d"}
    assert wrong(check, {"steps": {"v": {**visual, "rules": ["body"]}}}) == []
    assert wrong(check, {"steps": {"v": {**visual, "rules": {"refine": False}}}}) == []
    assert wrong(check, {"steps": {"v": {**visual, "rules": {"refine": "no way"}}}})
    assert wrong(check, {"steps": {"e": {"stage": "embed", "data": "d", "model": {"hop_s": 1}}}})
    assert (
        wrong(check, {"steps": {"e": {"stage": "embed", "data": "d", "model": {"kind": "yamnet", "hop_s": 1}}}}) == []
    )


def test_the_schema_beside_the_recipes_is_that_of_the_code_and_every_recipe_names_it():
    folder = ROOT / "recipes"
    known = json.loads((folder / "recipe.schema.json").read_text(encoding="utf-8"))
    assert known == recipe_schema(registry()), "run `dcase-seld schema recipes/recipe.schema.json`"
    for name, path in shipped_recipes().items():
        (line,) = [line for line in path.read_text(encoding="utf-8").splitlines() if "$schema=" in line]
        assert line.startswith("# yaml-language-server: $schema="), name
        assert (path.parent / line.partition("$schema=")[2]).resolve() == (folder / "recipe.schema.json").resolve()


def test_every_key_of_every_stage_is_found_by_its_path_and_says_what_it_means():
    keys = list(all_keys(registry()))
    assert len(keys) > 250 and {stage for stage, _ in keys} == set(STAGE_MODULES)
    for stage, key in keys:
        assert key.about, f"{stage}.{key.path} has no description"
        assert (stage, key) in find_keys(f"{stage}.{key.path}", registry())


def test_a_key_is_found_by_its_end_by_a_name_in_between_and_by_a_value():
    def found(query):
        return {f"{stage}.{key.path}" for stage, key in find_keys(query, registry())}

    assert found("train.lr") == found("lr") == {"train.lr"}
    assert found("encoder.kind") == found("model.encoder.kind") == {"train.model.encoder.kind"}
    assert found("train.model.fusion.clap.width") == {"train.model.fusion.NAME.width"}
    assert found("rows.1.against") == found("against") == {"compare.rows.N.against"}
    assert {"train.model.encoder.kind"} <= found("resnet_conformer")
    assert "train.lr" in found("learning rate")
    assert found("encodr") == set() and "encoder" in near_keys("encodr", registry())
    assert "train.epochs" in near_keys("train.epoch", registry())


def test_a_choice_of_classes_says_every_kind_and_what_it_is():
    ((_, key),) = find_keys("embed.model.kind", registry())
    assert key.choices == ("clap", "owlvit", "onnx", "yamnet", "voice") and "owlvit: OWL-ViT tokens" in key.about
    kinds = [group.when for group in groups(registry().load("train").config) if group.place == "model"]
    assert kinds == ["conformer", "crnn"]


PLUGGED = """
import json, sys
from dcase_seld.core.registry import load_plugins
from dcase_seld.cli.recipes import registry
from dcase_seld.recipe.keys import find_keys, recipe_schema
load_plugins([sys.argv[1]])
found = {query: [f"{stage}.{key.path}" for stage, key in find_keys(query, registry())]
         for query in ("louder.least", "tiny", "encoder.width", "flip", "phase", "quiet", "rms", "centre")}
print(json.dumps([found, recipe_schema(registry())]))
"""


def test_what_plug_ins_bring_is_found_and_is_in_the_schema():
    words = [sys.executable, "-c", PLUGGED, str(IDEAS)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    found, schema = json.loads(done.stdout)
    assert found == {
        "louder.least": ["louder.least"],
        "tiny": ["train.model.encoder", "train.model.encoder.kind"],
        "encoder.width": ["train.model.encoder.width"],
        "flip": ["train.augment.flip"],
        "phase": ["train.model.frontend.features", "train.model.frontend.features"],
        "quiet": ["train.loss.terms"],
        "rms": ["embed.model", "embed.model.kind"],
        "centre": ["visual.rules.use"],
    }
    check = jsonschema.Draft7Validator(schema)
    train = {
        "stage": "train",
        "data": "d",
        "model": {"encoder": {"kind": "tiny", "width": 8}, "frontend": {"features": ["phase"]}},
        "augment": {"flip": 0.5},
        "loss": {"terms": {"adpit": 1, "quiet": 0.1}},
    }
    steps = {"t": train, "l": {"stage": "louder", "events": "e", "least": 0.5}}
    assert wrong(check, {"steps": steps}) == []
    train["model"]["encoder"]["layers"] = 3
    assert "'layers' was unexpected" in wrong(check, {"steps": steps})[0][1]
