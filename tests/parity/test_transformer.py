"""Encoder, decoder and the whole model against `nn.Transformer*`: values and gradients, on drawn configs."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients, slow_path
from tutorlib.layers import EncoderDecoder, FeedForward, encoder_layer
from tutorlib.pretrained import from_torch

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")

LAYER = dict(heads=st.sampled_from([1, 2, 4]), per_head=st.integers(1, 4), hidden=st.integers(1, 20),
             activation=st.sampled_from(["relu", "gelu"]), norm_first=st.booleans(), bias=st.booleans(),
             dtype=st.sampled_from([torch.float32, torch.float64]))


def shake(module: nn.Module) -> nn.Module:
    """Random norms and biases too, so that one left at its initial 1 or 0 shows."""
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    return module


def padding(batch: int, length: int) -> torch.Tensor:
    """(B, S) boolean, True = a real token; the first position always is."""
    return torch.arange(length) < torch.randint(1, length + 1, (batch, 1))


def pair_mask(kind: str, queries: int, keys: int, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The same mask in our convention and in torch's, where True hides."""
    if kind == "none":
        return None, None
    allowed = torch.rand(queries, keys) < 0.6
    allowed[:, 0] = True
    if kind == "boolean":
        return allowed, ~allowed
    added = torch.randn(queries, keys, dtype=dtype).masked_fill(~allowed, float("-inf"))
    return added, added


def float_padding(mask: torch.Tensor, kind: str, dtype: torch.dtype) -> torch.Tensor:
    """torch wants the padding mask of the same kind as the pair mask."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf")) if kind == "float" else ~mask


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 7), layers=st.integers(1, 3), final_norm=st.booleans(),
       kind=st.sampled_from(["none", "boolean", "float"]), padded=st.booleans(), eps=st.sampled_from([1e-5, 0.1]), **LAYER)
def test_encoder(seed, length, layers, final_norm, kind, padded, eps, heads, per_head, hidden, activation, norm_first, bias,
                 dtype):
    torch.manual_seed(seed)
    width, batch = 2 * heads * per_head, 3
    layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.1, activation, eps, True, norm_first, bias, dtype=dtype)
    norm = nn.LayerNorm(width, bias=bias, dtype=dtype) if final_norm else None
    peer = slow_path(shake(nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)))
    ours = from_torch(peer)
    states = torch.randn(batch, length, width, dtype=dtype, requires_grad=True)
    mask, peer_mask = pair_mask(kind, length, length, dtype)
    real = padding(batch, length) if padded else None
    reference = peer(states, peer_mask, float_padding(real, kind, dtype) if padded else None)
    output = ours(states, mask, padding_mask=real)
    assert_same(output, reference)
    assert_same_gradients(output, reference, [states], [states])


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), targets=st.integers(1, 6), sources=st.integers(1, 6), layers=st.integers(1, 2),
       kind=st.sampled_from(["none", "boolean", "float"]), memory_kind=st.sampled_from(["none", "boolean", "float"]),
       padded=st.booleans(), causal=st.booleans(), **LAYER)
def test_decoder(seed, targets, sources, layers, kind, memory_kind, padded, causal, heads, per_head, hidden, activation,
                 norm_first, bias, dtype):
    torch.manual_seed(seed)
    width, batch = 2 * heads * per_head, 3
    layer = nn.TransformerDecoderLayer(width, heads, hidden, 0.1, activation, 1e-5, True, norm_first, bias, dtype=dtype)
    peer = slow_path(shake(nn.TransformerDecoder(layer, layers)))
    ours = from_torch(peer)
    states = torch.randn(batch, targets, width, dtype=dtype, requires_grad=True)
    memory = torch.randn(batch, sources, width, dtype=dtype, requires_grad=True)
    mask, peer_mask = pair_mask(kind, targets, targets, dtype)
    if causal:
        look_ahead = torch.ones(targets, targets, dtype=torch.bool).triu(1)
        peer_mask = look_ahead if peer_mask is None else (
            peer_mask | look_ahead if kind == "boolean" else peer_mask.masked_fill(look_ahead, float("-inf")))
    memory_mask, peer_memory_mask = pair_mask(memory_kind, targets, sources, dtype)
    real, memory_real = (padding(batch, targets), padding(batch, sources)) if padded else (None, None)
    reference = peer(states, memory, peer_mask, peer_memory_mask,
                     float_padding(real, kind, dtype) if padded else None,
                     float_padding(memory_real, memory_kind, dtype) if padded else None)
    output = ours(states, memory, mask, padding_mask=real, memory_mask=memory_mask, memory_padding_mask=memory_real,
                  causal=causal)
    assert_same(output, reference)
    assert_same_gradients(output, reference, [states, memory], [states, memory])


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), targets=st.integers(1, 6), sources=st.integers(1, 6), encoders=st.integers(1, 2),
       decoders=st.integers(1, 2), padded=st.booleans(), batch_first=st.booleans(), **LAYER)
def test_transformer(seed, targets, sources, encoders, decoders, padded, batch_first, heads, per_head, hidden, activation,
                     norm_first, bias, dtype):
    torch.manual_seed(seed)
    width, batch = 2 * heads * per_head, 3
    peer = slow_path(shake(nn.Transformer(width, heads, encoders, decoders, hidden, 0.1, activation, norm_first=norm_first,
                                          batch_first=batch_first, bias=bias, dtype=dtype)))
    ours = from_torch(peer)
    assert isinstance(ours, EncoderDecoder)
    source = torch.randn(batch, sources, width, dtype=dtype, requires_grad=True)
    target = torch.randn(batch, targets, width, dtype=dtype, requires_grad=True)
    real = padding(batch, sources) if padded else None
    hidden_keys = None if real is None else ~real
    order = (lambda x: x) if batch_first else (lambda x: x.transpose(0, 1))
    reference = order(peer(order(source), order(target), tgt_mask=torch.ones(targets, targets, dtype=torch.bool).triu(1),
                           src_key_padding_mask=hidden_keys, memory_key_padding_mask=hidden_keys))
    output = ours(source, target, real)
    assert_same(output, reference)
    assert_same_gradients(output, reference, [source, target], [source, target])


def test_a_copy_shares_no_storage_and_trains_in_every_parameter():
    peer = nn.Transformer(16, 2, 2, 2, 24, 0.0, batch_first=True)
    before = [p.clone() for p in peer.parameters()]
    ours = from_torch(peer)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters())
    ours(torch.randn(2, 3, 16), torch.randn(2, 4, 16)).square().sum().backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert all(torch.equal(p, q) for p, q in zip(peer.parameters(), before, strict=True))


def test_mode_device_and_dtype_are_kept(device):
    peer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, dtype=torch.bfloat16).to(device).eval()
    ours = from_torch(peer)
    assert not ours.training and all(p.dtype == torch.bfloat16 and p.device.type == device.type for p in ours.parameters())
    states = torch.randn(2, 3, 16, dtype=torch.bfloat16, device=device)
    with torch.enable_grad():
        assert_same(ours(states), slow_path(peer)(states))


def test_dropout_sits_where_torch_has_it():
    """With dropout almost 1 every sublayer vanishes: a dropout missing in one place lets that sublayer through."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.3, batch_first=True)
    ours = from_torch(layer)
    assert (ours.attention.dropout, ours.feed_forward.dropout.p, ours.dropout.p) == (0.3, 0.3, 0.3)
    states = torch.randn(64, 8, 16)
    torch.manual_seed(1)
    our_spread = torch.stack([ours(states) for _ in range(200)]).var(0).mean()
    their_spread = torch.stack([layer(states) for _ in range(200)]).var(0).mean()
    assert abs(our_spread / their_spread - 1) < 0.05


