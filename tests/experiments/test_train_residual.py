"""The record of what makes deep networks trainable: complete, and what the script gives; its cuts change gradients alone."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutorlib.data.digits import load_digits
from tutorlib.layers.convolution import conv2d
from tutorlib.models import ResNet
from tutorlib.records import missing

TOOL = Path(__file__).parents[2] / "experiments" / "train_residual.py"
RECORD = TOOL.parent / "records" / "residual.json"


def test_the_record_has_all_runs(program, record):
    assert not missing(program["planned"](), record)
    assert not missing(program["readers"](), {"runs": record["readers"]})


@pytest.mark.parametrize("fields", [{"depth": 8, "skip": 0.0}, {"depth": 8}, {"gradient": "skip"}])
def test_the_first_ten_steps_are_those_of_the_record(program, record, fields):
    run = program["Run"](**fields)
    found = next(one for one in record["runs"] if all(one[name] == value for name, value in run._asdict().items()))
    _, losses = program["trained"](run, program["shrunk"](load_digits()), steps=10)
    assert sum(losses) / 10 == pytest.approx(found["losses"][0], rel=0.05)


@pytest.mark.parametrize("kind", ["perceptron", "residual 8, flattened"])
def test_readers_begin_as_in_the_record(program, record, kind):
    found = next(one for one in record["readers"] if one["kind"] == kind and one["seed"] == 0)
    losses, _ = program["moved_scores"](program["Reader"](kind, 0), load_digits(), steps=3)
    assert losses == pytest.approx(found["losses"], rel=0.02)


def test_a_cut_changes_gradients_and_nothing_else(program):
    images = torch.rand(4, 1, 7, 7)
    found = {}
    for gradient in ("both", "skip", "branch"):
        model = program["network"](program["Run"](depth=8, gradient=gradient))
        logits = model(images)
        logits.square().sum().backward()
        found[gradient] = logits.detach(), model.stem.convolution.weight.grad
    for gradient in ("skip", "branch"):
        assert torch.equal(found[gradient][0], found["both"][0])
        assert not torch.allclose(found[gradient][1], found["both"][1])


def test_group_norm_takes_the_place_of_batch_norm_and_ignores_the_batch(program):
    images = torch.rand(4, 1, 7, 7)
    for groups in (1, 4):
        model = program["network"](program["Run"](depth=8, groups=groups))
        assert not [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
        assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)


def test_frozen_kernels_stay(program):
    model = program["reader"](program["Reader"](program["FROZEN"], 0))
    assert not model.conv1.weight.requires_grad and model.conv2.weight.requires_grad


def test_factors_of_zero_and_one_are_the_plain_and_the_residual_network(program):
    images = torch.rand(4, 1, 7, 7)
    for skip, residual in ((0.0, False), (1.0, True)):
        model = program["network"](program["Run"](depth=8, skip=skip))
        library = ResNet([3], [16], num_classes=10, in_channels=1, stem_width=16, small_images=True, residual=residual)
        library.load_state_dict(model.state_dict())
        assert_close(model(images), library(images))


def test_equal_kernels_at_all_places_are_a_convolution(program):
    convolution = nn.Conv2d(2, 4, 3, padding=1)
    unshared = program["Unshared"](convolution, 6)
    with torch.no_grad():
        unshared.weight.copy_(convolution.weight.flatten(1).expand_as(unshared.weight))
        unshared.bias.copy_(convolution.bias[:, None].expand_as(unshared.bias))
    images = torch.randn(3, 2, 6, 6)
    assert_close(unshared(images), conv2d(images, convolution.weight, convolution.bias, padding=1), rtol=1e-4, atol=1e-5)


def test_shuffled_pixels_are_the_same_pixels(program):
    shuffled = program["Shuffled"](nn.Identity(), 36)
    images = torch.randn(2, 1, 6, 6)
    assert_close(shuffled(images).flatten(1).sort().values, images.flatten(1).sort().values)
    assert torch.equal(shuffled(images), shuffled(images)) and not torch.equal(shuffled(images), images)
