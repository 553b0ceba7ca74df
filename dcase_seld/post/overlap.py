"""Overlapping windows of long clips: their outputs, which come batch by batch, become one output per clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from dcase_seld.data.batches import Batch
from dcase_seld.data.store import Store
from dcase_seld.model.outputs import ModelInput, SeldOutput
from dcase_seld.post.windows import stitch


def stitched(found: Iterable[tuple[SeldOutput, Batch]], store: Store) -> Iterator[tuple[SeldOutput, Batch]]:
    """Yield (output (1, frames, C, N), its clip) as soon as the last window of a clip has come.

    Args:
        found: outputs of batches whose windows come clip by clip, in time order.
        store: the clips.
    """
    clip, starts, outputs = -1, list[int](), list[SeldOutput]()
    for output, batch in found:
        for row, (index, start) in enumerate(zip(batch.index.tolist(), batch.start.tolist(), strict=True)):
            if index != clip and outputs:
                yield _whole(clip, starts, outputs, store)
                starts, outputs = [], []
            clip = index
            starts.append(start)
            screen = None if output.onscreen is None else output.onscreen[row : row + 1]
            outputs.append(SeldOutput(output.xy[row : row + 1], output.distance[row : row + 1], screen))
    if outputs:
        yield _whole(clip, starts, outputs, store)


def _whole(clip: int, starts: list[int], outputs: list[SeldOutput], store: Store) -> tuple[SeldOutput, Batch]:
    zero = torch.zeros(1, dtype=torch.int64)
    return stitch(outputs, starts, int(store.frames[clip])), Batch(ModelInput(), None, zero + clip, zero, zero)
