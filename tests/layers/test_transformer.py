"""The Transformer's layers: where dropout acts, what the defaults are, what a cache keeps. Values are compared in parity/."""

import pytest
import torch
from torch import nn

from tests.closeness import assert_same, slow_path
from tutorlib.layers import (
    Decoder,
    DecoderCache,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    decoder_layer,
    encoder_layer,
)
from tutorlib.pretrained import from_torch

LAYERS = pytest.mark.parametrize("make", [encoder_layer, decoder_layer])


def call(layer, states, **options):
    """An encoder layer on the states, or a decoder layer on the states and a memory."""
    return layer(states, *([torch.ones(2, 3, 16)] if isinstance(layer, DecoderLayer) else []), **options)


@LAYERS
@pytest.mark.parametrize("norm_first", [False, True])
def test_every_sublayer_is_dropped_before_it_is_added(make, norm_first):
    """With all of every sublayer dropped, only the residual path is left: the states, or their norms."""
    torch.manual_seed(0)
    layer, states = make(16, 2, 24, dropout=0.3, norm_first=norm_first), torch.randn(2, 4, 16)
    assert layer.dropout.p == 0.3
    layer.dropout.p = 1.0
    norms = [module for module in layer.modules() if isinstance(module, LayerNorm)]
    expected = states
    for norm in [] if norm_first else norms:
        expected = norm(expected)
    assert_same(call(layer, states), expected)
    assert (call(layer.eval(), states) - expected).abs().max() > 0.1


@LAYERS
def test_dropout_reaches_the_weights_and_the_hidden_layer(make):
    parts = list(make(16, 2, 24, dropout=0.3).modules())
    assert [part.dropout for part in parts if isinstance(part, MultiHeadAttention)] == [0.3] * (1 + (make is decoder_layer))
    assert [part.dropout.p for part in parts if isinstance(part, FeedForward)] == [0.3]


def test_the_hidden_layer_is_what_feed_forward_drops():
    """With all of it dropped, the output is the second bias."""
    layer = FeedForward(4, 8, dropout=1.0)
    assert torch.equal(layer(torch.randn(2, 3, 4)), layer.contract.bias.expand(2, 3, 4))


@LAYERS
def test_defaults_are_those_of_torch(make):
    """Post-norm, ReLU, no dropout (torch: 0.1), eps 1e-5, biases everywhere."""
    torch.manual_seed(0)
    peers = {encoder_layer: nn.TransformerEncoderLayer, decoder_layer: nn.TransformerDecoderLayer}
    peer = peers[make](16, 2, 24, dropout=0.0, batch_first=True)
    ours = make(16, 2, 24)
    ours.load_state_dict(from_torch(peer).state_dict())
    states = 1e-2 * torch.randn(2, 4, 16)  # small, so that eps counts
    options = dict(causal=False) if make is decoder_layer else {}
    assert_same(call(ours, states, **options), call_torch(slow_path(peer).train(), states))
    feed_forward = FeedForward(16, 24)
    feed_forward.load_state_dict(ours.feed_forward.state_dict())
    assert_same(feed_forward(states), ours.feed_forward(states))


def call_torch(peer, states):
    return peer(states, torch.ones(2, 3, 16)) if isinstance(peer, nn.TransformerDecoderLayer) else peer(states)


@pytest.mark.parametrize("make", [lambda: decoder_layer(16, 2, 24), lambda: Decoder([decoder_layer(16, 2, 24)])])
def test_a_decoder_is_causal_unless_told_otherwise(make):
    decoder, states, memory = make(), torch.randn(2, 4, 16), torch.randn(2, 3, 16)
    assert_same(decoder(states, memory)[:, :2], decoder(states[:, :2], memory))
    assert_same(decoder(states, memory), decoder(states, memory, causal=True))
    assert (decoder(states, memory, causal=False)[:, :2] - decoder(states[:, :2], memory)).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: encoder_layer(16, 2, 24), lambda: Encoder([encoder_layer(16, 2, 24)])])
def test_an_encoder_is_causal_only_when_told(make):
    encoder, states = make(), torch.randn(2, 4, 16)
    assert_same(encoder(states, causal=True)[:, :2], encoder(states[:, :2], causal=True))
    assert (encoder(states)[:, :2] - encoder(states[:, :2])).abs().max() > 1e-3


@pytest.mark.parametrize("caches", [1, 3])
def test_no_decoder_layer_is_left_out_for_want_of_a_cache(caches):
    decoder = Decoder([decoder_layer(16, 2, 24) for _ in range(2)])
    with pytest.raises(ValueError):
        decoder(torch.randn(2, 1, 16), torch.randn(2, 3, 16), cache=[DecoderCache(4) for _ in range(caches)])


def test_padding_of_source_and_target_has_no_influence():
    """Of a target, what is padded in front matters: what is padded behind is hidden by causality."""
    both = EncoderDecoder(Encoder([encoder_layer(16, 2, 24)]), Decoder([decoder_layer(16, 2, 24)]))
    source, target = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    source_real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    target_real = torch.tensor([[True] * 4, [False] * 2 + [True] * 2])
    expected = both(source, target, source_real, target_mask=target_real)
    assert_same(expected[1:, 2:], both(source[1:, :3], target[1:, 2:]))
    edited = torch.where(target_real[..., None], target, 5.0)
    assert_same(both(source, edited, source_real, target_mask=target_real)[target_real], expected[target_real])


def test_the_memory_is_projected_once():
    layer, cache, memory = decoder_layer(16, 2, 24), DecoderCache(4), torch.randn(2, 3, 16)
    calls = []
    layer.cross_attention.key.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        layer(torch.randn(2, 1, 16), memory, cache=cache)
    assert len(calls) == 1 and cache.own.length == 3
