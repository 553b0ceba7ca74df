"""A slice of `make soak`: damaged inputs of each kind are read or refused in a sentence."""

import pytest
from hostile import KINDS, Bench

from dcase_seld.core import registry

FOUND = {"rooms": (1_000_123, 1_000_137), "mp4": (1_000_292,), "step receipt": (1_000_370,), "png": (299,)}
"""Seeds at which the long trial found a fault."""

SEEDS = {"zip": 5, "csv": 30, "mp4": 5, "team": 15, "layout": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_in_a_sentence(kind, tmp_path, monkeypatch):
    # A recipe with a plug-in brings a stage, which tests after this one shall not find.
    monkeypatch.setattr(registry.STAGES, "_added", dict(registry.STAGES._added))
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    bench = Bench(kind, tmp_path / "bench")
    if kind != "pt":
        bench.read_good()
    found = {
        seed: problem
        for seed in (*FOUND.get(kind, ()), *range(SEEDS.get(kind, 40)))
        if (problem := bench.problem(seed))
    }
    assert not found, f"{len(found)} seeds of {kind}: {next(iter(found.items()))}"
