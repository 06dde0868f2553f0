"""The record of the denoisers: its first losses come out again, it is whole, and its weights draw what it says."""

import base64
import io
import math
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tutorlib.data.digits import load_digits
from tutorlib.models.diffusion import Denoiser

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_diffusion.py"
RECORD = ROOT / "records" / "train_diffusion.json"
WEIGHTS = RECORD.with_suffix(".safetensors")
TOLERANCE = 2e-3  # float32 sums in another order, after four steps


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program, record):
    train = load_digits().train
    images, labels = program["signed"](train.images[:2000]), train.labels[:2000]
    losses = program["run"](images, labels, "straight", "velocity", program["FIRST"], 0, fast=None)[2]
    assert losses == pytest.approx(record["first_losses"], abs=TOLERANCE)
    # a new network gives zeros: the loss is that of the velocity, of which the noise has 1
    assert losses[0] == pytest.approx(1 + images.square().mean().item(), abs=0.05)


def test_record_is_whole(record):
    settings = record["settings"]
    assert record["parameters"] == sum(weights.numel() for weights in Denoiser().parameters())
    long = record["long"]["straight"]
    assert long["curve"][-1]["step"] == settings["steps"] and settings["middle"] in {c["step"] for c in long["curve"]}
    assert set(long["errors"]) == {"training", "held out"}
    for dial in ("steps", "steps, fresh noise", "weights"):
        assert {len(scores) for scores in long[dial].values()} == {3}
    seeds, paths, targets = settings["seeds"], ("straight", "cosine"), ("image", "noise", "velocity")
    assert len(seeds) >= 2
    middle = {(run["target"], run["rate"], run["seed"]) for run in record["middle"]}
    assert middle == {("velocity", "stays", 0), ("velocity", "stays", 1), ("image", "stays", 0),
                      ("velocity", "falls", 0), ("noise", "stays", 0)}
    assert {len(run[key]) for run in record["middle"] for key in ("scores", "raw")} == {3}
    assert [len(record["real"][name]) for name in ("copies", "best guess", "held out")] == [6, 6, 2]
    found = {(run["path"], run["target"], run["seed"]) for run in record["targets"]}
    assert found == {(path, target, seed) for path in paths for target in targets for seed in seeds}
    late = {run["path"] for run in record["targets"] if "late" in run}
    assert late == set(paths)
    assert {(run["order"], run["switch"]) for run in record["relay"]} == {
        (order, switch) for order in ("image, then noise", "noise, then image") for switch in (0.3, 0.5)}
    assert len({run["seed"] for run in record["vae"]}) >= 2
    assert {run["deviation"] for run in record["vae"] if "real_codes" in run} >= {0.3, 3.0}
    assert record["few"][0]["png"]
    assert all(len(run["errors"]) == len(record["targets"][0]["errors"]) for run in record["weighted"][:1])


def test_the_long_run_reaches_what_the_page_says(record):
    scores = record["long"]["straight"]["draws"]
    copies, best = ([s["frechet"] for s in record["real"][name]] for name in ("copies", "best guess"))
    assert sum(s["judge"] for s in scores) / len(scores) >= 0.97
    assert sum(copies) / len(copies) < sum(best) / len(best) < min(s["frechet"] for s in scores)


def test_a_falling_rate_does_what_an_average_does(record):
    def far(rate, key):
        wanted = ("velocity", rate, 0)
        scores = next(run[key] for run in record["middle"] if (run["target"], run["rate"], run["seed"]) == wanted)
        return sum(s["frechet"] for s in scores) / len(scores)

    assert far("stays", "raw") - far("stays", "scores") > 20
    assert max(abs(far("falls", key) - far("stays", "scores")) for key in ("raw", "scores")) < 8


def test_the_controls_tell_a_copier_from_the_network(record):
    controls = record["controls"]
    losses, lie = controls["losses"], controls["nearest"]
    assert losses["best guess"]["training"][0] < 0.5 * losses["network"]["training"][0]
    assert losses["best guess"]["unseen"][0] > 5 * losses["network"]["unseen"][0]
    assert losses["network"]["training"][0] < losses["network"]["unseen"][0] < 1.1 * losses["network"]["training"][0]
    assert all(some["training"] < 0.1 < 10 < some["unseen"] for some in lie["best guess"])
    assert all(0.1 < some["unseen"] - some["training"] < 0.6 for some in lie["network"])
    assert all(abs(some["unseen"] - some["training"]) < 0.2 for some in lie["held out"])
    slow, copies = controls["best guess, 50 steps"], record["real"]["copies"]
    assert abs(sum(s["frechet"] for s in slow) / len(slow) - sum(s["frechet"] for s in copies) / len(copies)) < 8


