"""Scaled dot-product attention and the multi-head layer around it (Vaswani et al. 2017, section 3.2).

Two faces, one result. The explicit form is the formula, softmax(Q Kᵀ / √K) V, and can hand out its weights. The fused form
calls PyTorch's kernel, which never stores the (T, S) matrix of weights. `blockwise_attention` shows how that is possible.

Masks, everywhere: boolean, True = may attend, of shape (T, S), (B, T, S) or (B, H, T, S), any of them 1 where it is to be
broadcast; a floating-point mask is added to the scores. Padding is a boolean mask (B, S), passed by keyword.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORT = 128  # keys; up to here the CPU kernel's backward pass takes 1.6 to 3 times as long in bfloat16 as in float32


def causal_mask(num_queries: int, num_keys: int, device: torch.device | str | None = None) -> Tensor:
    """Which keys a query may see without looking ahead: (T, S) boolean, True = may attend.

    The last query is aligned with the last key, so that T new queries may follow S - T cached keys.
    Raises ValueError if there are more queries than keys.
    """
    if num_queries > num_keys:
        raise ValueError(f"causal attention needs at least as many keys as queries, got T={num_queries}, S={num_keys}")
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)


def masked_softmax(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Softmax over the last dimension, among the allowed entries only; a row with none allowed is all zeros.

    scores (..., T, S); allowed boolean, broadcastable to scores. Filling with the smallest finite number instead of
    -inf keeps such a row free of NaN, in value and in gradient.
    """
    if allowed is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(dim=-1)  # (..., T, S)
    nowhere = ~allowed.any(dim=-1, keepdim=True)  # (..., T, 1): here the softmax came out uniform
    return weights.masked_fill(nowhere, 0.0) if nowhere.any() else weights


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
                                 causal: bool = False, dropout: float = 0.0, scale: float | None = None,
                                 return_weights: bool = False, fused: bool = True) -> Tensor | tuple[Tensor, Tensor]:
    """Attention(Q, K, V) = softmax(Q Kᵀ / √K) V (Vaswani et al. 2017, equation 1).

    query (B, H, T, K), key (B, H_kv, S, K), value (B, H_kv, S, V); or all three without heads, (B, T, K), or as plain
    matrices, (T, K). Fewer key-value heads than query heads are shared by equal groups (Ainslie et al. 2023).
    mask: see the module's first lines. `scale` replaces 1/√K. `dropout` is the probability of dropping a weight.

    Returns (..., T, V); with `return_weights`, also the weights (..., T, S), which takes the explicit form.
    Raises ValueError for shapes that do not fit together or an integer mask.
    """
    _check_shapes(query, key, value)
    scale = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    mask = _fit_mask(mask, query, key)
    if fused and not return_weights:
        extra = (None,) * (4 - query.dim())  # the kernel takes four dimensions; fewer fall back to the (T, S) matrix
        mask = mask[None] if mask is not None and mask.dim() == 3 else mask  # (1, B, T, S)
        output = _fused_attention(query[extra], key[extra], value[extra], mask, causal, dropout, scale)
        return output[(0,) * len(extra)]

    if query.dim() == 4 and key.size(1) != query.size(1):  # the kernel reads shared heads where they are; here they are copied
        key, value = (x.repeat_interleave(query.size(1) // x.size(1), dim=1) for x in (key, value))  # (B, H, S, K)
    scores = (query * scale) @ key.mT  # (B, H, T, S); scaling the query is T K products instead of T S
    allowed, bias = _split_mask(mask, causal, query, key, scores.dtype)
    if bias is not None:
        scores = (scores + bias).clamp(min=torch.finfo(scores.dtype).min)  # the sum may overflow in half precision
    weights = masked_softmax(scores, allowed)  # (B, H, T, S)
    output = F.dropout(weights, dropout) @ value  # (B, H, T, V)
    return (output, weights) if return_weights else output


def _fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, dropout: float,
                     scale: float) -> Tensor:
    """The same result from PyTorch's kernel, which is told of causality only where no mask has to be built for it."""
    num_queries, num_keys = query.size(-2), key.size(-2)
    causal = causal and num_queries > 1  # a single query is the last one and may see every key
    if causal and mask is None and num_queries == num_keys:
        return _kernel(query, key, value, None, dropout, is_causal=True, scale=scale)
    allowed, bias = _split_mask(mask, causal, query, key, query.dtype)
    if bias is not None:
        allowed = bias.masked_fill(~allowed, float("-inf"))
    return _kernel(query, key, value, allowed, dropout, is_causal=False, scale=scale)


def _kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, is_causal: bool,
            scale: float) -> Tensor:
    """PyTorch's kernel; in float32 where that makes a bfloat16 backward pass faster, on a CPU and for a short sequence."""
    shared = key.size(1) != query.size(1)  # heads of keys by groups of queries
    short = query.device.type == "cpu" and key.size(-2) <= SHORT
    if not (short and query.dtype == torch.bfloat16 and query.requires_grad and torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=is_causal, scale=scale,
                                              enable_gqa=shared)
    mask = mask.float() if mask is not None and mask.is_floating_point() else mask
    with torch.autocast("cpu", enabled=False):  # it would cast back to bfloat16
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask, dropout, is_causal=is_causal,
                                              scale=scale, enable_gqa=shared).bfloat16()


