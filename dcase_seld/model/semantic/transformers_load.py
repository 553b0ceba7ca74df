"""Loading models of the transformers library from a folder, without ever accepting weights that were not there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcase_seld.errors import SeldError, listing
from dcase_seld.model.torchaudio_import import ready_torchaudio


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

    Args:
        model_class: a class with from_pretrained.
        folder: holds config.json and the weights.
        what: what the model is called in messages ("CLAP").
        may_miss: keys for which the caller does without.

    Raises:
        SeldError: the folder has no configuration or weights, or they do not fit: transformers would fill such
            gaps with random numbers, silently.
    """
    transformers = import_transformers()
    if not (folder / "config.json").is_file():
        raise SeldError(
            f"{folder} holds no {what} model: config.json is not there.",
            "Give the folder that `save_pretrained` or `dcase-seld models pull` wrote.",
        )
    try:
        with quiet_transformers(transformers):
            model, report = model_class.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SeldError(
            f"The {what} model in {folder} cannot be loaded: {first_line}",
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


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model folder, after checking that it knows words.

    Raises:
        SeldError: its files are not there, or it is empty: without its vocabulary, every text becomes the same.
    """
    transformers = import_transformers()
    remedy = "Pull the model again: tokenizer.json, or vocab.json and merges.txt, belong to it."
    try:
        with quiet_transformers(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SeldError(f"{folder} holds no tokenizer that can be read.", remedy) from error
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a telephone", "a running water tap")]
    unknown = tokenizer.unk_token_id
    known = [[token for token in ids if token != unknown] for ids in words]
    if not known[0] or not known[1] or known[0] == known[1]:
        raise SeldError(f"The tokenizer in {folder} is empty: of {len(tokenizer)} entries none spells a word.", remedy)
    return tokenizer
