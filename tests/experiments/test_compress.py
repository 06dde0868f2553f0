"""The record of the chapter on compression: its first losses come out again, and it holds what the page reads."""

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from tutorlib.models import GPT, GPTConfig

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "compress.py"
RECORD = ROOT / "experiments" / "records" / "compress.json"


def of(record, kind, way, size):
    return [run for run in record["runs"] if (run["kind"], run["way"], run["size"]) == (kind, way, size)]


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program, record):
    assert program["Bench"]().first_losses() == pytest.approx(record["first_losses"], abs=0.01)


def test_no_row_twice_and_every_row_planned(program, record):
    runs = [program["Run"](*(run[field] for field in program["Run"]._fields)) for run in record["runs"]]
    assert len(runs) == len(set(runs)) and set(runs) <= set(program["planned"]())


def test_bytes_are_those_of_packed_integers_and_grids(record):
    weights, rest = 2048 * 192 + 6 * (4 * 192**2 + 8 * 192**2), 0
    for bits in (2, 3, 4, 5, 8):
        rows = of(record, "rounding", "row", bits)[0]["bytes"]
        groups = of(record, "rounding", "group", bits)[0]["bytes"]
        outputs = 2048 + 6 * (4 * 192 + 768 + 192)
        rest = rows - weights * bits // 8 - 4 * outputs
        assert rest == record["full"]["bytes"] // 2 - 2 * weights  # two bytes for each number that is no matrix's
        assert groups == weights * bits // 8 + 4 * weights // 64 + rest


def test_compensation_is_better_and_three_bits_follow_the_parabola(record):
    for bits in (5, 4, 3, 2):
        for way in ("row", "group"):
            nearest, compensated = (of(record, "rounding", each, bits)[0] for each in (way, f"gptq {way}"))
            assert compensated["more"] < nearest["more"]
    four, three = (of(record, "rounding", "group", bits)[0] for bits in (4, 3))
    assert three["more"] == pytest.approx(four["more"] * (15 / 7)**2, rel=0.25)


def test_training_brings_half_of_a_cut_back_and_costs_where_nothing_was_cut(record):
    def mean(*row):
        return sum(run["more"] for run in of(record, *row)) / len(of(record, *row))

    cut = mean("pruning", "magnitude", 0.8)
    assert len(of(record, "mended", "at once", 0.8)) == 3 and mean("mended", "nothing", 0.0) > 0.03
    assert 0.4 * cut < mean("mended", "at once", 0.8) < mean("mended", "schedule", 0.8) < 0.65 * cut


def test_leaving_out_costs_what_as_large_an_error_of_rounding_costs(record):
    unit, = of(record, "law", "rounded", 4)
    for way, size in (("magnitude", 0.1), ("magnitude", 0.2), ("magnitude", 0.3), ("random", 0.1)):
        run, = of(record, "law", way, size)
        share = run["square"] / unit["square"]
        assert run["more"] == of(record, "pruning", way, size)[0]["more"]
        assert abs(run["more"] - share * unit["more"]) < 3 * math.hypot(run["more_error"], share * unit["more_error"])
    assert unit["square"] == pytest.approx(0.008, abs=0.001)


def test_bytes_of_both_by_hand(record):
    layers, embedding = 6 * (4 * 192**2 + 8 * 192**2), 2048 * 192
    rest = record["full"]["bytes"] // 4 - layers - embedding
    for share in (0.3, 0.5):
        assert of(record, "both", "magnitude", share)[0]["bytes"] == pytest.approx(
            layers / 8 + (embedding + (1 - share) * layers) * 4.5 / 8 + 2 * rest, abs=1)


def test_counted_pairs_beat_the_students_and_two_bits_by_nearest(record):
    pairs, = of(record, "counted", "pairs", 2)
    assert pairs["bytes"] == 6 * pairs["grams"]
    assert pairs["nats"] < of(record, "rounding", "group", 2)[0]["nats"] - 0.1
    assert all(pairs["nats"] < run["nats"] - 0.5 for run in record["runs"] if run["kind"] == "student")


def test_rows_ruin_minilm_by_the_matrices_that_contract(record):
    (rows,), (groups,) = (of(record, "minilm", way, 4) for way in ("row", "group"))
    by_row, = of(record, "minilm part", "row", 4)
    by_group, = of(record, "minilm part", "group", 4)
    assert by_row["square"] > 3 * by_group["square"]
    assert groups["nats_more"] + 3 * by_row["nats_more_error"] < by_row["nats_more"] < rows["nats_more"]
    assert by_group["nats_more"] + 3 * rows["nats_more_error"] < rows["nats_more"]
    assert by_row["bytes"] + by_group["bytes"] == rows["bytes"] + groups["bytes"]


