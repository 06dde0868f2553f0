"""MLP, ConvNet, ResNet and MobileNetV2: counts, shapes, what they learn, what they refuse."""

import pytest
import torch
from torch import nn

from tests.closeness import assert_same
from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import load_digits
from tutorlib.evaluation import accuracy
from tutorlib.models import MLP, ConvNet, MobileNetV2, ResNet
from tutorlib.models.resnet import ResidualBlock
from tutorlib.training import cross_entropy, train, warmup_linear


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("build", "count"), [
    (lambda: MLP((784, 128, 10)), 784 * 128 + 128 + 128 * 10 + 10),
    (lambda: ConvNet(), 421_642),
    (lambda: ConvNet(padding=0), 225_034),
    (lambda: ResNet(), 11_689_512),
    (lambda: ResNet((3, 4, 6, 3), (256, 512, 1024, 2048), bottleneck=True), 25_557_032),
    (lambda: MobileNetV2(), 3_504_872),
])
def test_parameters_are_those_of_the_literature(build, count):
    with torch.device("meta"):
        assert parameters(build()) == count


@pytest.mark.parametrize(("model", "shape"), [
    (MLP((12, 5, 3)), (4, 3, 2, 2)),
    (ConvNet(3, image_size=13, in_channels=2, channels=(4, 6), hidden=8, padding=0), (4, 2, 13, 13)),
    (ConvNet(3, image_size=10, in_channels=2, channels=(4, 6), hidden=8, padding=2), (4, 2, 10, 10)),
    (ResNet((1, 1), (4, 8), num_classes=3, stem_width=4), (4, 3, 33, 40)),
    (ResNet((1, 1), (4, 8), num_classes=3, in_channels=1, stem_width=4, small_images=True), (4, 1, 9, 9)),
    (MobileNetV2(3), (4, 3, 64, 64)),
])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_follow_device_and_dtype_of_the_model(model, shape, dtype, device):
    model = model.to(device, dtype)
    logits = model(torch.randn(shape, device=device, dtype=dtype))
    assert logits.shape == (4, 3) and logits.dtype == dtype and logits.device.type == device.type


@pytest.mark.parametrize(("activation", "peer"), [("relu", nn.ReLU()), ("tanh", nn.Tanh()), ("sigmoid", nn.Sigmoid())])
def test_the_mlp_is_linear_layers_with_an_activation_between(activation, peer):
    model = MLP((6, 5, 4, 3), activation=activation)
    layers = list(model.layers)
    reference = nn.Sequential(nn.Flatten(), layers[0], peer, layers[1], peer, layers[2])
    images = torch.randn(7, 1, 2, 3)
    assert_same(model(images), reference(images))
    single = MLP((6, 3), activation=activation)
    assert_same(single(images), single.layers[0](images.flatten(1)))
    assert MLP((6, 3)).activation is nn.functional.relu


@pytest.mark.parametrize("padding", [0, 1])
def test_the_convnet_is_the_documents_layers_in_order(padding):
    model = ConvNet(5, in_channels=2, image_size=15, channels=(4, 6), hidden=8, padding=padding).double()
    reference = nn.Sequential(model.conv1, nn.ReLU(), nn.MaxPool2d(2), model.conv2, nn.ReLU(), nn.MaxPool2d(2),
                              nn.Flatten(), model.hidden, nn.ReLU(), model.output)
    images = torch.randn(7, 2, 15, 15, dtype=torch.float64)
    assert_same(model(images), reference(images))


def test_dropout_acts_on_hidden_states_in_training_only():
    model = MLP((4, 50, 2), dropout=0.5)
    inputs = torch.randn(3, 4)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))
    for activation in ("relu", "sigmoid"):  # all hidden states are dropped: the output's bias is left, and all of it
        nothing = MLP((4, 50, 2), activation=activation, dropout=1.0)
        assert_same(nothing(inputs), nothing.layers[-1].bias.expand(3, 2))
    without_hidden = MLP((4, 2), dropout=1.0)  # neither inputs nor logits are dropped
    assert_same(without_hidden(inputs), without_hidden.layers[0](inputs))
    assert MLP((4, 5, 2)).dropout.p == 0 and MobileNetV2(2).dropout.p == 0.2
    blind = MobileNetV2(2, dropout=1.0)  # the mean over the pixels is dropped
    assert_same(blind(torch.randn(2, 3, 64, 64)), blind.output.bias.expand(2, 2))


