"""Saving and loading networks: model.safetensors + model.json in one folder, nothing pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcase_seld import __version__
from dcase_seld.core import old_formats
from dcase_seld.core.config import names_in, networks_of_run, refuse_no_weights
from dcase_seld.core.errors import SeldError, first_line, listing
from dcase_seld.core.files import whole, whole_file, write_json
from dcase_seld.core.reading import Facts, read_json
from dcase_seld.core.registry import loaded_plugins, used_plugins
from dcase_seld.core.task import Task
from dcase_seld.core.work import say
from dcase_seld.model.config import parse_model_config
from dcase_seld.model.network import SeldNetwork, audio_fields, build_model

WEIGHTS_FILE = "model.safetensors"

FACTS_FILE = "model.json"

LARGEST_WEIGHT = 1e9
"""What is larger was not learned: an update moves a weight by about the learning rate."""


def save_model(model: SeldNetwork, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write a network's weights, configuration, classes and `facts` (JSON-able) into `folder`, each file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(folder / WEIGHTS_FILE) as part:
        save_file(weights, part)
    config = model.config.model_dump(mode="json")
    about = {
        "config": config,
        "task": model.task.to_json(),
        "versions": {"dcase_seld": __version__, "torch": torch.__version__},
        "parameters": count_parameters(model),
        "plugins": used_plugins(names_in(config)),
        "facts": dict(facts or {}),
    }
    write_json(folder / FACTS_FILE, about)


def load_model(folder: Path, device: torch.device | str = "cpu") -> SeldNetwork:
    """Return the network that `save_model` wrote, in evaluation mode on `device`.

    Raises:
        SeldError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    about = read_facts(folder)
    _check_plugins(about, folder)
    model = build_model(parse_model_config(about["config"], f"{folder / FACTS_FILE}"), Task.from_json(about["task"]))
    weights = read_weights(folder, about)
    expected = model.state_dict()
    wrong = sorted(set(expected) ^ set(weights)) + sorted(
        name for name in set(expected) & set(weights) if expected[name].shape != weights[name].shape
    )
    if wrong:
        raise SeldError(
            f"{folder / WEIGHTS_FILE} does not fit {FACTS_FILE}: {len(wrong)} weight(s) are missing, unknown or of "
            f"another shape ({listing(wrong)}).",
            "Take both files from the same training run.",
        )
    model.load_state_dict(weights)
    return model.to(device).eval()


def _check_plugins(about: Mapping[str, Any], folder: Path) -> None:
    """Refuse a network of plug-ins that the user has not named; say where one is not the one of the training."""
    there = {plugin.name: plugin.sha256 for plugin in loaded_plugins()}
    for name, sha256 in (about.get("plugins") or {}).items():
        if name not in there:
            raise SeldError(
                f"The network in {folder} needs the plug-in {name}, and nothing loads code by itself.",
                f"Name it: --plugin {name}, or plugins=[{name!r}] in Python, or DCASE_SELD_PLUGINS.",
            )
        if there[name] != sha256:
            say(f"warning: the plug-in {name} is another one than at the training of {folder}.")


class OneToken(Facts):
    """What a checkpoint says of the tokens of one encoder."""

    kind: str | None = None
    encoder: dict[str, Any] | None = None


class ModelFacts(Facts):
    """What a checkpoint says of its training, as far as readers rely on it."""

    tokens: dict[str, OneToken] | None = None
    random_weights: list[str] | None = None
    loss: dict[str, Any] | None = None


