"""The Conformer layer, with attention to itself or to a memory of semantic tokens.

Letters: B clips, T label frames, M memory tokens, E width of the embedding, D width of a memory token.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Sequential):
    """Maps (…, E) to (…, E): LayerNorm, Linear, SiLU, Linear, with dropout."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )


class Attention(nn.Module):
    """Multi-head attention of queries to a memory; the key projection has no bias, which softmax would cancel."""

    def __init__(self, width: int, memory_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(memory_width, width, bias=False)
        self.value = nn.Linear(memory_width, width)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
        for biased in (self.query, self.value, self.out):
            nn.init.zeros_(biased.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, T, E) for query (B, T, E), key and value (B, M, D) and mask (B, M), False = not to be seen."""

        def split(tensor: Tensor) -> Tensor:
            return tensor.view(*tensor.shape[:2], self.heads, -1).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split(self.query(query)),
            split(self.key(key)),
            split(self.value(value)),
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class Convolution(nn.Module):
    """Maps (B, T, E) to (B, T, E): pointwise with GLU, depthwise over time, BatchNorm, SiLU, pointwise."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # Pointwise convolutions are linear layers over the last axis, which need no transposed copies.
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, E) for x (B, T, E)."""
        x = functional.glu(self.expand(self.norm(x)), dim=-1)
        x = functional.silu(self.batch_norm(self.depthwise(x.transpose(1, 2)))).transpose(1, 2)
        out: Tensor = self.dropout(self.project(x))
        return out


class ConformerLayer(nn.Module):
    """One Conformer layer; with `memory_width` its attention looks at a memory instead of at itself.

    Source: A. Gulati et al., "Conformer", Interspeech 2020, in the variant of torchaudio.models.Conformer; the
    attention to a memory as in D. Berghi, P. J. B. Jackson, arXiv 2507.04845.
    """

    def __init__(
        self, width: int, heads: int, feed_forward: int, kernel: int, dropout: float, memory_width: int | None = None
    ) -> None:
        super().__init__()
        self.before = FeedForward(width, feed_forward, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.memory_norm = None if memory_width is None else nn.LayerNorm(memory_width)
        self.attention = Attention(width, width if memory_width is None else memory_width, heads, dropout)
        self.attention_dropout = nn.Dropout(dropout)
        self.convolution = Convolution(width, kernel, dropout)
        self.after = FeedForward(width, feed_forward, dropout)
        self.final_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, attend: Attend | None = None) -> Tensor:
        """Return (B, T, E) for x (B, T, E).

        Args:
            x: the embedding.
            attend: how a cross-attention layer sees its memory (see cross_modal); None: attention to x itself.
        """
        x = x + 0.5 * self.before(x)
        query = self.attention_norm(x)
        attended = self.attention(query, query, query) if attend is None else attend(self, query)
        x = x + self.attention_dropout(attended)
        x = x + self.convolution(x)
        x = x + 0.5 * self.after(x)
        out: Tensor = self.final_norm(x)
        return out


Attend = Callable[[ConformerLayer, Tensor], Tensor]
"""attend(layer, query (B, T, E)) → (B, T, E): the layer's attention, applied to some memory."""
