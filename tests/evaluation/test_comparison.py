"""Comparisons: McNemar as scipy's binomial, errors as measured, intervals that cover, and the rows that it takes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.evaluation.comparison import (
    compare,
    difference_error,
    expected_best,
    in_words,
    mcnemar,
    paired_bootstrap,
    power,
    read_results,
    rows_needed,
)

BITS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60)


def drawn(rows, both, first, second, generator):
    """Rows that both get right, the first alone and the second alone with these probabilities."""
    u = torch.rand(rows, generator=generator)
    alone, other = (u >= both) & (u < both + first), (u >= both + first) & (u < both + first + second)
    return ((u < both) | alone).double(), ((u < both) | other).double()


@given(BITS)
@settings(deadline=None, max_examples=50)
def test_mcnemar_is_the_binomial_test_of_scipy(rows):
    from scipy.stats import binomtest

    first, second = torch.tensor(rows).T
    wins, losses = int((first > second).sum()), int((first < second).sum())
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


@given(BITS)
@settings(deadline=None)
def test_the_error_of_two_runs_is_that_of_the_differences(rows):
    first, second = torch.tensor(rows).double().T
    expected = (first - second).std().item() / math.sqrt(len(rows))
    assert difference_error(first, second) == pytest.approx(expected, abs=1e-12)
    found = compare(first, second)
    assert found.difference == pytest.approx((first.mean() - second.mean()).item())
    assert found.high - found.low == pytest.approx(2 * 1.96 * expected, abs=1e-12)
    assert found.p == mcnemar(first, second) and found.rows == len(rows)


def test_losses_are_judged_by_the_paired_t_test_of_scipy():
    from scipy.stats import ttest_rel

    generator = torch.Generator().manual_seed(0)
    first = torch.rand(5000, generator=generator)
    second = first + 0.5 * torch.randn(5000, generator=generator) - 0.01
    assert compare(first, second).p == pytest.approx(ttest_rel(first, second).pvalue, rel=0.01)


@pytest.mark.parametrize("runs, between", [((4, 4), 0.3), ((6, 2), 0.1), ((3, 3), 0.0)])
def test_the_error_is_the_spread_of_differences_that_were_drawn(runs, between):
    generator = torch.Generator().manual_seed(0)
    rows, differences, variances = 60, [], []

    def results(number, hard):
        own = torch.randn(rows, generator=generator)  # what this method finds hard
        luck = torch.randn(number, rows, generator=generator)
        return hard + own + luck + between * torch.randn(number, 1, generator=generator)

    for _ in range(1500):
        hard = 5 * torch.randn(rows, generator=generator)  # for both: pairing takes it away
        first, second = (results(number, hard) for number in runs)
        differences.append((first.mean() - second.mean()).item())
        variances.append(difference_error(first, second) ** 2)
    expected = sum((between**2 + 1 / rows) / number for number in runs) + 2 / rows
    assert torch.tensor(differences).var().item() == pytest.approx(expected, rel=0.15)  # 4 standard errors
    assert sum(variances) / 1500 == pytest.approx(expected, rel=0.15 if between else 0.4)  # a variance is cut off at zero


def test_the_bootstrap_agrees_with_the_formula():
    generator = torch.Generator().manual_seed(0)
    first, second = drawn(2000, 0.8, 0.05, 0.03, generator)
    low, high = paired_bootstrap(first, second, 1500, generator=generator)
    found = compare(first, second)
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.0015)


def test_the_bootstrap_is_paired():
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(200, generator=generator)
    low, high = paired_bootstrap(first, first - 0.1, 50, generator=generator)
    assert low == pytest.approx(0.1, abs=1e-6) and high == pytest.approx(0.1, abs=1e-6)


def test_the_bootstrap_knows_its_level_and_its_generator():
    first, second = drawn(300, 0.7, 0.1, 0.1, torch.Generator().manual_seed(0))
    ninety, ninety_five = (paired_bootstrap(first, second, 800, level=level, generator=torch.Generator().manual_seed(1))
                           for level in (0.5, 0.95))
    assert ninety[1] - ninety[0] < 0.5 * (ninety_five[1] - ninety_five[0])
    again = paired_bootstrap(first, second, 800, generator=torch.Generator().manual_seed(1))
    assert again == ninety_five


def test_the_power_of_the_rows_needed_is_what_was_asked():
    for asked in (0.5, 0.8, 0.95):
        rows = rows_needed(0.02, 0.06, power=asked)
        assert power(rows, 0.02, 0.06) >= asked > power(rows - 2, 0.02, 0.06)
    assert rows_needed(-0.02, 0.06) == rows_needed(0.02, 0.06)
    assert rows_needed(0.01, 0.06) == pytest.approx(4 * rows_needed(0.02, 0.06), rel=0.01)
    assert rows_needed(0.02, 0.06) == 1170 == math.ceil(2.8016**2 * (0.06 - 0.0004) / 0.0004)
    assert power(10, 0.1, 0.1) < 1 == power(10, 1, 1)


@pytest.mark.slow
def test_power_is_the_share_of_experiments_that_show_it():
    generator = torch.Generator().manual_seed(0)
    rows = rows_needed(0.03, 0.11)
    seen = sum(compare(*drawn(rows, 0.8, 0.07, 0.04, generator)).p < 0.05 for _ in range(600)) / 600
    assert seen == pytest.approx(0.8, abs=0.06)  # 3.7 standard errors


def test_the_rows_that_are_missing_are_those_of_the_formula():
    first, second = drawn(4000, 0.8, 0.06, 0.04, torch.Generator().manual_seed(0))
    found = compare(first, second)
    disagreement = (first != second).double().mean().item()
    assert found.rows_needed == pytest.approx(rows_needed(found.difference, disagreement), rel=0.001)
    assert compare(first, second, power=0.95).rows_needed > found.rows_needed
    assert compare(first, first).rows_needed is None


def test_no_number_of_rows_makes_up_for_runs_that_vary():
    rows = torch.arange(1000) % 10 / 10
    first = torch.stack([(rows < share).double() for share in (0.9, 0.5)])
    second = torch.stack([(rows < share).double() for share in (0.8, 0.5)])
    assert compare(first, second).rows_needed is None and compare(first, second).p > 0.5
    assert compare(first[:1], second[:1]).rows_needed < 1000


def test_equal_methods_are_found_different_one_time_of_twenty():
    generator = torch.Generator().manual_seed(0)
    seen = sum(compare(*drawn(1000, 0.8, 0.05, 0.05, generator)).p < 0.05 for _ in range(400)) / 400
    assert 0.005 < seen < 0.08


def test_the_best_of_draws_with_replacement():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, generator=generator, dtype=torch.float64)
    assert expected_best(scores, 1) == pytest.approx(scores.mean().item())
    assert expected_best([1.0, 2.0], 2) == 1.75 and expected_best([3.0, 1.0, 2.0], 1000) == pytest.approx(3)
    best = scores[torch.randint(30, (200_000, 7), generator=generator)].amax(1)
    assert expected_best(scores, 7) == pytest.approx(best.mean().item(), abs=4 * best.std().item() / 200_000**0.5)


def test_results_are_read_from_a_file(tmp_path):
    path = tmp_path / "results.txt"
    path.write_text("# right\n1\n\n0\n1\n")
    assert read_results(path).tolist() == [1, 0, 1]
    path.write_text("1, 0.5\n0, 2\n1, 3\n")
    assert read_results(path).tolist() == [[1, 0, 1], [0.5, 2, 3]]
    for text, message in (("1\n", "got 1 lines"), ("1\n0,1\n", "equally many numbers"), ("1\nright\n", "got 'right'")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_results(path)


def test_the_words_hold_the_numbers():
    first, second = drawn(4000, 0.8, 0.06, 0.04, torch.Generator().manual_seed(0))
    found = compare(first, second)
    text = in_words(found)
    assert f"{found.difference:+.4f} on 4,000 rows" in text and f"{found.rows_needed:,} rows" in text
    assert f"{found.low:+.4f} to {found.high:+.4f}" in text and f"p = {found.p:.2g}" in text
    assert "no number of rows" in in_words(compare(first, first))


ONE = torch.tensor([1.0, 0.0, 1.0])


@pytest.mark.parametrize("call, message", [
    (lambda: mcnemar(ONE, ONE[:2]), "results on the same rows, got 3 and 2"),
    (lambda: mcnemar(ONE, ONE / 2), "second must be (N,) of 0 and 1"),
    (lambda: mcnemar(ONE[None], ONE), "first must be (N,) of 0 and 1, got shape (1, 3)"),
    (lambda: compare(ONE[:1], ONE[:1]), "first must be (N,) or (runs, N) with at least two rows, got shape (1,)"),
    (lambda: compare(ONE, ONE.log()), "second must be finite numbers, got -inf"),
    (lambda: compare(ONE, ONE, power=1), "power must lie between 0 and 1, got 1"),
    (lambda: paired_bootstrap(ONE[None], ONE), "first and second must be (N,), one run each"),
    (lambda: paired_bootstrap(ONE, ONE, 0), "times must be at least 1, got 0"),
    (lambda: paired_bootstrap(ONE, ONE, level=95), "level must lie between 0 and 1, got 95"),
    (lambda: rows_needed(0.0, 0.1), "difference must not be 0"),
    (lambda: rows_needed(0.2, 0.1), "not exceed the disagreement, 0.1, got 0.2"),
    (lambda: rows_needed(0.2, 1.1), "disagreement must lie in (0, 1], got 1.1"),
    (lambda: power(0, 0.1, 0.2), "rows must be at least 1, got 0"),
    (lambda: power(10, 0.1, 0.2, level=0), "level must lie between 0 and 1, got 0"),
    (lambda: expected_best([], 3), "scores must be at least one, got none"),
    (lambda: expected_best([1.0], 0), "trials must be at least 1, got 0"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
