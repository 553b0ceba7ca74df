import pytest

from dcase_seld.core.classes import DCASE2025, Taxonomy, load_taxonomy
from dcase_seld.core.errors import SeldError


def test_the_challenge_has_thirteen_classes():
    assert len(DCASE2025) == 13 and load_taxonomy(None) is DCASE2025
    assert (DCASE2025.classes[3], DCASE2025.classes[12]) == ("Telephone", "Knock")


def test_a_users_list_names_its_folders_itself(tmp_path):
    path = tmp_path / "birds.yaml"
    path.write_text("classes: [Black-bird, Robin, Wren]\n")
    birds = load_taxonomy(path)
    assert birds.name == "birds" and birds.folders == ("black_bird", "robin", "wren")
    assert Taxonomy.from_json(birds.to_json()) == birds


@pytest.mark.parametrize(("folder", "index"), [("bell", 11), ("03_telephone", 3), ("Water-Tap", 10), ("dog", None)])
def test_folders_of_a_sound_bank_are_recognised(folder, index):
    assert DCASE2025.class_of_folder(folder) == index


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: []", "no class"),
        ("classes: bell", "'classes'"),
        ("- bell", "mapping"),
        ("classes: [A, a]", "distinct"),
        ("classes: [A, ' A']\nfolders: [a, b]", "twice"),
        ("classes: [A, '']\nfolders: [a, b]", "without a name"),
        ("{", "not readable as YAML"),
        ("classes: [A]\nfolders: a", "'folders'"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(tmp_path, text, words):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(SeldError, match=words):
        load_taxonomy(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SeldError, match="There is no file"):
        load_taxonomy(tmp_path / "nowhere.yaml")
