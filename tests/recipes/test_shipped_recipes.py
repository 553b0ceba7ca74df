"""Every recipe that is shipped can be read, and its steps fit together."""

import re
from pathlib import Path

import pytest

from dcase_seld.commands.run import registry
from dcase_seld.recipe.graph import build
from dcase_seld.recipe.load import load_recipe
from dcase_seld.stages.ensemble import EnsembleStageConfig
from dcase_seld.stages.predict import PredictStageConfig

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))


def test_there_are_recipes_for_both_tracks_and_for_a_first_run():
    names = {path.stem for path in RECIPES}
    assert names >= {"quickstart", "quickstart_av", "real_sounds", "track_a", "track_b", "track_a_eval", "track_b_eval"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_recipe_reads_and_its_steps_fit_together(path, tmp_path):
    text = path.read_text()
    environment = {name: str(tmp_path) for name in re.findall(r"\$\{(\w+)", text)}
    recipe = load_recipe(path, environment=environment)
    steps = build(recipe, registry())
    assert len(steps) == len(recipe.steps) >= 3 and recipe.about
    assert text.startswith("# Run: ") and path.name in text.split("\n\n")[0]


@pytest.mark.parametrize("track", ["track_a", "track_b"])
def test_the_twin_for_the_evaluation_set_shares_the_pre_training(track, tmp_path):
    environment = {name: str(tmp_path) for name in ("SOUNDS", "PICTURES", "DCASE25_ROOT", "DCASE25_EVAL", "TEAM")}
    own, twin = (load_recipe(FOLDER / f"{n}.yaml", environment=environment).steps for n in (track, f"{track}_eval"))
    assert {name: own[name] for name in ("scenes", "synth", "pretrain")} == {
        name: twin[name] for name in ("scenes", "synth", "pretrain")
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_step_predicts_the_clips_that_its_ensemble_was_tuned_on(path, tmp_path):
    environment = {name: str(tmp_path) for name in re.findall(r"\$\{(\w+)", path.read_text())}
    configs = {
        name: step.config for name, step in build(load_recipe(path, environment=environment), registry()).items()
    }
    tuned = {name: c.data for name, c in configs.items() if isinstance(c, EnsembleStageConfig) and c.needs_data}
    for name, config in configs.items():
        if isinstance(config, PredictStageConfig) and config.split not in ("test", "eval"):
            members = [config.members] if isinstance(config.members, str) else config.members
            assert not [m for m in members if tuned.get(m) == config.data], f"{name} of {path.name} would be refused"
