import dataclasses
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import toy_stages
from pydantic import Field
from toy_stages import REGISTRY

from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import follow
from dcase_seld.recipe.graph import Registry
from dcase_seld.recipe.plan import make_plan
from dcase_seld.recipe.results import leftovers, link, lock_path, read_receipt
from dcase_seld.recipe.run import RunOptions, run_recipe

QUIET = RunOptions(quiet=True)


def run(recipe, work, *overrides, **options):
    return run_recipe(recipe, REGISTRY, work, overrides, RunOptions(quiet=True, **options))


def whys(recipe, work, *overrides):
    return {name: step.why for name, step in make_plan(recipe, REGISTRY, work, overrides).steps.items()}


def test_a_run_makes_every_step_links_it_and_does_nothing_the_second_time(recipe, tmp_path):
    work = tmp_path / "work"
    plan, made = run(recipe, work)
    assert made == ["a", "b", "total", "more"]
    assert json.loads((work / "adding" / "more" / "sum.json").read_text()) == 6 + 26
    assert not (work / "adding" / "more").readlink().is_absolute()
    receipt = read_receipt(work / "adding" / "total")
    assert receipt["facts"] == {"total": 26.0, "show": "the total is 26.0"}
    assert receipt["inputs"] == {"numbers": [plan.steps["a"].folder.name, plan.steps["b"].folder.name]}
    assert receipt["files"] == {"sum.json": 4} and receipt["versions"]["pydantic"]
    assert list(plan.work.glob(".results/*.lock")) == [] and list(plan.work.rglob("*.part")) == []
    assert run(recipe, work)[1] == []


def test_a_changed_value_remakes_what_depends_on_it_and_going_back_finds_the_old_result(recipe, tmp_path):
    work = tmp_path / "work"
    run(recipe, work)
    assert run(recipe, work, "b.scale.factor=3")[1] == ["b", "total", "more"]
    assert json.loads((work / "adding" / "total" / "sum.json").read_text()) == 36
    assert run(recipe, work)[1] == []
    assert json.loads((work / "adding" / "total" / "sum.json").read_text()) == 26


def test_run_time_fields_change_nothing_nested_or_not(recipe, tmp_path):
    run(recipe, tmp_path)
    assert run(recipe, tmp_path, "total.workers=8", "a.scale.threads=4")[1] == []


def test_keys_that_have_come_since_change_nothing_at_their_defaults(recipe, tmp_path):
    run(recipe, tmp_path)

    class Scale(toy_stages.Scale):
        offset: float = Field(0.0, description="new in the next version")

    class Numbers(toy_stages.NumbersConfig):
        scale: Scale = Field(Scale(), description="nested")
        order: str = Field("up", description="new in the next version")

    def released(**changes):
        changed = dataclasses.replace(toy_stages.STAGES["numbers"], config=Numbers, **changes)
        return Registry(REGISTRY.names, {**toy_stages.STAGES, "numbers": changed}.__getitem__)

    next_version = released()

    def why(registry, *overrides):
        return {name: step.why for name, step in make_plan(recipe, registry, tmp_path, overrides).steps.items()}

    assert set(why(next_version).values()) == {""}
    assert run_recipe(recipe, next_version, tmp_path, (), QUIET)[1] == []
    # Steps that read such a result are found again too, and all the rest counts as before.
    assert why(next_version, "b.order=down")["b"] == "order: (not there) → down"
    assert why(next_version, "b.scale.offset=1")["total"].startswith("numbers: another result of")
    assert why(next_version, "b.scale.factor=3")["b"].startswith("scale.factor: 2.0 → 3.0")
    assert why(released(version=2))["a"].startswith("the stage's version: 1 → 2")


def test_renaming_a_step_makes_nothing_again(recipe, tmp_path):
    run(recipe, tmp_path)
    recipe.write_text(recipe.read_text().replace("  b:", "  bee:").replace("[a, b]", "[a, bee]"))
    assert run(recipe, tmp_path)[1] == []
    assert (tmp_path / "adding" / "bee").is_dir() and not (tmp_path / "adding" / "b").is_symlink()


