import pytest
from toy_stages import RECIPE


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "adding.yaml"
    path.write_text(RECIPE)
    return path