def test_every_dropout_of_a_decoder_is_taken_over():
    ours = from_torch(nn.TransformerDecoderLayer(16, 2, 24, dropout=0.3))
    assert (ours.attention.dropout, ours.cross_attention.dropout, ours.feed_forward.dropout.p, ours.dropout.p) == (0.3,) * 4


@pytest.mark.parametrize("activation", ["relu", F.relu, nn.ReLU(), "gelu", F.gelu, nn.GELU()])
def test_an_activation_may_be_named_a_function_or_a_module(activation):
    peer = slow_path(nn.TransformerEncoderLayer(8, 2, 12, activation=activation, batch_first=True))
    states = torch.randn(2, 3, 8)
    assert_same(from_torch(peer)(states), peer(states))


@pytest.mark.parametrize("activation", [F.silu, nn.GELU(approximate="tanh"), nn.Tanh()])
def test_another_activation_is_refused(activation):
    with pytest.raises(ValueError, match=r"TransformerEncoderLayer\(activation=.*\) is not supported, only relu and the exact"):
        from_torch(nn.TransformerEncoderLayer(8, 2, 12, activation=activation, batch_first=True))
    with pytest.raises(ValueError, match=r"activation must be one of .*'relu', .*'silu', .*\], got 'swish'"):
        FeedForward(8, 12, activation="swish")


@pytest.mark.parametrize("module, message", [
    (nn.LayerNorm((3, 4)), r"LayerNorm\(normalized_shape=\(3, 4\)\) is not supported"),
    (nn.LayerNorm(4, elementwise_affine=False), r"LayerNorm\(elementwise_affine=False\) is not supported")])
def test_other_layer_norms_are_refused(module, message):
    with pytest.raises(ValueError, match=message):
        from_torch(module)


def test_another_class_is_refused():
    """A subclass too: it may compute something else."""
    class Centered(nn.LayerNorm):
        pass
    with pytest.raises(TypeError, match="got Centered"):
        from_torch(Centered(4))
    with pytest.raises(TypeError, match=r"from_torch takes .*MultiheadAttention.*, got Conv2d"):
        from_torch(nn.Conv2d(1, 1, 3))


def test_post_norm_and_pre_norm_differ():
    """Guards the tests above: with equal weights the two orders must not give the same output."""
    torch.manual_seed(0)
    post = encoder_layer(8, 2, 12)
    pre = encoder_layer(8, 2, 12, norm_first=True)
    pre.load_state_dict(post.state_dict())
    states = torch.randn(2, 3, 8)
    assert (post(states) - pre(states)).abs().max() > 0.1
