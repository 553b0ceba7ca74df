"""What the meta file says of a run: taken from receipts, each field only as far as they tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import read_arrays
from dcase_seld.recipe.provenance import FinishedStep
from dcase_seld.submission.layout import RANDOM, SIMULATED, Layout, Track
from dcase_seld.submission.systems import Run, mapping, words

FEATURES = {
    "log_mel": "log-mel energies",
    "ild": "inter-channel level difference",
    "stpacc": "short-term power of the autocorrelation (stpACC)",
    "mid_side": "mid-side log-mel energies",
    "coherence": "inter-channel coherence",
    "direct": "direction and diffuseness of the direct sound",
    "intensity": "mid-side intensity",
    "intensity_vector": "intensity vector",
}
"""Front-end channel → what the meta file calls it."""

ENCODERS = {
    "clap": ("CLAP embeddings", "CLAP"),
    "yamnet": ("YAMNet embeddings", "YAMNet, trained on AudioSet"),
    "voice": ("female/male voice embeddings", "female/male voice network of inaSpeechSegmenter"),
    "owlvit": ("OWL-ViT tokens", "OWL-ViT"),
    "onnx": ("embeddings of an ONNX model", "ONNX model"),
}
"""Kind of a frozen encoder → what its tokens and its network are called."""

AUGMENTATIONS = {
    "swap": "left-right channel swap",
    "rotate": "rotation and mirroring of the sphere",
    "frame_swap": "frame swap",
    "gain": "random gain",
    "mixup": "mixup",
    "mask": "time-frequency masking",
    "filter": "FilterAugment",
    "noise": "additive noise",
}
"""Field of an augmentation's probability → what the meta file calls it."""

CHANNELS = {"stereo": "stereo", "foa": "first-order Ambisonics", "mono": "mono"}

NAMED_VERSIONS = ("python", "dcase-seld", "torch", "numpy", "transformers")

Description = dict[str, Any]


def describe(run: Run, track: Track) -> Description:
    """Return the fields of the meta file that the receipts of a run tell; None where they do not."""
    models = [network.model for network in run.networks]
    front_ends = [mapping(model.get("frontend")) for model in models]
    rate = next((front["sample_rate"] for front in front_ends if isinstance(front.get("sample_rate"), int)), None)
    seen = [_tokens_name(step) for step in run.frozen if _gives(step) == "image"]
    heard = [_tokens_name(step) for step in run.frozen if _gives(step) == "sound"]
    sound = CHANNELS.get(run.channels, run.channels)
    return {
        "input_format": f"{sound} and video" if track == "b" and seen else sound,
        "input_sampling_rate": None if rate is None else f"{rate / 1000:g} kHz",
        "acoustic_features": _unique(
            [FEATURES.get(str(name), str(name)) for front in front_ends for name in words(front.get("features"))]
            + heard
        ),
        "visual_features": _unique(seen) if track == "b" else None,
        "data_augmentation": _augmentations(run),
        "machine_learning_method": _method(models),
        "ensemble_members": len(run.networks) or None,
        "external_data": _unique(list(_external_data(run))),
        "pre_trained_models": _unique(list(_pretrained(run))),
        "total_parameters": total_parameters(run),
        "scored_on": scored_on(run),
        "versions": {name: run.versions[name] for name in NAMED_VERSIONS if name in run.versions} or None,
    }


def total_parameters(run: Run) -> int | None:
    """Return the parameters of all networks that take part in a prediction, each counted once; None if unknown.

    Members of an ensemble add up, and so do the frozen networks whose tokens, keypoints or detections are used.
    """
    trained = [network.parameters for network in run.networks]
    if not trained or any(count is None for count in trained):
        return None
    frozen = {str(step.facts.get("weights") or step.folder): _parameters(step) for step in run.frozen}
    return sum(count for count in trained if count is not None) + sum(frozen.values())


def uncounted(run: Run) -> list[str]:
    """Return the frozen networks whose receipts tell no number of parameters."""
    return list(dict.fromkeys(_network_name(step) for step in run.frozen if not _parameters(step)))


def random_weights(run: Run) -> list[str]:
    """Return the networks, of a run's predictions and trainings, that were never trained: encoders by name."""
    found: set[str] = set()
    for facts, name in [(step.facts, step.facts.get("model") or step.folder.name) for step in run.steps] + [
        (network.facts, network.name) for network in run.networks
    ]:
        value = facts.get("random_weights")
        found |= {str(item) for item in value} if isinstance(value, list) else {str(name)} if value else set()
    return sorted(found)


