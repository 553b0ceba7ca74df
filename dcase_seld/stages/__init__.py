"""The stages that a recipe may name; each is loaded when a recipe uses it."""

from __future__ import annotations

import importlib

from dcase_seld.recipe.stage import Stage

STAGE_MODULES = {
    name: f"dcase_seld.stages.{name}"
    for name in (
        "simulate",
        "convert",
        "prepare",
        "embed",
        "train",
        "ensemble",
        "predict",
        "keypoints",
        "detections",
        "visual",
        "export",
        "score",
        "compare",
        "report",
        "package",
    )
}
"""Stage name → module that holds it as STAGE."""


def load_stage(name: str) -> Stage:
    """Return the named stage, imported now.

    Raises:
        KeyError: no stage has this name.
    """
    stage = importlib.import_module(STAGE_MODULES[name]).STAGE
    assert isinstance(stage, Stage)
    return stage
