"""Decoding: from a model's logits to tokens. Greedy, sampled, and by beam search, with and without a key-value cache.

A model here is anything called as `model(tokens (B, T)) -> logits (B, T, V)`: a decoder-only language model, or what
`Transformer.condition(source)` returns. With `use_cache` it also has `new_cache(capacity)` and takes `cache=`, in which case
the tokens are the new ones only. Put a module into `eval()` first: with dropout on, decoding is random and says so nowhere.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Model = Callable[..., Tensor]


@torch.no_grad()  # not inference_mode, whose tokens could not enter a training step
def generate(model: Model, tokens: Tensor, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None,
             top_p: float | None = None, generator: torch.Generator | None = None, eos: int | None = None,
             use_cache: bool = True) -> Tensor:
    """Continue `tokens` (B, T) by up to `max_new_tokens` -> (B, T + new).

    temperature 0 is greedy: the most probable token. Above 0 the next token is drawn from softmax(logits / temperature),
    restricted to the `top_k` most probable tokens and to the fewest whose probabilities reach `top_p` (Holtzman et al.
    2020). A row that has produced `eos` is filled with it, and decoding stops when all rows have. The same seed gives
    the same tokens with and without the cache. Raises ValueError for arguments out of range.
    """
    _check_prompt(model, tokens, max_new_tokens)
    _check_sampling(temperature, top_k, top_p)
    step = _Stepper(model, tokens.size(1) + max_new_tokens, use_cache)
    ended = torch.zeros(tokens.size(0), dtype=torch.bool, device=tokens.device)  # (B,)
    for _ in range(max_new_tokens):
        new = choose(step(tokens), temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)  # (B,)
        if eos is not None:
            new = new.masked_fill(ended, eos)
            ended |= new == eos
        tokens = torch.cat([tokens, new[:, None]], dim=1)  # (B, T + 1)
        if eos is not None and ended.all():
            break
    return tokens


def choose(logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
           generator: torch.Generator | None = None) -> Tensor:
    """One token a row: logits (B, V) -> (B,). The arguments are those of `generate`."""
    _check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = truncate(logits.float() / temperature, top_k=top_k, top_p=top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)


def truncate(logits: Tensor, *, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Set the logits (B, V) of improbable tokens to -inf.

    top_k keeps the k largest, and all that tie with the last of them; top_p then keeps the fewest, from the most probable
    down, whose probabilities sum to at least p - always the first.
    """
    if top_k is not None:
        smallest_kept = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
    if top_p is not None:
        ordered, place = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)  # (B, V)
        before = ordered.cumsum(dim=-1) - ordered  # (B, V): the probability of all that come first
        dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, place, before >= top_p)  # (B, V)
        logits = logits.masked_fill(dropped, float("-inf"))
    return logits


@torch.no_grad()
def beam_search(model: Model, tokens: Tensor, max_new_tokens: int, *, num_beams: int, eos: int,
                length_penalty: float = 1.0, use_cache: bool = True) -> tuple[Tensor, Tensor]:
    """The best continuation found when the `num_beams` most probable prefixes are kept at every step.

    tokens (B, T) -> (tokens (B, T + new), filled up with `eos` behind the first one; scores (B,)). The score is the sum of
    log probabilities of the new tokens divided by (their number)^length_penalty: 0 is the plain sum, which favours short
    outputs. A beam that ends in `eos` keeps its place and its score while the others go on; the search stops when all have
    ended. With one beam it is greedy decoding. Raises ValueError for arguments out of range.
    """
    _check_prompt(model, tokens, max_new_tokens)
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    batch, prompt = tokens.shape
    step = _Stepper(model, prompt + max_new_tokens, use_cache)
    tokens = tokens.repeat_interleave(num_beams, dim=0)  # (B N, T): the N beams of a row stand together
    total = torch.full((batch, num_beams), float("-inf"), device=tokens.device)  # (B, N): sum of log probabilities
    total[:, 0] = 0.0  # the beams are equal at first: only one may branch
    lengths = torch.zeros(batch, num_beams, device=tokens.device)  # (B, N): new tokens, eos included
    ended = torch.zeros(batch, num_beams, dtype=torch.bool, device=tokens.device)  # (B, N)
    first_row = torch.arange(batch, device=tokens.device)[:, None] * num_beams  # (B, 1)
    for _ in range(max_new_tokens):
        gains = step(tokens).float().log_softmax(dim=-1).unflatten(0, (batch, num_beams))  # (B, N, V)
        vocabulary = gains.size(-1)
        only_eos = torch.full_like(gains, float("-inf")).index_fill(-1, torch.tensor(eos, device=tokens.device), 0.0)
        gains = torch.where(ended[..., None], only_eos, gains)  # an ended beam goes on with eos, at no cost
        sums = total[..., None] + gains  # (B, N, V)
        counts = (lengths + ~ended)[..., None].expand_as(sums)  # (B, N, V)
        best = (sums / counts**length_penalty).flatten(1).topk(num_beams).indices  # (B, N), into N V
        parent, new = best // vocabulary, best % vocabulary  # (B, N)
        total, lengths = sums.flatten(1).gather(1, best), counts.flatten(1).gather(1, best)
        ended = ended.gather(1, parent) | (new == eos)
        rows = (first_row + parent).flatten()  # (B N,)
        tokens = torch.cat([tokens[rows], new.view(-1, 1)], dim=1)  # (B N, T + 1)
        step.reorder(rows)
        if ended.all():
            break
    scores, winner = (total / lengths.clamp(min=1) ** length_penalty).max(dim=1)  # (B,)
    return tokens[first_row[:, 0] + winner], scores


class _Stepper:
    """Calls the model on all tokens so far, or with a cache on the new ones only, for the last position's logits (B, V)."""

    def __init__(self, model: Model, capacity: int, use_cache: bool):
        self.model, self.seen = model, 0
        self.cache: list[Any] | None = model.new_cache(capacity) if use_cache else None

    def __call__(self, tokens: Tensor) -> Tensor:
        if self.cache is None:
            return self.model(tokens)[:, -1]
        logits = self.model(tokens[:, self.seen:], cache=self.cache)[:, -1]  # (B, V)
        self.seen = tokens.size(1)
        return logits

    def reorder(self, rows: Tensor) -> None:
        for layer in self.cache or []:
            layer.reorder(rows)


def _check_prompt(model: Model, tokens: Tensor, max_new_tokens: int) -> None:
    if tokens.dim() != 2 or tokens.size(1) < 1:
        raise ValueError(f"tokens must have the shape (B, T) with T at least 1, got {tuple(tokens.shape)}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must not be negative, got {max_new_tokens}")
    limit = getattr(model, "max_length", None)
    if limit is not None and tokens.size(1) + max_new_tokens > limit:
        raise ValueError(f"{tokens.size(1)} tokens and max_new_tokens={max_new_tokens} exceed the model's max_length={limit}")


def _check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not temperature >= 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