def overall(run: Run, track: Track, layout: Layout) -> dict[str, float | None]:
    """Return the development scores under the meta file's names, rounded; None where they are unknown."""
    result: dict[str, float | None] = {}
    for name, figure in layout.scores[track].items():
        value = (run.scores or {}).get(figure)
        percent = figure in layout.percent
        result[name] = None if value is None else round(float(value) * (100 if percent else 1), 2 if percent else 3)
    return result


def scored_on(run: Run) -> str | None:
    """Return which clips the development scores are of: development test clips, or what else; None: not known."""
    scored = run.scored
    for store in scored.before("data")[:1] if scored is not None else ():
        split, count = str(scored.config.get("split", "test")), scored.facts.get("clips")  # type: ignore[union-attr]
        clips = f"{count:,} clips" if isinstance(count, int) else "clips"
        return f"{clips} of {'; '.join(_corpora(store, split)) or 'the development set'} ({split} split)"
    return None


def sees(run: Run) -> list[str]:
    """Return what a run's predictions know from pictures, which the audio-only track must not."""
    return list(dict.fromkeys(_tokens_name(step) for step in run.frozen if _gives(step) == "image"))


def _gives(step: FinishedStep) -> str:
    """Return whether a frozen network heard or saw: receipts of 0.1 called their kinds of tokens clap and vision."""
    if step.produces != "tokens":
        return "image"
    return str(step.facts.get("gives") or ("image" if step.facts.get("kind") in ("vision", "owlvit") else "sound"))


def _kind(step: FinishedStep) -> str:
    kind = str(mapping(step.config.get("model")).get("kind") or step.facts.get("kind") or "?")
    return {"vision": "owlvit"}.get(kind, kind)


def _tokens_name(step: FinishedStep) -> str:
    """Return what the meta file calls what a frozen network found."""
    if step.produces == "keypoints":
        return "human keypoints"
    if step.produces == "detections":
        return "open-vocabulary detections"
    name = ENCODERS.get(_kind(step), (f"{_kind(step)} embeddings", ""))[0]
    return f"{name} ({_weights_name(step)})" if _kind(step) == "onnx" else name


def _weights_name(step: FinishedStep) -> str:
    """Return the name of the weights of an embed step: the known or hub name, or the name of the file or folder."""
    model = mapping(step.config.get("model"))
    return Path(str(model.get("path") or model.get("name") or "")).name


def _network_name(step: FinishedStep) -> str:
    """Return what the meta file calls a frozen network."""
    if step.produces == "keypoints":
        name = str(step.config.get("model") or "pose")
        title = f"MediaPipe pose landmarker and face detector ({Path(name).name})"
    elif step.produces == "detections":
        name = str(step.config.get("path") or step.config.get("model") or "owlvit")
        title = "OWL-ViT" if name == "owlvit" else f"OWL-ViT ({Path(name).name})"
    else:
        known = ENCODERS.get(_kind(step))
        name = _weights_name(step)
        title = known[1] if known else f"{_kind(step)} (encoder of a plug-in)"
        title += f" ({name})" if name and name != _kind(step) else ""
    return f"{title}: {RANDOM}" if step.facts.get("random_weights") else title


def _parameters(step: FinishedStep) -> int:
    count = step.facts.get("encoder_parameters", step.facts.get("parameters"))
    return count if isinstance(count, int) else 0


def _pretrained(run: Run) -> Iterator[str]:
    """Yield the networks of others that predictions or trainings used."""
    for step in run.steps:
        if step.produces in ("tokens", "keypoints", "detections"):
            yield _network_name(step)
    for network in run.carried:
        yield f"{network.name} (a network that was trained before)"


def _augmentations(run: Run) -> list[str] | None:
    """Return the augmentations of all trainings behind a run; plug-ins' under their own names."""
    names = []
    for augment in [
        *(step.config.get("augment") for step in run.steps if step.produces == "checkpoint"),
        *(network.facts.get("augment") for network in (*run.networks, *run.carried)),
    ]:
        given = mapping(augment)
        names += [title for name, title in AUGMENTATIONS.items() if given.get(name)]
        names += [str(name) for name, chance in mapping(given.get("own")).items() if chance]
    return _unique(names)


