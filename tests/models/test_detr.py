"""DETR beside its equality with transformers: shapes, positions, padding, frozen norms, learning, refusal."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.layers.convolution import ConvNorm
from tutorlib.models import DETR, DETRConfig
from tutorlib.models.detr import FrozenConvNorm, freeze_norms, sine_position
from tutorlib.training.matching import Targets, detr_loss

SMALL = dict(num_classes=3, num_queries=5, width=16, num_heads=2, hidden=24, num_encoder_layers=1, num_decoder_layers=2,
             dropout=0.0, depths=(1, 1), widths=(8, 16), stem_width=8, bottleneck=False)


def small(**options) -> DETR:
    torch.manual_seed(0)
    return DETR(DETRConfig(**SMALL | options))


def test_shapes_devices_and_dtypes(device):
    for dtype in (torch.float32, torch.bfloat16):
        model = small().to(device, dtype)
        images = torch.rand(2, 3, 32, 48, device=device, dtype=dtype)
        logits, boxes = model(images, torch.ones(2, 32, 48, device=device))
        assert logits.shape == (2, 5, 4) and boxes.shape == (2, 5, 4) and logits.dtype == boxes.dtype == dtype
        assert boxes.min() > 0 and boxes.max() < 1
        logits, boxes = model.every_layer(images)
        assert logits.shape == (2, 2, 5, 4) and boxes.shape == (2, 2, 5, 4)


def test_the_default_has_the_size_of_the_paper():
    """Table 1 of the paper: 41 million; the class head is COCO's."""
    with torch.device("meta"):
        model = DETR(DETRConfig())
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) in (41, 42)


def test_the_last_of_every_layer_is_the_output():
    model, images = small().eval(), torch.rand(2, 3, 32, 32)
    for last, every in zip(model(images), model.every_layer(images), strict=True):
        assert_same(every[-1], last)


def test_a_mask_of_ones_is_no_mask():
    model, images = small().eval(), torch.rand(2, 3, 40, 32)
    for one, other in zip(model(images), model(images, torch.ones(2, 40, 32)), strict=True):
        assert_same(other, one)


def test_what_lies_in_the_padding_does_not_matter_beyond_the_reach_of_the_convolutions():
    """The paper pads with zeros; the ResNet sees over the edge, the Transformer does not."""
    model = small().eval()
    model.backbone = nn.AvgPool2d(8)  # sees no further than its window
    model.projection = nn.Conv2d(3, 16, 1)
    images = torch.rand(2, 3, 32, 48)
    mask = torch.zeros(2, 32, 48)
    mask[:, :24, :32] = 1
    changed = images.where(mask[:, None] > 0, torch.randn(images.shape))
    for one, other in zip(model(images, mask), model(changed, mask), strict=True):
        assert_same(other, one)


