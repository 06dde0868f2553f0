"""The record of planted evidence: its parts measure what they say, its first losses and its scores come out again."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from tutorlib.data.planted import planted
from tutorlib.models import ViT

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "explain_planted.py"
RECORD = ROOT / "records" / "planted.json"


@pytest.fixture(scope="module")
def models(program):
    return program["load_models"](RECORD.with_suffix(".safetensors"))


def test_record_is_whole(program, record):
    assert [run["seed"] for run in record["runs"]] == list(program["SEEDS"])
    assert record["settings"] == {"steps": program["STEPS"], "batch": program["BATCH"], "rate": program["RATE"],
                                  "images": program["IMAGES"], "path": program["PATH"]}
    assert all(len(run["losses"]) == 3 + len(range(program["FIRST"] + 46, program["STEPS"], 50)) for run in record["runs"])


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program, record):
    for run in record["runs"][:2]:
        assert program["fit"](run["seed"], 3)[1] == pytest.approx(run["losses"][:3], abs=1e-3)


def test_patching_is_that_of_the_record(program, record, models):
    """Three of a hundred pictures may fall the other way on another machine."""
    found = program["patch"](models[1], 1)
    for shape, places in record["runs"][1]["patch"].items():
        for place, effects in places.items():
            assert found[shape][place] == pytest.approx(effects, abs=0.03)


def test_the_effect_is_zero_for_the_image_and_one_for_the_donor(program, models):
    first = program["drawn"]("one", 1, 20)
    donor = program["drawn"]("one", 1, 20, labels=(first.labels + 1) % 4)
    for drawn, effect in ((first, 0), (donor, 1)):
        with torch.no_grad():
            logits = models[1](drawn.images)
        assert program["moved"](models[1], first, donor, logits) == pytest.approx(effect, abs=1e-5)


@pytest.mark.slow
def test_maps_are_those_of_the_record(program, record, models):
    found = program["localize"](models[1], 1)
    for name, scores in record["runs"][1]["found"].items():
        assert found[name] == pytest.approx(scores, abs=0.03), name


def test_what_lies_on_shapes_is_that_of_the_record(program, record, models):
    found = program["on_ink"](models[1], 1)
    assert found == pytest.approx(record["runs"][1]["on_ink"], abs=0.01)
    assert found["gradient on the path"] < found["integrated gradients"]


def test_places_are_every_token_once(program):
    drawn = planted(5, torch.Generator().manual_seed(0))
    together = torch.cat(list(program["places"](drawn).values()), 1)
    assert torch.equal(together.sort(1).values, torch.arange(17).expand(5, -1))


def test_picked_states_are_those_of_the_place(program):
    drawn = planted(4, torch.Generator().manual_seed(0))
    states = torch.arange(17.0)[None, :, None].expand(4, -1, 2)
    assert torch.equal(program["pick"](states, drawn, "bright", "own cell")[:, 0], 1.0 + drawn.bright[:, 0])
    assert (program["pick"](states, drawn, "dark", "class token") == 0).all()


def test_weights_survive_the_file(program, tmp_path):
    torch.manual_seed(0)
    model = ViT(program["CONFIG"]).half().float()
    program["save_models"]({3: model}, tmp_path / "weights.safetensors")
    again = program["load_models"](tmp_path / "weights.safetensors")
    assert list(again) == [3]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again[3].parameters(), strict=True))


@pytest.mark.slow
def test_training_lowers_the_loss_and_rounds_the_weights(program):
    model, losses = program["fit"](7, 110)
    assert sum(losses[-10:]) / 10 < losses[0] - 0.1
    assert all(torch.equal(p, p.half().float()) for p in model.parameters())


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
