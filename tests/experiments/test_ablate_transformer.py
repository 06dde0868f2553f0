"""The command that takes parts away: its record holds every variant, and a run again gives the record's numbers."""

import itertools
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "ablate_transformer.py"
RECORD = ROOT / "experiments" / "records" / "ablate_transformer.json"


def test_the_record_holds_every_variant_and_depth_with_every_seed():
    tool, record = runpy.run_path(str(TOOL)), json.loads(RECORD.read_text())
    seeds = set(record["settings"]["seeds"])
    for variant in tool["VARIANTS"]:
        assert {run["seed"] for run in record["parts"] if (run["task"], run["variant"]) == ("reversal", variant)} == seeds
    for variant in tool["ON_WORDS"]:
        assert {run["seed"] for run in record["parts"] if (run["task"], run["variant"]) == ("words", variant)} == seeds
    for task, (names, rates) in tool["AT_RATES"].items():
        runs = [run for run in record["rates"] if run["task"] == task]
        assert {(run["variant"], run["rate"], run["seed"]) for run in runs} == set(itertools.product(names, rates, seeds))
    words = [run for run in record["long"] if run["task"] == "words"]
    assert {(run["variant"], run["seed"]) for run in words} == set(itertools.product(tool["NORMS_ON_WORDS"], seeds))
    stacks = [run for run in record["long"] if run["task"] == "depth"]
    assert ({(run["warmup"], run["rate"], run["seed"]) for run in stacks}
            == set(itertools.product(tool["LONG_WARMUPS"], tool["DEPTH_RATES"], seeds)))
    for norm, warmup in tool["STACKS_AT_RATES"]:
        runs = [run for run in record["rates"] if (run.get("norm"), run.get("warmup")) == (norm, warmup)]
        assert {(run["rate"], run["seed"]) for run in runs} == set(itertools.product(tool["DEPTH_RATES"], seeds))
    stacks = {(run["depth"], run["norm"], run["warmup"], run["seed"]) for run in record["depth"]}
    expected = {(depth, *stack, seed) for depth in tool["DEPTHS"] for stack in tool["STACKS"] for seed in seeds}
    assert stacks == expected | {(12, norm, 100, seed) for norm in tool["DIVIDED"] for seed in seeds}
    copies = {(run["depth"], run["norm"], run["seed"]) for run in record["copy"]}
    assert copies >= {(12, norm, seed) for norm in (*tool["NORMS"], *tool["DIVIDED"]) for seed in seeds}
    assert ({(run["norm"], run["warmup"], run["seed"]) for run in record["apart"]}
            == {(*stack, seed) for stack in tool["STACKS"] for seed in seeds})
    assert ({(run["norm"], run["warmup"], run["seed"]) for run in record["followed"]}
            == {(*stack, seed) for stack in tool["FOLLOWED"] for seed in seeds})
    assert ({(run["norm"], run["seed"]) for run in record["spoiled"]}
            == set(itertools.product(tool["SPOILED"], seeds)))
    for depth in tool["DEPTHS"]:
        assert {run["seed"] for run in record["depth"] if run["depth"] == depth} == seeds


def test_twenty_steps_and_the_copy_come_out_as_recorded():
    tool, record = runpy.run_path(str(TOOL)), json.loads(RECORD.read_text())
    kept = next(run for run in record["copy"] if (run["norm"], run["seed"]) == ("post, by 2", 0))
    assert tool["copy_kept"](12, "post, by 2", 0) == pytest.approx(kept["cosine"], abs=0.01)
    before = next(run for run in record["apart"] if (run["norm"], run["warmup"], run["seed"]) == ("post", 1, 0))
    again = tool["kept_apart"]("post", 1, 0)
    assert again["before"] == pytest.approx(before["before"], rel=0.1) and again["after"] < 1e-9
    path = next(run for run in record["followed"] if (run["norm"], run["seed"]) == ("post", 0))
    again = tool["followed"]("post", 100, 0, steps=1)
    for what in ("apart", "in the batch"):
        assert again[what][0] == pytest.approx(path[what][0], rel=0.1)


def test_tokens_of_equal_sequences_are_not_apart_though_the_sequences_are():
    variance = runpy.run_path(str(TOOL))["variance"]
    sequences = torch.randn(16, 1, 32).expand(16, 8, 32)  # (B, T, D): one state for all tokens of a sequence
    assert variance(sequences) < 1e-12 < 0.5 < variance(sequences.flatten(0, 1)[None])


@pytest.mark.slow
def test_a_run_of_the_command_agrees_with_the_record(tmp_path, monkeypatch):
    options = "--seeds 0 --depths 2 --tasks reversal".split()
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(tmp_path / "again.json"), *options])
    runpy.run_path(str(TOOL), run_name="__main__")
    again, record = json.loads((tmp_path / "again.json").read_text()), json.loads(RECORD.read_text())
    recorded = {(run["variant"], run["seed"]): run for run in record["parts"] if run["task"] == "reversal"}
    for run in again["parts"]:
        before = recorded[run["variant"], run["seed"]]
        assert run["parameters"] == before["parameters"]
        assert run["loss"] == pytest.approx(before["loss"], abs=0.1)  # seeds differ by up to 0.1
    assert max(run["loss"] for run in again["depth"] if run["norm"] != "none") < 0.1
    assert all(2 < run["first"] < 4 for run in again["depth"] if run["norm"] != "none")  # a guess costs 2.3
