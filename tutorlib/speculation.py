"""Speculative decoding: guess several tokens cheaply, check them in one pass, and keep what the model might have written.

A pass over k + 1 tokens fetches the weights once, as a pass over one does. What is kept is distributed exactly as if the model
had written token by token (Leviathan et al. 2023; Chen et al. 2023).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_counts
from tutorlib.generation import Model, check_request, truncate

Pick = Callable[[Tensor], int]  # draws an index from probabilities (N,)
Distribution = Callable[[Tensor], Tensor]  # logits (N, V) -> probabilities (N, V) at the user's temperature and truncation


class Guess(NamedTuple):
    """Tokens that may come, and the distributions from which they were drawn."""

    tokens: list[int]  # k of them
    probabilities: Tensor | None = None  # (k, V); None where nothing was drawn: each has all of the probability

    def drawn_from(self, place: int, wanted: Tensor) -> Tensor:
        """The distribution (V,) from which guess number `place` was drawn; `wanted` (k + 1, V) has the shape and dtype."""
        if self.probabilities is not None:
            return self.probabilities[place]
        return F.one_hot(torch.tensor(self.tokens[place], device=wanted.device), wanted.size(-1)).to(wanted.dtype)


class Proposer(Protocol):
    """Guesses up to `most` tokens behind `tokens`; `distribution` makes of logits (N, V) the probabilities to draw from."""

    def __call__(self, tokens: list[int], most: int, distribution: Distribution, pick: Pick) -> Guess: ...


@dataclass
class Passes:
    """What a run of `speculate` did: how many tokens each pass of the model checked, and how many of them it kept."""

    guessed: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


def accept(guess: Guess, wanted: Tensor, pick: Pick) -> list[int]:
    """The guessed tokens that are kept, and one more: 1 to k + 1 tokens, distributed as drawn from `wanted` one by one.

    wanted (k + 1, V): the model's own distributions, the last one behind all guesses. Token x of a guess drawn from q is kept
    with probability min(1, p(x) / q(x)). Where it is not, the token comes from the part of p that q missed, max(0, p - q)
    rescaled, and what was guessed behind it is void (Leviathan et al. 2023, algorithm 1).
    """
    for place, token in enumerate(guess.tokens):
        p, q = wanted[place], guess.drawn_from(place, wanted)  # (V,) each
        keep = (p[token] / q[token]).clamp(max=1)
        missed = (p - q).clamp(min=0)  # (V,)
        if missed.any() and pick(torch.stack([1 - keep, keep])) == 0:  # where p is q, a ratio may still round to below 1
            return [*guess.tokens[:place], pick(missed / missed.sum())]
    return [*guess.tokens, pick(wanted[-1])]


class PromptLookup:
    """Guesses that the text repeats itself: what followed the last earlier occurrence of its last few tokens (Saxena 2023).

    It looks for the last `longest` tokens, then for fewer, down to `shortest`, and proposes up to `count` that followed.
    """

    def __init__(self, count: int = 8, longest: int = 3, shortest: int = 2):
        check_counts(count=count, longest=longest, shortest=shortest)
        if shortest > longest:
            raise ValueError(f"shortest must be at most longest={longest}, got {shortest}")
        self.count, self.longest, self.shortest = count, longest, shortest

    def __call__(self, tokens: list[int], most: int, distribution: Distribution, pick: Pick) -> Guess:
        """The guess, up to `most` tokens, certain of itself."""
        return Guess(self.continuation(tokens)[:most])

    def continuation(self, tokens: Sequence[int]) -> list[int]:
        """What followed the last earlier occurrence: `count` tokens, or none."""
        for size in range(self.longest, self.shortest - 1, -1):
            suffix = tokens[-size:]
            for start in range(len(tokens) - size - 1, -1, -1):
                if tokens[start:start + size] == suffix:
                    text = list(tokens)
                    for place in range(start + size, start + size + self.count):
                        text.append(text[place])  # past the end it repeats what it has just guessed
                    return text[len(tokens):]
        return []


class DraftModel:
    """A smaller model with the same tokens writes `count` of them, which the large one checks. It has a cache of its own."""

    def __init__(self, model: Model, capacity: int, count: int = 4):
        check_counts(capacity=capacity, count=count)
        self.model, self.count, self.cache, self.seen = model, count, model.new_cache(capacity), list[int]()

    def __call__(self, tokens: list[int], most: int, distribution: Distribution, pick: Pick) -> Guess:
        """Draws the guess token by token, from the draft's own distributions under the same temperature and truncation."""
        guess, rows = [], []
        for _ in range(min(self.count, most)):
            probabilities = distribution(self._logits([*tokens, *guess]))[0]  # (V,)
            guess.append(pick(probabilities))
            rows.append(probabilities)
        return Guess(guess, torch.stack(rows) if rows else None)

    def _logits(self, tokens: list[int]) -> Tensor:
        """Behind all tokens, (1, V). Of what the cache has seen it keeps what still holds."""
        same = next((place for place, (a, b) in enumerate(zip(self.seen, tokens)) if a != b), min(len(self.seen), len(tokens)))
        same = min(same, len(tokens) - 1)
        for layer in self.cache:
            layer.shorten(same)
        self.seen = tokens
        device = next(self.model.parameters()).device if isinstance(self.model, torch.nn.Module) else None
        return self.model(torch.tensor([tokens[same:]], device=device), cache=self.cache, last_only=True)[:, -1]


