"""The stages that a recipe may name; each is loaded when a recipe uses it."""

from __future__ import annotations

import importlib

from dcase_seld.core.registry import STAGES
from dcase_seld.recipe.stage import Stage

STAGE_MODULES = {
    name: f"dcase_seld.stages.{module}"
    for module, names in {
        "data": ("simulate", "convert", "prepare"),
        "tokens": ("embed",),
        "networks": ("train", "ensemble", "predict", "export"),
        "pictures": ("keypoints", "detections", "visual"),
        "results": ("score", "compare", "report", "package"),
    }.items()
    for name in names
}
"""Stage name → module that holds it as NAME_STAGE."""


def stage_names() -> tuple[str, ...]:
    """Return the names of all stages, those of plug-ins last."""
    return (*STAGE_MODULES, *STAGES.names)


def load_stage(name: str) -> Stage:
    """Return the named stage, imported now, or made of what a plug-in registered.

    Raises:
        KeyError: no stage has this name.
    """
    if name in STAGES:
        entry = STAGES[name]
        return Stage(entry.name, entry.produces, entry.config, entry.run, **entry.options)
    stage = getattr(importlib.import_module(STAGE_MODULES[name]), f"{name.upper()}_STAGE")
    assert isinstance(stage, Stage)
    return stage
