"""Who may look at whom: masks, and the softmax that heeds them.

Masks, everywhere: boolean, True = may attend, of shape (T, S), (B, T, S) or (B, H, T, S), any of them 1 where it is to be
broadcast; a floating-point mask is added to the scores, so that one of ones and zeros forbids nothing: 0 changes no score and
-inf forbids. Padding is a boolean mask (B, S), passed by keyword.
"""

import torch
from torch import Tensor


def causal_mask(num_queries: int, num_keys: int, device: torch.device | str | None = None) -> Tensor:
    """Which keys a query may see without looking ahead: (T, S) boolean, True = may attend.

    The last query is aligned with the last key, so that T new queries may follow S - T cached keys.
    Raises ValueError if there are more queries than keys.
    """
    if num_queries > num_keys:
        raise ValueError(f"causal attention needs at least as many keys as queries, got T={num_queries}, S={num_keys}")
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)


def prefix_causal_mask(prefix: int, length: int, device: torch.device | str | None = None) -> Tensor:
    """Causal, but that the first `prefix` positions all see each other: (length, length) boolean, True = may attend.

    The parts of a picture have no order, the words behind it have (Raffel et al. 2020, section 3.2: prefix language model).
    Raises ValueError unless 0 <= prefix <= length.
    """
    if not 0 <= prefix <= length:
        raise ValueError(f"prefix must lie in 0 to length={length}, got {prefix}")
    mask = causal_mask(length, length, device)  # (length, length)
    mask[:prefix, :prefix] = True
    return mask


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last dimension, among the allowed entries only; a row with none allowed is all zeros.

    scores (..., T, S); mask broadcastable to them, boolean or added to the scores. Forbidden entries become -inf, except in a
    row that may look nowhere, whose softmax would be NaN in value and in gradient. Raises ValueError for an integer mask.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    _check_kind(mask)
    allowed, dtype = mask, scores.dtype
    if mask.is_floating_point():  # in float32 at least: beside a large bias half precision would round the scores away
        scores, allowed = scores.to(torch.promote_types(dtype, torch.float32)) + mask, mask != float("-inf")
        scores = scores.clamp(min=torch.finfo(scores.dtype).min)  # (..., T, S); the sum may overflow
    nowhere = ~allowed.any(dim=-1, keepdim=True)  # (..., T, 1)
    scores = scores.masked_fill(~allowed, float("-inf")).masked_fill(nowhere, 0.0)  # (..., T, S)
    weights = scores.softmax(dim=-1).masked_fill(nowhere, 0.0)  # (..., T, S)
    return weights.to(dtype) if mask.is_floating_point() else weights


def fit_mask(mask: Tensor | None, query: Tensor, key: Tensor, *, causal: bool = False) -> Tensor | None:
    """Mask and causality in one, checked, broadcastable to the scores (B, H, T, S): what both faces of attention take.

    None where all is allowed; else boolean, or floating point in the query's dtype, finite but for -inf. Raises ValueError
    for an integer mask and for a shape that is none of the scores'.
    """
    if mask is not None:
        _check_mask(mask, query, key)
        mask = mask.unsqueeze(1) if mask.dim() == 3 and query.dim() == 4 else mask  # (B, 1, T, S)
        mask = _finite(mask, query.dtype) if mask.is_floating_point() else mask
    if not causal:
        return mask
    look_back = causal_mask(query.size(-2), key.size(-2), query.device)  # (T, S)
    if mask is None or mask.dtype == torch.bool:
        return look_back if mask is None else mask & look_back  # (..., T, S)
    return mask.masked_fill(~look_back, float("-inf"))  # (..., T, S)


