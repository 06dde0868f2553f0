"""Two thin matrices for one: nearest in entries, or in outputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.compression.low_rank import LowRankLinear, factorize, rank_for


@given(seed=st.integers(0, 10**6), rank=st.integers(1, 6))
def test_the_error_is_the_singular_values_that_were_cut(seed, rank):
    torch.manual_seed(seed)
    weight = torch.randn(9, 6, dtype=torch.float64)
    left, right = factorize(weight, rank)
    assert left.shape == (9, rank) and right.shape == (rank, 6)
    cut = torch.linalg.svdvals(weight)[rank:]
    assert (left @ right - weight).square().sum().item() == pytest.approx(cut.square().sum().item(), abs=1e-9)


@given(seed=st.integers(0, 10**6), rank=st.integers(1, 5))
def test_with_moments_the_outputs_are_nearer_and_the_entries_are_not(seed, rank):
    torch.manual_seed(seed)
    weight, inputs = torch.randn(9, 6, dtype=torch.float64), torch.randn(100, 6, dtype=torch.float64)
    inputs *= torch.tensor([10.0, 3, 1, 1, 0.3, 0.1])
    moments = inputs.T @ inputs / 100
    plain, aware = ((left @ right - weight) for left, right in (factorize(weight, rank), factorize(weight, rank, moments)))
    lost = lambda off: (inputs @ off.T).square().sum()  # noqa: E731
    assert lost(aware) <= lost(plain) * 1.001 and aware.square().sum() >= plain.square().sum() * 0.999
    S = torch.linalg.cholesky(moments + 1e-4 * moments.diagonal().mean() * torch.eye(6))
    least = torch.linalg.svdvals(weight @ S)[rank:].square().sum().item()
    assert (aware @ S).square().sum().item() == pytest.approx(least, rel=1e-6)


def test_full_rank_changes_nothing():
    layer, inputs = nn.Linear(12, 8), torch.randn(2, 3, 12)
    for moments in (None, torch.eye(12)):
        assert_same(LowRankLinear(layer, 8, moments)(inputs), layer(inputs))


def test_a_rank_keeps_within_its_share():
    weight = torch.ones(96, 48)
    for share in (0.25, 0.5, 0.9):
        rank = rank_for(weight, share)
        assert rank * (96 + 48) <= share * 96 * 48 < (rank + 1) * (96 + 48)
    assert rank_for(weight, 1e-9) == 1 and rank_for(weight, 100) == 48


@pytest.mark.parametrize("call, complaint", [
    (lambda: factorize(torch.ones(4, 3), 4), r"rank must be from 1 to the smaller side of the weight \(4, 3\), got 4"),
    (lambda: factorize(torch.ones(4, 3), 0), "got 0"),
    (lambda: factorize(torch.ones(4, 3), 2, torch.eye(4)), r"moments must be \(3, 3\), one row an input, got \(4, 4\)"),
    (lambda: rank_for(torch.ones(4, 3), 0.0), "share must be above 0, got 0.0")])
def test_wrong_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