def _split_mask(mask: Tensor | None, causal: bool, query: Tensor, key: Tensor,
                dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """Mask and causality as (allowed, bias): what may be attended to, and what is added to the scores, finite in `dtype`."""
    allowed, bias = mask, None
    if mask is not None and mask.dtype != torch.bool:
        allowed, bias = mask != float("-inf"), mask.clamp(min=torch.finfo(dtype).min).to(dtype)
    if causal:
        look_back = causal_mask(query.size(-2), key.size(-2), query.device)  # (T, S)
        allowed = look_back if allowed is None else allowed & look_back
    return allowed, bias


def _check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dim() == key.dim() == value.dim() or query.dim() not in (2, 3, 4):
        raise ValueError(f"query, key and value must all be (B, H, T, K), (B, T, K) or (T, K), got {shapes}")
    if query.size(-1) != key.size(-1):
        raise ValueError(f"query and key must have the same width in their last dimension, got {shapes}")
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"key and value must have the same batch, heads and length, got {shapes}")
    if query.dim() > 2 and query.size(0) != key.size(0):
        raise ValueError(f"query and key must have the same batch size, got {shapes}")
    if query.dim() == 4 and query.size(1) % key.size(1):
        raise ValueError(f"the heads of query must be a multiple of the heads of key, got {shapes}")


def _fit_mask(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask, checked, with a dimension for the heads where the query has one: broadcastable to (B, H, T, S)."""
    if mask is None:
        return None
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"mask must be boolean (True = may attend) or floating point (added to the scores), "
                         f"got {mask.dtype}")
    fitted = mask.unsqueeze(1) if mask.dim() == 3 and query.dim() == 4 else mask  # (B, 1, T, S)
    full = (*query.shape[:-1], key.size(-2))  # (B, H, T, S)
    trailing = full[len(full) - fitted.dim():]
    if not 2 <= fitted.dim() <= len(full) or any(m not in (1, n) for m, n in zip(fitted.shape, trailing, strict=True)):
        raise ValueError(f"mask must have the shape (T, S), (B, T, S) or (B, H, T, S) of the scores {full}, got "
                         f"{tuple(mask.shape)}; a padding mask (B, S) is passed as padding_mask=")
    return fitted


class KeyValueCache:
    """Keys and values of the positions already seen, so that a new token costs one row of attention.

    The room for `capacity` positions is taken once, at the first call, and written in place.
    """

    def __init__(self, capacity: int):
        self.capacity, self.length = capacity, 0
        self.keys: Tensor | None = None  # (B, H_kv, capacity, K)
        self.values: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store key and value (B, H_kv, T, K) behind the cached ones; return all of them, (B, H_kv, length, K).

        Raises ValueError when they do not fit into the capacity.
        """
        end = self.length + key.size(2)
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} positions, got {end}: make it with a larger capacity")
        if self.keys is None:
            self.keys = key.new_empty(*key.shape[:2], self.capacity, key.size(3))
            self.values = value.new_empty(*value.shape[:2], self.capacity, value.size(3))
        self.keys[:, :, self.length:end], self.values[:, :, self.length:end] = key, value
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue from what row rows[i] has seen: rows (B,) of indices. Beam search needs it."""
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


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
        if width < 1 or num_heads < 1 or width % num_heads:
            raise ValueError(f"width must be a positive multiple of num_heads, got width={width}, num_heads={num_heads}")
        if num_key_value_heads < 1 or num_heads % num_key_value_heads:
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
                return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """query (B, T, D), key and value (B, S, D) -> (B, T, D); with `return_weights`, also the weights (B, H, T, S).

        mask: see the module's first lines; padding_mask (B, S) boolean, True = a real token. With a cache, the keys and
        values of this call join those of the calls before, and S counts them all.
        """
        key = query if key is None else key
        keys, values = self.keys_and_values(key, key if value is None else value, 0 if cache is None else cache.length)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, H_kv, S, K)
        offset = keys.size(2) - key.size(1)  # how many positions came before this call
        return self.attend(query, keys, values, mask, causal=causal, padding_mask=padding_mask, offset=offset,
                           return_weights=return_weights)

    def keys_and_values(self, key: Tensor, value: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Project and cut into heads: (B, S, D) -> (B, H_kv, S, K), twice. The first position is number `offset`."""
        self._check_width("key", key)
        self._check_width("value", value)
        keys = self.key(key).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H_kv, S, K)
        values = self.value(value).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H_kv, S, K)
        return keys if self.rotary is None else self.rotary(keys, offset), values

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False,
               padding_mask: Tensor | None = None, offset: int = 0,
               return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """`forward` for keys and values (B, H_kv, S, K) that are projected already; `offset` is the first query's place."""
        self._check_width("query", query)
        queries = self.query(query).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, H, T, K)
        if self.rotary is not None:
            queries = self.rotary(queries, offset)
        mask = join_padding(mask, padding_mask, batch=query.size(0), num_keys=keys.size(2))
        heads = scaled_dot_product_attention(queries, keys, values, mask, causal=causal, return_weights=return_weights,
                                             dropout=self.dropout if self.training else 0.0)  # (B, H, T, K)
        heads, weights = heads if return_weights else (heads, None)
        output = self.output(heads.transpose(1, 2).flatten(2))  # (B, T, D)
        return (output, weights) if return_weights else output

    def _check_width(self, name: str, states: Tensor) -> None:
        if states.dim() != 3 or states.size(-1) != self.width:
            raise ValueError(f"{name} must have the shape (B, length, {self.width}), got {tuple(states.shape)}")


