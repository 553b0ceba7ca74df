"""Keeps apart the clips that an ensemble was tuned on and those that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from dcase_seld.errors import SeldError, listing
from dcase_seld.task.corpus import name_parts


def recording(name: str) -> str:
    """Return the recording that a clip is a window of: fold, room and mix of an official name, else the name itself."""
    parts = name_parts(name)
    return name if parts is None else f"fold{parts.fold}_room{parts.room}_mix{parts.mix}"


def refuse_overlap(tuned_on: Sequence[str], clips: Sequence[str], what: str) -> None:
    """Refuse clips that are, or are windows of the same recordings as, those that an ensemble was tuned on.

    Raises:
        SeldError: names the clips.
    """
    used = {recording(name) for name in tuned_on}
    shared = [name for name in clips if recording(name) in used]
    if shared:
        raise SeldError(
            f"{what} on {len(shared)} clip(s) of recordings that this ensemble was tuned on ({listing(shared)}): the "
            "scores would flatter it.",
            "Predict other recordings; or set purpose: tune, if a later step is tuned on these and nothing is scored.",
        )
