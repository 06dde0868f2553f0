"""Norms: the explicit formula, PyTorch's kernel and our modules agree."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.layers import BatchNorm, LayerNorm, RMSNorm, batch_norm, layer_norm, rms_norm


@given(seed=st.integers(0, 10**6), width=st.integers(3, 9), eps=st.sampled_from([1e-6, 1e-5, 0.1]), bias=st.booleans(),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_layer_norm(seed, width, eps, bias, dtype):
    torch.manual_seed(seed)
    peer = nn.LayerNorm(width, eps, bias=bias, dtype=dtype)
    for parameter in peer.parameters():
        nn.init.normal_(parameter)
    ours = LayerNorm(width, eps, bias).to(dtype)
    ours.load_state_dict(peer.state_dict())
    apart = 3 * torch.arange(width, dtype=dtype)  # entries that nearly agree have a tiny deviation, which magnifies rounding
    states = (torch.randn(3, 4, width, dtype=dtype) + apart).requires_grad_()
    explicit = layer_norm(states, peer.weight, peer.bias, eps)
    for output in (explicit, ours(states)):
        assert_same(output, peer(states))
        assert_same_gradients(output, peer(states), [states], [states])


@given(seed=st.integers(0, 10**6), width=st.integers(1, 9), eps=st.sampled_from([1e-6, 0.1]),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_rms_norm(seed, width, eps, dtype):
    torch.manual_seed(seed)
    peer = nn.RMSNorm(width, eps, dtype=dtype)
    nn.init.normal_(peer.weight)
    ours = RMSNorm(width, eps).to(dtype)
    ours.load_state_dict(peer.state_dict())
    states = torch.randn(3, 4, width, dtype=dtype, requires_grad=True)
    for output in (rms_norm(states, peer.weight, eps), ours(states)):
        assert_same(output, peer(states))
        assert_same_gradients(output, peer(states), [states], [states])


def test_a_new_norm_scales_by_one_with_the_documented_eps():
    """States as small as the root of eps: another eps would show."""
    states = 1e-3 * torch.randn(5, 8, dtype=torch.float64)
    peers = nn.LayerNorm(8, eps=1e-5, dtype=torch.float64)(states), nn.RMSNorm(8, eps=1e-6, dtype=torch.float64)(states)
    one = torch.ones(8, dtype=torch.float64)
    modules = LayerNorm(8).double()(states), RMSNorm(8).double()(states)
    for outputs in (modules, (layer_norm(states, one), rms_norm(states, one))):
        for output, peer in zip(outputs, peers, strict=True):
            assert_same(output, peer)


def test_a_new_batch_norm_starts_and_moves_as_pytorchs():
    """Images as small as the root of eps: another eps would show; so would another momentum, or other first statistics."""
    images, ours, peer = 1e-3 * torch.randn(5, 3, 2, 2, dtype=torch.float64), BatchNorm(3).double(), nn.BatchNorm2d(3).double()
    one, zero = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    assert_same(ours.eval()(images), peer.eval()(images))
    assert_same(ours.train()(images), peer.train()(images))
    assert_same(ours.running_mean, peer.running_mean)
    assert_same(ours.running_var, peer.running_var)
    variance = images.var((0, 2, 3), unbiased=False)
    assert_same(batch_norm(images, images.mean((0, 2, 3)), variance, one, zero), peer(images))


def test_the_variance_is_divided_by_the_width():
    """[1, 0, 0, 0] becomes 1.732 = sqrt(3); with the unbiased variance, divided by 3, it would become 1.5."""
    one_hot = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert layer_norm(one_hot, torch.ones(4), eps=0.0)[0].item() == pytest.approx(3**0.5, rel=1e-6)


@pytest.mark.parametrize("norm", [LayerNorm(16), RMSNorm(16)])
def test_device_and_dtype_follow_the_module(norm, device):
    norm = norm.to(device, torch.bfloat16)
    assert norm(torch.randn(2, 16, device=device, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("width", [1, 7])
def test_a_weight_of_another_width_is_refused(width):
    for norm in (layer_norm, rms_norm):
        with pytest.raises(ValueError, match=rf"weight must have the width 8 in the last dimension, got \({width},\)"):
            norm(torch.ones(2, 3, 8), torch.ones(width))
    with pytest.raises(ValueError, match=r"bias must have the width 8"):
        layer_norm(torch.ones(2, 3, 8), torch.ones(8), torch.ones(width))


def test_batch_norm_takes_images_and_a_number_a_channel():
    numbers = torch.ones(3)
    for images in (torch.ones(3, 4, 4), torch.ones(2, 3)):
        with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\)"):
            BatchNorm(3)(images)
        with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\)"):
            batch_norm(images, numbers, numbers, numbers, numbers)
    with pytest.raises(ValueError, match=r"variance must have the shape \(C,\) = \(3,\), got \(1,\)"):
        batch_norm(torch.ones(2, 3, 4, 4), numbers, torch.ones(1), numbers, numbers)