def test_no_kernel_is_as_fast_as_its_bytes_allow_and_zeros_bring_nothing(record):
    for run in of(record, "times", "layer", 1):
        speed = {name: middle for name, (middle, _) in run["faster"].items()}
        for name, share in (("bfloat16", "1/2"), ("8 bits, kernel", "1/4"), ("4 bits, kernel", "9/64")):
            assert speed[name] < 0.6 * speed[f"float32, {share}"]
        assert speed["zeros, dense"] < 1.3
    assert len(of(record, "times", "token", 768)) == 3


def test_the_drawing_shows_the_record(record):
    drawing = ElementTree.parse(ROOT / "book" / "drawings" / "comp-two.svg")
    shown = [line.text for line in drawing.iter() if line.get("data-of") == "perplexity"]
    rows = [record["full"], *(of(record, "rounding", "group", bits)[0] for bits in (8, 4, 3, 2))]
    assert shown == [f"{math.exp(row['nats']):.1f}" for row in rows]
    texts = [record["text"], *(row["text"] for row in rows[1:])]
    for bits, text in zip((32, 8, 4, 3, 2), texts, strict=True):
        said = " ".join(line.text for line in drawing.iter() if line.get("data-of") == str(bits)).removeprefix("… ")
        assert len(said) > 60 and " ".join(text.split()).startswith(f"The king said to {said}")


def test_pruned_bytes_by_hand(program):
    model = GPT(GPTConfig(vocabulary=10, max_length=4, width=8, num_heads=2, num_layers=1))
    places, numbers = 12 * 64, sum(p.numel() for p in model.parameters())
    for weight in program["inner"](model).values():
        weight.fill_(1.0)
    assert program["sparse_bytes"](model) == 2 * numbers + places // 8
    model.layers[0].feed_forward.expand.weight.data[:4] = 0
    assert program["sparse_bytes"](model) == 2 * (numbers - 32) + places // 8


@pytest.mark.parametrize("gradual", [False, True])
def test_the_share_is_out_at_the_end_of_the_schedule_and_stays_out(program, gradual):
    model = GPT(GPTConfig(vocabulary=10, max_length=4, width=8, num_heads=2, num_layers=1))
    loss = program["PrunedLoss"](program["Pruner"](model, list(program["inner"](model))), 0.75, gradual)
    optimizer, tokens = torch.optim.Adam(model.parameters(), lr=0.1), torch.randint(10, (2, 5))
    shares = []
    for _ in range(program["MEND"]):
        optimizer.zero_grad()
        loss(model, (tokens[:, :-1], tokens[:, 1:])).backward()
        optimizer.step()
        shares.append(loss.pruner.share)
    assert shares[0] == (0.0 if gradual else 0.75) and shares[-1] == 0.75 and shares == sorted(shares)
    loss.pruner()
    assert (model.layers[0].attention.query.weight == 0).float().mean() == 0.75


def test_four_bits_for_the_weights_that_stay(program):
    weight = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    found = program["four_that_stay"](weight, 0.5)
    stays = program["magnitude_mask"](weight, 0.5).bool()
    assert (found == 0)[~stays].all() and (found != 0)[stays].float().mean() > 0.95
    assert (found - weight)[stays].norm() < 0.2 * weight[stays].norm()


def test_ratios_are_of_the_first(program):
    found = program["ratios"]({"once": lambda: sum(range(50_000)), "twice": lambda: sum(range(400_000))}, 5)
    assert found["once"] == [1.0, 0.0] and found["twice"][0] < 0.6


def test_layers_of_the_comparison_compute_the_same_where_they_can(program):
    torch.manual_seed(0)
    layer, inputs = nn.Linear(128, 160), torch.randn(1, 128)
    with torch.no_grad():
        found = {name: each(inputs) for name, each in program["layers"](layer).items()}
    assert torch.allclose(found["zeros, dense"], found["zeros, sparse"], atol=1e-5)
    assert found["a tenth of the units"].shape == (1, 16)
    assert [found[f"float32, {share}"].shape for share in ("1/2", "1/4", "9/64")] == [(1, 80), (1, 40), (1, 22)]
    for name, off in (("bfloat16", 0.02), ("8 bits, kernel", 0.02), ("4 bits, unpacked", 0.1), ("4 bits, kernel", 0.1)):
        assert (found[name] - found["float32"]).norm() < off * found["float32"].norm(), name
