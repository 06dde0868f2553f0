"""The record of the architectures: its tasks ask what they say, its arms are equal in size, its first losses come out again."""

import json
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_architectures.py"
RECORD = ROOT / "records" / "architectures.json"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps
recorded = pytest.mark.skipif(not RECORD.exists(), reason="the run is not made yet")


def test_recall_asks_for_the_value_that_stood_behind_the_key(program):
    inputs, targets = program["Recall"]((5,), 45, 0)(1)
    assert inputs.shape == targets.shape == (3, 15)
    for row, asked in zip(inputs.tolist(), targets.tolist(), strict=True):
        pairs = dict(zip(row[:10:2], row[1:10:2], strict=True))
        assert len(pairs) == 5 and asked[:10] == [-100] * 10
        assert asked[10:] == [pairs[key] for key in row[10:]] and set(row[10:]) == set(pairs)


def test_recall_mixes_its_numbers_of_pairs(program):
    shapes = {tuple(program["Recall"]((2, 4), 48, 0)(step)[0].shape) for step in range(20)}
    assert shapes == {(8, 6), (4, 12)}


def test_parity_by_hand(program):
    bits, odd = program["Parity"](7, 4, 0)(0)
    assert odd.tolist() == [[sum(row[:t + 1]) % 2 for t in range(7)] for row in bits.tolist()]


def test_batches_of_other_seeds_are_others(program):
    first, again, other = (program["Recall"]((5,), 45, seed)(2)[0] for seed in (0, 0, 10_000))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_turning_state_space_is_its_loop(program):
    torch.manual_seed(0)
    layer = program["TurningStateSpace"](8, head_width=4, state=3, expand=1).double()
    query, key = draw(2, 2, 1, 9, 3, dtype=torch.float64)  # (B, 1, T, K)
    x, step = draw(2, 2, 9, 4, dtype=torch.float64, seed=1), 3 * draw(2, 2, 9, dtype=torch.float64, seed=2).abs()
    decay = 2 * (-step * layer.log_rate.exp()[:, None]).exp() - 1
    assert (decay < 0).any() and (decay > 0).any()
    state, outputs = torch.zeros(2, 2, 3, 4, dtype=torch.float64), []
    for t in range(9):
        state = decay[..., t, None, None] * state + key[..., t, :, None] * (step[..., t, None] * x[..., t, :])[..., None, :]
        outputs.append((query[..., t, :, None] * state).sum(-2))
    output, last = layer.mix(query, key, x, step, None)
    assert_same(output, torch.stack(outputs, -2))
    assert_same(last, state)


def test_arms_are_equal_in_parameters_and_multiply_adds(program):
    models = {arm: program["new_model"](program["in_layers"](arm), 80, 128) for arm in program["ARMS"]}
    sizes = {arm: sum(p.numel() for p in model.parameters()) for arm, model in models.items()}
    costs = {arm: program["multiply_adds"](model, 128) for arm, model in models.items()}
    assert max(sizes.values()) < 1.02 * min(sizes.values())
    assert max(costs.values()) < 1.12 * min(costs.values())
    assert costs["attention"] == 2 * (4 * 64**2 + 2 * 64 * 128 + 64 * 4 + 128 * 64) + 80 * 64


def test_one_of_four_experts_costs_what_one_network_does(program):
    make = lambda network: program["new_model"](["attention"] * 2, 80, 128, network=network)  # noqa: E731
    dense, wide, experts = map(make, ("dense", "dense x 4", "1 of 4 experts"))
    router = 2 * 4 * 64
    assert program["multiply_adds"](experts, 128) - program["multiply_adds"](dense, 128) == router
    assert sum(p.numel() for p in experts.parameters()) == pytest.approx(sum(p.numel() for p in wide.parameters()), rel=0.02)


def test_every_comparison_has_all_seeds(program):
    planned = program["runs"]()
    assert len(set(planned)) == len(planned)
    assert set(Counter(run._replace(seed=0) for run in planned).values()) == {3}


@pytest.mark.parametrize("arm", ["attention", "hybrid", "turning state space"])
def test_training_lowers_the_loss(program, arm):
    losses = program["fit"](program["Run"]("recall", 4, arm, 0), None, 12)[1]
    assert losses[-1] < losses[0] - 0.3


@recorded
def test_record_is_whole(program):
    record = json.loads(RECORD.read_text())
    found = [run_of(program["Run"], run) for run in record["runs"]]
    assert found == program["runs"]()
    assert all(run["steps"] == program["STEPS"][run["task"]] for run in record["runs"])


@recorded
@pytest.mark.slow
@pytest.mark.parametrize("task", ["recall", "parity"])
def test_first_losses_are_those_of_the_record(program, task):
    for run in json.loads(RECORD.read_text())["runs"]:
        if run["task"] == task and run["seed"] == 1 and run["heads"] == 2:
            losses = program["first_losses"](run_of(program["Run"], run))
            assert losses == pytest.approx(run["losses"][:3], abs=TOLERANCE), run["arm"]


@pytest.mark.parametrize("kind", ["StatelessSpace", "UngatedSpace"])
def test_without_a_state_no_token_sees_more_than_the_convolution(program, kind):
    layer = program[kind](8, head_width=4, state=3, expand=1, reach=4)
    states = draw(1, 9, 8)
    moved = states.clone()
    moved[:, 0] += 1
    assert_same(layer(states)[:, 4:], layer(moved)[:, 4:])
    assert not torch.allclose(layer(states)[:, 3], layer(moved)[:, 3])


def test_without_the_skip_a_single_token_of_no_step_leaves_nothing(program):
    layer = program["SkiplessSpace"](8, head_width=4, state=3, expand=1)
    torch.nn.init.constant_(layer.step.bias, -50.0)  # d = 0: nothing is written
    assert_same(layer(draw(1, 5, 8)), torch.zeros(1, 5, 8))
    assert not layer.skip.requires_grad


def test_a_furnished_attention_differs_from_the_plain_one_by_its_furniture(program):
    plain, skipping = (program["FurnishedAttention"](8, 2, skip=skip) for skip in (False, True))
    skipping.load_state_dict(plain.state_dict() | {"skip": torch.zeros(2)})
    theirs = program["ConvolvedAttention"](8, 2)
    theirs.load_state_dict({name.replace("output", "attention.output"): w for name, w in plain.state_dict().items()})
    states = draw(1, 5, 8)
    assert_same(plain(states), theirs(states))
    assert_same(plain(states), skipping(states))


def test_by_lot_the_experts_share_and_the_router_does_not_decide(program):
    model = program["new_model"](["attention"], 10, 8, network="1 of 4, by lot")
    part = program["experts"](model)[0]
    first, again = (part.route(torch.ones(4000, 64)) for _ in range(2))
    shares = first.chosen.flatten().bincount(minlength=4) / 4000
    assert (shares - 0.25).abs().max() < 0.05 and not torch.equal(first.chosen, again.chosen)
    assert_same(first.weights, first.probabilities.amax(1, keepdim=True))


def test_a_fixed_router_stays_as_drawn(program):
    model = program["new_model"](["attention"], 10, 8, network="1 of 4, router fixed")
    model(torch.zeros(2, 8, dtype=torch.long)).sum().backward()
    router = program["experts"](model)[0].router.weight
    assert router.grad is None and not router.requires_grad


def test_the_hybrids_are_the_same_parts_in_another_order(program):
    orders = [program["in_layers"](arm) for arm in program["HYBRIDS"]]
    assert orders[0] == orders[1][::-1] == ["attention", "delta"]


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
