"""The record of preferences and rewards: it is whole, its arms are what they say, and its runs come out again."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_preferences.py"
RECORD = ROOT / "records" / "preferences.json"


@pytest.fixture(scope="module")
def start(program):
    return program["start"](RECORD.parent)


def test_every_comparison_has_all_seeds(program):
    planned = program["runs"]()
    assert len(set(planned)) == len(planned)
    assert set(Counter(run._replace(seed=0) for run in planned).values()) == {3}


def test_the_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["runs"]()


def test_the_start_begins_as_the_record_says(program, record):
    assert program["pretrained"](steps=1)[1][0] == pytest.approx(record["start"]["losses"][0], abs=0.01)


def test_the_start_is_judged_as_the_record_says(program, record, start):
    assert program["judged"](start, start)["exact"] == pytest.approx(record["start"]["sampled"][0]["exact"], abs=0.02)
    assert (RECORD.parent / "preferences.safetensors").stat().st_size < 1e6


def test_readers_prefer_by_the_sigmoid_of_their_utility(program, start):
    some = program["pairs"](start, program["questions"]()[0], 2000, 5)
    gap = (program["traits"](some.chosen) - program["traits"](some.rejected)) @ program["TASTE"]
    gap = gap[gap != 0]
    for size in (1.0, 2.0):  # among pairs whose utilities differ by so much, as many choose the better
        won = (gap[gap.abs() == size] > 0).float()
        assert won.mean().item() == pytest.approx(torch.tensor(size).sigmoid().item(), abs=4 * 0.5 / len(won) ** 0.5)


def test_a_policy_that_is_the_start_is_no_nat_away(program, start):
    found = program["judged"](start, start)
    assert found["kl"] == 0 and found["exact"] <= found["mention"] <= found["brackets"]
    assert program["win_rate"](start, start, 0) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("kind", ["dpo", "fine", "all"])
def test_tuning_begins_as_the_record_says(program, record, start, kind):
    known = next(run for run in record["runs"] if run["kind"] == kind and run["seed"] == 1)
    seen = program["pairs"](start, program["questions"]()[0], program["PAIRS"], 1)
    losses = program["tune"](run_of(program["Run"], known), start, seen, steps=5)[1]
    assert losses[::4] == pytest.approx(known["losses"][:2], abs=0.02)


def test_a_reward_without_the_sum_comes_out_again(program, record, start):
    known = next(run for run in record["runs"] if run["kind"] == "form")
    again = program["without_the_sum"](run_of(program["Run"], known), start)
    assert again["accuracy"] == pytest.approx(known["accuracy"], abs=0.02)
    assert again["weights"] == pytest.approx(known["weights"], abs=0.1)


def test_a_policy_begins_as_the_record_says(program, record, start):
    known = next(run for run in record["runs"] if run["kind"] == "policy" and run["seed"] == 1)
    again = program["improved"](run_of(program["Run"], known), start, rounds=3)[1]
    assert again["rewards"] == pytest.approx(known["rewards"][:3], abs=0.05)


def test_the_drawing_that_opens_the_page_shows_the_record(record):
    drawing = (ROOT.parent / "book" / "drawings" / "pref-hack.svg").read_text(encoding="utf-8")
    runs = [run for run in record["runs"]
            if (run["kind"], run["reward"], run["beta"], run["baseline"]) == ("policy", "mention", 0.02, "group")]
    for name, what in (("paid", "mention"), ("exact", "exact")):
        mean = torch.tensor([[look[what] for look in run["looks"]] for run in runs]).mean(0)
        points = re.search(rf'id="pref-hack-{name}".* d="M([^"]*)"', drawing)[1].split("L")
        drawn = torch.tensor([(190 - float(point.split()[1])) / 150 for point in points])
        torch.testing.assert_close(drawn, mean, atol=1e-3, rtol=0)
        assert f">{name} {mean[-1]:.2f}<".replace("0.", ".") in drawing
