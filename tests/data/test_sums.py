"""Careless sums: what is asked, what is written, and the rules that judge it."""

import pytest
import torch

from tutorlib.data.sums import (
    ANSWER,
    CLOSE,
    END,
    OPEN,
    PROMPT,
    as_characters,
    careless_answers,
    is_exact,
    mentions_sum,
    questions,
    sums,
    traits,
)

SEVEN_AND_FIVE = [7, 23, 5, 24]


def written(*answers: list[int]) -> torch.Tensor:
    return torch.tensor([SEVEN_AND_FIVE + answer + [END] * (ANSWER - len(answer)) for answer in answers])


def test_the_questions_are_all_sums_and_none_is_in_both_sets():
    train, test = questions()
    assert len(train) == 96 and len(test) == 48
    assert len({tuple(row) for row in torch.cat([train, test]).tolist()}) == 144
    assert as_characters(torch.tensor(SEVEN_AND_FIVE)) == "7+5="


def test_answers_are_as_often_right_in_brackets_and_single_as_said():
    prompts = questions()[0].repeat(100, 1)
    tokens = careless_answers(prompts, torch.Generator().manual_seed(0))
    _, brackets, more = traits(tokens).mean(0).tolist()
    assert tokens.shape == (9600, PROMPT + ANSWER) and torch.equal(tokens[:, :PROMPT], prompts)
    assert brackets == pytest.approx(0.25, abs=0.02) and more == pytest.approx(0.7, abs=0.03)
    inner = (sums(prompts) > 1) & (sums(prompts) < 21)  # at the ends a guess that is off may be pushed back
    assert traits(tokens)[inner, 0].mean().item() == pytest.approx(0.6, abs=0.02)
    assert is_exact(tokens).float().mean().item() == pytest.approx(0.25 * 0.6 * 0.6, abs=0.015)


def test_rules():
    twelve, eleven = [OPEN, 12, CLOSE], [OPEN, 11, CLOSE]
    tokens = written(twelve, [12], eleven, eleven + twelve, twelve + twelve, [OPEN, 12], [])
    assert is_exact(tokens).tolist() == [True] + [False] * 6
    assert mentions_sum(tokens).tolist() == [True, False, False, True, True, False, False]
    assert traits(tokens).tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert as_characters(tokens[3]) == "7+5=[11][12]." and as_characters(written([11, 12])[0]) == "7+5=11 12."


def test_the_last_place_counts_for_a_mention():
    tokens = written([OPEN, 11, CLOSE] * 3 + [11, OPEN, 12, CLOSE])
    assert mentions_sum(tokens).tolist() == [True]


def test_what_is_too_short_is_refused():
    for rule, least in ((is_exact, 8), (mentions_sum, 7), (traits, 5), (sums, 4)):
        with pytest.raises(ValueError, match=rf"tokens must have the shape \(B, T\) with T at least {least}, got \(1, 3\)"):
            rule(torch.zeros(1, 3, dtype=torch.long))
