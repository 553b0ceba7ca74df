"""Changes that researchers want: each costs one file of the user's at most, and its size is what docs/extend.md says.

Those that a plug-in makes run in test_plugins.py; here are the three that need no code, from simulation to the score.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from tiny import MODEL

from dcase_seld.api import run_recipe
from dcase_seld.core.classes import DCASE2025
from dcase_seld.core.events import Events

PAGE = Path(__file__).parent.parent.parent / "docs" / "extend.md"
IDEAS = Path(__file__).parent / "ideas.py"
OWN = [*DCASE2025.classes, "Kettle"]


def written(changes, folder):
    """Write a recipe from simulation to the score, with some keys of steps or the front end changed: its path."""
    model = {**MODEL, "frontend": dict(MODEL["frontend"])}
    rooms = {"clips": {"train": 4, "test": 1}, "rooms": {"train": 2, "test": 1}, "bank": {"procedural_recordings": 3}}
    steps = {
        "scenes": {"stage": "simulate", **rooms},
        "data": {"stage": "prepare", "corpus": "scenes"},
        "train": {"stage": "train", "data": "data", "model": model, "epochs": 1, "batch_size": 2, "tensorboard": False},
        "events": {"stage": "predict", "data": "data", "members": "train", "threshold": 0.001},
        "csv": {"stage": "export", "events": "events", "track": "a"},
        "score": {"stage": "score", "csv": "csv", "data": "data", "split": "test", "track": "a"},
    }
    for step, keys in changes.items():
        where = model["frontend"] if step == "frontend" else steps[step]
        where |= keys
    (folder / "own.yaml").write_text(yaml.safe_dump({"steps": steps}, sort_keys=False))
    return folder / "own.yaml"


CHANGES = {
    "a 14th class": {"scenes": {"taxonomy": "classes.yaml"}},
    "10-s clips": {"scenes": {"seconds": 10}, "data": {"window_s": 10}},
    "Ambisonics": {"scenes": {"output": "foa"}, "data": {"task": "dcase2024"},
                   "frontend": {"features": ["log_mel", "intensity_vector"]}},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_task_is_a_few_keys(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.yaml").write_text(f"classes: {json.dumps(OWN)}\n")
    run_recipe(written(CHANGES[change], tmp_path), device="cpu", quiet=True)
    place = tmp_path / "work" / "own"
    about = json.loads((place / "train" / "best" / "model.json").read_text())["task"]
    scores = json.loads((place / "score" / "scores.json").read_text())
    events = Events.load(place / "events" / "events.npz")
    assert scores["clips"] == 1 and len(events)
    if change == "a 14th class":
        assert about["classes"]["classes"] == OWN and len(scores["classwise"]["f_score"]) == 14
    elif change == "10-s clips":
        assert about["window_s"] == 10 and events.frame.max() > 50
    else:
        assert (about["channels"], about["geometry"]) == ("foa", "sphere") and events.elevation_deg is not None


def test_the_page_says_what_each_change_takes():
    """Lines of code as they stand in the example; of those without code, the keys that the tests above change."""
    table = re.findall(r"^\| (.+?) \| .+ \| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    pieces = re.split(r"\n\n\n(?=@|class)", IDEAS.read_text(encoding="utf-8"))
    lines = {re.search(r"@seld\.(\w+)\(", piece)[1]: piece for piece in pieces[1:] if "@seld." in piece}
    lines["stage"] = "\n".join(piece for piece in pieces if "ouder" in piece)
    code = {name: sum(bool(line.strip()) for line in piece.splitlines()) for name, piece in lines.items()}
    keys = {name: sum(map(len, changes.values())) for name, changes in CHANGES.items()}
    names = {"a feature of the front end": "feature", "an encoder that trains": "encoder", "a term of the loss":
             "loss_term", "an augmentation": "augmentation", "a frozen encoder": "semantic_encoder",
             "a rule of the visual step": "visual_rule", "a metric": "metric", "a stage": "stage"}  # fmt: skip
    assert {name: int(count) for name, count in table} == {
        **{title: code[name] for title, name in names.items()},
        "a 14th class": keys["a 14th class"] + 1,
        **{name: keys[name] for name in ("10-s clips", "Ambisonics")},
    }
