"""The record of federated and private learning: its arms are what they say, its first rounds come out again."""

import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.closeness import assert_same
from tutorlib.records import run_of
from tutorlib.training.privacy import epsilon, most_bets_won

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_private.py"
RECORD = ROOT / "records" / "private.json"
TOLERANCE = 0.02  # of the digits: rounding moves a few of a thousand


def test_every_comparison_has_all_seeds(program):
    planned = program["runs"]()
    assert len(set(planned)) == len(planned)
    assert set(Counter(run._replace(seed=0) for run in planned).values()) == {3}


def test_images_are_means_of_two_by_two_pixels(program):
    from tutorlib.data.digits import load_digits

    whole, half = load_digits().train.images[5, 0], program["digits"]()[0].inputs[5].view(14, 14)
    assert_same(half[4, 7], whole[8:10, 14:16].mean())


@pytest.mark.parametrize("each", [None, 2, 1])
def test_clients_have_the_labels_that_they_should(program, each):
    clients = program["clients_of"](program["Run"]("federation", 1, each))
    kinds = [len(client.targets.unique()) for client in clients]
    assert len(clients) == 10 and sum(len(client.targets) for client in clients) == 4000
    assert min(kinds) == 10 if each is None else max(kinds) <= each


def test_a_lost_client_is_lost_from_its_round_on(program):
    found = program["federation"](program["Run"]("federation", 0, 1, lost=True), rounds=12)
    assert found["bytes"] == [20 * 53_032] * 10 + [18 * 53_032] * 2


def test_the_pool_has_wrong_labels_where_it_says(program):
    pool, odd, member = program["pool_of"](2)
    again, other = program["pool_of"](2)[0], program["pool_of"](1)[0]
    train = program["digits"]()[0]
    rows = torch.randperm(4000, generator=torch.Generator().manual_seed(2))[:600]
    assert torch.equal(pool.targets != train.targets[rows], odd) and odd.sum() == 60
    assert torch.equal(pool.inputs, again.inputs) and not torch.equal(pool.inputs, other.inputs)
    assert 0.45 < member.float().mean() < 0.55


def test_bets_on_scores_that_say_it_all(program):
    member = torch.rand(24, 50, generator=torch.Generator().manual_seed(0)) < 0.5
    member[:2], member[2:4] = True, False  # so that each digit is in some models and not in others, whichever is left out
    noise = 0.1 * torch.randn(24, 50, generator=torch.Generator().manual_seed(1))
    won = program["bets"](3.0 * member + noise, member)
    assert won["ratio"].all() and won["median"][4:].float().mean() > 0.85


def test_the_noise_is_that_of_its_epsilon(program):
    noise = program["noise_of"]("3", 1000)
    assert epsilon(0.25, noise, 150, 1e-4) == pytest.approx(3, rel=0.01)
    assert program["noise_of"]("clipped", 1000) == 0.0


def test_the_worst_case_is_below_the_bound(program):
    for target in (1.0, 8.0):
        assert 0.52 < program["worst_case"](target, draws=4000) < most_bets_won(target, 1e-4)


def test_homes_without_noise_learn_and_the_noise_is_of_one_home(program):
    run = program["Run"]("homes", 0, 2, arm="8")
    assert program["homes"](run, steps=1)["noise"] == program["noise_of"]("8", 4000)
    silent = program["homes"](run._replace(arm="clipped"), steps=15)
    assert silent["noise"] == 0 and silent["right"] > 0.5


def test_one_kind_each_learns_as_fast_as_all_kinds_where_every_step_is_averaged(program):
    alike, one_kind = (program["often"](program["Run"]("often", 0, each), rounds=60)["right"] for each in (None, 1))
    assert one_kind > 0.55 and abs(alike - one_kind) < 0.15


def test_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["runs"]()
    assert set(record["worst"]) == {"30", "8", "1"}


def test_no_measured_attack_beats_what_is_promised(record):
    for run in record["runs"]:
        if run["kind"] == "attack" and run["arm"] in record["worst"]:
            won = max(value for name, value in run.items() if name.startswith(("median", "ratio")))
            assert won < most_bets_won(float(run["arm"]), 1e-4)


@pytest.mark.slow
def test_first_rounds_are_those_of_the_record(program, record):
    for found in record["runs"]:
        run = run_of(program["Run"], found)
        if run.kind in ("federation", "central", "alone") and run.seed == 1 and run.epochs == 1:
            again = program["federation"](run, rounds=3)
            assert again["bytes"] == found["bytes"][:3]
            assert again["right"] == pytest.approx(found["right"][:3], abs=TOLERANCE), run


@pytest.mark.slow
def test_private_runs_are_those_of_the_record(program, record):
    for found in record["runs"]:
        run = run_of(program["Run"], found)
        if run.kind == "private" and run.seed == 1 and run.digits == 300:
            assert program["private"](run)["right"] == pytest.approx(found["right"], abs=TOLERANCE), run


@pytest.mark.slow
def test_noise_at_home_is_that_of_the_record(program, record):
    found = next(run for run in record["runs"] if run["kind"] == "homes" and run["arm"] == "8" and run["seed"] == 1)
    assert program["homes"](run_of(program["Run"], found))["right"] == pytest.approx(found["right"], abs=TOLERANCE)


@pytest.mark.slow
def test_an_attack_is_that_of_the_record(program, record):
    found = next(run for run in record["runs"] if run["kind"] == "attack" and run["arm"] == "stopped" and run["seed"] == 1)
    again = program["attack"](run_of(program["Run"], found))
    for name in ("right", "median, usual", "ratio, usual", "ratio, odd"):
        assert again[name] == pytest.approx(found[name], abs=TOLERANCE), name


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
