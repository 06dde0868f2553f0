"""Convolution's properties, pooling, receptive fields, the unit of residual networks and its folding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.closeness import assert_same
from tutorlib.layers import (
    ConvNorm,
    avg_pool2d,
    conv2d,
    fold_batch_norms,
    max_pool2d,
    output_size,
    receptive_field,
    windows,
)
from tutorlib.layers.convolution import FORMS
from tutorlib.models import MobileNetV2, ResNet


@pytest.mark.parametrize("form", FORMS)
def test_a_window_by_hand(form):
    """A corner detector on a 3 x 3 image; a flipped kernel would give [[4, 4], [4, 4]]."""
    image = torch.arange(9.0).view(1, 1, 3, 3)
    kernel = torch.tensor([[[[1.0, 0.0], [0.0, -1.0]]]])
    assert conv2d(image, kernel, form=form).flatten().tolist() == [-4.0] * 4
    assert conv2d(image, kernel, torch.tensor([10.0]), form=form).flatten().tolist() == [6.0] * 4


@pytest.mark.parametrize("form", FORMS)
def test_a_shifted_image_gives_shifted_maps(form):
    """Translation equivariance away from the border."""
    image, weight = torch.randn(1, 2, 9, 9, dtype=torch.float64), torch.randn(3, 2, 3, 3, dtype=torch.float64)
    shifted = image.roll((2, 1), (2, 3))
    assert_same(conv2d(shifted, weight, form=form)[..., 2:, 1:], conv2d(image, weight, form=form)[..., :-2, :-1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_and_dtype_follow_the_input(form, dtype, device):
    output = conv2d(torch.randn(2, 3, 8, 8, device=device, dtype=dtype), torch.randn(4, 3, 3, 3, device=device, dtype=dtype),
                    torch.randn(4, device=device, dtype=dtype), padding=1, form=form)
    assert output.dtype == dtype and output.device.type == device.type and output.shape == (2, 4, 8, 8)


def test_windows_are_a_view_that_says_where_it_looks():
    image = torch.arange(20.0).view(1, 1, 4, 5)
    view = windows(image, 2, stride=2)
    assert view.shape == (1, 1, 2, 2, 2, 2) and view[0, 0, 1, 1].tolist() == [[12.0, 13.0], [17.0, 18.0]]
    assert view.untyped_storage().data_ptr() == image.untyped_storage().data_ptr()
    padded = windows(image, 3, padding=1, value=7.0)
    assert padded.shape == (1, 1, 4, 5, 3, 3) and padded[0, 0, 0, 0].tolist() == [[7, 7, 7], [7, 0, 1], [7, 5, 6]]


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(2, None, 0), (3, 2, 1), (2, 1, 0), (3, 3, 1)])
def test_pooling_equals_pytorchs(kernel_size, stride, padding):
    images = -torch.rand(2, 3, 7, 8)  # all negative: a padding of zeros would be the largest
    assert_same(max_pool2d(images, kernel_size, stride, padding), F.max_pool2d(images, kernel_size, stride, padding))
    assert_same(avg_pool2d(images, kernel_size, stride, padding), F.avg_pool2d(images, kernel_size, stride, padding))


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_output_size_counts_positions(kernel_size, stride, padding):
    positions = [start for start in range(0, 11 + 2 * padding, stride) if start + kernel_size <= 11 + 2 * padding]
    assert output_size(11, kernel_size, stride, padding) == len(positions)


def test_a_window_may_just_fit_but_not_more():
    assert output_size(3, 5, padding=1) == 1
    with pytest.raises(ValueError, match="kernel_size must be at most size \\+ 2 padding = 5, got 6"):
        output_size(3, 6, padding=1)
    for height, width in ((5, 2), (2, 5)):
        with pytest.raises(ValueError, match="size \\+ 2 padding = 2, got 3"):
            windows(torch.ones(1, 1, height, width), 3)


def test_a_window_of_padding_alone_has_no_largest_pixel():
    with pytest.raises(ValueError, match="padding must be less than kernel_size = 2, got 2"):
        max_pool2d(torch.ones(1, 1, 4, 4), 2, padding=2)
    assert torch.equal(max_pool2d(-torch.ones(1, 1, 4, 4), 3, 1, 2), -torch.ones(1, 1, 6, 6))  # one pixel is enough


@pytest.mark.parametrize("layers", [[(3, 1)], [(3, 1), (3, 1)], [(3, 2), (3, 1)], [(5, 1), (2, 2), (3, 1)],
                                    [(2, 2), (3, 2), (3, 3)]])
def test_the_receptive_field_is_where_the_gradient_reaches(layers):
    image = torch.zeros(1, 1, 64, 64, requires_grad=True)
    states = image
    for kernel_size, stride in layers:
        states = F.conv2d(states, torch.ones(1, 1, kernel_size, kernel_size), stride=stride)
    states[0, 0, 1, 1].backward()
    assert (image.grad[0, 0].sum(0) != 0).sum() == receptive_field(layers)


@pytest.mark.parametrize(("arguments", "message"), [
    ((torch.ones(2, 3, 4), torch.ones(1, 3, 2, 2)), r"images must be \(B, C, H, W\) and weight \(O, C, K, K\), got \(2, 3, 4"),
    ((torch.ones(1, 3, 4, 4), torch.ones(1, 3, 2)), r"got \(1, 3, 4, 4\) and \(1, 3, 2\)"),
    ((torch.ones(1, 3, 4, 4), torch.ones(1, 3, 2, 3)), r"got \(1, 3, 4, 4\) and \(1, 3, 2, 3\)"),
    ((torch.ones(1, 4, 4, 4), torch.ones(1, 3, 2, 2)), r"weight must have C / groups channels .* got \(1, 3, 2, 2\) for C = 4"),
])
def test_shapes_that_disagree_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        conv2d(*arguments)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1, 1), ()])
def test_a_bias_of_another_size_is_refused_not_broadcast(form, shape):
    with pytest.raises(ValueError, match=r"bias must be \(O,\) = \(2,\), got"):
        conv2d(torch.ones(1, 1, 4, 4), torch.ones(2, 1, 2, 2), torch.ones(shape), form=form)


def test_outputs_that_groups_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="O a multiple of groups = 2"):
        conv2d(torch.ones(1, 4, 4, 4), torch.ones(3, 2, 2, 2), groups=2)


def test_the_fused_form_is_the_default(monkeypatch):
    monkeypatch.setitem(FORMS, "fused", lambda images, *_: images)
    images = torch.ones(1, 1, 4, 4)
    assert conv2d(images, torch.ones(1, 1, 2, 2)) is images


def test_an_unknown_form_or_activation_is_refused():
    with pytest.raises(ValueError, match="form must be one of .*'fused', 'window', 'columns'.*, got 'loops'"):
        conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2), form="loops")
    with pytest.raises(ValueError, match="activation must be one of .*, got 'elu'"):
        ConvNorm(1, 1, 3, activation="elu")


@pytest.mark.parametrize("activation", ["relu", "relu6", None])
def test_the_unit_is_convolution_then_norm_then_activation(activation):
    unit = ConvNorm(4, 6, 3, stride=2, groups=2, activation=activation).double()
    peer = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), nn.BatchNorm2d(6),
                         {"relu": nn.ReLU(), "relu6": nn.ReLU6(), None: nn.Identity()}[activation]).double()
    peer[0].weight.data, unit.norm.weight.data[:] = unit.convolution.weight.data, 9.0  # wide enough to reach 6
    peer[1].weight.data[:] = 9.0
    images = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    assert_same(unit(images), peer(images))


def test_weights_start_with_the_variance_of_he():
    torch.manual_seed(0)
    weight = ConvNorm(64, 128, 3).convolution.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def trained_statistics(model: nn.Module) -> nn.Module:
    """Norms that do something: random weights, biases and running statistics."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "norm" in name:
            tensor.data.uniform_(0.5, 1.5)
    return model.double().eval()


