"""Which device a stage that needs one device works on."""

from __future__ import annotations

import torch

from dcase_seld.errors import SeldError


def single_device(name: str) -> torch.device:
    """Return the torch device of a --device option: auto (CUDA, then Apple's, then CPU), cpu, cuda, cuda:1, mps.

    Raises:
        SeldError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = {"gpu": "cuda"}.get(name, name)
    kind = name.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise SeldError(
            f"The device {name!r} is not to be had on this machine.",
            f"Choose of {', '.join(key for key, value in there.items() if value)}, or auto.",
        )
    return torch.device(name)
