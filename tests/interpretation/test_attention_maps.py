"""Attention weights are those that the layers used; rollout is the product of its definition."""

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.interpretation import attention_rollout, attention_weights, cross_attention_weights
from tutorlib.models import GPT, MLP, GPTConfig, ViT, ViTConfig
from tutorlib.models.transformer import Transformer, TransformerConfig

SMALL = ViTConfig(image_size=12, patch_size=4, in_channels=1, num_classes=3, width=8, num_heads=2, num_layers=3)


def small(dtype=torch.float32, device="cpu"):
    torch.manual_seed(0)
    return ViT(SMALL).to(device, dtype).eval()


def test_weights_are_one_distribution_a_query_and_layer(device):
    for dtype in (torch.float32, torch.bfloat16):
        weights = attention_weights(small(dtype, device), draw(2, 1, 12, 12, dtype=dtype, device=device))
        assert [w.shape for w in weights] == [(2, 2, 10, 10)] * 3
        assert all(w.dtype == dtype and w.device.type == device.type and not w.requires_grad for w in weights)
        for w in weights:
            assert_same(w.sum(-1), torch.ones(2, 2, 10, dtype=dtype, device=device))


def test_weights_by_hand():
    """The first layer's, from its queries and keys; the second's follow from the first's output, so the order counts."""
    model, images = small(), draw(2, 1, 12, 12)
    found = attention_weights(model, images)
    states = model.position(torch.cat([model.class_token.expand(2, -1, -1), model.patches(images)], 1))  # (B, T, D)
    for layer, weights in zip(model.layers, found, strict=True):
        normed = layer.attention_norm(states)
        query, key = (m(normed).unflatten(-1, (2, 4)).transpose(1, 2) for m in (layer.attention.query, layer.attention.key))
        assert_same(weights, (query @ key.mT / 2).softmax(-1).detach())  # the root of K = 4
        states = layer(states)


def test_a_mask_counts_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model, tokens = GPT(GPTConfig(9, 7, 8, 2, 2)).eval(), torch.randint(9, (2, 7))
    before = model(tokens)
    weights = attention_weights(model, tokens)
    assert len(weights) == 2 and all((w.triu(1) == 0).all() for w in weights)
    assert torch.equal(model(tokens), before)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_hooks_are_removed_where_the_model_raises():
    model = small()
    with pytest.raises(ValueError, match="images must have the shape"):
        attention_weights(model, draw(2, 1, 16, 16))
    assert not any(layer._forward_hooks for layer in model.modules())


def test_rollout_by_hand():
    first, second = torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # (T, T)
    # second's mixture [[.5, .5], [.5, .5]] times first's [[.75, .25], [0, 1]]
    expected = torch.tensor([[0.375, 0.625], [0.375, 0.625]])
    assert_same(attention_rollout([first[None, None], second[None, None]])[0], expected)


def test_rollout_takes_the_mean_over_heads_and_keeps_the_rows_sums(device):
    weights = [draw(2, 3, 5, 5, seed=layer, device=device).softmax(-1) for layer in range(4)]
    rollout = attention_rollout(weights)
    assert_same(rollout.sum(-1), torch.ones(2, 5, device=device))
    eye, product = torch.eye(5, device=device), torch.eye(5, device=device).expand(2, 5, 5)
    for layer in weights:
        product = (layer.mean(1) / 2 + eye / 2) @ product
    assert_same(rollout, product)


def test_layers_that_look_only_at_themselves_leave_the_identity():
    assert torch.equal(attention_rollout([torch.eye(4).expand(2, 3, 4, 4)] * 3), torch.eye(4).expand(2, 4, 4))


@pytest.mark.parametrize("weights, message", [
    ([], "weights must hold at least one layer, got none"),
    ([torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 5)], r"\(B, H, T, T\) = \(1, H, 4, 4\), got \(1, 2, 4, 5\)"),
    ([torch.ones(1, 2, 4, 4), torch.ones(1, 4, 4)], r"got \(1, 4, 4\)"),
])
def test_refused_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        attention_rollout(weights)


def test_a_model_without_attention_is_refused():
    with pytest.raises(ValueError, match="model must call a MultiHeadAttention, got MLP, which calls none"):
        attention_weights(MLP((4, 3)), torch.ones(1, 4))


def test_cross_attention_is_what_the_decoder_reads_with():
    torch.manual_seed(0)
    sizes = dict(width=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=2, hidden=16, dropout=0.0)
    model = Transformer(TransformerConfig(9, 9, norm_first=True, **sizes)).eval()
    source, target = torch.tensor([[3, 4, 5, 2, 0], [6, 7, 8, 3, 2]]), torch.tensor([[1, 4, 5], [1, 6, 7]])
    mask = source != 0
    before = model(source, target, mask)
    weights = cross_attention_weights(model, source, target, mask)
    assert [tuple(each.shape) for each in weights] == [(2, 2, 3, 5)] * 2
    for each in weights:
        torch.testing.assert_close(each.sum(-1), torch.ones(2, 2, 3))
        assert not each[0, ..., 4].any()  # padding is not read
    assert torch.equal(model(source, target, mask), before)
    layer = model.layers.decoder.layers[0]  # by hand: the first layer's values, weighed, are its cross-attention's output
    memory = model.encode(source, mask)
    states = model._embed("target", target, model.target_embedding, model.target_position)
    states = states + layer.attention(layer.attention_norm(states), causal=True)
    _, values = layer.cross_attention.keys_and_values(memory, memory)
    read = layer.cross_attention.output((weights[0] @ values).transpose(1, 2).flatten(2))
    theirs = layer.cross_attention(layer.cross_attention_norm(states), memory, padding_mask=mask)
    torch.testing.assert_close(read, theirs)


def test_cross_attention_asks_for_the_norm_first():
    model = Transformer(TransformerConfig(9, 9, width=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, hidden=8))
    with pytest.raises(ValueError, match="model must have norm_first=True"):
        cross_attention_weights(model, torch.ones(1, 2).long(), torch.ones(1, 2).long())
