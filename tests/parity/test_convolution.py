"""Convolution, batch norm, ResNet and MobileNetV2 against PyTorch and transformers, on drawn configs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.data.photographs import load_photographs, to_input
from tutorlib.layers import BatchNorm, batch_norm, conv2d
from tutorlib.layers.convolution import FORMS
from tutorlib.models import ResNet
from tutorlib.pretrained import from_transformers, load


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), groups=st.sampled_from([1, 1, 2, 3]), inner=st.integers(1, 3),
       outer=st.integers(1, 3), height=st.integers(5, 9), width=st.integers(5, 9), kernel_size=st.integers(1, 5),
       stride=st.integers(1, 3), padding=st.integers(0, 2), bias=st.booleans(), form=st.sampled_from(list(FORMS)),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_convolution(seed, batch, groups, inner, outer, height, width, kernel_size, stride, padding, bias, form, dtype):
    torch.manual_seed(seed)
    images = torch.randn(batch, groups * inner, height, width, dtype=dtype, requires_grad=True)
    weight = torch.randn(groups * outer, inner, kernel_size, kernel_size, dtype=dtype, requires_grad=True)
    shift = torch.randn(groups * outer, dtype=dtype, requires_grad=True) if bias else None
    ours = conv2d(images, weight, shift, stride=stride, padding=padding, groups=groups, form=form)
    reference = F.conv2d(images, weight, shift, stride=stride, padding=padding, groups=groups)
    assert_same(ours, reference)
    inputs = [images, weight] + ([shift] if bias else [])
    assert_same_gradients(ours, reference, inputs, inputs)


@given(seed=st.integers(0, 10**6), batch=st.integers(2, 4), channels=st.integers(1, 5), eps=st.sampled_from([1e-5, 0.1]),
       momentum=st.sampled_from([0.1, 0.5]), training=st.booleans(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_batch_norm(seed, batch, channels, eps, momentum, training, dtype):
    torch.manual_seed(seed)
    peer = nn.BatchNorm2d(channels, eps, momentum, dtype=dtype)
    for tensor in (peer.weight, peer.bias, peer.running_mean, peer.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    ours = BatchNorm(channels, eps, momentum).to(dtype)
    ours.load_state_dict({name: tensor.clone() for name, tensor in peer.state_dict().items() if "tracked" not in name})
    images = (3 + torch.randn(batch, channels, 4, 5, dtype=dtype)).requires_grad_()
    mean, variance = ((images.mean((0, 2, 3)), images.var((0, 2, 3), unbiased=False)) if training
                      else (peer.running_mean.clone(), peer.running_var.clone()))
    for output in (ours.train(training)(images), batch_norm(images, mean, variance, peer.weight, peer.bias, eps)):
        reference = copy.deepcopy(peer).train(training)(images)
        assert_same(output, reference)
        assert_same_gradients(output, reference, [images], [images])
    peer.train(training)(images)
    assert_same(ours.running_mean, peer.running_mean, "running mean")
    assert_same(ours.running_var, peer.running_var, "running variance")


def randomize(model: nn.Module) -> nn.Module:
    """No weight, bias or statistic as it starts: zeros and ones would hide a forgotten tensor."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "normalization" in name and tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif name.startswith("classifier"):
            nn.init.normal_(tensor)
    return model


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), layer_type=st.sampled_from(["basic", "bottleneck"]),
       depths=st.lists(st.integers(1, 3), min_size=1, max_size=3), multiple=st.integers(1, 3), same_width=st.booleans(),
       channels=st.integers(1, 4), labels=st.integers(1, 7), size=st.integers(24, 40), training=st.booleans(), data=st.data())
def test_resnet(seed, layer_type, depths, multiple, same_width, channels, labels, size, training, data):
    torch.manual_seed(seed)
    widths = [4 * multiple * (1 if same_width else stage + 1) for stage in range(len(depths))]
    stem = data.draw(st.sampled_from([widths[0], 5]))
    config = ResNetConfig(num_channels=channels, embedding_size=stem, hidden_sizes=widths, depths=depths, layer_type=layer_type,
                          num_labels=labels)
    peer = randomize(ResNetForImageClassification(config)).double().train(training)
    ours = from_transformers(peer)
    assert isinstance(ours, ResNet) and ours.training is training
    images = torch.randn(2, channels, size, size + 1, dtype=torch.float64, requires_grad=True)
    output, reference = ours(images), peer(images).logits
    assert_same(output, reference)
    assert_same_gradients(output, reference, [images, ours.output.weight, ours.stem.convolution.weight],
                          [images, peer.classifier[1].weight, peer.resnet.embedder.embedder.convolution.weight])


@pytest.fixture(scope="module")
def mobilenet():
    return load("mobilenet")


def test_mobilenet_equals_transformers_with_the_same_weights(mobilenet):
    """The library's class with the eps and the padding of the weights' publisher; tensors come in the same order."""
    ours, _ = mobilenet
    config = MobileNetV2Config(layer_norm_eps=1e-5, tf_padding=False, num_labels=1000)
    peer = MobileNetV2ForImageClassification(config).eval()
    names = [name for name in peer.state_dict() if "tracked" not in name]
    peer.load_state_dict(dict(zip(names, ours.state_dict().values(), strict=True)), strict=False)
    pictures = load_photographs()[:2]
    images = torch.cat([to_input(picture.image) for picture in pictures])
    with torch.no_grad():
        assert_same(ours(images), peer(images).logits)
    small = to_input(pictures[0].image, 64).requires_grad_()
    output, reference = ours(small), peer(small).logits
    assert_same_gradients(output, reference, [small], [small])


def test_real_weights_recognize_real_photographs(mobilenet):
    model, names = mobilenet
    assert not model.training and len(names) == 1000
    pictures = load_photographs()
    with torch.inference_mode():
        logits = torch.cat([model(to_input(picture.image)) for picture in pictures])
    top = logits.topk(5).indices.tolist()
    assert all(picture.label in guesses for picture, guesses in zip(pictures, top, strict=True))
    assert sum(picture.label == guesses[0] for picture, guesses in zip(pictures, top, strict=True)) >= 18
