"""The harness: it compares before it times, interleaves, and takes ratios within a round."""

import pytest
import torch

from benchmarks import growth
from benchmarks.__main__ import summary
from benchmarks.attention import exponent
from benchmarks.harness import Row, Variant, compare, training_step
from benchmarks.language_models import HEADS, LAYERS, LENGTH, VOCABULARY, WIDTH, nano_from
from tutorlib.models import GPT, GPTConfig


def test_a_variant_that_differs_is_not_timed():
    calls = []

    def wrong():
        calls.append("wrong")
        return torch.ones(3)
    with pytest.raises(ValueError, match=r"'wrong' differs from 'right' by 1.0e\+00, allowed 1e-04"):
        compare([Variant("right", lambda: torch.full((3,), 0.5)), Variant("wrong", wrong)], rounds=3)
    assert calls == ["wrong"]


def test_a_variant_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="differs"):
        compare([Variant("right", lambda: torch.ones(1)), Variant("nan", lambda: torch.tensor([float("nan")]))], rounds=1)


def test_variants_run_in_turn_and_ratios_are_taken_within_the_round():
    order, now = [], [0.0]
    costs = {"slow": iter([9, 9, 4.0, 8.0, 40.0]), "fast": iter([9, 9, 1.0, 2.0, 10.0])}  # the machine slows down tenfold

    def variant(name):
        def run():
            order.append(name)
            now[0] += next(costs[name])
            return torch.ones(1)
        return Variant(name, run)
    slow, fast = compare([variant("slow"), variant("fast")], rounds=3, clock=lambda: now[0])
    assert order[4:] == ["slow", "fast"] * 3
    assert (slow.ratio, slow.low, slow.high) == (1, 1, 1) and (fast.ratio, fast.low, fast.high) == (4, 4, 4)
    assert (slow.seconds, fast.seconds) == (8.0, 2.0)


def test_the_summary_sets_the_fastest_of_ours_beside_three_measures():
    ratios = {"peer, float32": 1.0, "tutorlib, float32": 1.5, "peer, bfloat16": 2.0, "tutorlib, bfloat16": 3.0,
              "other, int8": 4.0}
    rows = [Row(name, 1.0, ratio, ratio, ratio) for name, ratio in ratios.items()]
    assert summary([("work", rows)]).splitlines()[-1] == "| work | bfloat16 | 3.00 | 1.50 | 0.75 |"
    assert summary([("work", rows[:2])]).splitlines()[-1] == "| work | float32 | 1.50 | 1.50 | 1.50 |"


def test_the_exponent_of_a_power_is_its_power():
    assert exponent((1, 2, 4, 8), [3 * n**2 for n in (1, 2, 4, 8)]) == pytest.approx(2.0)


def test_a_curve_is_the_median_of_a_unit_at_each_size_without_the_first_round(monkeypatch):
    now, order, costs = [0.0], [], iter([99, 99, 1.0, 8.0, 5.0, 40.0, 2.0, 12.0])

    def prepare(size):
        def run():
            order.append(size)
            now[0] += next(costs)
        return run
    monkeypatch.setattr(growth, "curves", lambda: [growth.Curve("a text: ms a token", (1, 4), prepare, lambda size: size)])
    found = growth.measure(rounds=3, clock=lambda: now[0])
    assert order == [1, 4] * 4 and found[0][1] == [2.0, 3.0]
    assert growth.table(found, "").splitlines()[-1] == "| a text: ms a token | 1, 4 | 2,000, 3,000 | 0.29 |"


def test_a_training_step_takes_the_loss_it_is_given():
    layer = torch.nn.Linear(3, 2, bias=False)
    step = training_step(lambda: layer(torch.tensor([[1.0, 2.0, -3.0]])), layer, loss=lambda output: output.sum())
    assert torch.allclose(step(), torch.tensor([28.0**0.5, 3.0]))  # each row's gradient is the input
    mean_square = training_step(lambda: 0 * layer(torch.ones(1, 3)) + 2, layer)
    assert torch.equal(mean_square(), torch.zeros(2))


def test_nanogpts_architecture_with_the_weights_of_ours_is_ours():
    torch.manual_seed(0)
    ours = GPT(GPTConfig(VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS, activation="gelu"))
    tokens = torch.randint(VOCABULARY, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(nano_from(ours)(tokens), ours(tokens))
