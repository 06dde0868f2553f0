"""Masks, the schedule, a pruner in training, and units that are taken out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.compression.pruning import Pruner, cubic_schedule, keep_units, magnitude_mask, two_of_four, unit_scores
from tutorlib.compression.quantization import input_moments
from tutorlib.layers.feed_forward import FeedForward


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_the_smallest_go_and_no_more_than_was_asked(seed, share):
    torch.manual_seed(seed)
    weight = torch.randn(7, 9)
    mask = magnitude_mask(weight, share)
    assert (~mask).sum() == round(share * 63)
    if mask.any() and not mask.all():
        assert weight[~mask].abs().max() <= weight[mask].abs().min()


def test_equal_magnitudes_do_not_all_go():
    assert magnitude_mask(torch.ones(2, 4), 0.5).sum() == 4


@given(seed=st.integers(0, 10**6))
def test_two_of_every_four_stay_and_are_the_largest(seed):
    torch.manual_seed(seed)
    weight = torch.randn(5, 12)
    kept = two_of_four(weight).unflatten(1, (3, 4))
    fours = weight.abs().unflatten(1, (3, 4))
    assert kept.sum(-1).eq(2).all()
    assert (fours.masked_fill(kept, 0).amax(-1) <= fours.masked_fill(~kept, 9).amin(-1)).all()


def test_the_schedule_is_zhu_and_gupta_s():
    shares = [cubic_schedule(step, 10, 30, 0.8) for step in range(40)]
    assert shares[10] == 0 and shares[30] == shares[39] == pytest.approx(0.8) and shares == sorted(shares)
    assert shares[20] == pytest.approx(0.8 * 7 / 8)  # half of the way


def test_what_is_out_stays_out_while_the_rest_learns():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    pruner, optimizer = Pruner(model, ["0.weight"]), torch.optim.Adam(model.parameters(), lr=0.1)
    pruner(0.5)
    out, kept = ~pruner.masks["0.weight"], model[1].weight.clone()
    for step in range(6):
        pruner(0.75 if step == 3 else None)
        optimizer.zero_grad()
        model(torch.randn(5, 8)).square().mean().backward()
        optimizer.step()
    pruner()
    assert (model[0].weight == 0).sum() == 96 == round(0.75 * 128) and pruner.share == 0.75
    assert (model[0].weight[out] == 0).all() and not torch.equal(model[1].weight, kept)


def test_a_pruned_network_learns_what_it_was_shown():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)), torch.randn(64, 8)
    targets, pruner = inputs[:, :1] * inputs[:, 1:2], Pruner(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(300):
        pruner(cubic_schedule(step, 0, 150, 0.5) if step <= 150 else None)
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
    pruner()
    assert (model(inputs) - targets).square().mean() < 0.1 * targets.var()
    assert (model[0].weight == 0).float().mean() == 0.5


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_of_all_its_units_is_itself_and_one_of_some_is_that_with_the_others_at_zero(bias):
    torch.manual_seed(0)
    layer, inputs = FeedForward(8, 20, activation="gelu_tanh", bias=bias).eval(), torch.randn(3, 5, 8)
    if bias:
        nn.init.normal_(layer.contract.bias)
    assert_same(keep_units(layer, torch.arange(20))(inputs), layer(inputs))
    kept = torch.tensor([1, 4, 19])
    small = keep_units(layer, kept)
    assert small.expand.weight.shape == (3, 8) and small.contract.weight.shape == (8, 3) and not small.training
    with torch.no_grad():
        gone = torch.tensor([unit for unit in range(20) if unit not in kept])
        layer.contract.weight[:, gone] = 0
    assert_same(small(inputs), layer(inputs))


def test_a_score_is_what_the_output_loses_without_the_unit():
    torch.manual_seed(0)
    layer, inputs = FeedForward(8, 12), torch.randn(200, 8)
    moments = input_moments(layer, [(inputs,)])["contract.weight"]
    scores, whole = unit_scores(layer, moments), layer(inputs)
    for unit in (0, 7):
        others = torch.tensor([each for each in range(12) if each != unit])
        lost = (whole - keep_units(layer, others)(inputs)).square().sum(1).mean().sqrt()
        assert scores[unit].item() == pytest.approx(lost.item(), rel=1e-4)
    assert_same(unit_scores(layer), layer.contract.weight.norm(dim=0) * layer.expand.weight.norm(dim=1))


@pytest.mark.parametrize("call, complaint", [
    (lambda: magnitude_mask(torch.ones(2, 2), 1.1), "share must be from 0 to 1, got 1.1"),
    (lambda: two_of_four(torch.ones(2, 6)), r"`in` a multiple of 4, got \(2, 6\)"),
    (lambda: cubic_schedule(0, 5, 5, 0.5), "end must come after begin, got begin 5 and end 5"),
    (lambda: cubic_schedule(0, 0, 5, 1.5), "final must be from 0 to 1, got 1.5"),
    (lambda: Pruner(nn.Linear(2, 2), ["bias"]), "names: 'bias' is no matrix"),
    (lambda: keep_units(FeedForward(4, 8), torch.tensor([8])), r"kept must be indices in \[0, 8\)"),
    (lambda: keep_units(FeedForward(4, 8), torch.tensor([], dtype=torch.long)), "at least one, got"),
    (lambda: unit_scores(FeedForward(4, 8), torch.eye(4)), r"moments must be \(8, 8\), one row a unit, got \(4, 4\)")])
def test_wrong_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
