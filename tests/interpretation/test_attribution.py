"""Maps by hand on functions whose slopes are known; completeness on a model."""

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.interpretation import gradient, gradient_times_input, integrated_gradients, occlusion
from tutorlib.models import ViT, ViTConfig


def weighted_squares(x):
    return (torch.arange(1, x.size(1) + 1).to(x) * x.square()).sum(1)


def test_gradient_by_hand(device):
    x = draw(3, 4, dtype=torch.float64, device=device)
    slope = 2 * torch.arange(1, 5).to(x) * x
    assert_same(gradient(weighted_squares, x), slope)
    assert_same(gradient_times_input(weighted_squares, x), slope * x)
    assert not x.requires_grad


def test_gradient_works_where_gradients_are_off():
    with torch.no_grad():
        assert_same(gradient(weighted_squares, torch.ones(1, 2)), torch.tensor([[2.0, 4.0]]))


@pytest.mark.parametrize("start", [None, torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)])
def test_integrated_gradients_of_squares_are_differences_of_squares(start):
    """The slope is linear along the way, so the midpoints are exact."""
    x = draw(3, 4, dtype=torch.float64)
    begin = torch.zeros(4, dtype=torch.float64) if start is None else start
    assert_same(integrated_gradients(weighted_squares, x, start, steps=3), torch.arange(1, 5) * (x.square() - begin.square()))


def vit():
    torch.manual_seed(0)
    model = ViT(ViTConfig(12, 4, 1, 3, width=8, num_heads=2, num_layers=2)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_integrated_gradients_are_the_path_integral_and_complete():
    """Against Simpson's rule on slopes by finite differences, in three pixels; the map sums to the difference of scores."""
    model, images = vit(), draw(2, 1, 12, 12, dtype=torch.float64)
    score = lambda x: model(x)[:, 1]  # noqa: E731
    found = integrated_gradients(score, images, steps=100)
    with torch.no_grad():
        assert (found.sum((1, 2, 3)) - score(images) + score(0 * images)).abs().max() < 1e-4
        for row, column in ((0, 0), (5, 7), (11, 3)):
            step, total = torch.zeros_like(images), 0.0
            step[..., row, column] = 1e-5
            for number in range(101):
                x = number / 100 * images
                slope = (score(x + step) - score(x - step)) / 2e-5
                total += slope * (1 if number in (0, 100) else 4 if number % 2 else 2) / 300
            assert (found[:, 0, row, column] - images[:, 0, row, column] * total).abs().max() < 1e-4


def test_occlusion_by_hand(device):
    images = draw(2, 1, 4, 6, device=device)
    found = occlusion(lambda x: x.sum((1, 2, 3)), images, 2)
    assert_same(found, torch.nn.functional.avg_pool2d(images, 2)[:, 0] * 4)
    found = occlusion(lambda x: x.sum((1, 2, 3)), images, 2, fill=images)
    assert (found == 0).all()
    found = occlusion(lambda x: x.sum((1, 2, 3)), images, 2, fill=1.0)
    assert_same(found, torch.nn.functional.avg_pool2d(images - 1, 2)[:, 0] * 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_device_follow_the_input(device, dtype):
    images = draw(2, 1, 4, 4, dtype=dtype, device=device)
    for found in (gradient(lambda x: x.square().sum((1, 2, 3)), images), occlusion(lambda x: x.sum((1, 2, 3)), images, 2),
                  integrated_gradients(lambda x: x.square().sum((1, 2, 3)), images)):
        assert found.dtype == dtype and found.device.type == device.type


@pytest.mark.parametrize("call, message", [
    (lambda: gradient(lambda x: x, torch.ones(2, 3)), r"score must return one number an example, \(2,\), got \(2, 3\)"),
    (lambda: integrated_gradients(weighted_squares, torch.ones(2, 3), steps=0), "steps must be at least 1, got 0"),
    (lambda: integrated_gradients(weighted_squares, torch.ones(2, 3), torch.ones(4)), r"start must expand to \(2, 3\)"),
    (lambda: occlusion(weighted_squares, torch.ones(2, 3), 1), r"images must be \(B, C, H, W\) .* got \(2, 3\)"),
    (lambda: occlusion(weighted_squares, torch.ones(2, 1, 4, 5), 2), "multiples of size=2"),
    (lambda: occlusion(lambda x: x.sum(), torch.ones(2, 1, 4, 4), 2), "score must return one number an example"),
])
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