def _method(models: list[dict[str, Any]]) -> str | None:
    names = []
    for model in models:
        if model.get("kind") == "crnn":
            names.append("CRNN")
        elif model:
            kind = str(mapping(model.get("encoder")).get("kind") or "conformer")
            known = {"resnet_conformer": "ResNet-Conformer", "conformer": "CNN-Conformer", "crnn": "CRNN"}
            fusion = words(model.get("fusion"))
            name = known.get(kind, kind)
            names.append(name + (f" with Cross-Modal Conformer ({', '.join(fusion)})" if fusion else ""))
    kinds = _unique(names)
    if not kinds:
        return None
    method = ", ".join(kinds)
    return f"ensemble of {len(models)}: {method}" if len(models) > 1 else method


DEVELOPMENT = re.compile(r"dev-(train|test)-(tau|sony)")
"""The parts of the challenge's development set; what is learned from anything else is external data."""


def _external_data(run: Run) -> Iterator[str]:
    """Yield what networks or settings were learned from, beside the development set.

    Corpora that were only predicted (the evaluation set), weights and files of settings are no such data.
    """
    learning = [step for step in run.steps if step.produces in ("checkpoint", "ensemble") or step.config.get("fit")]
    for store in {store.folder: store for step in learning for store in step.before("data")}.values():
        yield from _corpora(store)
    for network in run.carried:
        learned = network.about or "unknown; state it in the team file"
        yield f"data that {network.name} was trained on ({learned})"


def _corpora(store: FinishedStep, split: str = "") -> Iterator[str]:
    """Yield the data of a store, or of one of its splits, that are neither development data nor evaluation clips."""
    made = store.before("corpus")
    for step in made:
        yield from _made_corpus(step)
    if made or store.receipt.get("stage") != "prepare":
        others = [field for field in store.receipt.get("outside") or {} if field != "taxonomy" and not made]
        yield from filter(None, (_named(store, field) for field in others))
        return
    for name, files in _outside(store, "corpus"):
        try:
            table = read_arrays(store.folder / "clips.npz", {"part": "U", "split": "U"}, {}, "Prepare it again.")
        except SeldError:
            yield f"{name} ({files:,} files)"
            continue
        rows = zip(table["part"].tolist(), table["split"].tolist(), strict=True)
        parts = [part for part, one in rows if one != "eval" and split in ("", "all", one)]
        other = sorted({part for part in parts if not DEVELOPMENT.fullmatch(part)})
        if other:
            count = sum(part in other for part in parts)
            made_scenes = all(part.endswith("-synth") for part in other)
            yield f"{f'{SIMULATED} of ' if made_scenes else ''}{name}, {', '.join(other)} ({count:,} clips)"


def _made_corpus(step: FinishedStep) -> Iterator[str]:
    """Yield what a corpus that a step made is of."""
    if step.receipt.get("stage") == "simulate":
        sounds = _named(step, "sounds")
        yield f"{SIMULATED} of recordings: {sounds}" if sounds else f"{SIMULATED} of procedural sounds"
        for field, title in (("responses", "measured rooms"), ("pictures", "pictures"), ("like", "label statistics")):
            named = _named(step, field)
            official = any("metadata_dev" in Path(e["path"]).parts for e in _entries(step, field))
            if named and not official:
                yield f"{title}: {named}"
        return
    before = step.before("source")
    for one in before:
        yield from _made_corpus(one)
    named = ", ".join(
        f"{name} ({files:,} files)"
        for field in step.receipt.get("outside") or {}
        if field not in ("taxonomy", "clips")
        for name, files in _outside(step, field)
    )
    if named and not before:
        yield f"clips converted from {named}" if step.receipt.get("stage") == "convert" else named


def _entries(step: FinishedStep, field: str) -> list[dict[str, Any]]:
    return list((step.receipt.get("outside") or {}).get(field) or ())


def _outside(step: FinishedStep, field: str) -> list[tuple[str, int]]:
    """Return outside data of a step: its name alone, since a path says more than others should know; its files."""
    return [
        (entry["path"].replace("\\", "/").rstrip("/").rpartition("/")[2], entry["files"])
        for entry in _entries(step, field)
    ]


def _named(step: FinishedStep, field: str) -> str:
    return ", ".join(f"{name} ({files:,} files)" for name, files in _outside(step, field))


def _unique(names: list[str]) -> list[str] | None:
    """Return names without repeats, in order, or None if there are none."""
    return list(dict.fromkeys(names)) or None
