import pytest
from pydantic import Field, ValidationError

from dcase_seld.core.config import Config, parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import load_task
from dcase_seld.infer.settings import EnsembleSettings
from dcase_seld.recipe.keys import groups
from dcase_seld.stages import load_stage, stage_names
from dcase_seld.submission.layout import Layout, Team

STAGES = [load_stage(name).config for name in stage_names()]


def test_true_is_no_number_of_any_configuration():
    """Python counts True as 1: `epochs: true` trained one epoch."""
    for group in (group for model in (*STAGES, Layout, Team, EnsembleSettings) for group in groups(model)):
        for name, field in group.model.model_fields.items():
            for value in (True, [True], [1, True], [[True, True]], {"train": True}):
                with pytest.raises(ValidationError) as caught:
                    group.model.model_validate({name: value, "no key": 0})
                refused = any(error["loc"][:1] == (name,) for error in caught.value.errors())
                assert refused or (field.annotation is bool and value is True) or name == "description", (name, value)


def test_who_wants_true_or_a_number_gets_what_was_written():
    class Mixed(Config):
        either: bool | float | str = Field(default=0.5, description="Any.")
        many: tuple[int | None, ...] = Field(default=(), description="Numbers.")

    assert parse_config(Mixed, {"either": True}, "x").either is True
    assert parse_config(Mixed, {"either": 1}, "x").either == 1.0
    assert parse_config(Mixed, {"many": ["3", None, 2]}, "x").many == (3, None, 2)
    with pytest.raises(SeldError, match=r"many\.1: a number is expected, got True"):
        parse_config(Mixed, {"many": [3, True]}, "x")


@pytest.mark.parametrize("line", ["tracks: true", "tracks: 2.5", "window_s: false", "sample_rate: many"])
def test_a_tasks_numbers_are_numbers(tmp_path, line):
    (tmp_path / "task.yaml").write_text(line)
    with pytest.raises(SeldError, match="numbers cannot be read"):
        load_task(str(tmp_path / "task.yaml"))
