"""Refuses clips that cannot stand in one batch: unlike stores or tokens, and tokens of clips longer than a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dcase_seld.errors import SeldError

if TYPE_CHECKING:
    from dcase_seld.data.batches import ClipSource
    from dcase_seld.data.tokens import TokenReader

SLACK_FRAMES = 1
"""Label frames by which a clip may be longer than its tokens' window: recorders round lengths."""


def refuse_unlike(sources: Sequence[ClipSource], mirror: bool) -> None:
    """Refuse to mix stores of different classes or sample rates, or tokens that were not made alike.

    Args:
        sources: what is mixed.
        mirror: the tokens of mirrored input are read too.

    Raises:
        SeldError: names the two folders that differ.
    """
    first = sources[0]
    for other in sources[1:]:
        if other.store.taxonomy.classes != first.store.taxonomy.classes:
            raise SeldError(
                f"{first.store.folder} and {other.store.folder} have different classes.",
                "Mix stores of one taxonomy.",
            )
        if other.store.sample_rate != first.store.sample_rate:
            raise SeldError(
                f"{first.store.folder} has {first.store.sample_rate} Hz, {other.store.folder} "
                f"{other.store.sample_rate} Hz.",
                "Mix stores of one sample rate.",
            )
        if [r.spec.kind for r in other.tokens] != [r.spec.kind for r in first.tokens]:
            raise SeldError("Mixed stores need the same kinds of tokens.", "Embed each store in the same way.")
        for own, others in zip(first.tokens, other.tokens, strict=True):
            if _made_by(own, mirror) != _made_by(others, mirror):
                raise SeldError(
                    f"{own.folder} and {others.folder} hold {own.spec.kind} tokens of different weights, shapes or "
                    "mirroring; they cannot be mixed.",
                    "Embed each store in the same way.",
                )


def refuse_tokens_of_long_clips(source: ClipSource, frames: int) -> None:
    """Refuse tokens of clips that are cut into windows: a clip has one row of tokens, which says nothing of a window's.

    Raises:
        SeldError: names the longest clip.
    """
    longest = source.indices[source.store.frames[source.indices].argmax()]
    length = int(source.store.frames[longest])
    if source.tokens and length > frames + SLACK_FRAMES:
        raise SeldError(
            f"{source.store.names[longest]} has {length} label frames, more than a window's {frames}, and tokens belong"
            " to whole clips.",
            "Cut recordings into 5-second clips before `prepare`; `dcase-seld predict FILE` makes tokens by windows.",
        )


def _made_by(reader: TokenReader, mirror: bool) -> tuple[Any, ...]:
    """Return what must be equal for tokens of two stores to stand in one batch."""
    return reader.spec.fingerprint, reader.spec.shape, mirror and reader.spec.mirror
