import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.load import load_recipe, parse_value


def load(tmp_path, text, overrides=(), **environment):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return load_recipe(path, overrides, environment)


def test_scalars_are_read_as_people_mean_them(tmp_path):
    text = (
        "steps:\n  a: {stage: s, lr: 1e-3, mode: off, number: 010, time: 12:30, day: 2025-01-01, none: ~, yes: true}\n"
    )
    step = load(tmp_path, text).steps["a"]
    assert step == {
        "stage": "s",
        "lr": 1e-3,
        "mode": "off",
        "number": 10,
        "time": "12:30",
        "day": "2025-01-01",
        "none": None,
        "yes": True,
    }


def test_variables_inside_flow_mappings_with_default_and_awkward_characters(tmp_path):
    text = "steps:\n  a: {stage: s, root: ${ROOT}, both: ${ROOT}/x-${NAME:-y z}}  # ${UNUSED} in a comment\n"
    recipe = load(tmp_path, text, ROOT="/a: b, {c} # d")
    assert recipe.steps["a"] == {"stage": "s", "root": "/a: b, {c} # d", "both": "/a: b, {c} # d/x-y z"}
    assert recipe.problems == []


def test_problems_carry_lines_and_are_collected(tmp_path):
    text = (
        "about: x\nstep: {}\nsteps:\n  a:\n    stage: s\n    lr: 1\n    lr: 2\n    root: ${NOT_SET}\n    list: [0]\n"
        "  b: 5\n  1c: {stage: s}\n"
    )
    problems = load(tmp_path, text, ["c.lr=1", "a.list.3=1"]).problems
    assert problems == [
        "line 7: steps.a.lr: given twice (first in line 6)",
        "line 8: steps.a.root: the environment variable NOT_SET is not set (export NOT_SET=…)",
        "line 2: step: unknown key; did you mean 'steps'?",
        "line 10: steps.b: expected a mapping with the key stage, got 5",
        "line 11: steps.1c: a step's name is letters, digits, _ and -, beginning with a letter",
        "--set c.lr=1: no step 'c'; there are a",
        "--set a.list.3=1: '3' is not a place in a list of 1",
    ]
    told = load(tmp_path, text, ["a.root=null"]).problems
    assert not any("NOT_SET" in problem for problem in told), "a value that is given needs no variable"


def test_a_value_may_be_named_and_used_again_and_an_override_changes_one_use(tmp_path):
    recipe = load(tmp_path, "steps:\n  a: {stage: s, m: &m {d: 1}}\n  b: {stage: s, m: *m}\n", ["b.m.d=2"])
    assert recipe.steps == {"a": {"stage": "s", "m": {"d": 1}}, "b": {"stage": "s", "m": {"d": 2}}}


def test_a_mapping_takes_over_the_keys_of_others_and_its_own_win(tmp_path):
    text = (
        "steps:\n"
        "  a: &a {stage: s, lr: 1, model: {width: 2, depth: 3}}\n"
        "  b:\n"
        "    model: {width: 5}\n"
        "    <<: *a\n"
        "  c: {<<: [{lr: 7}, *a], stage: t}\n"
    )
    recipe = load(tmp_path, text)
    assert recipe.steps["b"] == {"stage": "s", "lr": 1, "model": {"width": 5}}
    assert recipe.steps["c"] == {"stage": "t", "lr": 7, "model": {"width": 2, "depth": 3}}
    assert recipe.steps["a"]["model"] == {"width": 2, "depth": 3} and not recipe.problems
    assert recipe.lines[("steps", "b", "model")] == 4 and recipe.lines[("steps", "b", "lr")] == 2
    assert ("steps", "b", "model", "depth") not in recipe.lines
    with pytest.raises(SeldError, match="<< takes mappings"):
        load(tmp_path, "steps:\n  a: {<<: 5, stage: s}\n")
    twice = load(tmp_path, "steps:\n  a: &a {stage: s, lr: 1}\n  b: {<<: *a, lr: 2, lr: 3}\n")
    assert len(twice.problems) == 1 and "given twice" in twice.problems[0]


def test_overrides_reach_nested_keys_and_lists(tmp_path):
    text = "steps:\n  a: {stage: s, model: {depth: 2}, members: [x, y]}\n"
    overrides = ["a.model.depth=8", "a.model.kind.name=crnn", "a.members.1=z", "a.extra=[1, 2]", "a.text='1'"]
    assert load(tmp_path, text, overrides).steps["a"] == {
        "stage": "s",
        "model": {"depth": 8, "kind": {"name": "crnn"}},
        "members": ["x", "z"],
        "extra": [1, 2],
        "text": "1",
    }


BOMB = "a0: &a0 [x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: [", ", line 1: not readable as YAML"),
        ("steps: {a: !!python/object/apply:os.system [x]}", "tags"),
        ("a: &x [1, *x]", "nested too deeply"),
        (BOMB, "more than 20,000 values"),
        ("- 1", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("steps: \0", "not readable as YAML"),
        ("a: !!python/name:os.system x", "not readable as YAML"),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_sentence(tmp_path, text, said):
    with pytest.raises(SeldError) as caught:
        load(tmp_path, text)
    assert said in caught.value.problem


@pytest.mark.parametrize("plugins", ["5", "{a: 1}"])
def test_plug_ins_are_a_list(tmp_path, plugins):
    (tmp_path / "r.yaml").write_text(f"plugins: {plugins}\nsteps: {{a: {{stage: s}}}}\n")
    assert "plugins: expected a list of files or modules" in load_recipe(tmp_path / "r.yaml").problems[0]


def test_a_missing_recipe_names_a_near_one(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("steps: {}")
    with pytest.raises(SeldError) as caught:
        load_recipe(tmp_path / "quikstart.yaml")
    assert "quickstart.yaml" in caught.value.remedy
    with pytest.raises(SeldError, match="Did you mean quickstart"):
        load_recipe("no_such_folder/quikstart.yaml")


def test_a_set_value_that_is_not_yaml_is_refused():
    assert parse_value("1e-4") == 1e-4
    with pytest.raises(SeldError):
        parse_value("[1, ")


def test_tokens_of_several_sound_encoders_keep_their_names():
    from dcase_seld.core.old_formats import recipe_steps

    embed = {name: {"stage": "embed", "model": {"kind": name}} for name in ("clap", "yamnet")}
    named = {"mine": {"stage": "embed", "name": "clap", "model": {"kind": "onnx", "path": "x.onnx"}}}
    for tokens in (["clap", "yamnet"], ["mine", "yamnet"]):
        train = {"stage": "train", "tokens": tokens, "model": {"kind": "conformer", "fusion": ["clap", "yamnet"]}}
        steps = {**embed, **named, "train": train}
        assert recipe_steps(steps) == (steps, [])
    old = {"stage": "train", "tokens": "yamnet", "model": {"kind": "conformer", "fusion": ["clap"]}}
    steps, notes = recipe_steps({**embed, "train": old})
    assert list(steps["train"]["model"]["fusion"]) == ["yamnet"] and notes