@pytest.mark.parametrize("build", [lambda: ResNet((1, 1), (8, 16), num_classes=5, stem_width=8),
                                   lambda: ResNet((1, 1), (8, 16), num_classes=5, stem_width=8, bottleneck=True),
                                   lambda: MobileNetV2(num_classes=5)])
def test_folding_changes_nothing_but_the_norms(build):
    torch.manual_seed(0)
    model = trained_statistics(build())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_batch_norms(model.train())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert model.training and not folded.training and not any(p.requires_grad for p in folded.parameters())
    assert_same(folded(images), model.eval()(images))
    assert not any("norm" in name for name in folded.state_dict())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_single_image_is_no_batch():
    """Of (C, H, W) the window would slide over channels and rows."""
    image = torch.zeros(3, 8, 8)
    for function in (lambda: max_pool2d(image, 2), lambda: avg_pool2d(image, 2), lambda: windows(image, 2)):
        with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\), got \(3, 8, 8\)"):
            function()


@pytest.mark.parametrize("options, message", [
    (dict(padding=-1), "padding must be at least 0, got -1"),
    (dict(stride=0), "stride must be at least 1, got 0"),
    (dict(stride=-1), "stride must be at least 1, got -1")])
def test_windows_that_do_not_move_or_lie_outside(options, message):
    images, weight = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 2, 2)
    calls = [lambda: output_size(8, 2, **options), lambda: max_pool2d(images, 2, **options),
             lambda: avg_pool2d(images, 2, **options), *(lambda f=f: conv2d(images, weight, form=f, **options) for f in FORMS)]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_window_of_nothing():
    with pytest.raises(ValueError, match="kernel_size must be at least 1, got 0"):
        avg_pool2d(torch.zeros(1, 1, 4, 4), 0)