def test_status_says_why(recipe, tmp_path):
    assert set(whys(recipe, tmp_path).values()) == {"it was never made"}
    run(recipe, tmp_path)
    assert set(whys(recipe, tmp_path).values()) == {""}
    assert whys(recipe, tmp_path, "b.scale.factor=3", "b.mode=off", "total.rate=2") == {
        "a": "",
        "b": "mode: on → off; scale.factor: 2.0 → 3.0",
        "total": "rate: 0.001 → 2.0; numbers: another result of a, b",
        "more": "start: another result of total",
    }
    (tmp_path / "adding" / "total" / "sum.json").write_text("changed")
    assert whys(recipe, tmp_path)["total"] == "files of its result are missing or changed: sum.json"
    (tmp_path / "adding" / "total" / "receipt.json").unlink()
    assert whys(recipe, tmp_path)["total"] == "it was interrupted and will be resumed"
    shutil.rmtree(follow(tmp_path / "adding" / "total"))
    assert whys(recipe, tmp_path)["total"] == "it was never made"


def test_until_from_and_force_select(recipe, tmp_path):
    with pytest.raises(SeldError, match="reads a, which is not done"):
        run(recipe, tmp_path, since="total")
    assert run(recipe, tmp_path, until="total")[1] == ["a", "b", "total"]
    assert run(recipe, tmp_path, since="total", until="total", force=True)[1] == ["total"]
    assert run(recipe, tmp_path, since="b")[1] == ["more"]
    assert run(recipe, tmp_path, force=True)[1] == ["a", "b", "total", "more"]
    with pytest.raises(SeldError, match="no such step"):
        run(recipe, tmp_path, until="totl")
    with pytest.raises(SeldError, match="nothing is selected"):
        run(recipe, tmp_path, until="a", since="more")
    with pytest.raises(SeldError, match=r"total\.rate: input should be a finite number, got inf"):
        run(recipe, tmp_path, "total.rate=.inf")


def test_outside_data_by_content_where_an_mtime_changed(tmp_path):
    data, recipe = tmp_path / "data", tmp_path / "r.yaml"
    data.mkdir()
    (data / "1.txt").write_text("5")
    recipe.write_text("steps:\n  a: {stage: numbers, source: data}\n  s: {stage: sum, numbers: [a], extra: a}\n")
    run(recipe, tmp_path / "work")
    os.utime(data / "1.txt", ns=(1, 1))
    assert run(recipe, tmp_path / "work")[1] == []
    (data / "1.txt").write_text("6")
    assert whys(recipe, tmp_path / "work")["a"] == "source: the content of a file of data changed"
    (data / "2.txt").write_text("7")
    shutil.rmtree(tmp_path / "work" / ".outside")
    (tmp_path / "work" / ".outside").write_text("")  # as in a folder that may only be read, nothing can be noted
    assert whys(recipe, tmp_path / "work")["a"] == "source: 1 files, 1 bytes → 2 files, 2 bytes"
    assert run(recipe, tmp_path / "work")[1] == ["a", "s"]
    assert json.loads((tmp_path / "work" / "r" / "s" / "sum.json").read_text()) == 2 * (1 + 2 + 6 + 7)
    shutil.rmtree(data)
    with pytest.raises(SeldError, match=r"steps\.a\.source"):
        make_plan(recipe, REGISTRY, tmp_path / "work")


def test_moved_data_is_looked_at_again_but_what_follows_stays(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "1.txt").write_text("5")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  a: {stage: numbers, source: old}\n  s: {stage: sum, numbers: [a]}\n")
    run(recipe, tmp_path / "work")
    (tmp_path / "old").rename(tmp_path / "new")
    assert "no longer at" in whys(recipe, tmp_path / "work", "a.source=new")["a"]
    assert run(recipe, tmp_path / "work", "a.source=new")[1] == ["a"]
    assert run(recipe, tmp_path / "work", "a.source=new")[1] == []


