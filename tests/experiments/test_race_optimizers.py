"""The race of optimizers: equal budgets, Adam with fewer sizes is Adam where the sizes agree, first losses come out again."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from tutorlib.records import run_of
from tutorlib.training import Adam

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "race_optimizers.py"
RECORD = ROOT / "records" / "optimizers.json"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps
RUNS = [(task, optimizer) for task in ("digits", "words")
        for optimizer in ("SGD", "momentum", "Adam", "AdamW", "Muon", "one size", "a size per tensor")
        if (task, optimizer) != ("words", "AdamW")]
RUNS += [("words", optimizer) for optimizer in ("embedding shares", "output shares", "both share")]


def test_every_optimizer_has_the_same_budget(program):
    for task in program["BATCH"]:
        assert set(program["FASTEST"][task]) == {optimizer for each, optimizer in RUNS if each == task}
        for optimizer in program["FASTEST"][task]:
            runs = program["tuning_runs"](task, optimizer)
            assert len({run.share for run in runs}) == 7 and len(runs) == 7 * len(program["TUNING"])
    assert not set(program["TUNING"]) & set(program["FINAL"])


@pytest.mark.parametrize("per_tensor", [True, False])
def test_fewer_sizes_are_adam_where_all_gradients_have_one_size(program, per_tensor):
    ours, reference = ([torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))] for _ in range(2))
    first, second = program["FewerSizes"](ours, 0.1, per_tensor=per_tensor), Adam(reference, 0.1)
    for step in range(5):
        for p in (*ours, *reference):
            p.grad = torch.full_like(p, 2.0 - step)
        first.step()
        second.step()
    for mine, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(mine, other)


def test_sizes_are_shared_within_a_tensor_or_by_all(program):
    def moved(per_tensor):
        parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))]
        optimizer = program["FewerSizes"](parameters, 1.0, per_tensor=per_tensor)
        parameters[0].grad, parameters[1].grad = torch.tensor([1.0, 7.0]), torch.tensor([10.0, 10.0])
        optimizer.step()
        return [p.tolist() for p in parameters]

    assert moved(True) == [pytest.approx([-1 / 5, -7 / 5], rel=1e-4), pytest.approx([-1, -1], rel=1e-4)]
    size = ((1 + 49 + 100 + 100) / 4) ** 0.5
    assert moved(False) == [pytest.approx([-1 / size, -7 / size], rel=1e-4), pytest.approx([-10 / size] * 2, rel=1e-4)]


def test_a_shared_size_is_of_the_named_tensors_alone(program):
    """With each gradient equal within its tensor all are Adam; with a gradient in one row only the shared tensors differ."""
    for name, shared in (("embedding shares", {"embedding.weight"}), ("both share", {"embedding.weight", "output.weight"})):
        torch.manual_seed(0)
        ours, reference = program["NextWord"](), program["NextWord"]()
        reference.load_state_dict(ours.state_dict())
        sharing = program["optimizer_of"](name, ours, 0.1)
        for model, optimizer in ((ours, sharing), (reference, Adam(reference.parameters(), 0.1))):
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
                p.grad[0] = 1.0
            optimizer.step()
        after = reference.state_dict()
        assert {key for key, value in ours.state_dict().items() if not torch.allclose(value, after[key], atol=1e-5)} == shared


def test_parts_of_the_examples_are_apart(program):
    digits = program["examples"]("digits")
    assert [len(part[0]) for part in digits] == [3000, 1000, 1000]
    text, held_out = program["word_numbers"]()
    words = program["examples"]("words")
    assert len(words.training[0]) == len(text) - 3 and words.training[0][5].tolist() == text[5:8].tolist()
    assert words.training[1][5] == text[8]
    assert words.test[0][0].tolist() == held_out[(len(held_out) + 1) // 2:][:3].tolist()


@pytest.mark.parametrize("task, optimizer", RUNS)
def test_record_is_whole_and_the_best_rate_lies_inside(program, record, task, optimizer):
    share = program["best_share"](record, task, optimizer)
    found = {run_of(program["Run"], run) for run in record["runs"] if (run["task"], run["optimizer"]) == (task, optimizer)}
    assert found == set(program["tuning_runs"](task, optimizer)) | set(program["final_runs"](record, task, optimizer))
    assert 2**-6 < share < 1


@pytest.mark.slow
@pytest.mark.parametrize("task, optimizer", RUNS)
def test_first_losses_are_those_of_the_record(program, record, task, optimizer):
    kept = next(run for run in record["runs"] if (run["task"], run["optimizer"]) == (task, optimizer) and run["seed"] == 10)
    assert program["trained"](run_of(program["Run"], kept), 3)[1] == pytest.approx(kept["first"], abs=TOLERANCE)


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--" in capsys.readouterr().err
