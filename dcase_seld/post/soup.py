"""Checkpoint soups: one network whose weights are the mean of several checkpoints of the same network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dcase_seld.errors import SeldError
from dcase_seld.model.seld import SeldNetwork
from dcase_seld.model.weights import load_model, read_facts
from dcase_seld.train.checkpoint import model_folder


def average_weights(folders: Sequence[Path], weights: Sequence[float] | None = None) -> SeldNetwork:
    """Return the network whose weights are the weighted mean of checkpoints', running statistics included.

    It answers like one network and costs like one; good where the checkpoints come from one training, or from trainings
    that started from the same weights. Source: M. Wortsman et al., Model soups, ICML 2022.

    Raises:
        SeldError: there is no checkpoint, or they are not of one architecture, front end or list of classes.
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
    return facts["config"], facts["taxonomy"]["classes"]
