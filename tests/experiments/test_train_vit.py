"""The record of ViT and ResNet: its first losses come out again, what was done to the images is what it says, it is whole."""

import math
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tests.closeness import assert_same
from tutorlib.models.vit import patches

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "train_vit.py"
RECORD = ROOT / "experiments" / "records" / "train_vit.json"
TOLERANCE = 0.02  # nats: float32 sums in another order, after three steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT", "ResNet"])
def test_first_losses_are_those_of_the_record(program, record, name):
    losses = program["first_losses"](program["NETWORKS"][name], record["seeds"][0])
    assert losses == pytest.approx(record["first_losses"][name], abs=TOLERANCE)
    if name == "ViT":
        assert losses[0] == pytest.approx(math.log(10), abs=1e-5)  # zero logits


def test_the_parts_that_the_record_holds_are_whole(program, record):
    assert len(record["seeds"]) >= 3 and len(record["tuning"]) == 6 * len(program["RATES"])  # two networks, three tasks
    recorded = [part for part in program["PARTS"] if any(job.items() <= run.items() for run in record["runs"]
                                                         for job in program["jobs"](part, record["seeds"]))]
    assert recorded == list(program["PARTS"])
    assert len(record["beyond"]) == 6 * len(program["BEYOND"])
    assert len(record["controls"]) == len(program["CONTROLS"]) * len(program["RATES"])
    assert set(record["parameters"]) == set(program["NETWORKS"])
    jobs = [job for part in recorded for job in program["jobs"](part, record["seeds"])]
    assert len(jobs) == len(record["runs"])
    for job in jobs:
        (run,) = [run for run in record["runs"] if job.items() <= run.items()]
        assert run["rate"] == program["chosen"](record, job["task"], job["network"], job["change"])


def test_samples_are_balanced_and_nested(program):
    some, rest = program["sample"](100, 1)
    assert some.labels.bincount().tolist() == [10] * 10 and len(rest.labels) == 3900
    more, _ = program["sample"](1000, 1)
    assert torch.equal(more.images[:100], some.images)
    other, _ = program["sample"](100, 2)
    assert not torch.equal(other.images, some.images)


def test_shuffles_move_what_they_say(program):
    images = torch.rand(3, 1, 28, 28)
    cut = patches(images, 7)  # (B, 16, 49)
    assert torch.equal(program["joined"](cut), images)
    moved = {kind: patches(program["shuffled"](images, kind, 5), 7) for kind in program["SHUFFLES"]}
    for kind, now in moved.items():
        assert_same(now.sum((1, 2)), cut.sum((1, 2)))
        assert not torch.equal(now, cut)
        kept = torch.isclose(now.sum(-1).sort(1).values, cut.sum(-1).sort(1).values).all()  # each patch has its own ink
        assert kept == (kind != "pixels")
        in_place = torch.isclose(now.sum(-1), cut.sum(-1)).all()
        assert in_place == (kind == "inside")
        whole = (now[:, :, None] == cut[:, None]).all(-1).any(-1).all()  # each patch is somewhere, as it was
        assert whole == (kind == "patches")
    again = program["shuffled"](images[:1], "both", 5)
    assert torch.equal(again, program["shuffled"](images, "both", 5)[:1])  # every image alike


def test_a_stem_inside_patches_sees_across_no_border(program):
    images = torch.rand(2, 1, 28, 28)
    other = images.clone()
    other[:, :, 7:14, :7] = 0  # patch number 4
    for name, local in (("ViT, stem inside patches", True), ("ViT, stem", False)):
        stem = program["NETWORKS"][name]().eval().patches
        changed = (stem(images) - stem(other)).abs().amax((0, 2)) > 1e-6  # (16,)
        assert stem(images).shape == (2, 16, 64) and changed[4]
        assert (changed.sum() == 1) == local


def test_equal_weights_stay_equal(program):
    torch.manual_seed(0)
    model = program["vit"](looks=False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.rand(4, 1, 28, 28)).logsumexp(-1).sum().backward()
    optimizer.step()
    states = torch.randn(1, 17, 64)
    for layer in model.layers:
        _, weights = layer.attention(states, return_weights=True)
        assert_same(weights, torch.full((1, 4, 17, 17), 1 / 17))


