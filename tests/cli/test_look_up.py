"""Keys looked up at the command line, recipes copied with their schema, and what the shell completes."""

import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.keys import recipe_schema
from dcase_seld.recipe.load import shipped_recipes
from dcase_seld.stages import STAGE_MODULES


def call(*words):
    done = CliRunner().invoke(main, list(words), standalone_mode=False, env={"COLUMNS": "80"})
    if done.exception:
        raise done.exception
    return done.stdout


def test_stages_lists_every_stage_and_what_it_makes():
    said = call("stages")
    assert all(f"\n{name} " in f"\n{said}" for name in STAGE_MODULES)
    assert " ".join(said.split()).count("Makes: ") == len(STAGE_MODULES)
    assert max(map(len, said.splitlines()[:-1])) <= 80


def test_a_stage_tells_its_keys_nested_ones_too_each_once():
    said = call("stages", "train")
    lines = said.splitlines()
    place = lines.index("  epochs    whole number, ≥ 1, ≤ 1000000; default 20")
    assert lines[place + 1] == "      passes over the training clips"
    assert sum(line.startswith("  model.encoder.layers ") for line in lines) == 1
    assert "model with kind crnn: The challenge's baseline network: CNN, GRU, self-" in said.replace("\n  ", " ")
    with pytest.raises(SeldError, match=r"no stage 'trian'. Did you mean train\?"):
        call("stages", "trian")


def test_a_key_tells_its_values_and_what_each_means():
    said = call("explain", "model.encoder.kind").splitlines()
    assert said == [
        "train.model.encoder.kind    conformer or resnet_conformer; default conformer",
        "    conformer: four double-convolution blocks",
        "    resnet_conformer: residual stages",
    ]
    assert call("explain", "train.lr") == call("explain", "lr")
    assert call("explain", "train") == call("stages", "train")
    with pytest.raises(SeldError, match=r"No stage has a key 'encodr.kind'. Near: .*encoder.kind"):
        call("explain", "encodr.kind")


def test_a_copied_recipe_has_its_schema_beside_it(tmp_path):
    from dcase_seld.cli.recipes import registry

    call("recipes", "copy", "ablations/small", str(tmp_path / "mine.yaml"))
    text = (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    assert "\n# yaml-language-server: $schema=recipe.schema.json\n" in text
    schema = json.loads((tmp_path / "recipe.schema.json").read_text(encoding="utf-8"))
    assert schema == recipe_schema(registry()) == json.loads(call("schema"))
    (tmp_path / "recipe.schema.json").write_text("mine")
    call("recipes", "copy", "quickstart", str(tmp_path))
    assert (tmp_path / "recipe.schema.json").read_text() == "mine"


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_copy_says_with_which_variables_it_runs(tmp_path, name):
    said = call("recipes", "copy", name, str(tmp_path))
    text = next(tmp_path.glob("*.yaml")).read_text(encoding="utf-8")
    for variable in re.findall(r"\$\{(\w+)\}", text):
        assert f"{variable}=" in said
    assert said.count("dcase-seld run") == 1 and "\\" not in said


def test_recipes_are_listed_in_the_width_of_the_terminal():
    lines = call("recipes").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert set(shipped_recipes()) <= {line.partition(" ")[0] for line in lines}


COMPLETE = "import sys; sys.argv = ['dcase-seld']; from dcase_seld.cli.main import entry; entry()"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ru", {"run", "runs"}),
        ("run quick", {"quick", "quickstart", "quickstart_av"}),
        ("run quickstart --until fine", {"finetune_1", "finetune_2"}),
        ("run mine.yaml --from ad", {"add", "adder"}),
        ("run quickstart --set pretrain.model.encoder.l", {"pretrain.model.encoder.layers="}),
        ("run gone.yaml --until x", set()),
        ("run --until x", set()),
        ("model-summary quickstart --step pretrain_", {"pretrain_data"}),
        ("explain --recipe mine.yaml add", {"add", "adder"}),
        ("explain train.model.encoder.k", {"train.model.encoder.kind", "train.model.encoder.kernel"}),
    ],
)
def test_the_shell_completes_commands_recipes_steps_and_keys(words, offered, tmp_path):
    (tmp_path / "mine.yaml").write_text("steps:\n  add: {stage: score}\n  adder: {stage: score, csv: '${NONE}'}\n")
    line = f"dcase-seld {words}"
    settings = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_DCASE_SELD_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **settings}
    )
    assert done.stderr == "" and {row.partition(",")[2] for row in done.stdout.split()} == offered


def test_a_step_of_a_recipe_tells_what_it_sets_and_what_that_means():
    said = call("explain", "--recipe", "quickstart", "finetune_1").splitlines()
    assert said[0].startswith("finetune_1: a step of the stage train.")
    assert any(line.startswith('  loss.distance_loss = "active"    everywhere or active') for line in said)
    assert any(line.startswith("  model.encoder.shortcut_bands = 8 ") for line in said)
    one = call("explain", "--recipe", "quickstart", "finetune_1.epochs").splitlines()
    assert one[0] == "finetune_1: epochs = 6    whole number, ≥ 1, ≤ 1000000; default 20"
    assert one[1:] == ["    passes over the training clips"]
    assert "finetune_1: keep_top is not set" in call("explain", "--recipe", "quickstart", "finetune_1.keep_top")
    assert call("explain", "--recipe", "quickstart", "train.lr") == call("explain", "train.lr")
    for key, near in (("finetun_1", "finetune_1"), ("finetune_1.eopchs", "train.epochs")):
        with pytest.raises(SeldError, match=f"quickstart has no step, and no stage has a key .* Near: {near}"):
            call("explain", "--recipe", "quickstart", key)