class ModelJson(Facts):
    """The schema of model.json; `config` and `task` are checked by the classes that they are of."""

    config: dict[str, Any] | None = None
    task: dict[str, Any] | None = None
    taxonomy: dict[str, Any] | None = None
    sample_rate: int | None = None
    parameters: int | None = None
    plugins: dict[str, str] | None = None
    facts: ModelFacts | None = None


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what model.json says: config, task, versions, parameters, facts; of 0.1's with today's names.

    Raises:
        SeldError: the file is missing or damaged.
    """
    path = folder / FACTS_FILE
    about = read_json(path, ModelJson, "Give the folder of a trained model.")
    given = set(about)
    missing = {"config"} - given | ({"task"} if not given & {"task", "taxonomy"} else set())
    if missing:
        raise SeldError(f"{path} lacks {listing(sorted(missing))}.", "Give the folder of a trained model.")
    about = old_formats.model_json(about)
    facts = about.get("facts")
    return {**about, "facts": facts if isinstance(facts, dict) else {}}


def read_weights(folder: Path, about: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors in a folder's model.safetensors by name; `about` is what `read_facts` returned.

    Raises:
        SeldError: the file is missing or damaged, or holds what is no number.
    """
    path = folder / WEIGHTS_FILE
    refuse_no_weights(path, "Give the folder of a trained model.")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise SeldError(f"{path} is damaged: {first_line(error)}.", "Give the folder of a trained model.") from error
    # A network of these hears nothing, without a word. A comparison with what is no number fails.
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
    ill = [name for name, tensor in floats.items() if not tensor.abs().max() <= LARGEST_WEIGHT]
    if ill:
        raise SeldError(
            f"{path} holds weights that are no finite numbers (NaN or infinite), or beyond 1e9, in {listing(ill)}.",
            "Take an earlier checkpoint of this training, or train again with a smaller lr.",
        )
    names = old_formats.weight_names(list(tensors), about)
    return {names[name]: tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Matching:
    """What `load_matching` did with every weight."""

    matched: tuple[str, ...]  # taken over
    # taken over for the outputs (audio head → audio-visual head) or inputs (added features) that both have
    partial: tuple[str, ...]
    fresh: tuple[str, ...]  # of the new network only; they keep their random start
    unused: tuple[str, ...]  # of the given checkpoint only
    maps: int  # features' maps whose statistics are taken over; those of added features follow them


def load_matching(model: SeldNetwork, folder: Path) -> Matching:
    """Return how each weight of a trained model fitted `model`, which takes over every one that does.

    The expected differences are whole parts that only one network has (Cross-Modal Conformers, plain Conformer layers
    in their place), the on-screen outputs of the head, and features that follow those of the checkpoint, whose weights
    begin at 0, so that the network answers as before. The front end's statistics are taken over too. Raises SeldError:
    the classes or the front end differ, or a weight that both should have is missing or of another shape; every such
    weight is listed.
    """
    about = read_facts(folder)
    given = Task.from_json(about["task"])
    if different := replace(given, window_s=model.task.window_s).differences(model.task):
        raise SeldError(
            f"The checkpoint {folder} and this model were made for different tasks: {'; '.join(different)}.",
            "Initialise from a checkpoint of the same task.",
        )
    config = parse_model_config(about["config"], f"{folder / FACTS_FILE}")
    before, after = config.frontend, model.config.frontend
    if before.model_copy(update={"features": after.features}) != after or (
        after.features[: len(before.features)] != before.features
    ):
        raise SeldError(
            f"The checkpoint {folder} has another front end ({before}) than this model ({after}).",
            "Give both the same frontend; features may be added behind those of the checkpoint.",
        )
    if config.head.direction != model.config.head.direction:
        raise SeldError(
            f"The head of the checkpoint {folder} has direction: {config.head.direction}, this model's has "
            f"{model.config.head.direction}.",
            "Give both the same head.direction.",
        )
    weights, own = read_weights(folder, about), model.state_dict()
    matched = [name for name in own if name in weights and own[name].shape == weights[name].shape]
    partial = _grow_head(own, weights, model) + _grow_maps(own, weights)
    fresh = [name for name in own if name not in weights]
    unused = [name for name in weights if name not in own]
    wrong = [name for name in own if name in weights and name not in matched and name not in partial]
    wrong += [name for name in fresh + unused if name.split(".")[0] not in OPTIONAL_PARTS and ".vision" not in name]
    if wrong:
        raise SeldError(
            f"The checkpoint {folder} does not fit this model: {len(wrong)} weight(s) differ ({listing(wrong, 20)}).",
            "Give both the same encoder, cross_modal and head sizes.",
        )
    model.load_state_dict({**own, **{name: weights[name] for name in matched}})
    return Matching(tuple(matched), tuple(partial), tuple(fresh), tuple(unused), len(weights["frontend.mean"]))


OPTIONAL_PARTS = ("fusion", "conformer")
"""Parts of a network that a checkpoint may have or lack when another network starts from it."""


def _grow_head(own: dict[str, Tensor], weights: dict[str, Tensor], model: SeldNetwork) -> list[str]:
    """Return the head's weights that differ only in the on-screen outputs, copied into `own` for what both have."""
    done: list[str] = []
    head, classes = model.config.head, len(model.taxonomy)
    both = audio_fields(head, model.head.dimensions)
    for name in ("head.out.weight", "head.out.bias"):
        if name not in own or name not in weights or own[name].shape == weights[name].shape:
            continue
        fields = [tensor.shape[0] // (head.tracks * classes) for tensor in (own[name], weights[name])]
        same_width = own[name].shape[1:] == weights[name].shape[1:]
        if sorted(fields) != [both, both + 1] or not same_width:
            continue
        grown, source = (t.clone().reshape(head.tracks, -1, classes, *t.shape[1:]) for t in (own[name], weights[name]))
        grown[:, :both] = source[:, :both]
        own[name] = grown.flatten(0, 2)
        done.append(name)
    return done


def _grow_maps(own: dict[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Return the weights that differ only in the maps of added features, copied into `own` with 0 for these.

    The encoder's inputs, and the levels that go around its convolutions, have the maps last, in the features' order.
    """
    added = len(own["frontend.mean"]) - len(weights["frontend.mean"])
    done = []
    for name in own if added > 0 else ():
        axis = 0 if name.startswith("frontend.") else 1
        if name not in weights or not name.startswith(("frontend.", "encoder.")) or own[name].ndim <= axis:
            continue
        theirs, ours = weights[name], own[name].clone()
        more = ours.shape[axis] - theirs.shape[axis] if ours.ndim == theirs.ndim else 0
        if more <= 0 or more % added or ours.narrow(axis, 0, theirs.shape[axis]).shape != theirs.shape:
            continue
        if axis:
            ours.zero_()
        ours.narrow(axis, 0, theirs.shape[axis]).copy_(theirs)
        own[name] = ours
        done.append(name)
    return done


def count_parameters(module: nn.Module, trainable_only: bool = False) -> int:
    """Return the number of parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


def model_folder(path: Path) -> Path:
    """Return the folder that holds model.safetensors: `path` itself, or its best/, or its last/.

    Raises:
        SeldError: there is none.
    """
    for folder in map(whole, (path, path / "best", path / "last")):
        if (folder / "model.safetensors").is_file():
            return folder
    raise SeldError(
        f"{path} holds no trained network: neither it nor its best/ has a model.safetensors.",
        networks_of_run(path) or "Give the folder of a finished train step, or one of the checkpoints in it.",
    )
