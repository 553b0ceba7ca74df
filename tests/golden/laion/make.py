"""Write clap.npz and scalars.pt: what laion-clap's own HTSAT gives for seeded weights and sounds.

Run it in an environment of its own, because laion-clap needs NumPy below 2:

    python3.11 -m venv laion && laion/bin/pip install -c constraints-laion.txt laion-clap torch torchaudio
    laion/bin/python tests/golden/laion/make.py

The published weights are not needed: every weight is made from its name (seeded.py), in both environments alike.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from seeded import seeded_sound, seeded_weight

HERE = Path(__file__).parent
CASES = {
    "small": {"embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "fused": False},
    "fused": {"embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "fused": True},
    "published": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [4, 8, 16, 32], "fused": False},
}
CONFIG = {
    "audio_length": 1024,
    "clip_samples": 480000,
    "mel_bins": 64,
    "sample_rate": 48000,
    "window_size": 1024,
    "hop_size": 480,
    "fmin": 50,
    "fmax": 14000,
    "class_num": 527,
}
SOUNDS = [(0, 480000), (1, 240000), (2, 170000)]
"""Seed and samples at 48 kHz; the short ones are repeated and padded."""


def import_htsat():
    """Return laion_clap's HTSAT class and its padding and mel code, without importing the whole package.

    The package loads tokenizers from the network when it is imported, and names of torchvision that are not used here.
    """
    root = Path(importlib.util.find_spec("laion_clap").submodule_search_locations[0])
    for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = torch.nn.BatchNorm2d
    package = types.ModuleType("clap_module")
    package.__path__ = [str(root / "clap_module")]
    sys.modules["clap_module"] = package
    from clap_module.htsat import HTSAT_Swin_Transformer

    source = (root / "training" / "data.py").read_text()
    first, last = source.index("def get_mel("), source.index("def select_text(")
    features = {"torch": torch, "np": np, "F": torch.nn.functional, "suppress": None, "torchaudio": torchaudio_parts()}
    exec(compile(source[first:last], "laion_clap/training/data.py", "exec"), features)
    return HTSAT_Swin_Transformer, features["get_audio_features"]


def torchaudio_parts():
    """Return torchaudio, told to do without its compiled extension, which is not needed here."""
    extension = types.ModuleType("torchaudio._extension")
    extension.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=lambda f: f
    )
    sys.modules["torchaudio._extension"] = extension
    import torchaudio

    return torchaudio


def build(htsat, case):
    """Return HTSAT and the projection head as laion-clap's CLAP has them, with seeded weights."""
    config = types.SimpleNamespace(**CONFIG)
    sizes = {key: case[key] for key in ("embed_dim", "depths", "num_heads")}
    fusion = {"enable_fusion": case["fused"], "fusion_type": "aff_2d" if case["fused"] else "None"}
    branch = htsat(config=config, num_classes=527, window_size=8, **sizes, **fusion)
    width = case["embed_dim"] * 8
    head = torch.nn.Sequential(torch.nn.Linear(width, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512))
    model = torch.nn.ModuleDict({"audio_branch": branch, "audio_projection": head}).eval()
    fixed = ("spectrogram_extractor", "logmel_extractor", "relative_position_index", "attn_mask", "num_batches_tracked")
    state = model.state_dict()
    for name, value in state.items():
        if not any(part in name for part in fixed):
            state[name] = torch.from_numpy(seeded_weight(name, tuple(value.shape)))
    model.load_state_dict(state)
    return model


def main():
    htsat, get_audio_features = import_htsat()
    arrays = {}
    for name, case in CASES.items():
        model = build(htsat, case)
        embedded = []
        for seed, samples in SOUNDS:
            sound = torch.from_numpy(seeded_sound(seed, samples))
            truncating = "fusion" if case["fused"] else "rand_trunc"
            entry = get_audio_features({}, sound, 480000, truncating, "repeatpad", CONFIG, require_grad=False)
            entry = {key: value[None] for key, value in entry.items()}
            with torch.no_grad():
                vector = model["audio_projection"](model["audio_branch"](entry, device="cpu")["embedding"])
            embedded.append(torch.nn.functional.normalize(vector, dim=-1)[0].numpy())
        arrays[f"{name}_embedding"] = np.stack(embedded)
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        arrays[f"{name}_shapes"] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        arrays["melW"] = model["audio_branch"].logmel_extractor.melW.detach().numpy()
    arrays["sounds"] = np.array(SOUNDS)
    arrays["first_samples"] = seeded_sound(0, 480000)[:100]
    np.savez_compressed(HERE / "clap.npz", **arrays)
    # Published checkpoints hold training records beside the weights, pickled by a NumPy before 2.
    record = {
        "epoch": 3,
        "name": "run",
        "best": np.float64(0.5),
        "step": np.int64(7),
        "state_dict": {"w": torch.ones(2)},
    }
    torch.save(record, HERE / "scalars.pt")
    print({key: value.shape for key, value in arrays.items()}, np.__version__)


if __name__ == "__main__":
    main()
