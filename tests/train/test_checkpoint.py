"""Training states survive the disk exactly, and hold nothing that needs unpickling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dcase_seld.core.errors import SeldError
from dcase_seld.model.weights import model_folder
from dcase_seld.train.state import Position, WeightAverage, load_state, pack, save_state, unpack


def stepped(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, WeightAverage]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    average = WeightAverage(network, 0.9)
    advance(network, optimizer, average, 3)
    return network, optimizer, average


def advance(network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, steps: int) -> None:
    for step in range(steps):
        network(torch.full((5, 3), 0.1 * step) + torch.eye(5, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(network, step)


def test_a_state_comes_back_exactly(tmp_path: Path) -> None:
    first = stepped(0)
    position = Position(epoch=2, batch=1, step=9, sums={"loss": 0.1 + 0.2}, best=0.3, top=[[0.3, 1]])
    save_state(tmp_path / "state", *first, {"scale": 1024.0}, position)
    second = stepped(1)
    assert load_state(tmp_path / "state", *second) == (position, {"scale": 1024.0})
    for run in (first, second):
        advance(*run, 4)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))
    assert all(torch.equal(first[2].values[name], second[2].values[name]) for name in first[2].values)
    assert {path.suffix for path in (tmp_path / "state").iterdir()} == {".safetensors", ".json"}


def test_a_state_comes_back_in_the_layout_of_its_parameters(tmp_path: Path) -> None:
    """The fused AdamW would mistake one weight for another otherwise, without a word."""

    def made(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)

    def updated(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    first, second = made(0), made(1)
    updated(*first, 0)
    save_state(tmp_path / "state", *first, None, {}, Position())
    load_state(tmp_path / "state", *second, None)
    for run in (first, second):
        updated(*run, 1)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))


def test_nothing_saved_is_none_and_damage_is_a_sentence(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state", *stepped(0)) is None
    save_state(tmp_path / "state", *stepped(0), {}, Position())
    path = tmp_path / "state" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SeldError, match="cannot be read"):
        load_state(tmp_path / "state", *stepped(0))


def test_pack_takes_nested_state_apart() -> None:
    tensors: dict[str, torch.Tensor] = {}
    tree = {0: {"a": torch.ones(2), "b": None}, "c": [1, 2.5, True]}
    plain = pack(tree, "x", tensors)
    assert list(tensors) == ["x.0.a"]
    back = unpack(plain, tensors)
    assert back["c"] == [1, 2.5, True] and torch.equal(back[0]["a"], torch.ones(2)) and back[0]["b"] is None
    with pytest.raises(TypeError, match=r"x\.d holds a set"):
        pack({"d": set()}, "x", tensors)


def test_model_folder_prefers_the_best(tmp_path: Path) -> None:
    with pytest.raises(SeldError, match="holds no trained network"):
        model_folder(tmp_path)
    for name in ("last", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"")
        assert model_folder(tmp_path) == tmp_path / name
    assert model_folder(tmp_path / "last") == tmp_path / "last"
