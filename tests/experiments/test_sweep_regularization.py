"""The sweep of regularizers: stacked networks train as alone, its criteria are what they say, its record comes out again."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tutorlib.data.batches import ShuffledBatches
from tutorlib.records import run_of
from tutorlib.training import cross_entropy, train, warmup_linear

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "sweep_regularization.py"
RECORD = ROOT / "records" / "regularization.json"
TOLERANCE = 0.02  # nats, of the sum of ten losses: float32 sums in another order, after three steps
METHODS = ["none", "L1", "L2", "dropout", "smoothing", "noise", "pixels", "shift", "rotate", "cutout", "mixup", "cutmix"]


def test_a_network_among_ten_trains_as_alone(program):
    run = program["Run"]("none", steps=20)
    networks, _ = program["trained"](run)
    alone = program["started"](3)
    train(alone, ShuffledBatches(*program["digits_of"](3, run), batch_size=program["BATCH"], seed=3), cross_entropy,
          torch.optim.Adam(alone.parameters(), lr=program["RATE"]), steps=20, schedule=warmup_linear(0, 20), clip_norm=None,
          progress=False)
    for k, layer in enumerate(alone.layers):
        torch.testing.assert_close(networks.weights[k][3].T, layer.weight, rtol=0, atol=1e-4)
        torch.testing.assert_close(networks.biases[k].view(program["R"], -1)[3], layer.bias, rtol=0, atol=1e-4)


def test_the_parts_of_the_smoothed_loss_add_up(program):
    logits, labels = torch.randn(6, 10), torch.randint(10, (6,))
    certainty, evenness = (program["partly_smoothed"](part, 0.1, logits, labels) for part in ("certainty", "evenness"))
    torch.testing.assert_close(certainty + evenness - F.cross_entropy(logits, labels),
                               F.cross_entropy(logits, labels, label_smoothing=0.1))


def test_the_cap_silences_the_sure_examples_alone(program):
    logits = torch.tensor([[9.0, 0.0], [0.0, 1.0]], requires_grad=True)
    program["partly_smoothed"]("cap", 0.1, logits, torch.tensor([0, 1])).backward()
    assert logits.grad[0].tolist() == [0, 0] and logits.grad[1].abs().min() > 0


def test_meaningless_changes_have_the_size_of_a_shift(program):
    images = program["parts"]()[0].images[:50]
    generator = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    moved = program["shift"](images, 2, generator())
    noisy = program["meaningless"](images, 2, "noise", generator())
    torch.testing.assert_close((noisy - images).flatten(1).norm(dim=1), (moved - images).flatten(1).norm(dim=1))
    scrambled = program["meaningless"](images, 2, "scrambled", generator())
    assert scrambled.shape == images.shape and not torch.equal(scrambled, moved)
    assert torch.equal(program["meaningless"](images, 0, "scrambled", generator()), images)


def test_noise_and_dropped_pixels_keep_the_mean(program):
    images = program["parts"]()[0].images[:50]
    generator = torch.Generator().manual_seed(0)
    noisy = program["noisy"](images, 0.6, generator)
    assert (noisy - images).std().item() == pytest.approx(0.6, rel=0.05)
    blanked = program["blanked"](images, 0.5, generator)
    ink = images > 0.5
    assert (blanked[ink] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert blanked[ink].mean().item() == pytest.approx(images[ink].mean().item(), rel=0.05)
    assert not blanked[images == 0].any()


def test_random_labels_are_the_same_digits_in_another_order(program):
    true, shuffled = (program["digits_of"](2, program["Run"]("none", labels=labels)) for labels in ("true", "random"))
    assert torch.equal(true.images, shuffled.images) and not torch.equal(true.labels, shuffled.labels)
    assert true.labels.bincount().tolist() == shuffled.labels.bincount().tolist() == [30] * 10


def test_the_record_is_whole(program, record):
    kept = {run_of(program["Run"], each) for each in record["runs"]}
    for method in [*METHODS, "stopping", "more digits", "together"]:
        for plan in program["plans"](record, method):
            assert set(plan()) <= kept, method
    assert all(len(each[part]) == program["R"] for each in record["runs"] for part in ("seen", "validation", "test"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_first_losses_are_those_of_the_record(program, record, method):
    for kept in program["found"](record, method=method, size=300):
        if kept["strength"] == program["chosen"](record, method):
            _, history = program["trained"](run_of(program["Run"], kept), 3)
            assert history.losses == pytest.approx(kept["first"], abs=TOLERANCE)


@pytest.mark.slow
def test_a_method_is_measured_and_written(program, tmp_path, monkeypatch, capsys):
    path = tmp_path / "record.json"
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(path), "--only", "together"])
    monkeypatch.setitem(program["main"].__globals__, "LENGTHS", (1, 2))
    program["main"]()
    entry, = json.loads(path.read_text())["runs"]
    assert entry["method"] == "shift + rotate" and entry["steps"] == 2 and len(entry["test"]) == 10
    assert all(0 <= share <= 1 for share in entry["test"]) and capsys.readouterr().out.startswith("shift + rotate")


def test_refuses_an_unknown_method(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--only", "prayer"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "prayer" in capsys.readouterr().err