def test_an_asked_denoiser_sees_the_straight_path(program):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    time = torch.tensor([0.3, 0.9])
    seen = []
    program["on_cosine"](lambda noisy, when: seen.append((noisy, when)))(
        program["mix"](clean, noise, program["at"](program["cosine"], time, clean)), time)
    ((noisy, when),) = seen
    assert torch.allclose(noisy, program["mix"](clean, noise, program["at"](program["straight"], when, clean)), atol=1e-5)


def test_a_weighted_loss_of_the_noise_is_that_of_the_image(program):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(64, 1, 4, 4, generator=generator)
    found = program["weighted_loss"](lambda noisy, time, labels: torch.zeros_like(noisy), clean, None, program["straight"],
                                     torch.Generator().manual_seed(1))
    generator.manual_seed(1)
    time, noise = torch.rand(64, generator=generator), torch.randn(clean.shape, generator=generator)
    c = program["at"](program["straight"], time, clean)
    guess = program["mix"](clean, noise, c) / c.signal  # what is left if the noise is taken for 0
    early = (c.noise / c.signal).square().flatten() <= program["HEAVIEST"]
    squares = (guess - clean).square().flatten(1).mean(1)  # (B,)
    late = program["HEAVIEST"] * noise.square().flatten(1).mean(1)
    assert torch.allclose(found, torch.where(early, squares, late).mean(), rtol=1e-4)


def test_the_weight_mends_the_image_and_hardly_the_drawing(record):
    noise, velocity = (next(run for run in record["targets"] if (run["path"], run["target"], run["seed"]) == wanted)
                       for wanted in (("straight", "noise", 0), ("straight", "velocity", 0)))
    weighted = record["weighted"][0]
    assert weighted["errors"][10] < 0.5 * noise["errors"][10]
    assert weighted["frechet"] > 3 * velocity["frechet"]


def test_generator_judge_and_reference_have_digits_of_their_own(program):
    train, test = load_digits()
    assert program["TRAINED_ON"] == 2000 and len(train.images) == 4000
    seen, judged = train.images[:2000].flatten(1), train.images[2000:].flatten(1)
    assert torch.cdist(seen, judged).min() > 0 and torch.cdist(seen, test.images.flatten(1)).min() > 0


@pytest.mark.slow
def test_weights_are_small_and_draw_as_recorded(program, record):
    assert WEIGHTS.stat().st_size < 4_000_000
    networks = program["load_weights"](WEIGHTS)
    labels, generator = program["asked_for"](100), torch.Generator().manual_seed(0)
    noise = torch.randn(100, 1, 28, 28, generator=generator)
    drawn = program["sample_back"](program["drawing"](networks["straight"], "velocity", "straight", labels),
                                   program["straight"], noise, 10)
    right = (networks["judge"]((drawn + 1) / 2).argmax(1) == labels).float().mean().item()
    expected = record["long"]["straight"]["draws"][0]["judge"]
    assert right > expected - 5 * math.sqrt(expected * (1 - expected) / 100) - 0.01


def test_judge_is_that_of_the_record(program, record):
    judge, test = program["load_weights"](WEIGHTS)["judge"], load_digits().test
    assert program["accuracy"](judge, *test) == pytest.approx(record["judge"]["accuracy"], abs=0.002)


def test_weights_are_kept_in_float16(program, tmp_path):
    torch.manual_seed(0)
    networks = {"judge": program["ConvNet"](), "straight": Denoiser()}
    program["save_weights"](networks, tmp_path / "weights.safetensors")
    for name, network in program["load_weights"](tmp_path / "weights.safetensors").items():
        for key, weights in network.state_dict().items():
            assert torch.equal(weights, networks[name].state_dict()[key].half().float()), (name, key)


def test_a_normal_distribution_has_the_moments_of_its_class(program):
    members = [torch.randn(40, 784, generator=torch.Generator().manual_seed(k)) * 0.1 + k / 20 for k in range(10)]
    drawn = program["normal"](members).flatten(1)
    for k in range(10):
        assert torch.allclose(drawn[k::10].mean(), members[k].mean(), atol=0.01)
        assert torch.allclose(drawn[k::10].std(0).mean(), members[k].std(0).mean(), rtol=0.1)


def test_the_drawing_shows_what_the_weights_draw(program):
    image_module = pytest.importorskip("PIL.Image")
    drawing = ElementTree.parse(ROOT.parent / "book" / "drawings" / "digits-drawn.svg")
    shown = {part.get("data-of"): part.get("href") for part in drawing.iter() if part.get("data-of")}
    for name, pixels in program["shown"](program["load_weights"](WEIGHTS)["straight"]).items():
        data = base64.b64decode(shown[name].removeprefix("data:image/png;base64,"))
        found = bytearray(image_module.open(io.BytesIO(data)).convert("L").tobytes())
        found = torch.frombuffer(found, dtype=torch.uint8).view(pixels.shape)
        assert (found.float() - pixels.float()).abs().mean() < 2  # of 255


def test_refuses_unknown_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "--color" in capsys.readouterr().err