def test_positions_by_hand():
    mask = torch.ones(1, 2, 4, dtype=torch.bool)
    mask[:, :, 3] = False  # one column of padding: three real ones reach 2 pi
    code = sine_position(mask, 8, 10000.0, torch.float64)[0]
    assert torch.equal(code[..., ::4], sine_position(mask, 8, 20.0, torch.float64)[0, ..., ::4])  # the first wave is as long
    assert sine_position(mask, 8, 20.0)[0, 0, 0, 2].item() == pytest.approx(math.sin(math.pi / 20 ** 0.5), abs=1e-5)
    for row in range(2):
        for column in range(3):
            places = 2 * math.pi * (row + 1) / 2, 2 * math.pi * (column + 1) / 3
            angles = [place / 10000 ** (2 * k / 4) for place in places for k in range(2)]
            expected = [turn(angle) for angle in angles for turn in (math.sin, math.cos)]
            assert code[row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_positions_go_to_queries_and_keys_and_not_to_values():
    """With every place alike, an encoder layer gives the same at each, whatever the positions: values have none."""
    layer = small().eval().encoder[0]
    memory = torch.randn(1, 1, 16).expand(1, 12, 16)
    plain, placed = layer(memory, torch.zeros(1, 12, 16)), layer(memory, torch.randn(1, 12, 16))
    assert_same(placed, plain)
    different = torch.randn(1, 12, 16)
    assert (layer(different, torch.zeros(1, 12, 16)) - layer(different, torch.randn(1, 12, 16))).abs().max() > 1e-3


def test_queries_change_places_with_their_outputs():
    """A set: nothing but the query itself says which output it is."""
    model, images = small().eval(), torch.rand(1, 3, 32, 32)
    logits, boxes = model(images)
    order = torch.tensor([3, 0, 4, 1, 2])
    model.queries.data = model.queries.data[order]
    turned = model(images)
    assert_same(turned[0], logits[:, order])
    assert_same(turned[1], boxes[:, order])


def test_the_memory_is_asked_by_keys_with_positions():
    """Without positions the decoder could not tell places apart: the same picture, mirrored map, would give the same boxes."""
    model, images = small().eval(), torch.rand(1, 3, 32, 32)
    memory, position, _ = model.encoded(images)
    layer, states = model.decoder[0], torch.randn(1, 5, 16)
    turned = torch.arange(memory.size(1) - 1, -1, -1)
    asked = layer(states, model.queries, memory + position, memory)
    assert_same(layer(states, model.queries, (memory + position)[:, turned], memory[:, turned]), asked)
    assert (layer(states, model.queries, memory[:, turned] + position, memory[:, turned]) - asked).abs().max() > 1e-4


def frozen_pair(training=False):
    torch.manual_seed(0)
    unit = ConvNorm(3, 6, 3, stride=2).double().train(training)
    for tensor in (*unit.norm.parameters(), *unit.norm.buffers()):
        nn.init.uniform_(tensor, 0.5, 1.5)
    return unit, FrozenConvNorm(copy.deepcopy(unit))


def test_a_frozen_norm_is_the_norm_in_evaluation_mode_and_trains_the_same_kernel():
    unit, frozen = frozen_pair()
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    assert_same(frozen(images), unit(images))
    assert_same_gradients(frozen(images), unit(images), [images, frozen.convolution.weight], [images, unit.convolution.weight])


def test_a_frozen_norm_stays_in_training_and_learns_nothing():
    unit, frozen = frozen_pair(training=True)
    before = {name: tensor.clone() for name, tensor in frozen.norm.state_dict().items()}
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    assert_same(frozen.train()(images), frozen.eval()(images))
    assert [name for name, _ in frozen.named_parameters()] == ["convolution.weight"]
    assert frozen.state_dict().keys() == unit.state_dict().keys()
    assert all(torch.equal(frozen.norm.state_dict()[name], tensor) for name, tensor in before.items())


def test_all_norms_of_the_backbone_are_frozen_or_none():
    assert not any(isinstance(m, FrozenConvNorm) for m in small().modules())
    model = small(frozen_norms=True)
    assert not any(isinstance(m, ConvNorm) for m in model.modules())
    assert sum(isinstance(m, FrozenConvNorm) for m in model.modules()) == 6  # stem, two blocks of two, one shortcut
    live = small().eval()
    freeze_norms(live)
    images = torch.rand(1, 3, 32, 32)
    assert_same(live(images)[1], small().eval()(images)[1])


def test_overfits_one_batch():
    """Two pictures with other boxes and classes each: all are found, the right query sure, the others "no object"."""
    model = small()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[0.3, 0.3, 0.2, 0.4], [0.7, 0.6, 0.3, 0.3]]), torch.tensor([[0.5, 0.4, 0.6, 0.2]])]
    targets = Targets.of([torch.tensor([0, 2]), torch.tensor([1])], boxes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = detr_loss(*model.every_layer(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits, found = model(images)
    labels = logits.argmax(-1)
    assert (labels < 3).sum(1).tolist() == [2, 1] and set(labels[0].tolist()) == {0, 2, 3}
    assert (found[1][labels[1] < 3] - boxes[1]).abs().max() < 0.05


@pytest.mark.parametrize(("options", "message"), [
    (dict(width=18), "width must be a multiple of 4"), (dict(num_queries=0), "num_queries must be at least 1, got 0"),
    (dict(base=0), "base must be a number above 0"),
    (dict(num_heads=3), "width must be a positive multiple of num_heads"), (dict(widths=(8,)), "depths and widths must be")])
def test_sizes_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_inputs_that_are_refused():
    with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\)"):
        small()(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match=r"pixel_mask must have the shape \(2, 32, 40\), got \(1, 32, 40\)"):
        small()(torch.rand(2, 3, 32, 40), torch.ones(1, 32, 40))
