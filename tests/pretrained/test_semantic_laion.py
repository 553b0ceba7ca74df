"""LAION's own checkpoints: equal to laion-clap's HTSAT on seeded weights, read as weights only."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained.clap import load_clap, read_laion_checkpoint
from dcase_seld.pretrained.encoder import pad_window

FOLDER = Path(__file__).parent.parent / "golden" / "laion"
_spec = importlib.util.spec_from_file_location("laion_seeded", FOLDER / "seeded.py")
seeded = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(seeded)
COMPUTED = ("spectrogram_extractor", "relative_position_index", "attn_mask", "num_batches_tracked")


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "clap.npz") as archive:
        return {name: archive[name] for name in archive.files}


def checkpoint(golden, case, folder, drop=()):
    """Write a .pt as laion-clap's training does: records, text half, "module." before every name."""
    state = {"module.text_branch.embeddings.word_embeddings.weight": torch.zeros(4, 4)}
    for name, shape in json.loads(golden[f"{case}_shapes"].tobytes()).items():
        if "melW" in name:
            state[f"module.{name}"] = torch.from_numpy(golden["melW"])
        elif not any(part in name for part in COMPUTED):
            state[f"module.{name}"] = torch.from_numpy(seeded.seeded_weight(name, tuple(shape)))
    state = {name: value for name, value in state.items() if not any(part in name for part in drop)}
    path = folder / f"{case}.pt"
    torch.save({"epoch": 1, "name": "run", "best": np.float64(0.5), "state_dict": state}, path)
    return path


@pytest.mark.parametrize("case", ["small", "fused", pytest.param("published", marks=pytest.mark.slow)])
def test_equals_laion_clap(golden, tmp_path, case):
    clap = load_clap(checkpoint(golden, case, tmp_path), input_rate=48000)
    assert clap.dimension == 512 and not clap.random_weights and not clap.model.training
    for (seed, samples), expected in zip(golden["sounds"], golden[f"{case}_embedding"], strict=True):
        mono = torch.from_numpy(seeded.seeded_sound(int(seed), int(samples)))
        embedded = clap.encode(mono.expand(1, 2, -1))[0, 0].numpy()
        assert np.abs(embedded - expected).max() < 2e-6
    spread = np.abs(golden[f"{case}_embedding"][0] - golden[f"{case}_embedding"][1]).max()
    assert spread > 1e-3  # the sounds are told apart, so equality means something


def test_sound_is_made_alike_in_both_environments(golden):
    assert np.array_equal(seeded.seeded_sound(0, 480000)[:100], golden["first_samples"])


def test_mel_is_laions(golden, tmp_path):
    clap = load_clap(checkpoint(golden, "small", tmp_path))
    mel = clap.mel(pad_window(torch.from_numpy(seeded.seeded_sound(1, 240000))[None], 480000, "repeatpad"))
    assert mel.shape == (1, 1, 1001, 64) and torch.equal(clap.mel.filters, torch.from_numpy(golden["melW"]))


def test_records_pickled_by_old_numpy_are_read_and_nothing_else_is(golden, tmp_path):
    with pytest.raises(SeldError, match=r"no LAION CLAP checkpoint .* it holds w"):
        read_laion_checkpoint(FOLDER / "scalars.pt")
    torch.save({"state_dict": {}, "harm": Path("x")}, tmp_path / "harm.pt")
    with pytest.raises(SeldError, match="weights only"):
        read_laion_checkpoint(tmp_path / "harm.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(SeldError):
        read_laion_checkpoint(tmp_path / "cut.pt")


def test_gaps_are_errors(golden, tmp_path):
    with pytest.raises(SeldError, match=r"missing .*attention.output.dense"):
        read_laion_checkpoint(checkpoint(golden, "small", tmp_path, drop=("layers.1.blocks.1.attn.proj",)))
    with pytest.raises(SeldError, match="mel filters"):
        read_laion_checkpoint(checkpoint(golden, "small", tmp_path, drop=("melW",)))
    with pytest.raises(SeldError, match="no LAION CLAP checkpoint"):
        read_laion_checkpoint(checkpoint(golden, "small", tmp_path, drop=("patch_embed.proj",)))
