"""What stands around the figures: that predictions and references are of the same clips, and the JSON file."""

from __future__ import annotations

import json
from pathlib import Path

from dcase_seld.errors import SeldError, listing


def check_clips(
    predicted: tuple[str, ...], annotated: tuple[str, ...], pred: Path, ref: Path, missing_allowed: bool = False
) -> list[str]:
    """Return the clips without predictions, which must be allowed; predictions of unknown clips never are.

    Raises:
        SeldError: names them.
    """
    known = set(annotated)
    unknown = [name for name in predicted if name not in known]
    if unknown:
        raise SeldError(
            f"{len(unknown)} prediction file(s) in {pred} have no reference in {ref}: {listing(unknown)}.",
            "Score against the references of the same split, or remove these files.",
        )
    given = set(predicted)
    missing = [name for name in annotated if name not in given]
    if missing and not missing_allowed:
        raise SeldError(
            f"{len(missing)} of {len(annotated)} clips in {ref} have no prediction file in {pred}: {listing(missing)}.",
            "Write a file with the header alone where nothing was detected, or pass --allow-missing to leave them out.",
        )
    return missing


def write_json(path: Path, data: object) -> None:
    """Write plain data to a JSON file, atomically."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise SeldError(f"{path} cannot be written: {error.strerror}.", "Check the folder.") from error
