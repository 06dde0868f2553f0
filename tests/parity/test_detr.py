"""DETR and its loss against transformers, the assignment against scipy; logits, boxes, every layer, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import nn
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.loss import loss_for_object_detection as peer_loss

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.models import DETR
from tutorlib.pretrained import from_transformers
from tutorlib.training.matching import Targets, assign, detr_loss, generalized_iou, match

SIZES = dict(heads=st.sampled_from([1, 2]), per_head=st.sampled_from([4, 8]), encoder=st.integers(1, 2),
             decoder=st.integers(1, 3), hidden=st.integers(1, 12), queries=st.integers(1, 7), labels=st.integers(1, 5),
             layer_type=st.sampled_from(["basic", "bottleneck"]), depths=st.lists(st.integers(1, 2), min_size=1, max_size=2),
             activation=st.sampled_from(["relu", "gelu", "silu"]))


def detr(heads=2, per_head=4, encoder=1, decoder=2, hidden=6, queries=5, labels=3, layer_type="basic", depths=(1, 1),
         activation="relu", backbone=None, **options) -> DetrForObjectDetection:
    """No weight, bias or statistic as it starts: zeros and ones would hide a forgotten tensor."""
    resnet = ResNetConfig(embedding_size=4, hidden_sizes=[8] * len(depths), depths=list(depths), layer_type=layer_type,
                          **{"out_features": [f"stage{len(depths)}"]} | (backbone or {}))
    config = DetrConfig(use_timm_backbone=False, backbone_config=resnet, d_model=heads * per_head,
                        encoder_layers=encoder, decoder_layers=decoder, num_queries=queries, num_labels=labels,
                        activation_function=activation, **{
                            "encoder_attention_heads": heads, "decoder_attention_heads": heads, "encoder_ffn_dim": hidden,
                            "decoder_ffn_dim": hidden, "dropout": 0.0} | options)
    model = DetrForObjectDetection(config)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        nn.init.uniform_(tensor, 0.5, 1.5) if "norm" in name else nn.init.normal_(tensor, std=0.3)
    return model.requires_grad_(True)  # the library freezes its backbone


def padded(images: torch.Tensor) -> torch.Tensor:
    """A mask with another real part, from the upper left corner, in each image: (B, H, W)."""
    mask = torch.zeros(len(images), *images.shape[-2:], dtype=torch.int64)
    for row, (bottom, right) in zip(mask, torch.randint(17, 40, (len(images), 2)).tolist(), strict=True):
        row[:bottom, :right] = 1
    return mask


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), masked=st.booleans(), training=st.booleans(),
       dtype=st.sampled_from([torch.float32, torch.float64]), **SIZES)
def test_detr(seed, batch, masked, training, dtype, **sizes):
    torch.manual_seed(seed)
    peer = detr(**sizes).to(dtype).train(training)
    ours = from_transformers(peer)
    assert isinstance(ours, DETR) and ours.training is training
    images = torch.randn(batch, 3, 37, 41, dtype=dtype, requires_grad=True)
    mask = padded(images) if masked else None
    logits, boxes = ours(images, mask)
    theirs = peer(images, pixel_mask=mask)
    assert_same(logits, theirs.logits, "logits")
    assert_same(boxes, theirs.pred_boxes, "boxes")
    if dtype == torch.float64:  # through relu and pooling, float32 may differ where two values all but tie
        inner = peer.model
        assert_same_gradients(
            torch.cat([logits, boxes], -1), torch.cat([theirs.logits, theirs.pred_boxes], -1),
            [images, ours.queries, ours.backbone.stem.convolution.weight, ours.encoder[0].attention.key.weight,
             ours.decoder[-1].cross_attention.value.weight, ours.to_box[2].bias, ours.norm.weight],
            [images, inner.query_position_embeddings.weight, inner.backbone.model.embedder.embedder.convolution.weight,
             inner.encoder.layers[0].self_attn.k_proj.weight, inner.decoder.layers[-1].encoder_attn.v_proj.weight,
             peer.bbox_predictor.layers[1].bias, inner.decoder.layernorm.weight])


def test_every_layer_is_what_the_heads_of_theirs_say_of_each_decoder_state():
    torch.manual_seed(0)
    peer = detr(decoder=3).double().eval()
    images, states = torch.randn(2, 3, 40, 40, dtype=torch.float64), []
    for layer in peer.model.decoder.layers:
        layer.register_forward_hook(lambda module, inputs, output: states.append(output))
    peer(images)
    logits, boxes = from_transformers(peer).every_layer(images)
    assert len(logits) == len(states) == 3
    for layer, state in enumerate(states):
        normed = peer.model.decoder.layernorm(state)
        assert_same(logits[layer], peer.class_labels_classifier(normed), "logits")
        assert_same(boxes[layer], peer.bbox_predictor(normed).sigmoid(), "boxes")


def test_with_auxiliary_losses_theirs_computes_another_function_and_is_refused():
    """Its decoder then hands on normed states, which the paper's does not: the same weights give other boxes."""
    torch.manual_seed(0)
    plain, auxiliary = detr(), detr(auxiliary_loss=True)
    auxiliary.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 40, 40)
    assert (plain.eval()(images).pred_boxes - auxiliary.eval()(images).pred_boxes).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"DetrForObjectDetection\(auxiliary_loss=True\) is not supported"):
        from_transformers(auxiliary)