def test_a_block_is_the_rectified_sum_or_without_shortcut_the_rectified_correction():
    torch.manual_seed(0)  # a correction through one channel can be zero everywhere
    images = torch.randn(2, 4, 8, 8)
    for options in ({}, dict(bottleneck=True), dict(residual=False)):
        block = ResidualBlock(4, 4, **options).eval()
        correction = block.correction(images)
        assert len(block.correction) == (3 if "bottleneck" in options else 2) and correction.min() < 0
        assert_same(block(images), (correction if "residual" in options else images + correction).relu())


def test_residual_blocks_add_and_plain_ones_do_not():
    """With the last norm's weight at zero the correction is zero: a residual network hands its stem's states through."""
    images = torch.rand(2, 3, 8, 8)
    for residual in (True, False):
        model = ResNet((3,), (4,), num_classes=2, stem_width=4, small_images=True, residual=residual).eval()
        for block in model.blocks:
            nn.init.zeros_(block.correction[-1].norm.weight)
        states = model.blocks(model.stem(images))
        assert_same(states, model.stem(images) if residual else torch.zeros_like(states))
    assert parameters(ResNet((2, 2), (4, 8))) - parameters(ResNet((2, 2), (4, 8), residual=False)) == 64 * 4 + 8 + 4 * 8 + 16


def test_stages_halve_the_image_and_the_stem_quarters_it():
    for small, side in ((False, 64 // 4), (True, 64)):
        model = ResNet((2, 1, 1), (4, 8, 8), num_classes=2, stem_width=4, small_images=small)
        sides = {}
        for number, block in enumerate(model.blocks):
            block.register_forward_hook(lambda module, inputs, output, number=number, sides=sides:
                                        sides.update({number: output.shape[-1]}))
        model(torch.randn(2, 3, 64, 64))
        assert list(sides.values()) == [side, side, side // 2, side // 4]


@pytest.mark.parametrize("build", [lambda: MLP((784, 32, 10)), lambda: ConvNet(channels=(4, 8), hidden=16),
                                   lambda: ResNet((1, 1), (8, 16), num_classes=10, in_channels=1, stem_width=8,
                                                  small_images=True)])
def test_overfits_a_batch(build):
    torch.manual_seed(0)
    digits = load_digits().train
    images, labels = digits.images[:40], digits.labels[:40]
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    train(model, lambda step: (images, labels), cross_entropy, optimizer, steps=60, progress=False)
    predicted = model(images).argmax(-1)  # in training mode still: batch norm's running averages lag behind moving weights
    assert torch.equal(predicted, labels)


@pytest.mark.slow
def test_the_repaired_network_reads_digits():
    torch.manual_seed(0)
    digits, model = load_digits(), ConvNet(channels=(16, 32), hidden=64)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    train(model, ShuffledBatches(*digits.train), cross_entropy, optimizer, steps=300, schedule=warmup_linear(20, 300),
          progress=False)
    assert accuracy(model, *digits.test) >= 0.95


@pytest.mark.parametrize(("build", "message"), [
    (lambda: MLP((5,)), r"sizes must be at least two positive widths, got \(5,\)"),
    (lambda: MLP((5, 0, 2)), r"sizes must be at least two positive widths, got \(5, 0, 2\)"),
    (lambda: MLP((5, 2), activation="elu"), "activation must be one of .*, got 'elu'"),
    (lambda: MLP((5, 2))(torch.ones(3, 4)), r"inputs must have 5 entries each, got the shape \(3, 4\)"),
    (lambda: MLP((5, 2))(torch.ones(3, 1, 2, 2)), r"inputs must have 5 entries each, got the shape \(3, 1, 2, 2\)"),
    (lambda: ConvNet(image_size=9, padding=0), "image_size must leave a pixel after two convolutions and poolings, got 9"),
    (lambda: ResNet((1, 1), (8,)), r"depths and widths must be one positive number a stage, got \(1, 1\) and \(8,\)"),
    (lambda: ResNet((), ()), "depths and widths must be one positive number a stage"),
    (lambda: ResNet((1, 0), (8, 8)), "depths and widths must be one positive number a stage"),
    (lambda: ResNet((1,), (3,), bottleneck=True), "out_channels must be at least 4 with a bottleneck, got 3"),
    (lambda: ResNet((1, 1), (8, 0)), "depths and widths must be one positive number a stage"),
])
def test_impossible_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_smallest_image_that_fits():
    assert ConvNet(3, image_size=10, padding=0)(torch.rand(2, 1, 10, 10)).shape == (2, 3)
