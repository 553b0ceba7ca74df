"""What a run's receipts say, in the words of the meta file: features, augmentation, parameters, data, versions."""

from __future__ import annotations

from typing import Any

from dcase_seld.submission.layout import Layout, Track
from dcase_seld.submission.runs import Run, Step

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