COSTS = st.integers(1, 9).flatmap(lambda rows: st.integers(rows, 12).flatmap(lambda columns: st.lists(
    st.lists(st.integers(-40, 40), min_size=columns, max_size=columns), min_size=rows, max_size=rows)))


@settings(max_examples=200, deadline=None)
@given(costs=COSTS)
def test_assignment_is_as_cheap_as_that_of_scipy(costs):
    """Whole costs, so that many assignments tie: the sums are equal, the columns need not be."""
    rows, columns = linear_sum_assignment(costs)
    mine = assign(costs)
    assert len(set(mine)) == len(costs)
    assert sum(row[column] for row, column in zip(costs, mine, strict=True)) == sum(
        costs[row][column] for row, column in zip(rows, columns, strict=True))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 4), min_size=1, max_size=3), layers=st.integers(1, 3))
def test_loss_matching_and_gradients(seed, counts, layers):
    torch.manual_seed(seed)
    logits, raw = (torch.randn(layers, len(counts), 5, 4, requires_grad=True) for _ in range(2))  # theirs takes float32
    labels = [torch.randint(3, (number,)) for number in counts]
    boxes = [torch.rand(number, 4) * 0.5 + 0.25 for number in counts]
    config = DetrConfig(num_labels=3, auxiliary_loss=True, decoder_layers=layers, use_timm_backbone=False,
                        backbone_config=ResNetConfig())
    theirs, *_ = peer_loss.ForObjectDetectionLoss(
        logits[-1], [{"class_labels": a, "boxes": b} for a, b in zip(labels, boxes, strict=True)], "cpu",
        raw.sigmoid()[-1], config, logits, raw.sigmoid())
    ours = detr_loss(logits, raw.sigmoid(), Targets.of(labels, boxes))
    assert_same(ours, theirs, "loss")
    assert_same_gradients(ours, theirs, [logits, raw], [logits, raw])


def test_matched_queries():
    torch.manual_seed(0)
    logits, boxes = torch.randn(3, 6, 5), torch.rand(3, 6, 4) * 0.5 + 0.25
    labels, there = [torch.randint(4, (n,)) for n in (4, 0, 2)], [torch.rand(n, 4) * 0.5 + 0.25 for n in (4, 0, 2)]
    pairs = peer_loss.HungarianMatcher(1, 5, 2)(
        {"logits": logits, "pred_boxes": boxes}, [{"class_labels": a, "boxes": b} for a, b in zip(labels, there, strict=True)])
    expected = [dict(zip(objects.tolist(), queries.tolist(), strict=True)) for queries, objects in pairs]
    ours = match(logits, boxes, Targets.of(labels, there)).split([4, 0, 2])
    assert [dict(enumerate(chosen.tolist())) for chosen in ours] == expected


def test_generalized_iou():
    torch.manual_seed(0)
    first, second = (torch.rand(30, 4, dtype=torch.float64) + 0.05 for _ in range(2))
    theirs = peer_loss.generalized_box_iou(*(peer_loss.center_to_corners_format(boxes) for boxes in (first, second)))
    assert_same(generalized_iou(first[:, None], second), theirs)


@pytest.mark.parametrize(("option", "value"), [
    ("position_embedding_type", "learned"), ("decoder_attention_heads", 4), ("decoder_ffn_dim", 7),
    ("encoder_layerdrop", 0.1), ("decoder_layerdrop", 0.1), ("activation_function", "tanh"), ("dilation", True)])
def test_options_that_ours_lacks_are_refused_by_name(option, value):
    with pytest.raises(ValueError, match=rf"DetrForObjectDetection\({option}={value}\) is not supported"):
        from_transformers(detr(**{option.replace("activation_function", "activation"): value}))


@pytest.mark.parametrize(("option", "value"), [
    ("hidden_act", "gelu"), ("downsample_in_first_stage", True), ("out_features", ["stage1"])])
def test_backbones_that_ours_lacks_are_refused_by_name(option, value):
    with pytest.raises(ValueError, match=rf"DetrForObjectDetection\(backbone_config.{option}=.*\) is not supported"):
        from_transformers(detr(backbone={option: value}))


def test_another_backbone_is_refused():
    model = detr()
    model.config.backbone_config = None
    with pytest.raises(ValueError, match=r"backbone_config=None\) is not supported, only a ResNetConfig"):
        from_transformers(model)


def test_dropouts_are_taken_over():
    ours = from_transformers(detr(dropout=0.1, attention_dropout=0.2, activation_dropout=0.3))
    encoder, decoder = ours.encoder[0], ours.decoder[0]
    assert (encoder.dropout.p, encoder.attention.dropout, encoder.feed_forward.dropout.p) == (0.1, 0.2, 0.3)
    assert (decoder.dropout.p, decoder.attention.dropout, decoder.cross_attention.dropout,
            decoder.feed_forward.dropout.p) == (0.1, 0.2, 0.2, 0.3)
