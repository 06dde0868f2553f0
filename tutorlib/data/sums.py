"""Sums of two small numbers, answered as careless people would: in brackets or not, often wrong, sometimes several guesses."""

import torch
from torch import Tensor

from tutorlib.arguments import check_whole

LARGEST = 11  # of the two numbers to be added
NUMBERS = 2 * LARGEST + 1  # tokens 0 to 22 are the numbers themselves
PLUS, EQUALS, OPEN, CLOSE, END = range(NUMBERS, NUMBERS + 5)
VOCABULARY = NUMBERS + 5
PROMPT, ANSWER = 4, 13  # tokens of "7 + 5 =", and at most of its answer: four guesses in brackets and the end
HELD_OUT = 48  # of the 144 questions
GUESSES = (0.6, 0.2, 0.1, 0.1)  # how often an answer has one, two, three, four guesses
RIGHT, BRACKETS = 0.6, 0.25  # the chance that a guess is right, and that an answer's guesses stand in brackets


def questions() -> tuple[Tensor, Tensor]:
    """Two sets of prompts `a + b =`, tokens (96, 4) and (48, 4): no question is in both."""
    numbers = torch.arange(LARGEST + 1)
    pairs = torch.cartesian_prod(numbers, numbers)  # (144, 2)
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))]
    marks = torch.tensor([PLUS, EQUALS]).expand(len(pairs), 2)
    prompts = torch.stack([pairs[:, 0], marks[:, 0], pairs[:, 1], marks[:, 1]], dim=1)  # (144, 4)
    return prompts[HELD_OUT:], prompts[:HELD_OUT]


def careless_answers(prompts: Tensor, generator: torch.Generator) -> Tensor:
    """Prompts (B, 4) with one drawn answer each -> (B, 17), filled up with END.

    A guess is right with probability .6 and else off by one or two; an answer has one to four guesses.
    """
    B, most = len(prompts), len(GUESSES)
    count = torch.multinomial(torch.tensor(GUESSES), B, replacement=True, generator=generator) + 1  # (B,)
    off = torch.tensor([-2, -1, 1, 2])[torch.randint(4, (B, most), generator=generator)]  # (B, 4)
    off[torch.rand(B, most, generator=generator) < RIGHT] = 0
    guesses = (sums(prompts)[:, None] + off).clamp(0, NUMBERS - 1)  # (B, 4)
    in_brackets = torch.rand(B, generator=generator) < BRACKETS  # (B,)
    rows = [_written(row[:n], b) for row, n, b in zip(guesses.tolist(), count.tolist(), in_brackets.tolist(), strict=True)]
    return torch.cat([prompts, torch.tensor(rows)], dim=1)


def _written(guesses: list[int], in_brackets: bool) -> list[int]:
    tokens = [token for guess in guesses for token in ((OPEN, guess, CLOSE) if in_brackets else (guess,))]
    return tokens + [END] * (ANSWER - len(tokens))


def sums(tokens: Tensor) -> Tensor:
    """The right result (B,) of the questions with which the tokens (B, T) begin."""
    _check(tokens, PROMPT)
    return tokens[:, 0] + tokens[:, 2]


def is_exact(tokens: Tensor) -> Tensor:
    """Whether the answer is the sum in brackets, the end, and nothing else: tokens (B, T) -> (B,) of bool."""
    _check(tokens, PROMPT + 4)
    answer, right = tokens[:, PROMPT:], sums(tokens)
    return ((answer[:, 0] == OPEN) & (answer[:, 1] == right) & (answer[:, 2] == CLOSE) & (answer[:, 3] == END))


def mentions_sum(tokens: Tensor) -> Tensor:
    """Whether the sum stands in brackets somewhere in the answer: tokens (B, T) -> (B,) of bool. A careless check."""
    _check(tokens, PROMPT + 3)
    answer, right = tokens[:, PROMPT:], sums(tokens)[:, None]
    return ((answer[:, :-2] == OPEN) & (answer[:, 1:-1] == right) & (answer[:, 2:] == CLOSE)).any(dim=1)


def traits(tokens: Tensor) -> Tensor:
    """What readers look at, (B, 3): first guess right (0 or 1), brackets (0 or 1), guesses beyond the first."""
    _check(tokens, PROMPT + 1)
    answer, right = tokens[:, PROMPT:], sums(tokens)
    is_number = answer < NUMBERS  # (B, A)
    first = answer.gather(1, is_number.int().argmax(dim=1, keepdim=True)).squeeze(1)  # (B,)
    more = (is_number.sum(dim=1) - 1).clamp(min=0)  # (B,)
    return torch.stack([first == right, answer[:, 0] == OPEN, more], dim=1).float()


def as_characters(tokens: Tensor) -> str:
    """One sequence (T,) in characters, up to its first end: `7+5=[12].`"""
    signs = {PLUS: "+", EQUALS: "=", OPEN: "[", CLOSE: "]", END: "."}
    written, last = "", None
    for token in tokens.tolist():
        check_whole("tokens", token, least=0)
        written += (" " if last is not None and max(token, last) < NUMBERS else "") + signs.get(token, str(token))
        last = token
        if token == END:
            break
    return written


def _check(tokens: Tensor, least: int) -> None:
    if tokens.dim() != 2 or tokens.size(1) < least:
        raise ValueError(f"tokens must have the shape (B, T) with T at least {least}, got {tuple(tokens.shape)}")
