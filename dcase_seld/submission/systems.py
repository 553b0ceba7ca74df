"""Finding a run: its CSV files, its development scores, and the receipts of all steps that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.recipe.provenance import Step, _linked_steps, _load_scores, _upstream, follow, read_step
from dcase_seld.submission.layout import Layout, Track


@dataclass(frozen=True)
class Run:
    """What one system of a submission is made from.

    Attributes:
        csv: folder of the official CSV files.
        predicting: steps that take part in a prediction: all that the files come from, up to the trained networks.
        training: steps that the trained networks come from.
        scores: the scores on the development test set as scores.json holds them, or None.
        versions: program → version.
    """

    csv: Path
    predicting: tuple[Step, ...] = ()
    training: tuple[Step, ...] = ()
    scores: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)


def find_run(path: Path, track: str) -> Run:
    """Return the run at a path: a recipe's work folder, an export or score step of one, or a folder of CSV files.

    Args:
        path: e.g. work/track_b, work/track_b/csv.
        track: "a" or "b", by which a recipe's export step is chosen where it has several.

    Raises:
        SeldError: there is no run, or it is not clear which step is meant.
    """
    folder = follow(path)
    if not folder.is_dir():
        raise SeldError(
            f"There is no run at {path}.", "Give a recipe's folder below work/, an export step, or CSV files."
        )
    step = read_step(folder)
    if step is not None:
        return run_of_steps(*_csv_and_scores(step, path), track=track, near=path.parent)
    steps = dict(_linked_steps(folder))
    exported = {name: step for name, step in steps.items() if step.produces == "csv"}
    if not exported:
        if any(folder.glob("*.csv")) or any(folder.glob("csv/*.csv")):
            return Run(folder)
        raise SeldError(
            f"{path} holds neither a finished export step nor CSV files.",
            "Run the recipe first: dcase-seld run RECIPE.",
        )
    fitting = {name: step for name, step in exported.items() if step.facts.get("track", track) == track} or exported
    evaluation = {name: step for name, step in fitting.items() if _split(step) == "eval"}
    fitting = evaluation or fitting
    if len({step.folder for step in fitting.values()}) > 1:
        raise SeldError(
            f"{path} has several export steps for track {track}: {listing(fitting, 20)}.",
            f"Name the one that is meant, as {path / next(iter(fitting))}.",
        )
    return run_of_steps(next(iter(fitting.values())), None, track=track, near=folder)


def stated_track(path: Path) -> Literal["a", "b"]:
    """Return the track that a run was exported for, or "b" where that is not stated or not clear."""
    folder = follow(path)
    step = read_step(folder) if folder.is_dir() else None
    steps = [step] if step else [one for _, one in _linked_steps(folder)] if folder.is_dir() else []
    tracks = {one.facts.get("track") for one in steps if one.produces in ("csv", "scores")}
    return "a" if tracks == {"a"} else "b"


def run_of_steps(csv: Step, scores: Step | None, *, track: str, near: Path | None = None) -> Run:
    """Return the run of an export step, with the scores of a score step or of the one that fits best.

    Args:
        csv: the export step.
        scores: the score step; None: looked for.
        track: track whose scores are looked for.
        near: a recipe's folder of links to look in first; then all results beside the step.
    """
    predicting = tuple(_upstream([csv], stop=lambda step: step.produces == "checkpoint"))
    networks = [step for step in predicting if step.produces == "checkpoint"]
    known = {step.folder for step in predicting}
    training = tuple(step for step in _upstream(networks) if step.folder not in known)
    best = scores or _best_scores(csv, predicting, track, near)
    return Run(
        csv=csv.folder,
        predicting=predicting,
        training=training,
        scores=None if best is None else _load_scores(best.folder),
        versions={str(k): str(v) for k, v in (csv.receipt.get("versions") or {}).items()},
    )


def collect(csv: Path, scores: Path | None, members: Sequence[Path], track: str) -> Run:
    """Return the run of the folder of an export step, of a score step or None, and of networks it may not know of."""
    step = read_step(csv)
    if step is None:
        raise SeldError(f"{csv} has no receipt.", "Give a finished export step.")
    run = run_of_steps(step, None if scores is None else read_step(scores), track=track)
    if any(one.produces == "checkpoint" for one in run.predicting):
        return run
    named = [one for one in map(read_step, members) if one is not None]
    networks = tuple(_upstream(named, stop=lambda one: one.produces == "checkpoint"))
    return replace(run, predicting=(*run.predicting, *networks))


def _csv_and_scores(step: Step, path: Path) -> tuple[Step, Step | None]:
    if step.produces == "csv":
        return step, None
    if step.produces == "scores":
        for folder in step.inputs():
            csv = read_step(folder)
            if csv is not None and csv.produces == "csv":
                return csv, step
    raise SeldError(
        f"{path} is a step that makes {step.produces or 'nothing known'}; a system needs an export or score step.",
        "Name such a step, or the recipe's whole folder.",
    )


def _split(csv: Step) -> str:
    """Return the split that an export step's events were predicted for, or ""."""
    for step in _upstream([csv], stop=lambda step: step.produces == "checkpoint"):
        if step.produces == "events" and "split" in step.config:
            return str(step.config["split"])
    return ""


