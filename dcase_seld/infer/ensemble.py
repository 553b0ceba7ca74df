"""Makes an ensemble folder: copies of its members, their weights, and what was tuned on validation clips."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.infer.predictor import Predictor
from dcase_seld.infer.settings import EnsembleConfig, EnsembleSettings, Member, read_ensemble, write_ensemble
from dcase_seld.infer.tune import MemberOutputs, greedy_weights, member_outputs, tune
from dcase_seld.model.network import SeldNetwork
from dcase_seld.model.weights import FACTS_FILE, WEIGHTS_FILE, load_model, model_folder, read_facts, save_model
from dcase_seld.store.store import Store


def average_weights(folders: Sequence[Path], weights: Sequence[float] | None = None) -> SeldNetwork:
    """Return the network whose weights are the weighted mean of checkpoints', running statistics included.

    It answers like one network and costs like one; good where the checkpoints come from one training, or from trainings
    that started from the same weights. Source: M. Wortsman et al., Model soups, ICML 2022. Raises SeldError: there is
    no checkpoint, or they are not of one architecture, front end or list of classes.
    """
    if not folders:
        raise SeldError("There is no checkpoint to make a soup of.", "Name at least one.")
    shares = [1.0] * len(folders) if weights is None else list(weights)
    places = [model_folder(folder) for folder in folders]
    about = [read_facts(place) for place in places]
    for place, facts in zip(places[1:], about[1:], strict=True):
        if _kind(facts) != _kind(about[0]):
            raise SeldError(
                f"{place} and {places[0]} are different networks; their weights cannot be averaged.",
                "Average their outputs instead (soup: none), or give checkpoints of one configuration.",
            )
    network = load_model(places[0])
    mean = {name: tensor.double() * shares[0] for name, tensor in network.state_dict().items()}
    for place, share in zip(places[1:], shares[1:], strict=True):
        for name, tensor in load_model(place).state_dict().items():
            mean[name] += tensor.double() * share
    own = network.state_dict()
    with torch.no_grad():
        network.load_state_dict({name: (total / sum(shares)).to(own[name].dtype) for name, total in mean.items()})
    return network


def soup_members(step: Path) -> list[Path]:
    """Return the checkpoints of one train step that make a soup: those in top/, or the best where there is no top/."""
    return sorted((step / "top").glob("epoch-*")) or [model_folder(step)]


def _kind(facts: dict[str, Any]) -> tuple[Any, Any]:
    return facts["config"], facts["task"]


def make_ensemble(
    config: EnsembleConfig,
    members: Sequence[Path],
    store: Store | None,
    out: Path,
    *,
    twin: Path | None = None,
    tokens: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    quiet: bool = True,
) -> dict[str, Any]:
    """Write ensemble.json and members/ into `out`, and return its facts (members, weights, scores, thresholds).

    Without `store` nothing is chosen or tuned; settings of `twin`, another ensemble, are taken over. Raises SeldError:
    members do not fit one another or the data, or were trained on the clips to tune on.
    """
    if not members:
        raise SeldError("There is no member to make an ensemble of.", "Name at least one checkpoint.")
    folders = _collect(config, members, out)
    weights = list(config.weights or [1.0] * len(folders))
    if len(weights) != len(folders):
        raise SeldError(f"{len(weights)} weights are given for {len(folders)} members.", "Give one weight per member.")
    names = [str(folder.relative_to(out)) for folder in folders]
    settings = EnsembleSettings(tta=config.tta, smooth_frames=config.smooth_frames)
    if twin is not None:
        known = read_ensemble(twin)
        if known is None:
            raise SeldError(f"{twin} is no ensemble.", "Name an ensemble step in settings_of.")
        settings = known.model_copy(update={"members": ()})
    facts: dict[str, Any] = {"scores": {}}
    predictor = Predictor.load(folders, device, config.tta)
    if config.needs_data:
        if store is None:
            raise SeldError("Choosing and tuning need data.", "Give a store, or set select: all and thresholds: none.")
        if config.split == "val":
            _refuse_trained_on(folders)
        judged = member_outputs(predictor, store, config.split, tokens, config.criterion, quiet=quiet)
        weights, settings, scores = _choose(config, judged, weights, settings)
        facts["scores"] = scores
        settings = settings.model_copy(update={"tuned_on": judged.reference.clips})
    kept = [number for number, weight in enumerate(weights) if weight > 0]
    for number in set(range(len(folders))) - set(kept):
        shutil.rmtree(folders[number])
    chosen = tuple(Member(folder=names[number], weight=weights[number]) for number in kept)
    settings = settings.model_copy(update={"members": chosen})
    write_ensemble(settings, out)
    untrained = {kind for folder in folders if folder.exists() for kind in _facts(folder).get("random_weights", ())}
    return {
        "members": len(chosen),
        "weights": [member.weight for member in chosen],
        "parameters": sum(read_facts(folders[number])["parameters"] for number in kept),
        "random_weights": sorted(untrained),
        **settings.model_dump(mode="json", exclude={"members", "tuned_on"}),
        "tuned_clips": len(settings.tuned_on),
        **facts,
    }


def _choose(
    config: EnsembleConfig, judged: MemberOutputs, weights: list[float], settings: EnsembleSettings
) -> tuple[list[float], EnsembleSettings, dict[str, Any]]:
    """Return weights, settings and validation scores after choosing members and tuning thresholds."""
    alone = [judged.score(output) for output in judged.outputs]
    scores: dict[str, Any] = {"criterion": judged.criterion, "split": config.split, "single": alone}
    if config.select == "greedy":
        counts, steps = greedy_weights(judged, config.most_members)
        weights = [float(count) for count in counts]
        scores["greedy"] = steps
    output = judged.average(weights)
    scores["average"] = judged.score(output)
    if config.thresholds != "none":
        tuned = tune(
            judged,
            output,
            per_class=config.thresholds == "per-class",
            unify=config.unify,
            onscreen=config.onscreen,
            distance=config.distance,
        )
        scores["tuned"] = tuned.after
        names = ("thresholds", "unify_deg", "onscreen_threshold", "distance_scale")
        settings = settings.model_copy(update={name: getattr(tuned, name) for name in names})
    return weights, settings, scores


def _collect(config: EnsembleConfig, members: Sequence[Path], out: Path) -> list[Path]:
    """Return the folders of the members inside `out`: links or copies of their files, or soups of them."""
    shutil.rmtree(out / "members", ignore_errors=True)
    folders = []
    groups = [list(members)] if config.soup == "all" else [[member] for member in members]
    for number, group in enumerate(groups):
        folder = out / "members" / f"{number:02d}"
        folder.mkdir(parents=True)
        if config.soup == "none":
            source = model_folder(group[0])
            for name in (WEIGHTS_FILE, FACTS_FILE):
                _link(source / name, folder / name)
        else:
            parts = [part for member in group for part in (soup_members(member) if config.soup == "top" else [member])]
            facts = {**_facts(model_folder(parts[0])), "soup": len(parts)}
            save_model(average_weights(parts, config.weights if config.soup == "all" else None), folder, facts)
        folders.append(folder)
    return folders


def is_unfinished(out: Path) -> bool:
    """Return whether a folder holds nothing but what a command that was killed left of an ensemble."""
    made = re.compile(rf"\.store(/.*)?|members(/\d\d(/\.?({WEIGHTS_FILE}|{FACTS_FILE})[^/]*)?)?", re.DOTALL)
    return all(made.fullmatch(path.relative_to(out).as_posix()) for path in out.rglob("*"))


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` (files of checkpoints are replaced, never changed), else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_facts(folder).get("facts", {})
    return found


def _refuse_trained_on(folders: Sequence[Path]) -> None:
    """Refuse to tune on validation clips that a member was trained on."""
    for folder in folders:
        if "val" in _facts(folder).get("train_on", ()):
            raise SeldError(
                f"The member {folder.name} was trained on the validation clips (train_on); tuning on them would choose "
                "thresholds for clips that it knows by heart.",
                "Set thresholds: none, or take over the settings of a twin that was not (settings_of).",
            )
