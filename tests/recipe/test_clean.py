import pytest
from toy_stages import REGISTRY

from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.plan import make_plan
from dcase_seld.recipe.results import forget, leftovers, locked, remove
from dcase_seld.recipe.run import RunOptions, run_recipe

QUIET = RunOptions(quiet=True)


def test_what_a_recipe_uses_stays_and_the_rest_goes(recipe, tmp_path):
    work = tmp_path / "work"
    run_recipe(recipe, REGISTRY, work, (), QUIET)
    assert leftovers(work) == []
    run_recipe(recipe, REGISTRY, work, ("b.values=[5]",), QUIET)
    found = leftovers(work)
    assert sorted(item.step for item in found) == ["adding/b", "adding/more", "adding/total"]
    assert all(item.size > 0 for item in found)
    with locked(found[0].folder):
        assert len(leftovers(work)) == 2
    remove(found)
    assert leftovers(work) == [] and len(list((work / ".results").glob("*-*"))) == 4
    assert run_recipe(recipe, REGISTRY, work, ("b.values=[5]",), QUIET)[1] == []


def test_results_that_a_result_was_made_from_are_in_use(recipe, tmp_path):
    run_recipe(recipe, REGISTRY, tmp_path, (), QUIET)
    for name in ("a", "b", "total"):
        (tmp_path / "adding" / name).unlink()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{}", "null", None])
def test_where_it_is_not_known_what_a_result_was_made_from_nothing_is_unused(recipe, tmp_path, content):
    run_recipe(recipe, REGISTRY, tmp_path, (), QUIET)
    for name in ("a", "b", "total"):
        (tmp_path / "adding" / name).unlink()
    receipt = tmp_path / "adding" / "more" / "receipt.json"
    receipt.unlink()
    receipt.write_text(content) if content is not None else receipt.symlink_to("nowhere")
    with pytest.raises(SeldError, match="what this result was made from is not known"):
        leftovers(tmp_path)
    forget(tmp_path, "adding")
    assert leftovers(tmp_path)


def test_files_of_the_users_own_beside_the_links_stay(recipe, tmp_path):
    run_recipe(recipe, REGISTRY, tmp_path, (), QUIET)
    folder = tmp_path / "adding"
    (folder / "notes.txt").write_text("mine")
    (folder / "old.yaml").symlink_to("../elsewhere")
    (folder / "gone").symlink_to("../.results/numbers-000000000000")  # of a step that the recipe no longer has
    run_recipe(recipe, REGISTRY, tmp_path, (), QUIET)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "old.yaml").is_symlink()
    assert not (folder / "gone").is_symlink()
    (folder / "a").unlink()
    (folder / "a").write_text("mine")
    with pytest.raises(SeldError, match="where a link to results should be"):
        run_recipe(recipe, REGISTRY, tmp_path, (), QUIET)
    assert (folder / "a").read_text() == "mine"


def test_a_recipe_can_be_given_up(recipe, tmp_path):
    run_recipe(recipe, REGISTRY, tmp_path, (), QUIET)
    with pytest.raises(SeldError, match="no results of a recipe"):
        forget(tmp_path, "ading")
    assert forget(tmp_path, "adding") == 4
    assert len(leftovers(tmp_path)) == 4 and not (tmp_path / "adding").exists()


def test_two_recipes_of_one_name_leave_each_other_their_results(recipe, tmp_path):
    work, other = tmp_path / "work", tmp_path / "b" / recipe.name
    other.parent.mkdir()
    other.write_text(recipe.read_text().replace("b:", "d:").replace("[a, b]", "[a, d]"))
    run_recipe(recipe, REGISTRY, work, (), QUIET)
    for act in (make_plan, lambda *given: run_recipe(*given, (), QUIET)):  # status and --dry-run, run
        with pytest.raises(SeldError, match=f"another recipe of this name, {recipe}"):
            act(other, REGISTRY, work)
    assert leftovers(work) == [] and run_recipe(recipe, REGISTRY, work, (), QUIET)[1] == []
    forget(work, recipe.stem)  # as the error says
    run_recipe(other, REGISTRY, work, (), QUIET)
    # A recipe that was moved, or copied as it is, goes on with its results.
    run_recipe(other.rename(tmp_path / "adding.yaml"), REGISTRY, work, (), QUIET)
    copied = tmp_path / "b" / "adding.yaml"
    copied.write_text((tmp_path / "adding.yaml").read_text())
    assert run_recipe(copied, REGISTRY, work, (), QUIET)[1] == []


def test_of_results_that_are_kept_elsewhere_the_links_alone_are_removed(recipe, tmp_path):
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    plan, _ = run_recipe(recipe, REGISTRY, work, (), QUIET)
    folder = plan.steps["a"].folder
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert run_recipe(recipe, REGISTRY, work, (), QUIET)[1] == []
    kept = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    forget(work, recipe.stem)
    remove(leftovers(work))
    assert leftovers(work) == [] and not folder.is_symlink()
    folder.symlink_to(elsewhere)
    run_recipe(recipe, REGISTRY, work, (), RunOptions(force=True, quiet=True))
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == kept and not folder.is_symlink()


@pytest.mark.parametrize(
    "name", [".a.yaml", "..a.yaml", "a b .yaml", "ü\u0301.yaml", "...yaml", "a\nb\x1b[31m.yaml", "-x"]
)
def test_recipes_of_odd_names_have_their_results(name, recipe, tmp_path):
    path = recipe.rename(tmp_path / name)
    work = tmp_path / "work"
    run_recipe(path, REGISTRY, work, (), QUIET)
    assert leftovers(work) == [] and run_recipe(path, REGISTRY, work, (), QUIET)[1] == []
