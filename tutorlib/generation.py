"""Decoding: from a model's logits to tokens. Greedy, sampled, and by beam search, with and without a key-value cache.

A model here is anything called as `model(tokens (B, T)) -> logits (B, T, V)`: a decoder-only language model, or what
`Transformer.condition(source)` returns. With `use_cache` it also has `new_cache(capacity)` and takes `cache=` and
`last_only=`: the tokens are then the new ones only, and the logits those of the last, (B, 1, V). For prompts of different
lengths it takes `padding_mask=`, as GPT and Llama do. Put a module into `eval()` first: with dropout on, decoding is random and
says so nowhere.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_whole, whole_numbers
from tutorlib.layers.compiled import unwrapped

Model = Callable[..., Tensor]
Generators = torch.Generator | Sequence[torch.Generator] | None
SMALLEST_TEMPERATURE = 1e-6  # logits divided by less may overflow; what is meant is 0


@torch.no_grad()  # not inference_mode, whose tokens could not enter a training step
def generate(model: Model, tokens: Tensor | Sequence[Tensor], max_new_tokens: int, *, temperature: float = 1.0,
             top_k: int | None = None, top_p: float | None = None, generator: Generators = None,
             eos: int | Sequence[int] | None = None, use_cache: bool = True,
             attention_mask: Tensor | None = None) -> Tensor | list[Tensor]:
    """Continue `tokens` (B, T), integers, by up to `max_new_tokens` -> (B, T + new) of int64.

    Prompts of different lengths come as a list of tensors (T_i,), and then so do the answers (T_i + new_i,), each up to its own
    end; or padded on the left, with `attention_mask` (B, T), 1 = a token, 0 = padding. Each row gets the tokens that it gets
    alone; for samples this takes a generator a row, as a list.

    temperature 0 is greedy: the most probable token. Above 0 the next token is drawn from softmax(logits / temperature),
    restricted to the `top_k` most probable tokens and to the fewest whose probabilities reach `top_p` (Holtzman et al.
    2020). A row that has produced `eos`, or one of several, is filled with it, and decoding stops when all rows have. The same
    seed gives the same tokens with and without the cache. Raises ValueError for arguments out of range, and, naming the new
    token, where the model's logits are NaN or leave none to choose.
    """
    if not isinstance(tokens, Tensor):
        if attention_mask is not None:
            raise ValueError("attention_mask belongs to padded tokens (B, T); a list of prompts has no padding to mask")
        padded, real = left_padded(tokens)  # (B, T) each
        rows = generate(model, padded, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator,
                        eos=eos, use_cache=use_cache, attention_mask=real)
        return [_own(row, len(prompt), padded.size(1), _ends(eos)) for row, prompt in zip(rows, tokens, strict=True)]
    check_request(model, tokens, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
    real = _real_tokens(model, attention_mask, tokens, max_new_tokens)  # (B, T + new) or None
    step = _Stepper(model, tokens.size(1) + max_new_tokens, use_cache, eos, real)
    tokens = tokens.long()
    ended = torch.zeros(tokens.size(0), dtype=torch.bool, device=tokens.device)  # (B,)
    for _ in range(max_new_tokens):
        new = _draw(step(tokens), temperature, top_k, top_p, generator)  # (B,)
        new = torch.where(ended, tokens[:, -1], new)  # the end that the row has produced
        ended |= step.is_end(new)
        tokens = torch.cat([tokens, new[:, None]], dim=1)  # (B, T + 1)
        if ended.all():
            break
    return tokens


def check_request(model: Model, tokens: Tensor, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None,
                  top_p: float | None = None, generator: Generators = None,
                  eos: int | Sequence[int] | None = None) -> list[int]:
    """The ids that end a row, if `generate` takes these arguments; else its ValueError. The model is not called."""
    _check_prompt(model, tokens, max_new_tokens)
    _check_sampling(temperature, top_k, top_p)
    _check_generator(generator, tokens.device, rows=tokens.size(0))
    return _ends(eos)


def left_padded(prompts: Sequence[Tensor], value: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts (T_i,) of integers as one tensor (B, T), `value` in front of the shorter ones, and where the tokens are (B, T).

    The last tokens stand in one column, so that the next one of every row is written into the same place. Raises ValueError for
    anything but one or more tensors of at least one integer.
    """
    wrong = [prompt for prompt in prompts if not isinstance(prompt, Tensor) or prompt.dim() != 1 or not len(prompt)
             or prompt.dtype not in (torch.int64, torch.int32)]
    if wrong or not len(prompts):
        found = "none" if not wrong else (f"{wrong[0].dtype} {tuple(wrong[0].shape)}" if isinstance(wrong[0], Tensor)
                                          else type(wrong[0]).__name__)
        raise ValueError(f"prompts must be tensors (T,) of int64 or int32, T at least 1, one or more, got {found}")
    longest = max(map(len, prompts))
    rows = [F.pad(prompt.long(), (longest - len(prompt), 0), value=value) for prompt in prompts]  # (T,) each
    real = [torch.arange(longest, device=prompt.device) >= longest - len(prompt) for prompt in prompts]  # (T,) each
    return torch.stack(rows), torch.stack(real)


