"""No size in a recipe can take a machine's memory or processes: each is bounded where the recipe is read."""

import subprocess
import sys

import pytest

from dcase_seld.cli.recipes import registry
from dcase_seld.core.errors import SeldError
from dcase_seld.model.config import EncoderConfig
from dcase_seld.recipe.keys import recipe_schema
from dcase_seld.recipe.plan import make_plan

FREE = {
    *("seed", "split_seed", "zero_point"),
    *("nodes", "patience", "validate_every", "checkpoint_steps", "keep_top"),  # "never" may be written as a large one
    *("time_mask_frames", "smooth_frames", "silent_people"),  # cut to the clip, or checked by hand
}
"""Whole numbers that take nothing, however large."""


def unbounded(schema, name=""):
    """Yield the names of whole numbers without a largest value."""
    if isinstance(schema, dict):
        if schema.get("type") == "integer" and not {"maximum", "exclusiveMaximum"} & schema.keys():
            yield name
        for key, value in schema.items():
            inner = key not in ("properties", "anyOf", "allOf", "oneOf", "items", "prefixItems", "additionalProperties")
            yield from unbounded(value, key if inner else name)
    elif isinstance(schema, list):
        for value in schema:
            yield from unbounded(value, name)


def test_every_size_has_a_largest_value():
    assert set(unbounded(recipe_schema(registry()))) <= FREE


def test_layers_that_no_machine_holds_are_refused_before_the_first_step(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "steps:\n"
        "  scenes: {stage: simulate}\n"
        "  data: {stage: prepare, corpus: scenes}\n"
        "  train: {stage: train, data: data, model: {encoder: {layers: 64, d_model: 8192, feed_forward: 65536}}}\n"
    )
    with pytest.raises(SeldError, match=r"line 4: .*weights of its layers; at most 2,000,000,000"):
        make_plan(tmp_path / "r.yaml", registry(), tmp_path / "work")
    assert EncoderConfig(layers=24, d_model=1024, feed_forward=4096).layers == 24


def test_a_loop_of_links_is_told_in_a_sentence(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    done = subprocess.run(
        [sys.executable, "-m", "dcase_seld", "report", str(tmp_path / "loop")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "loop" in done.stderr and "Traceback" not in done.stderr