def _best_scores(csv: Step, predicting: tuple[Step, ...], track: str, near: Path | None) -> Step | None:
    """Return the score step of these very files, else one of the same networks on the development test set."""
    networks = {step.folder for step in predicting if step.produces == "checkpoint"}
    nearby = [step for _, step in _linked_steps(near)] if near is not None and near.is_dir() else []
    others = (read_step(path.parent) for path in sorted(csv.folder.parent.glob("score-*/receipt.json")))
    candidates = {step.folder: step for step in [*nearby, *others] if step is not None and step.produces == "scores"}
    ranked = []
    for step in candidates.values():
        # Track b's scores hold those of track a.
        if step.facts.get("track", track) not in (track, "b") or step.config.get("split", "test") != "test":
            continue
        same_files = csv.folder in step.inputs()
        source = _upstream([step], stop=lambda one: one.produces == "checkpoint")
        same_networks = networks == {one.folder for one in source if one.produces == "checkpoint"} and bool(networks)
        if same_files or same_networks:
            official = step.config.get("protocol", "official") == "official" and step.config.get("average") != "micro"
            same_track = step.facts.get("track", track) == track
            ranked.append(
                (same_files, official, same_track, float(step.receipt.get("finished", 0.0)), str(step.folder))
            )
    return candidates[Path(max(ranked)[-1])] if ranked else None


FEATURES = {
    "log_mel": "log-mel energies",
    "ild": "inter-channel level difference",
    "stpacc": "short-term power of the autocorrelation (stpACC)",
    "mid_side": "mid-side log-mel energies",
    "coherence": "inter-channel coherence",
    "intensity": "mid-side intensity",
}
"""Front-end channel → what the meta file calls it."""

AUGMENTATIONS = {
    "swap": "left-right channel swap",
    "frame_swap": "frame swap",
    "gain": "random gain",
    "mixup": "mixup",
    "mask": "time-frequency masking",
    "filter": "FilterAugment",
    "noise": "additive noise",
}
"""Field of an augmentation's probability → what the meta file calls it."""

NAMED_VERSIONS = ("python", "dcase-seld", "torch", "numpy", "transformers")

Description = dict[str, Any]


def describe(run: Run, track: Track) -> Description:
    """Return the fields of the meta file that the receipts of a run tell; None where they do not."""
    networks = [step for step in run.predicting if step.produces == "checkpoint"]
    models = [dict(step.config.get("model") or {}) for step in networks]
    front_ends = [dict(model.get("frontend") or {}) for model in models]
    rate = next((front["sample_rate"] for front in front_ends if front.get("sample_rate")), None)
    visual = _visual(run)
    steps = (*run.predicting, *run.training)
    return {
        "input_format": "stereo and video" if track == "b" and visual else "stereo",
        "input_sampling_rate": None if rate is None else f"{rate / 1000:g} kHz",
        "acoustic_features": _unique(
            [FEATURES.get(str(name), str(name)) for front in front_ends for name in front.get("features") or ()]
            + [f"{step.facts.get('kind')} embeddings" for step in _frozen(run) if step.facts.get("kind") != "vision"]
        ),
        "visual_features": visual if track == "b" else None,
        "data_augmentation": _unique(
            [
                AUGMENTATIONS[name]
                for step in steps
                if step.produces == "checkpoint"
                for name, value in (step.config.get("augment") or {}).items()
                if name in AUGMENTATIONS and value
            ]
        ),
        "machine_learning_method": _method(models),
        "ensemble_members": len(networks) or None,
        "external_data": _unique([text for step in steps for text in _outside_data(step)]),
        "pre_trained_models": _unique(
            [f"{step.facts.get('model', '?')}" for step in steps if step.produces == "tokens"]
            + [str(name) for step in steps for name in _list(step.facts.get("pretrained"))]
        ),
        "total_parameters": total_parameters(run),
        "versions": {name: run.versions[name] for name in NAMED_VERSIONS if name in run.versions} or None,
    }