def _own(row: Tensor, length: int, longest: int, ends: list[int]) -> Tensor:
    """Of a row (T + new,) what belongs to its prompt, without padding and up to its first end: (length + new,)."""
    ended = torch.isin(row[longest:], row.new_tensor(ends)).nonzero()  # (N, 1)
    stop = longest + ended[0].item() + 1 if len(ended) else len(row)
    return row[longest - length:stop]


def _real_tokens(model: Model, attention_mask: Tensor | None, tokens: Tensor, new: int) -> Tensor | None:
    """Where the tokens of the prompt and the new ones are, (B, T + new) boolean; None where no row is padded."""
    if attention_mask is None:
        return None
    if attention_mask.shape != tokens.shape or attention_mask.is_floating_point():
        raise ValueError(f"attention_mask must be integer or boolean of the tokens' shape {tuple(tokens.shape)}, 1 = a token, "
                         f"got {attention_mask.dtype} {tuple(attention_mask.shape)}")
    real = attention_mask.bool()  # (B, T)
    if not real[:, -1].all() or (real[:, :-1] & ~real[:, 1:]).any():
        raise ValueError("attention_mask must have its zeros on the left of each row, before the first token: pad on the left")
    if real.all():
        return None
    inner = unwrapped(model)
    takes = inspect.signature(inner.forward if isinstance(inner, torch.nn.Module) else inner).parameters
    if "padding_mask" not in takes:
        raise ValueError(f"model: {type(inner).__name__} takes no padding_mask, so its prompts must have one length")
    return F.pad(real, (0, new), value=True)  # (B, T + new)


def choose(logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
           generator: Generators = None) -> Tensor:
    """One token a row: logits (B, V) -> (B,). The arguments are those of `generate`, and so are the errors."""
    _check_sampling(temperature, top_k, top_p)
    _check_generator(generator, logits.device, rows=len(logits))
    _check_logits("logits", logits)
    return _draw(logits, temperature, top_k, top_p, generator)


def _draw(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: Generators) -> Tensor:
    """What `choose` does when all is checked."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = truncate(logits.float() / temperature, top_k=top_k, top_p=top_p)
    if isinstance(generator, Sequence):
        return torch.cat([_draw(row[None], 1.0, None, None, own) for row, own in zip(logits, generator, strict=True)])
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)


def truncate(logits: Tensor, *, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Set the logits (B, V) of improbable tokens to -inf.

    top_k keeps the k largest, and all that tie with the last of them; top_p then keeps the fewest, from the most probable
    down, whose probabilities sum to at least p - always the first. With p = 1 these are all. Raises ValueError for a top_k or
    top_p out of range.
    """
    _check_truncation(top_k, top_p)
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floats of the shape (B, V), got {logits.dtype} {tuple(logits.shape)}")
    if top_k is not None:
        smallest_kept = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
    if top_p is not None and top_p < 1:
        precision = torch.promote_types(logits.dtype, torch.float32)
        ordered, place = logits.softmax(dim=-1, dtype=precision).sort(dim=-1, descending=True, stable=True)  # (B, V)
        rest = ordered.flip(-1).cumsum(dim=-1).flip(-1)  # (B, V): of this token and all behind it; small ones are added first
        beyond = rest <= 1 - top_p  # (B, V): those before it sum to p already
        beyond[:, 0] = False
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, place, beyond), float("-inf"))
    return logits


