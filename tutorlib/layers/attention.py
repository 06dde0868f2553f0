"""Scaled dot-product attention and the multi-head layer around it (Vaswani et al. 2017, section 3.2)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.arguments import check_share
from tutorlib.layers.cache import KeyValueCache
from tutorlib.layers.fused import fused_attention
from tutorlib.layers.masks import check_attention_shapes, fit_mask, join_padding, masked_softmax
from tutorlib.layers.position import Rotation, turn


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, scale: float,
              dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """softmax(Q Kᵀ · scale) V, and its weights: the formula, for a mask that `fit_mask` has made.

    query (B, H, T, K), key (B, H, S, K), value (B, H, S, V) -> (B, H, T, V) and (B, H, T, S), the weights before dropout.
    """
    scores = (query * scale) @ key.mT  # (B, H, T, S); scaling the query is T K products instead of T S
    weights = masked_softmax(scores, mask)  # (B, H, T, S)
    return F.dropout(weights, dropout) @ value, weights  # (B, H, T, V)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
                                 causal: bool = False, dropout: float = 0.0, scale: float | None = None,
                                 return_weights: bool = False, fused: bool = True) -> Tensor | tuple[Tensor, Tensor]:
    """Attention(Q, K, V) = softmax(Q Kᵀ / √K) V (Vaswani et al. 2017, equation 1), in one of two faces with one result.

    query (B, H, T, K), key (B, H_kv, S, K), value (B, H_kv, S, V); or all three without heads, (B, T, K), or as plain
    matrices, (T, K). Fewer key-value heads than query heads are shared by equal groups (Ainslie et al. 2023).
    mask: see `layers.masks`. `scale` replaces 1/√K. `dropout` is the probability of dropping a weight.

    The fused face is PyTorch's kernel, which never stores the (T, S) matrix of weights; the explicit one is `attention`.
    Returns (..., T, V); with `return_weights`, also the weights (..., T, S), which takes the explicit form.
    Raises ValueError for shapes that do not fit together, an integer mask, a dropout outside [0, 1].
    """
    check_attention_shapes(query, key, value)
    check_share("dropout", dropout)
    scale = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    if fused and not return_weights:
        return fused_attention(query, key, value, mask, causal=causal, dropout=dropout, scale=scale)
    mask = fit_mask(mask, query, key, causal=causal)
    if query.dim() == 4 and key.size(1) != query.size(1):  # the kernel reads shared heads where they are; here they are copied
        key, value = (x.repeat_interleave(query.size(1) // x.size(1), dim=1) for x in (key, value))  # (B, H, S, K)
    output, weights = attention(query, key, value, mask, scale=scale, dropout=dropout)
    return (output, weights) if return_weights else output


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_H) W_O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V) (Vaswani et al. 2017, section 3.2.2).

    The H projections of each kind are one matrix, `query`, `key` and `value`, whose output is cut into heads. Self-attention
    when only a query is given; cross-attention with a key (and a value, which else is the key). With `num_key_value_heads`
    below `num_heads`, groups of query heads share keys and values. `rotary` turns queries and keys by their position.
    """

    def __init__(self, width: int, num_heads: int, *, num_key_value_heads: int | None = None, bias: bool = True,
                 dropout: float = 0.0, rotary: nn.Module | None = None):
        super().__init__()
        num_key_value_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        check_counts(width=width, num_heads=num_heads, num_key_value_heads=num_key_value_heads)
        if width % num_heads:
            raise ValueError(f"width must be a positive multiple of num_heads, got width={width}, num_heads={num_heads}")
        if num_heads % num_key_value_heads:
            raise ValueError(f"num_heads must be a multiple of num_key_value_heads, got num_heads={num_heads}, "
                             f"num_key_value_heads={num_key_value_heads}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.width, self.num_heads, self.num_key_value_heads = width, num_heads, num_key_value_heads
        self.head_width, self.dropout, self.rotary = width // num_heads, dropout, rotary
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, num_key_value_heads * self.head_width, bias=bias)
        self.value = nn.Linear(width, num_key_value_heads * self.head_width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
            if bias:
                nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, mask: Tensor | None = None, *,
                causal: bool = False, padding_mask: Tensor | None = None, cache: KeyValueCache | None = None,
                rotation: Rotation | None = None, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """query (B, T, D), key and value (B, S, D) -> (B, T, D); with `return_weights`, also the weights (B, H, T, S).

        mask: see `layers.masks`; padding_mask (B, S) boolean, True = a real token. With a cache, the keys and values of this
        call join those of the calls before, and S counts them all. `rotation` is what `rotary.rotation` gives for these
        positions, where a model has computed it once for all its layers.
        """
        key = query if key is None else key
        seen = 0 if cache is None else cache.length
        keys, values = self.keys_and_values(key, key if value is None else value, seen, rotation)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, H_kv, S, K)
        offset = keys.size(2) - key.size(1)  # how many positions came before this call
        return self.attend(query, keys, values, mask, causal=causal, padding_mask=padding_mask, offset=offset,
                           rotation=rotation, return_weights=return_weights)

    def keys_and_values(self, key: Tensor, value: Tensor, offset: int = 0,
                        rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        """Project and cut into heads: (B, S, D) -> (B, H_kv, S, K), twice. The first position is number `offset`."""
        self._check_width("key", key)
        self._check_width("value", value)
        keys = self.key(key).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H_kv, S, K)
        values = self.value(value).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H_kv, S, K)
        return self._turned(keys, offset, rotation), values

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False,
               padding_mask: Tensor | None = None, offset: int = 0, rotation: Rotation | None = None,
               return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """`forward` for keys and values (B, H_kv, S, K) that are projected already; `offset` is the first query's place."""
        self._check_width("query", query)
        queries = self.query(query).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H, T, K)
        queries = self._turned(queries, offset, rotation)
        mask = join_padding(mask, padding_mask, batch=query.size(0), num_keys=keys.size(2))
        heads = scaled_dot_product_attention(queries, keys, values, mask, causal=causal, return_weights=return_weights,
                                             dropout=self.dropout if self.training else 0.0)  # (B, H, T, K)
        heads, weights = heads if return_weights else (heads, None)
        output = self.output(heads.transpose(1, 2).flatten(2))  # (B, T, D)
        return (output, weights) if return_weights else output

    def _turned(self, heads: Tensor, offset: int, rotation: Rotation | None) -> Tensor:
        if self.rotary is None:
            return heads
        return self.rotary(heads, offset) if rotation is None else turn(heads, rotation)  # (B, H, T, K)

    def _check_width(self, name: str, states: Tensor) -> None:
        if states.dim() != 3 or states.size(-1) != self.width:
            raise ValueError(f"{name} must have the shape (B, length, {self.width}), got {tuple(states.shape)}")