def total_parameters(run: Run) -> int | None:
    """Return the parameters of all networks that take part in a prediction, each counted once; None if unknown.

    Members of an ensemble add up, and so do the frozen networks whose tokens, keypoints or detections are used.
    """
    trained = [step.facts.get("parameters") for step in run.predicting if step.produces == "checkpoint"]
    if not trained:
        trained = [step.facts["parameters"] for step in run.predicting if step.facts.get("parameters")][:1]
    if not trained or any(count is None for count in trained):
        return None
    frozen = {
        str(step.facts.get("weights") or step.folder): int(step.facts["parameters"])
        for step in _frozen(run)
        if step.facts.get("parameters")
    }
    return sum(int(count) for count in trained if count is not None) + sum(frozen.values())


def uncounted(run: Run) -> list[str]:
    """Return the frozen networks whose receipts tell no number of parameters."""
    return [
        str(step.facts.get("model") or step.folder.name) for step in _frozen(run) if not step.facts.get("parameters")
    ]


def random_weights(run: Run) -> list[str]:
    """Return the networks of a run that were never trained, by kind or step."""
    found = []
    for step in (*run.predicting, *run.training):
        value = step.facts.get("random_weights")
        if value:
            found += [str(item) for item in value] if isinstance(value, list) else [step.folder.name]
    return sorted(set(found))


def overall(run: Run, track: Track, layout: Layout) -> dict[str, float | None]:
    """Return the development scores under the meta file's names, rounded; None where they are unknown."""
    result: dict[str, float | None] = {}
    for name, figure in layout.scores[track].items():
        value = (run.scores or {}).get(figure)
        percent = figure in layout.percent
        result[name] = None if value is None else round(float(value) * (100 if percent else 1), 2 if percent else 3)
    return result


def _frozen(run: Run) -> list[Step]:
    return [step for step in run.predicting if step.produces in ("tokens", "keypoints", "detections")]


def _visual(run: Run) -> list[str] | None:
    names = []
    for step in _frozen(run):
        if step.produces == "tokens" and step.facts.get("kind") == "vision":
            names.append(f"{step.facts.get('model', 'vision')} tokens")
        elif step.produces == "keypoints":
            names.append("human keypoints")
        elif step.produces == "detections":
            names.append("open-vocabulary detections")
    return _unique(names)


def _method(models: list[dict[str, Any]]) -> str | None:
    names = []
    for model in models:
        if model.get("kind") == "crnn":
            names.append("CRNN")
        elif model:
            kind = str((model.get("encoder") or {}).get("kind") or "conformer")
            name = "ResNet-Conformer" if kind == "resnet_conformer" else "CNN-Conformer"
            fusion = [str(item) for item in model.get("fusion") or ()]
            names.append(name + (f" with Cross-Modal Conformer ({', '.join(fusion)})" if fusion else ""))
    kinds = _unique(names)
    if not kinds:
        return None
    method = ", ".join(kinds)
    return f"ensemble of {len(models)}: {method}" if len(models) > 1 else method


def _outside_data(step: Step) -> list[str]:
    """Return data from outside that a step read: its name alone, since a path says more than others should know."""
    texts = []
    for name, entries in (step.receipt.get("outside") or {}).items():
        if name in ("taxonomy", "team", "report", "templates"):
            continue
        for entry in entries:
            label = str(entry.get("path", "?")).replace("\\", "/").rstrip("/").rpartition("/")[2]
            texts.append(f"{label} ({int(entry.get('files', 0)):,} files)")
    if step.receipt.get("stage") == "simulate":
        source = "recordings" if texts else "procedural sounds"
        texts.append(f"scenes simulated from {source}")
    return texts


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _unique(names: list[str]) -> list[str] | None:
    """Return names without repeats, in order, or None if there are none."""
    return list(dict.fromkeys(names)) or None