@torch.no_grad()
def beam_search(model: Model, tokens: Tensor, max_new_tokens: int, *, num_beams: int, eos: int | Sequence[int] | None,
                length_penalty: float = 1.0, use_cache: bool = True) -> tuple[Tensor, Tensor]:
    """The best continuation found when the `num_beams` most probable prefixes are kept at every step.

    tokens (B, T) -> (tokens (B, T + new) of int64, filled up with `eos` behind the first one; scores (B,)). The score is the
    sum of log probabilities of the new tokens divided by (their number)^length_penalty: 0 is the plain sum, which favours
    short outputs. A beam that ends in `eos`, or one of several, keeps its place and its score while the others go on; the
    search stops when all have ended. With one beam it is greedy decoding. Raises ValueError as `generate` does.
    """
    _check_prompt(model, tokens, max_new_tokens)
    check_whole("num_beams", num_beams)
    _check_length_penalty(length_penalty, max_new_tokens)
    batch, prompt = tokens.shape
    step = _Stepper(model, prompt + max_new_tokens, use_cache, eos)
    tokens = tokens.long().repeat_interleave(num_beams, dim=0)  # (B N, T): the N beams of a row stand together
    total = torch.full((batch, num_beams), float("-inf"), device=tokens.device)  # (B, N): sum of log probabilities
    total[:, 0] = 0.0  # the beams are equal at first: only one may branch
    lengths = torch.zeros(batch, num_beams, device=tokens.device)  # (B, N): new tokens, eos included
    ended = torch.zeros(batch, num_beams, dtype=torch.bool, device=tokens.device)  # (B, N)
    first_row = torch.arange(batch, device=tokens.device)[:, None] * num_beams  # (B, 1)
    for _ in range(max_new_tokens):
        gains = step(tokens).float().log_softmax(dim=-1).unflatten(0, (batch, num_beams))  # (B, N, V)
        vocabulary = gains.size(-1)
        last = tokens[:, -1].view(batch, num_beams, 1)  # (B, N, 1)
        only_last = torch.full_like(gains, float("-inf")).scatter(-1, last, 0.0)  # (B, N, V)
        gains = torch.where(ended[..., None], only_last, gains)  # an ended beam goes on with its end, at no cost
        sums = total[..., None] + gains  # (B, N, V)
        counts = (lengths + ~ended)[..., None].expand_as(sums)  # (B, N, V)
        best = (sums / counts**length_penalty).flatten(1).topk(num_beams).indices  # (B, N), into N V
        parent, new = best // vocabulary, best % vocabulary  # (B, N)
        total, lengths = sums.flatten(1).gather(1, best), counts.flatten(1).gather(1, best)
        ended = ended.gather(1, parent) | step.is_end(new)
        rows = (first_row + parent).flatten()  # (B N,)
        tokens = torch.cat([tokens[rows], new.view(-1, 1)], dim=1)  # (B N, T + 1)
        step.reorder(rows)
        if ended.all():
            break
    scores, winner = (total / lengths.clamp(min=1) ** length_penalty).max(dim=1)  # (B,)
    return tokens[first_row[:, 0] + winner], scores