def test_a_table_mixes_all_places_and_heeds_no_content(program):
    model = program["NETWORKS"]["ViT, table"](2)
    mixing, states = model.layers[0].attention, torch.randn(1, 17, 64)
    assert_same(mixing(states), mixing(states.mean(1, keepdim=True).expand(-1, 17, -1)))  # at the start all weights are level
    torch.nn.init.normal_(mixing.table, std=0.1)
    other = states.clone()
    other[:, 5] = torch.randn(64)
    more = states + 2 * (other - states)
    once, twice = mixing(other) - mixing(states), mixing(more) - mixing(states)
    assert_same(twice, 2 * once)  # linear: the weights are the same for all three
    assert (once.abs().amax(-1) > 1e-6).all()
    model(torch.rand(2, 1, 28, 28)).logsumexp(-1).sum().backward()
    assert not hasattr(mixing, "query") and all(layer.attention.table.grad is not None for layer in model.layers)


def test_a_flattened_resnet_reads_every_place_by_itself(program):
    model = program["NETWORKS"]["ResNet, flattened"](2).eval()
    assert model.output.weight.shape == (2, 32 * 49)
    states = model.blocks(model.stem(torch.rand(1, 1, 28, 28)))
    order = torch.randperm(49)
    mixed = states.flatten(2)[:, :, order].flatten(1)
    assert not torch.allclose(model.output(states.flatten(1)), model.output(mixed), atol=1e-3)


def test_cells_are_added_wherever_they_lie(program):
    model = program["NETWORKS"]["ResNet, cells added"](2).eval()
    maps = torch.rand(2, 8, 28, 28)
    model.stem, model.blocks[0] = torch.nn.Identity(), torch.nn.Identity()
    order = torch.randperm(16)
    mixed = program["joined"](patches(maps.view(-1, 1, 28, 28), 7)[:, order]).view_as(maps)  # the same exchange in all maps
    assert_same(model(maps), model(mixed))
    assert (model(maps) - model(maps.flip(-1))).abs().max() > 1e-6  # the places inside a cell count


def test_a_sum_of_patches_heeds_no_place(program):
    model, images = program["NETWORKS"]["patch sum"](2), torch.rand(3, 1, 28, 28)
    assert_same(model(images), model(program["shuffled"](images, "patches", 4)))
    assert not torch.allclose(model(images), model(program["shuffled"](images, "inside", 4)))


def test_marks_in_channels_of_their_own(program):
    images, labels = program["drawn"](300, torch.Generator().manual_seed(0), "pairs")
    parted, also = program["drawn"](300, torch.Generator().manual_seed(0), "parted pairs")
    laid, _ = program["drawn"](300, torch.Generator().manual_seed(0), "laid pairs")
    assert torch.equal(labels, also) and torch.equal(parted.sum(1, keepdim=True), images)
    filled = patches(laid, 7).view(300, 16, 2, 49).any(-1)  # (N, 16, 2)
    assert (filled.sum(1) == 1).all() and torch.equal(filled[..., 0], filled[..., 1])  # one cell, the same in both channels
    assert torch.equal((laid[:, 0] == laid[:, 1]).flatten(1).all(1), labels == 1)
    assert torch.equal(laid[:, 0], parted[:, 0]) and torch.equal(laid.sum((2, 3)), parted.sum((2, 3)))


def test_equal_weights_on_the_marks_see_no_empty_cell(program):
    images, _ = program["drawn"](20, torch.Generator().manual_seed(0), "pairs")
    model = program["NETWORKS"]["ViT, equal weights on the marks"](2).eval()
    torch.nn.init.normal_(model.whole.output.weight)
    before = model(images)
    with torch.no_grad():
        empty = ~patches(images[:1], 7).any(-1)[0]  # (16,), of the first picture
        model.whole.position.table[1:][empty] = torch.randn(14, 64)
    after = model(images)
    assert_same(after[0], before[0])
    assert (after - before).abs().max() > 1e-3


def test_looks_forbidden_to_a_judge_that_sees_nothing_else(program):
    images, labels = program["drawn"](50, torch.Generator().manual_seed(0), "pairs")
    torch.manual_seed(0)
    model = program["vit"](2, looks=False).eval()
    found = program["looks"](model, images, labels)
    assert {"nothing", "marks", "class token", "empty cells", "others", "others, first layer", "seen"} <= set(found)
    assert found["seen"] == [round(2 / 17, 3)] * 3  # all weights are level
    assert found["nothing"] == program["accuracy"](model, images, labels)


