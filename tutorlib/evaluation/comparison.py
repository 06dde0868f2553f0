"""Is one better? Two methods, judged on the same rows: the difference, its interval, its p-value, and the rows it would take.

A result is 1 where a row was right and 0 where not, or any number a row, such as its loss. Several runs of one method, over
seeds say, are a matrix (runs, rows); one run is a vector (rows,).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from tutorlib.arguments import check_whole

NORMAL = NormalDist()


class Comparison(NamedTuple):
    """What `compare` finds: the first method's mean less the second's, its 95 % interval, and what it would take to see it.

    `p` is the probability of a difference at least as large, in either direction, if the methods were equal. `rows_needed` is
    how many rows would show a true difference of this size with probability .8, as many runs given; `None` where there is no
    difference, or the runs alone vary too much for any number of rows.
    """

    rows: int
    difference: float
    low: float
    high: float
    p: float
    rows_needed: int | None


def mcnemar(first: Tensor, second: Tensor) -> float:
    """The exact p-value of McNemar's test, two-sided, for two runs (N,) of 0 and 1 on the same rows.

    Only the rows count on which one run is right and the other wrong. If the runs were equally good, each such row would be a
    fair coin. Raises ValueError where the shapes differ or a value is neither 0 nor 1. (McNemar 1947; the exact form is the
    binomial's.)
    """
    first, second = _pair(first, second)
    for name, values in (("first", first), ("second", second)):
        if values.dim() != 1 or not ((values == 0) | (values == 1)).all():
            raise ValueError(f"{name} must be (N,) of 0 and 1, got shape {tuple(values.shape)} with values from "
                             f"{values.min():g} to {values.max():g}")
    only_first = int(((first == 1) & (second == 0)).sum())
    only_second = int(((first == 0) & (second == 1)).sum())
    coins, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(coins, heads) for heads in range(fewer + 1)) / 2**coins
    return min(1.0, 2 * tail)


def difference_error(first: Tensor, second: Tensor) -> float:
    """The standard error of the difference of two means over the same rows, (N,) or (runs, N).

    The rows are a sample, and so are the runs, where a method has several: the variances of both are added. Of a single run
    the spread over runs is unknown and taken for zero, so that the error is that of these two trained networks, not of the two
    methods. Raises ValueError for fewer than two rows, or unlike numbers of them.
    """
    first, second = _pair(first, second)
    over_rows = (_by_row(first) - _by_row(second)).var() / first.size(-1)
    return math.sqrt(over_rows + _over_runs(first) + _over_runs(second))


def paired_bootstrap(first: Tensor, second: Tensor, times: int = 2000, *, level: float = 0.95,
                     generator: torch.Generator | None = None) -> tuple[float, float]:
    """The interval of the difference of means (N,) when rows are drawn again with replacement, the same for both.

    It needs no formula and holds for what is no mean of rows, too, once it is computed from the rows that were drawn. Raises
    ValueError for fewer than two rows, unlike numbers of them, `times` below 1 and a level outside (0, 1). (Efron 1979.)
    """
    first, second = _pair(first, second)
    if first.dim() == 2 or second.dim() == 2:
        raise ValueError("first and second must be (N,), one run each; over several runs see compare")
    check_whole("times", times)
    _check_share("level", level)
    differences, outside = first - second, (1 - level) / 2  # (N,)
    found = torch.stack([differences[torch.randint(len(differences), differences.shape, generator=generator)].mean()
                         for _ in range(times)])  # (times,)
    low, high = found.quantile(torch.tensor([outside, 1 - outside], dtype=torch.float64)).tolist()
    return low, high


def bootstrap_error(values: Tensor, generator: torch.Generator | None = None, draws: int = 2000) -> float:
    """The standard error of the mean of values (B,), one a row: the spread of means over rows drawn with replacement.

    Of a difference of two methods, pass the differences row by row. Without a `generator` the draws are the same each time.
    Raises ValueError for fewer than two values or draws. (Efron 1979.)
    """
    if values.dim() != 1 or len(values) < 2 or draws < 2:
        raise ValueError(f"values must have the shape (B,), B at least 2, and draws be at least 2, got {tuple(values.shape)} "
                         f"and {draws}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    again = torch.randint(len(values), (draws, len(values)), generator=generator)  # (draws, B)
    return values.double()[again].mean(1).std().item()


def rows_needed(difference: float, disagreement: float, *, power: float = 0.8, level: float = 0.05) -> int:
    """How many rows show a true difference of two shares right at a two-sided `level`, with probability `power`.

    `disagreement` is the share of rows on which one is right and the other wrong, so that a row's difference has the variance
    disagreement - difference^2. Raises ValueError for a difference of zero or one larger than the disagreement, and for shares
    outside (0, 1).
    """
    variance = _row_variance(difference, disagreement)
    return math.ceil(variance * (_deviates(level, power) / difference) ** 2)


def power(rows: int, difference: float, disagreement: float, *, level: float = 0.05) -> float:
    """The probability that so many rows show the difference: `rows_needed`, solved for its power.

    Raises ValueError as it does, and for fewer than one row.
    """
    check_whole("rows", rows)
    variance = _row_variance(difference, disagreement)
    _check_share("level", level)
    if not variance:
        return 1.0
    return NORMAL.cdf(abs(difference) * math.sqrt(rows / variance) - NORMAL.inv_cdf(1 - level / 2))


def compare(first: Tensor, second: Tensor, *, power: float = 0.8) -> Comparison:
    """All of it at once: `first` less `second`, (N,) or (runs, N) of results on the same N rows.

    Two single runs of 0 and 1 are judged by McNemar's exact test; otherwise p is that of the difference over its error, as a
    normal deviate. The interval is the difference plus or minus 1.96 errors. With fewer than ten runs of each method a spread
    is hardly known, and 1.96 is too generous: ask for the quantile of t at 2 R - 2 degrees of freedom. Raises ValueError as
    `difference_error` does.
    """
    one, other = _pair(first, second)
    _check_share("power", power)
    difference = (one.mean() - other.mean()).item()
    error = difference_error(one, other)
    if one.dim() == other.dim() == 1 and _is_binary(one) and _is_binary(other):
        p = mcnemar(one, other)
    else:
        p = 2 * NORMAL.cdf(-abs(difference) / error) if error else float(difference == 0)
    return Comparison(one.size(-1), difference, difference - 1.96 * error, difference + 1.96 * error, p,
                      _rows_for(one, other, difference, power))


def expected_best(scores: Sequence[float], trials: int) -> float:
    """The mean of the best of so many trials, drawn with replacement from scores that were measured.

    The best is at most the i-th smallest of n scores with probability (i / n)^trials. Raises ValueError for no scores and for
    `trials` below 1. (Dodge et al. 2019, the expected validation performance.)
    """
    check_whole("trials", trials)
    if not len(scores):
        raise ValueError("scores must be at least one, got none")
    ordered = torch.as_tensor(scores, dtype=torch.float64).sort().values  # (n,)
    below = torch.linspace(0, 1, len(ordered) + 1, dtype=torch.float64) ** trials  # (n + 1,)
    return (ordered @ below.diff()).item()


def read_results(path: Path) -> Tensor:
    """The results of a file of text, (N,), or (runs, N) where its lines hold several numbers, one a run, parted by commas.

    Blank lines and lines that begin with # are left out. Raises ValueError for what is no number, for lines of different
    lengths, and for fewer than two lines.
    """
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    found = []
    for line in (line for line in lines if line and not line.startswith("#")):
        try:
            found.append([float(part) for part in line.split(",")])
        except ValueError:
            raise ValueError(f"{path} must hold a number a line, or several parted by commas, got {line[:40]!r}") from None
    if len(found) < 2 or len({len(line) for line in found}) > 1:
        raise ValueError(f"{path} must hold at least two lines, equally many numbers in each, got {len(found)} lines")
    values = torch.tensor(found, dtype=torch.float64).T  # (runs, N)
    return values[0] if len(values) == 1 else values


def in_words(found: Comparison) -> str:
    """A comparison as three lines of text, without a judgment that the numbers do not hold."""
    needed = ("no number of rows shows a difference of this size with these runs" if found.rows_needed is None else
              f"to show a true difference of this size four times of five: {found.rows_needed:,} rows")
    return (f"difference {found.difference:+.4f} on {found.rows:,} rows, 95 % interval {found.low:+.4f} to {found.high:+.4f}\n"
            f"p = {found.p:.2g}: so often would equal methods differ as much\n{needed}")


# -- what they share ------------------------------------------------------------------------------------------------------


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    both = []
    for name, values in (("first", first), ("second", second)):
        values = torch.as_tensor(values).double()
        if values.dim() not in (1, 2) or values.size(-1) < 2 or not len(values):
            raise ValueError(f"{name} must be (N,) or (runs, N) with at least two rows, got shape {tuple(values.shape)}")
        if not values.isfinite().all():
            raise ValueError(f"{name} must be finite numbers, got {values[~values.isfinite()][0]}")
        both.append(values)
    if both[0].size(-1) != both[1].size(-1):
        raise ValueError(f"first and second must be results on the same rows, got {both[0].size(-1)} and {both[1].size(-1)}")
    return both[0], both[1]


def _by_row(values: Tensor) -> Tensor:
    """(N,): the mean of the runs in each row."""
    return values if values.dim() == 1 else values.mean(0)


def _over_runs(values: Tensor) -> float:
    """The variance of the mean that would be left with rows without end: that of the runs' true means, over their number.

    Measured means vary more, for each run has its luck with each row; that part shrinks with the rows and is in the spread
    over rows already (a two-way analysis of variance).
    """
    if values.dim() == 1 or len(values) < 2:
        return 0.0
    runs, rows = values.shape
    left = values - values.mean(0) - values.mean(1, keepdim=True) + values.mean()  # (runs, N)
    luck = left.square().sum() / ((runs - 1) * (rows - 1))
    return max(0.0, (values.mean(1).var() - luck / rows).item()) / runs


def _is_binary(values: Tensor) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _rows_for(first: Tensor, second: Tensor, difference: float, power: float) -> int | None:
    """The rows at which the difference is as many errors large as level and power ask, with the runs that there are."""
    left = (difference / _deviates(0.05, power)) ** 2 - _over_runs(first) - _over_runs(second)
    over_rows = (_by_row(first) - _by_row(second)).var().item()
    return max(2, math.ceil(over_rows / left)) if left > 0 else None


def _deviates(level: float, power: float) -> float:
    """By how many standard errors a difference must exceed zero: 2.8 for a level of .05 and a power of .8."""
    _check_share("level", level)
    _check_share("power", power)
    return NORMAL.inv_cdf(1 - level / 2) + NORMAL.inv_cdf(power)


def _row_variance(difference: float, disagreement: float) -> float:
    if not 0 < disagreement <= 1:
        raise ValueError(f"disagreement must lie in (0, 1], got {disagreement}")
    if not 0 < abs(difference) <= disagreement:
        raise ValueError(f"difference must not be 0 and not exceed the disagreement, {disagreement}, got {difference}")
    return disagreement - difference**2


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")