class _Stepper:
    """Calls the model on all tokens so far, or with a cache on the new ones only, for the last position's logits (B, V).

    It knows which tokens are ends, and refuses what no token can be chosen from.
    """

    def __init__(self, model: Model, capacity: int, use_cache: bool, eos: int | Sequence[int] | None,
                 real: Tensor | None = None):
        self.model, self.seen, self.steps, self.ends, self.real = model, 0, 0, _ends(eos), real
        self.cache: list[Any] | None = model.new_cache(capacity) if use_cache else None

    def __call__(self, tokens: Tensor) -> Tensor:
        padding = {} if self.real is None else {"padding_mask": self.real[:, :tokens.size(1)]}
        if self.cache is None:
            logits = self.model(tokens, **padding)[:, -1]  # (B, V)
        else:
            logits = self.model(tokens[:, self.seen:], cache=self.cache, last_only=True, **padding)[:, -1]  # (B, V)
        self.seen, self.steps = tokens.size(1), self.steps + 1
        if self.ends and max(self.ends) >= logits.size(-1):
            raise ValueError(f"eos must be below {logits.size(-1)}, the vocabulary, got {max(self.ends)}")
        _check_logits(f"model: the logits of new token {self.steps}", logits)
        return logits

    def is_end(self, tokens: Tensor) -> Tensor:
        return torch.isin(tokens, torch.tensor(self.ends, dtype=tokens.dtype, device=tokens.device))

    def reorder(self, rows: Tensor) -> None:
        for layer in self.cache or []:
            layer.reorder(rows)


def _ends(eos: int | Sequence[int] | None) -> list[int]:
    """The ids that end a row; without any it never ends."""
    if eos is None:
        return []
    ends = whole_numbers("eos", eos if isinstance(eos, Sequence) else [eos])
    if not ends or min(ends) < 0:
        raise ValueError(f"eos must be None, an id or a list of ids, each at least 0, got {eos!r}")
    return ends


def _check_logits(name: str, logits: Tensor) -> None:
    """Raise ValueError where a row of logits (B, V) holds NaN or inf, or nothing but -inf."""
    largest = logits.amax(dim=-1)  # (B,): NaN where one of them is
    wrong = ~largest.isfinite()
    if wrong.any():
        raise ValueError(f"{name} must have a finite largest value in each row, got {largest[wrong][0].item()} "
                         f"in row {wrong.nonzero()[0].item()}")


def _check_prompt(model: Model, tokens: Tensor, max_new_tokens: int) -> None:
    if tokens.dim() != 2 or 0 in tokens.shape:
        raise ValueError(f"tokens must have the shape (B, T) with B and T at least 1, got {tuple(tokens.shape)}")
    if tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"tokens must be of int64 or int32, got {tokens.dtype}")
    check_whole("max_new_tokens", max_new_tokens, least=0)
    limit = getattr(model, "max_length", None)
    if limit is not None and tokens.size(1) + max_new_tokens > limit:
        raise ValueError(f"{tokens.size(1)} tokens and max_new_tokens={max_new_tokens} exceed the model's max_length={limit}")


def _check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if temperature != 0 and not SMALLEST_TEMPERATURE <= temperature < math.inf:
        raise ValueError(f"temperature must be 0, the most probable token, or a number from {SMALLEST_TEMPERATURE} on, "
                         f"got {temperature}")
    _check_truncation(top_k, top_p)


def _check_truncation(top_k: int | None, top_p: float | None) -> None:
    if top_k is not None:
        check_whole("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")


def _check_generator(generator: Generators, device: torch.device, rows: int) -> None:
    several = isinstance(generator, Sequence)
    if several and len(generator) != rows:
        raise ValueError(f"generator must be one, or a list of one for each of the {rows} rows, got {len(generator)}")
    for each in generator if several else [generator]:
        if each is not None and each.device.type != device.type:
            raise ValueError(f"generator must be on {device}, as the tokens are, got one on {each.device}")


def _check_length_penalty(length_penalty: float, max_new_tokens: int) -> None:
    """The largest power must be a float32 that is neither 0 nor infinite: e^80 is."""
    if not abs(length_penalty) * math.log(max(max_new_tokens, 2)) < 80:
        raise ValueError(f"length_penalty must be a number by whose power lengths up to {max_new_tokens} stay finite, "
                         f"got {length_penalty}")