def join_padding(mask: Tensor | None, padding_mask: Tensor | None, batch: int, num_keys: int) -> Tensor | None:
    """One mask out of a mask over pairs and a padding mask (B, S): what both allow. Raises ValueError on a wrong one."""
    if padding_mask is None:
        return mask
    if padding_mask.dtype != torch.bool or padding_mask.shape != (batch, num_keys):
        raise ValueError(f"padding_mask must be boolean of shape (B, S) = ({batch}, {num_keys}), True = a real token, got "
                         f"{padding_mask.dtype} {tuple(padding_mask.shape)}")
    padding_mask = padding_mask[:, None, None, :]  # (B, 1, 1, S)
    if mask is None:
        return padding_mask
    mask = mask.unsqueeze(1) if mask.dim() == 3 else mask  # (B, 1, T, S)
    return mask & padding_mask if mask.dtype == torch.bool else mask.masked_fill(~padding_mask, float("-inf"))


def blockwise_attention(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, block: int = 128) -> Tensor:
    """Attention with an online softmax: the (T, S) matrix of scores never exists, only `block` of its columns at a time.

    query (..., T, K), key (..., S, K), value (..., S, V) -> (..., T, V). For each query it keeps the largest score so far,
    the sum of exponentials relative to it, and the weighted sum of values; a new largest score rescales the other two
    (Milakov & Gimelshein 2018; Dao et al. 2022). Memory grows with T + S instead of T S.
    """
    _check_shapes(query, key, value)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    num_queries, num_keys = query.size(-2), key.size(-2)
    if causal and num_queries > num_keys:
        raise ValueError(f"causal attention needs at least as many keys as queries, got T={num_queries}, S={num_keys}")
    query = query / math.sqrt(query.size(-1))
    largest = query.new_full((*query.shape[:-1], 1), torch.finfo(query.dtype).min)  # (..., T, 1)
    total = torch.zeros_like(largest)  # (..., T, 1)
    output = query.new_zeros(*query.shape[:-1], value.size(-1))  # (..., T, V)
    for start in range(0, num_keys, block):
        scores = query @ key[..., start:start + block, :].mT  # (..., T, block)
        if causal:
            place = torch.arange(start, start + scores.size(-1), device=query.device)  # (block,)
            last_seen = torch.arange(num_keys - num_queries, num_keys, device=query.device)  # (T,)
            scores = scores.masked_fill(place > last_seen[:, None], float("-inf"))
        new_largest = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))  # (..., T, 1)
        weights = (scores - new_largest).exp()  # (..., T, block)
        rescale = (largest - new_largest).exp()  # (..., T, 1)
        total = total * rescale + weights.sum(dim=-1, keepdim=True)
        output = output * rescale + weights @ value[..., start:start + block, :]
        largest = new_largest
    return output / total