def test_a_refusal_names_the_step_keeps_the_folder_and_is_resumed(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  a: {stage: numbers}\n  c: {stage: slow, numbers: a, steps: 4}\n")
    with pytest.raises(SeldError) as caught:
        run(recipe, tmp_path, "c.fail_at=2")
    assert caught.value.problem == "step c (slow): the line is too long." and caught.value.remedy == "Shorten it."
    plan, made = run(recipe, tmp_path)
    assert made == ["c"] and plan.steps["c"].receipt["facts"] == {"resumed_at": 2}
    assert (tmp_path / "r" / "c" / "lines.txt").read_text() == "0\n1\n2\n3\n"


def test_a_link_where_the_system_refuses_symbolic_ones(tmp_path, monkeypatch):
    folder = tmp_path / ".results" / "x"
    folder.mkdir(parents=True)

    def refuse(self, target, target_is_directory=False):
        raise OSError("not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    link(tmp_path / "recipe" / "step", folder)
    assert (tmp_path / "recipe" / "step").read_text().strip() == str(Path("..", ".results", "x"))
    assert follow(tmp_path / "recipe" / "step") == folder
    for content in (b"\xff\xfe", b"a\0b", b"x" * 4000):  # a small file that is no link leads nowhere
        (tmp_path / "recipe" / "other").write_bytes(content)
        assert follow(tmp_path / "recipe" / "other").parent == tmp_path / "recipe"


def test_what_a_later_step_lacks_is_told_before_the_first_one_runs(tmp_path):
    recipe = tmp_path / "late.yaml"
    recipe.write_text(
        "steps:\n  a: {stage: numbers}\n  one: {stage: slow, numbers: a, tool: hammer}\n"
        "  two: {stage: slow, numbers: a, tool: hammer, steps: 2}\n"
        "  three: {stage: slow, numbers: a, steps: 3, tool: saw}\n"
    )
    work = tmp_path / "work"
    with pytest.raises(SeldError) as caught:
        run(recipe, work)
    assert (
        caught.value.problem
        == "step one (slow), two (slow): there is no hammer.\n  step three (slow): there is no saw."
    )
    assert caught.value.remedy == "fetch the hammer. fetch the saw. Nothing was run."
    assert not list(work.glob(".results/*"))
    # What is not to run is not asked.
    assert run(recipe, work, until="a")[1] == ["a"]


def test_data_that_changes_while_it_is_read_gives_no_receipt(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text("5")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"steps:\n  first: {{stage: numbers, source: {data}}}\n")
    read = toy_stages.write_numbers

    def meddle(config, inputs, out, context):
        facts = read(config, inputs, out, context)
        (data / "a.txt").write_text("7")
        return facts

    stage = dataclasses.replace(toy_stages.REGISTRY.load("numbers"), run=meddle)
    meddled = Registry(("numbers",), lambda name: stage)
    with pytest.raises(SeldError, match="changed while the recipe ran; nothing was kept"):
        run_recipe(recipe, meddled, tmp_path / "work")
    assert not list((tmp_path / "work/.results").glob("numbers-*/*"))
    plan, ran = run(recipe, tmp_path / "work")
    assert ran == ["first"] and json.loads((plan.steps["first"].folder / "numbers.json").read_text())[-1] == 7.0


def test_a_recipe_whose_name_begins_with_a_dot_keeps_its_results(tmp_path):
    for name in (".results.yaml", ".mine.yaml"):
        (tmp_path / name).write_text("steps:\n  first: {stage: numbers}\n")
        plan, _ = run(tmp_path / name, tmp_path / "work")
        assert plan.link("first").exists() and not plan.name.startswith(".")
    assert leftovers(tmp_path / "work") == []


def test_the_lock_of_a_killed_run_does_not_stay_beside_a_finished_result(recipe, tmp_path):
    plan, _ = run(recipe, tmp_path / "work")
    lock = lock_path(plan.steps["sum"].folder if "sum" in plan.steps else next(iter(plan.steps.values())).folder)
    lock.write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "born": "1", "since": "then"}))
    run(recipe, tmp_path / "work")
    assert not lock.exists()


@pytest.mark.parametrize(("name", "value"), [("finished", 1e300), ("finished", -1e300), ("seconds", float("nan"))])
def test_a_receipt_with_a_time_that_no_calendar_shows_is_none(recipe, tmp_path, name, value):
    """Reports ended with a traceback of it."""
    plan, _ = run(recipe, tmp_path / "work")
    file = next(iter(plan.steps.values())).folder / "receipt.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    assert read_receipt(file.parent) is None
    run(recipe, tmp_path / "work")
    assert read_receipt(file.parent)["seconds"] >= 0
