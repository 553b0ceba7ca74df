"""Loading models of the transformers library from a folder, without ever accepting weights that were not there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError, first_line, listing
from dcase_seld.core.files import refuse_folder, replace_folder, write_json
from dcase_seld.pretrained.catalogue import MARKER

_EXTENSION = "torchaudio._extension"


def ready_torchaudio() -> bool:
    """Return whether torchaudio can be imported, after telling it to do without its extension where that is broken.

    Call it before the first import of torchaudio, or of a transformers model. Calling it again costs nothing.
    """
    if "torchaudio" in sys.modules:
        return True
    if importlib.util.find_spec("torchaudio") is None:
        return False
    try:
        importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules[_EXTENSION] = _absent_extension()
        importlib.import_module("torchaudio")
    return True


def _absent_extension() -> types.ModuleType:
    """Return what torchaudio's extension module holds in a build without compiled parts."""

    def fail_if_no_align(function: object) -> object:
        return function

    module = types.ModuleType(_EXTENSION)
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=fail_if_no_align,
        _check_cuda_version=lambda: None,
    )
    return module


def import_transformers() -> Any:
    """Return the transformers module, importable also where torchaudio's extension is broken."""
    ready_torchaudio()
    import transformers

    return transformers


@contextmanager
def quiet_transformers(transformers: Any) -> Iterator[None]:
    """Silence transformers' progress bars and its own report of keys: ours is an error or nothing."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def load_whole(
    model_class: Any, folder: Path, what: str, may_miss: Callable[[str], bool] = lambda key: False
) -> tuple[Any, frozenset[str]]:
    """Return a transformers model from a local folder, and the allowed keys that the folder lacks.

    `folder` holds config.json and the weights; the caller does without the keys of `may_miss`. Raises SeldError: the
    folder has no configuration or weights, or they do not fit: transformers would fill such gaps with random numbers,
    silently.
    """
    transformers = import_transformers()
    if not (folder / "config.json").is_file():
        raise SeldError(
            f"{folder} holds no {what} model: config.json is not there.",
            "Give the folder that `save_pretrained` or `dcase-seld models pull` wrote.",
        )
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        refuse_no_weights(file)
    try:
        with quiet_transformers(transformers):
            model, report = model_class.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # transformers, safetensors and torch share no class of errors for damaged files
        raise SeldError(
            f"The {what} model in {folder} cannot be loaded: {first_line(error)}",
            "Check it with `dcase-seld models check`, or pull it again.",
        ) from error
    wrong = [str(key) for key in report.get("mismatched_keys", ())]
    missing = frozenset(str(key) for key in report.get("missing_keys", ()))
    refused = sorted(key for key in missing if not may_miss(key))
    if refused or wrong:
        raise SeldError(
            f"The weights in {folder} are not those of a {what} model: {len(refused)} missing"
            f" ({listing(refused, 3)}), {len(wrong)} of another shape ({listing(wrong, 3)}).",
            "Pull the model again, or give a folder with the whole model.",
        )
    model.eval().requires_grad_(False)
    return model, missing


TINY_CLAP_AUDIO = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 64,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
}

TINY_CLAP_TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}

TINY_OWLVIT_VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 128,
    "patch_size": 32,
}

TINY_OWLVIT_TEXT = {
    "vocab_size": 512,
    "hidden_size": 512,  # as wide as the projection: the detection head compares the two
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}
"""Sizes of the tiny models; their outputs keep 512 numbers a token."""


def make_random_model(kind: str, folder: Path, tiny: bool = True, seed: int = 0) -> None:
    """Write a "clap" or "owlvit" model with random weights, and the marker that says so.

    `kind`: clap or owlvit; `tiny`: a small network of the same shape. Raises SeldError: the folder holds something, or
    the kind is unknown.
    """
    refuse_folder(folder)
    if kind not in ("clap", "owlvit"):
        raise SeldError(f"Models of kind {kind!r} cannot be made.", "Take clap or owlvit.")
    marker = {"random_weights": True, "kind": kind, "tiny": tiny, "seed": seed}
    with replace_folder(folder) as new, torch.random.fork_rng(devices=[]):
        write_json(new / MARKER, marker)
        torch.manual_seed(seed)
        transformers = import_transformers()
        with quiet_transformers(transformers):
            (_make_clap if kind == "clap" else _make_owlvit)(transformers, new, tiny)


def _make_clap(transformers: Any, folder: Path, tiny: bool) -> None:
    """Write an unfused CLAP and its feature extractor."""
    text, audio = (TINY_CLAP_TEXT, TINY_CLAP_AUDIO) if tiny else ({}, {})
    config = transformers.ClapConfig(text_config=text, audio_config=audio)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)


def _make_owlvit(transformers: Any, folder: Path, tiny: bool) -> None:
    """Write an OWL-ViT with detection heads, and the settings of its image processor."""
    text, vision = (TINY_OWLVIT_TEXT, TINY_OWLVIT_VISION) if tiny else ({}, {})
    config = transformers.OwlViTConfig(text_config=text, vision_config=vision)
    model = transformers.OwlViTForObjectDetection(config)
    model.save_pretrained(folder)
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    content = {"size": size, "do_center_crop": False, "image_processor_type": "OwlViTImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
