"""The square grid of a picture's tokens: its side, and the order of tokens that mirrors it. NumPy only."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def grid_side(tokens: int) -> int:
    """Return the side of the square grid in `tokens` tokens, the first of which is the class token.

    Raises:
        ValueError: the rest is no square.
    """
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1:
        raise ValueError(f"{tokens} tokens are not a class token and a square grid")
    return side


def mirrored_order(tokens: int) -> npt.NDArray[np.int64]:
    """Return (P,) indices that put the columns of the grid in reverse order and keep the class token first.

    `tokens[..., mirrored_order(P), :]` stands in for the tokens of the mirrored picture: right about where things are,
    wrong about how each patch looks and about position embeddings. benchmarks/embed.py measures the difference.
    """
    side = grid_side(tokens)
    grid = 1 + np.arange(side * side, dtype=np.int64).reshape(side, side)
    return np.concatenate([[0], grid[:, ::-1].reshape(-1)])