def join_padding(mask: Tensor | None, padding_mask: Tensor | None, batch: int, num_keys: int) -> Tensor | None:
    """One mask out of a mask over pairs and a padding mask (B, S): what both allow. Raises ValueError on a wrong one."""
    if padding_mask is None:
        return mask
    _check_padding(padding_mask, batch, num_keys)
    padding_mask = padding_mask[:, None, None, :]  # (B, 1, 1, S)
    if mask is None:
        return padding_mask
    _check_kind(mask)
    if not 2 <= mask.dim() <= 4 or mask.size(-1) not in (1, num_keys):
        raise ValueError(f"mask must have the shape (T, S), (B, T, S) or (B, H, T, S) with S = {num_keys}, "
                         f"got {tuple(mask.shape)}")
    mask = mask.unsqueeze(1) if mask.dim() == 3 else mask  # (B, 1, T, S)
    return mask & padding_mask if mask.dtype == torch.bool else mask.masked_fill(~padding_mask, float("-inf"))


def row_places(padding_mask: Tensor | None, batch: int, num_queries: int, num_keys: int) -> Tensor | None:
    """At which position of its own sequence each of the last `num_queries` columns stands: (B, T), counting real tokens only.

    padding_mask (B, S) boolean, True = a real token; None where no row is padded, and then the columns are the positions. A
    column of padding before the first token gets position 0, at which nobody looks. Raises ValueError on another mask.
    """
    if padding_mask is None:
        return None
    _check_padding(padding_mask, batch, num_keys)
    return (padding_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -num_queries:]  # (B, T)


def _finite(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A floating-point mask in `dtype`, whose large numbers stay finite there; -inf stays -inf."""
    limits = torch.finfo(dtype)
    return mask.to(dtype).clamp(limits.min, limits.max).masked_fill(mask == float("-inf"), float("-inf"))


def _check_padding(padding_mask: Tensor, batch: int, num_keys: int) -> None:
    if padding_mask.dtype != torch.bool or padding_mask.shape != (batch, num_keys):
        raise ValueError(f"padding_mask must be boolean of shape (B, S) = ({batch}, {num_keys}), True = a real token, got "
                         f"{padding_mask.dtype} {tuple(padding_mask.shape)}")


def _check_kind(mask: Tensor) -> None:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"mask must be boolean (True = may attend) or floating point (added to the scores), "
                         f"got {mask.dtype}")


def _check_mask(mask: Tensor, query: Tensor, key: Tensor) -> None:
    _check_kind(mask)
    full = (*query.shape[:-1], key.size(-2))  # (B, H, T, S)
    fitted = (mask.size(0), 1, *mask.shape[1:]) if mask.dim() == 3 and query.dim() == 4 else tuple(mask.shape)
    trailing = full[len(full) - len(fitted):]
    if not 2 <= len(fitted) <= len(full) or any(m not in (1, n) for m, n in zip(fitted, trailing, strict=True)):
        raise ValueError(f"mask must have the shape (T, S), (B, T, S) or (B, H, T, S) of the scores {full}, got "
                         f"{tuple(mask.shape)}; a padding mask (B, S) is passed as padding_mask=")


def check_attention_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise ValueError unless query (..., T, K), key (..., S, K) and value (..., S, V) fit together; heads may be shared."""
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dim() == key.dim() == value.dim() or query.dim() not in (2, 3, 4):
        raise ValueError(f"query, key and value must all be (B, H, T, K), (B, T, K) or (T, K), got {shapes}")
    if not query.is_floating_point() or not key.is_floating_point() or not value.is_floating_point():
        raise ValueError(f"query, key and value must be floating point, got {query.dtype}, {key.dtype}, {value.dtype}")
    if query.size(-1) != key.size(-1):
        raise ValueError(f"query and key must have the same width in their last dimension, got {shapes}")
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"key and value must have the same batch, heads and length, got {shapes}")
    if query.dim() > 2 and query.size(0) != key.size(0):
        raise ValueError(f"query and key must have the same batch size, got {shapes}")
    if query.dim() == 4 and query.size(1) % key.size(1):
        raise ValueError(f"the heads of query must be a multiple of the heads of key, got {shapes}")
