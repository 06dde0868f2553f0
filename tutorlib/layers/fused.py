"""Attention without the (T, S) matrix of weights: PyTorch's kernel, and the online softmax that makes one possible."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.layers.masks import check_attention_shapes, fit_mask

SHORT = 128  # keys; up to here the CPU kernel's backward pass takes 1.6 to 3 times as long in bfloat16 as in float32


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool, dropout: float,
                    scale: float) -> Tensor:
    """`scaled_dot_product_attention` by PyTorch's kernel, which is told of causality where no mask has to be built for it."""
    num_queries, num_keys = query.size(-2), key.size(-2)
    causal = causal and num_queries > 1  # a single query is the last one and may see every key
    is_causal = causal and mask is None and num_queries == num_keys
    mask = None if is_causal else fit_mask(mask, query, key, causal=causal)
    extra = (None,) * (4 - query.dim())  # the kernel takes four dimensions; fewer fall back to the (T, S) matrix
    mask = mask[None] if mask is not None and mask.dim() == 3 else mask  # (1, B, T, S)
    output = _kernel(query[extra], key[extra], value[extra], mask, dropout, is_causal=is_causal, scale=scale)
    return output[(0,) * len(extra)]


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


def blockwise_attention(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, block: int = 128) -> Tensor:
    """Attention with an online softmax: the (T, S) matrix of scores never exists, only `block` of its columns at a time.

    query (..., T, K), key (..., S, K), value (..., S, V) -> (..., T, V). For each query it keeps the largest score so far
    and the sum of exponentials relative to it (Milakov & Gimelshein 2018), and with them the weighted sum of values (Rabe &
    Staats 2021; Dao et al. 2022); a new largest score rescales the other two. Memory grows with T + S instead of T S. With
    `causal` the queries, too, are taken `block` at a time, so that keys which none of them may see are never looked at: half
    of all.
    """
    check_attention_shapes(query, key, value)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    num_queries, num_keys = query.size(-2), key.size(-2)
    if not causal:
        return _attend_in_blocks(query, key, value, None, block)
    if num_queries > num_keys:
        raise ValueError(f"causal attention needs at least as many keys as queries, got T={num_queries}, S={num_keys}")
    outputs = []
    for start in range(0, num_queries, block):
        some = query[..., start:start + block, :]  # (..., block, K)
        seen = num_keys - num_queries + start + some.size(-2)  # keys that the last of them may see
        last_seen = torch.arange(seen - some.size(-2), seen, device=query.device)  # (block,)
        outputs.append(_attend_in_blocks(some, key[..., :seen, :], value[..., :seen, :], last_seen, block))
    return torch.cat(outputs, dim=-2)  # (..., T, V)


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, last_seen: Tensor | None, block: int) -> Tensor:
    """The online softmax over keys; query i may look up to key last_seen[i], or at all of them."""
    query = query / math.sqrt(query.size(-1))
    largest = query.new_full((*query.shape[:-1], 1), torch.finfo(query.dtype).min)  # (..., T, 1)
    total = torch.zeros_like(largest)  # (..., T, 1)
    output = query.new_zeros(*query.shape[:-1], value.size(-1))  # (..., T, V)
    for start in range(0, key.size(-2), block):
        scores = query @ key[..., start:start + block, :].mT  # (..., T, block)
        if last_seen is not None:
            place = torch.arange(start, start + scores.size(-1), device=query.device)  # (block,)
            scores = scores.masked_fill(place > last_seen[:, None], float("-inf"))
        new_largest = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))  # (..., T, 1)
        weights = (scores - new_largest).exp()  # (..., T, block)
        rescale = (largest - new_largest).exp()  # (..., T, 1)
        total = total * rescale + weights.sum(dim=-1, keepdim=True)
        output = output * rescale + weights @ value[..., start:start + block, :]
        largest = new_largest
    return output / total