def test_attention_on_top_joins_all_places(program):
    model = program["NETWORKS"]["ResNet, attention on top"]().eval()
    top, states = model.blocks[-1], torch.randn(1, 32, 7, 7)
    other = states.clone()
    other[:, :, 0, 0] = torch.randn(32)  # a shift of all channels alike a layer norm would not see
    assert ((top(states) - top(other)).abs().amax(1) > 1e-6).all()


def test_nearest_and_linear_by_hand(program):
    images = torch.tensor([[0.0, 0], [0, 1], [5, 5], [5, 6]])
    data = program["Images"](images, torch.tensor([3, 3, 7, 7]))
    test = program["Images"](torch.tensor([[0.0, 0.4], [5.0, 5.5], [1.0, 0]]), torch.tensor([3, 7, 7]))
    assert program["nearest"](data, test, 1) == program["linear"](data, test, 1e-3) == pytest.approx(2 / 3)
    tie = program["Images"](torch.tensor([[0.0], [1.0]]), torch.tensor([4, 1]))
    assert program["nearest"](tie, program["Images"](torch.tensor([[0.4]]), torch.tensor([4])), 2) == 1  # the nearer one


def test_likeness_of_positions_by_hand(program):
    model = program["vit"]()
    with torch.no_grad():
        model.position.table[1:] = 5.0
        model.position.table[1:9, 0], model.position.table[9:, 0] = 6.0, 4.0
    likeness = program["position_likeness"](model)
    assert_same(likeness[:8, :8], torch.ones(8, 8))
    assert_same(likeness[:8, 8:], -torch.ones(8, 8))


@pytest.mark.parametrize("task", ["resting pairs", "drifting pairs"])
def test_pairs_in_nine_cells_rest_or_drift(program, task):
    images, labels = program["drawn"](200, torch.Generator().manual_seed(0), task)
    assert images.shape == (200, 1, 28, 28) and len(labels) == 200 and 0.35 < labels.double().mean() < 0.65
    ink = images.sum((1, 2, 3))
    assert (ink % 8 == 0).all() and ink.min() >= 8  # two marks as drawn, 2 x 2 pixels a square: none is cut at the border
    filled = patches(images, 7).any(-1).sum(-1)  # patches with ink
    if task == "resting pairs":
        assert not images[..., 21:, :].any() and not images[..., 21:].any() and (filled == 2).all()
    else:
        assert images[..., 21:, :].any() and images[..., 21:].any() and filled.max() > 4
    again, _ = program["drawn"](200, torch.Generator().manual_seed(0), task)
    assert torch.equal(again, images)


def test_baselines_are_shown_what_the_networks_are(program):
    shown, batches = program["all_shown"](1, "near pairs"), program["FreshPairs"](1, "near pairs")
    assert shown.images.shape == (16000, 1, 28, 28) and shown.labels.shape == (16000,)
    assert torch.equal(shown.images[64:96], batches(2).images) and torch.equal(shown.labels[64:96], batches(2).labels)
    data = program["sample"](30, 0)[0]
    copied = program["copied"](data, 0)
    assert copied.images.shape == (480, 1, 28, 28) and torch.equal(copied.images[:30], data.images)
    assert torch.equal(copied.labels[450:], data.labels) and not torch.equal(copied.images[30:60], copied.images[60:90])


def test_a_record_of_few_digits_is_learned_in_whole_batches(program):
    data = program["sample"](30, 0)[0]
    pictures, labels = program["digit_batches"](data, 0)(3)
    assert pictures.shape == (30, 1, 28, 28) and labels.bincount().tolist() == [3] * 10


def test_the_drawing_shows_the_record(record):
    drawing = ElementTree.parse(ROOT / "book" / "drawings" / "vit-two.svg")
    shown = {node.get("data-of"): node.text for node in drawing.iter() if node.get("data-of")}
    for key, text in shown.items():
        network, task, change = key.split("/")
        found = [run["accuracy"] for run in record["runs"] if (run["network"], run["task"], run["change"])
                 == (network, task, change) and run["digits"] in (0, 1000) and run["seed"] in record["seeds"]]
        assert len(found) == len(record["seeds"]) and f"{sum(found) / len(found):.2f}".lstrip("0") == text, key
    assert len(shown) == 6


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
