import sys

import pytest
from toy_stages import REGISTRY

from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.graph import ancestors, build, descendants
from dcase_seld.recipe.load import load_recipe


def errors_of(tmp_path, text, overrides=()):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(SeldError) as caught:
        build(load_recipe(path, overrides), REGISTRY)
    return caught.value.problem


def test_steps_come_after_what_they_read_whatever_the_order_in_the_file(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "steps:\n  z: {stage: sum, numbers: [y, x], extra: x}\n  y: {stage: numbers}\n"
        "  x: {stage: numbers, mode: off}\n"
    )
    steps = build(load_recipe(path), REGISTRY)
    assert list(steps) == ["y", "x", "z"]
    assert steps["z"].reads == {"numbers": ("y", "x"), "extra": ("x",)}
    assert steps["x"].config.mode == "off"
    assert ancestors(steps, ["y"]) == {"y"} and descendants(steps, ["y"]) == {"y", "z"}


def test_all_errors_of_all_steps_come_at_once(tmp_path):
    problem = errors_of(
        tmp_path,
        """steps:
  a: {stage: number}
  b: {stage: numbers, valuess: [1], scale: {factr: 2}}
  c:
    stage: sum
    numbers: [bb, d]
    rate: -1
  d: {stage: sum, numbers: [b]}
  e: {stage: sum, numbers: [d], start: b}
  f: {values: [1]}
  g: {stage: sum, numbers: [missing]}
""",
        ["g.rate=fast"],
    )
    assert problem.splitlines()[1:] == [
        "  line 2: steps.a.stage: no stage 'number'; did you mean 'numbers'?",
        "  line 10: steps.f: the key stage is missing; stages: numbers, sum, slow",
        "  line 3: steps.b.scale.factr: unknown key; did you mean 'factor'?",
        "  line 3: steps.b.valuess: unknown key; did you mean 'values'?",
        "  line 7: steps.c.rate: input should be greater than 0, got -1",
        "  line 6: steps.c.numbers.0: no step 'bb'; did you mean 'b'?",
        "  line 6: steps.c.numbers.1: step 'd' makes 'sum', but 'numbers' is read here; steps that do: b",
        "  line 9: steps.e.numbers.0: step 'd' makes 'sum', but 'numbers' is read here; steps that do: b",
        "  line 9: steps.e.start: step 'b' makes 'numbers', but 'sum' is read here; steps that do: c, d, g",
        "  --set: steps.g.rate: input should be a valid number, unable to parse string as a number, got 'fast'",
        "  line 11: steps.g.numbers.0: no step 'missing'; there are: a, b, c, d, e, f",
    ]


def test_a_reference_to_no_step_names_a_near_one(tmp_path):
    text = "steps:\n  first: {stage: numbers}\n  then: {stage: sum, numbers: [fist]}\n"
    assert "line 3: steps.then.numbers.0: no step 'fist'; did you mean 'first'?" in errors_of(tmp_path, text)


def test_a_circle_is_named(tmp_path):
    sums = "  a: {stage: sum, numbers: [n], start: b}\n  b: {stage: sum, numbers: [n], start: a}\n"
    text = "steps:\n  n: {stage: numbers}\n" + sums
    assert "the steps read each other in a circle: a → b → a" in errors_of(tmp_path, text)


def test_more_steps_in_a_row_than_functions_may_call_each_other(tmp_path):
    count = sys.getrecursionlimit() + 50
    # Each reads the next one in the file; the last reads nothing, or the first again.
    lines = [f"  s{i}: {{stage: sum, numbers: [n], start: s{i + 1}}}\n" for i in range(count)]
    text = "steps:\n  n: {stage: numbers}\n" + "".join(lines)
    (tmp_path / "r.yaml").write_text(f"{text}  s{count}: {{stage: sum, numbers: [n]}}\n")
    order = list(build(load_recipe(tmp_path / "r.yaml"), REGISTRY))
    assert order[:2] == ["n", f"s{count}"] and order[-1] == "s0"
    text += f"  s{count}: {{stage: sum, numbers: [n], start: s0}}\n"
    assert "in a circle: s0 → s1 → " in errors_of(tmp_path, text)


def test_an_empty_path_is_not_the_folder_here(tmp_path):
    text = 'steps:\n  n: {stage: numbers}\n  b: {stage: sum, numbers: [n], extra: "${NO_SUCH_VARIABLE:-}"}\n'
    assert "steps.b.extra: the path is empty" in errors_of(tmp_path, text)
    said = errors_of(tmp_path, text.replace(":-", ""))
    assert "variable NO_SUCH_VARIABLE is not set" in said and "path is empty" not in said, "one fault is told once"


def test_an_outside_path_is_looked_for_here_and_beside_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "data").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    path = tmp_path / "recipes" / "r.yaml"
    path.write_text("steps:\n  a: {stage: numbers, source: data}\n  b: {stage: sum, numbers: [a], extra: here}\n")
    monkeypatch.chdir(tmp_path)
    steps = build(load_recipe(path), REGISTRY)
    assert steps["a"].config.source == tmp_path / "recipes" / "data"
    assert steps["b"].outside == {"extra": (tmp_path / "here",)} and steps["b"].config.extra == str(tmp_path / "here")


def test_outside_data_that_is_not_there_is_reported_with_the_other_errors(tmp_path, monkeypatch):
    """Once for all steps that read it; also of a step that is refused for something else, and not where a variable
    is not set, which is an error of its own."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOT_SET", raising=False)
    path = tmp_path / "wrong.yaml"
    path.write_text(
        """steps:
  first: {stage: numbers, source: nowhere}
  second: {stage: numbers, source: nowhere, valuess: [1]}
  third: {stage: sum, numbers: [first], extra: frist, rate: -1}
  fourth: {stage: numbers, source: there}
  fifth: {stage: numbers, source: "${NOT_SET}/x"}
  sixth: {stage: sum, numbers: [first], extra: /gone}
"""
    )
    with pytest.raises(SeldError) as caught:
        build(load_recipe(path), REGISTRY, check_outside=True)
    here = ", seen from the current directory, nor beside the recipe"
    assert caught.value.problem.splitlines() == [
        f"{path} has 6 errors:",
        "  line 6: steps.fifth.source: the environment variable NOT_SET is not set (export NOT_SET=…)",
        "  line 3: steps.second.valuess: unknown key; did you mean 'values'?",
        "  line 4: steps.third.rate: input should be greater than 0, got -1",
        f"  line 2: steps.first.source: there is no file or folder {tmp_path / 'nowhere'}{here} "
        "(also read by steps.second.source)",
        f"  line 4: steps.third.extra: there is no file or folder {tmp_path / 'frist'}{here}; "
        "did you mean the step 'first'?",
        "  line 7: steps.sixth.extra: there is no file or folder /gone, and no step has this name",
    ]
    assert "6 errors" in str(caught.value) and "nothing was run" in caught.value.remedy
    fixed = ["third.extra=there", "third.rate=1", "sixth.extra=first", "second.source=there"]
    with pytest.raises(SeldError, match=r"has 2 errors"):
        build(load_recipe(path, fixed), REGISTRY)


def test_an_override_gives_a_path_that_is_there(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("steps:\n  a: {stage: numbers, source: gone}\n")
    with pytest.raises(SeldError, match="no file or folder"):
        build(load_recipe(path), REGISTRY, check_outside=True)
    assert build(load_recipe(path, [f"a.source={tmp_path}"]), REGISTRY, check_outside=True)["a"].outside
