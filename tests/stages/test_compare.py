"""The table of ablations: figures and paired differences of scored steps, and the shipped recipe in miniature."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from dcase_seld.cli.recipes import registry
from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained.transformers_models import make_random_model
from dcase_seld.recipe.load import load_recipe
from dcase_seld.recipe.run import RunOptions, run_recipe
from dcase_seld.scoring.figures import format_table
from dcase_seld.stages.results import CompareConfig

ALL = Path(__file__).parents[2] / "recipes" / "ablations" / "all.yaml"
TINY = {
    "frontend": {"hop": 300, "window": 1024, "n_fft": 1024},
    "encoder": {"kind": "resnet_conformer", "channels": [8, 8, 16], "layers": 1, "d_model": 32, "heads": 4,
                "feed_forward": 32, "kernel": 7},
    "cross_modal": {"layers": 1, "heads": 4, "feed_forward": 32, "kernel": 7},
}  # fmt: skip


def figures(value, low=None, high=None):
    names = ("f_score", "f_score_onscreen", "doa_error_deg", "relative_distance_error", "onscreen_accuracy")
    return {name: {"value": value, "low": low, "high": high} for name in names}


def test_table_has_values_intervals_and_marks():
    change = {
        "f_score": {"value": 0.05, "low": 0.01, "high": 0.09},
        "doa_error_deg": {"value": -1, "low": -3, "high": -0.04 + 0.08},
    }
    rows = [
        {"row": "full", "against": None, "clips": 1200, "unit": "recording", "figures": figures(0.4), "difference": {}},
        {
            "row": "without",
            "against": "full",
            "clips": 1200,
            "unit": "recording",
            "figures": figures(0.45, 0.4, 0.5) | {"onscreen_accuracy": {"value": None, "low": None, "high": None}},
            "difference": change,
        },
    ]
    lines = format_table(rows).splitlines()
    assert re.match(r"full +40\.0 +40\.0 +0\.4 +– +0\.40 +40\.0$", lines[1])
    assert re.match(r"without +45\.0 \[40\.0, 50\.0\] +45\.0 \[.*\] +– +0\.45 \[0\.40, 0\.50\] +–$", lines[2])
    assert re.match(r"  minus full +\+5\.0 \[\+1\.0, \+9\.0\]\* +– +-1\.0 \[-3\.0, \+0\.0\] +– +– +–$", lines[3])
    assert lines[4].startswith("1,200 clips; 95 % intervals by leaving out one recording")


def test_against_must_name_rows():
    with pytest.raises(SeldError, match="'fulll' is no row"):
        parse_config(CompareConfig, {"rows": [{"label": "full", "score": "a", "against": "fulll"}]}, "table")
    with pytest.raises(SeldError, match="one label"):
        parse_config(CompareConfig, {"rows": [{"label": "full", "score": "a"}] * 2}, "table")


def test_every_open_choice_has_its_row():
    recipe = load_recipe(ALL, environment={"DCASE25_ROOT": "."})
    steps = recipe.steps
    trained = {name: step["model"] for name, step in steps.items() if step["stage"] == "train"}
    dropouts = {m["fusion"]["owlvit"]["dropout"] for m in trained.values() if isinstance(m.get("fusion"), dict)}
    assert dropouts == {0.1, 0.3, 0.5}
    assert {step["model"]["fps"] for step in steps.values() if step["stage"] == "embed" and "fps" in step["model"]} == {
        1,
        2,
        5,
    }
    assert {tuple(model.get("fusion", ())) for model in trained.values()} == {
        ("clap", "owlvit"),
        ("clap",),
        ("owlvit",),
        (),
    }
    assert any("stpacc" not in model["frontend"]["features"] for model in trained.values() if "frontend" in model)
    blind = [name for name, step in steps.items() if step["stage"] == "predict" and step.get("video") is False]
    assert len(blind) == 4
    scored = {name for name, step in steps.items() if step["stage"] == "score"}
    assert {row["score"] for row in steps["table"]["rows"]} == scored


@pytest.mark.slow
def test_shipped_ablations_in_miniature(tmp_path):
    make_random_model("clap", tmp_path / "clap")
    make_random_model("owlvit", tmp_path / "owlvit")
    recipe = yaml.safe_load(ALL.read_text())
    kept = ("audio", "full", "full_blind")
    steps = {name: recipe["steps"][name] for name in ("dev", "clap", "owlvit", "audio", "full")}
    for name in kept:
        steps |= {part: recipe["steps"][part] for part in (f"{name}_events", f"{name}_csv", f"{name}_score")}
    rows = {"full": "full_score", "full, without video": "full_blind_score", "audio": "audio_score"}
    steps["table"] = {"stage": "compare", "rows": [{"label": label, "score": step} for label, step in rows.items()]}
    scenes = {"stage": "simulate", "video": True, "clips": {"train": 10, "test": 4}, "rooms": {"train": 3, "test": 2}}
    for step in steps.values():
        if step["stage"] == "prepare":
            step["corpus"] = "scenes"
        elif step["stage"] == "embed":
            step["model"]["path"] = str(tmp_path / step["model"]["kind"])
        elif step["stage"] == "train":
            step |= {"epochs": 1, "batch_size": 4, "precision": "fp32", "ema": 0.0, "model": {**step["model"], **TINY}}
        elif step["stage"] == "predict":
            step["threshold"] = 0.05
    path = tmp_path / "mini.yaml"
    path.write_text(yaml.safe_dump({"about": "mini", "steps": {"scenes": scenes, **steps}}))
    plan, made = run_recipe(
        path, registry(), tmp_path / "work", options=RunOptions(device="cpu", workers=1, quiet=True)
    )
    assert made[-1] == "table"
    receipt = plan.steps["table"].receipt
    assert receipt["facts"]["rows"] == list(rows)
    table = json.loads((plan.steps["table"].folder / "compare.json").read_text())
    scores = {row: json.loads((plan.steps[step].folder / "scores.json").read_text()) for row, step in rows.items()}
    for row in table:
        assert row["figures"]["f_score"]["value"] == scores[row["row"]]["f_score"]
    assert np.isclose(
        table[1]["difference"]["f_score"]["value"],
        scores["full, without video"]["f_score"] - scores["full"]["f_score"],
    )
    seen, blind = (plan.steps[name].folder / "events.npz" for name in ("full_events", "full_blind_events"))
    with np.load(seen) as one, np.load(blind) as other:
        assert any(not np.array_equal(one[key], other[key]) for key in one.files)
    assert plan.steps["full_events"].receipt["facts"]["random_weights"] == ["clap", "owlvit"]
    assert run_recipe(path, registry(), tmp_path / "work", options=RunOptions(device="cpu", quiet=True))[1] == []