@torch.no_grad()
def speculate(model: Model, tokens: Tensor, max_new_tokens: int, propose: Proposer, *, temperature: float = 1.0,
              top_k: int | None = None, top_p: float | None = None, generator: torch.Generator | None = None,
              eos: int | Sequence[int] | None = None, passes: Passes | None = None) -> Tensor:
    """Continue one prompt (1, T) as `generate` does, several tokens a pass -> (1, T + new) of int64.

    temperature 0 gives the tokens of `generate`; above 0 they have the same distribution, though not the same draws. `propose`
    guesses, as `PromptLookup` or a `DraftModel` does; `passes` is filled with what was done. The model has `new_cache`, whose
    layers can be shortened. Raises ValueError for more than one row, and what `generate` raises.
    """
    ends = set(check_request(model, tokens, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
                             generator=generator, eos=eos))
    if tokens.size(0) != 1:
        raise ValueError(f"tokens must be one prompt (1, T), got {tuple(tokens.shape)}: rows would keep different numbers")
    goal = tokens.size(1) + max_new_tokens
    passes = Passes() if passes is None else passes
    cache = model.new_cache(goal)
    if tokens.size(1) > 1:
        model(tokens[:, :-1], cache=cache, last_only=True)

    def distribution(logits: Tensor) -> Tensor:
        """(N, V) logits -> probabilities in float64; at temperature 0 all on the largest."""
        if temperature == 0:
            return F.one_hot(logits.argmax(-1), logits.size(-1)).double()
        return truncate(logits.double() / temperature, top_k=top_k, top_p=top_p).softmax(-1)

    def pick(probabilities: Tensor) -> int:
        return int(torch.multinomial(probabilities, 1, generator=generator))

    written, kept = tokens[0].tolist(), list[int]()
    while len(written) < goal and not ends.intersection(kept):
        guess = propose(written, goal - len(written) - 1, distribution, pick)
        new = torch.tensor([[written[-1], *guess.tokens]], device=tokens.device)  # (1, k + 1)
        kept = accept(guess, distribution(model(new, cache=cache)[0]), pick)
        stop = next((place for place, token in enumerate(kept) if token in ends), len(kept))
        kept = kept[:stop + 1]
        written += kept
        passes.guessed.append(len(guess.tokens))
        passes.kept.append(len(kept) - 1)
        for layer in cache:
            layer.shorten(len(written) - 1)
    return torch.tensor([written], device=tokens.device)
