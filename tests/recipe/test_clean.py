import pytest
from toy_stages import REGISTRY

from dcase_seld.core.errors import SeldError
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
