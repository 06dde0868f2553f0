"""RNN, LSTM and GRU against `nn.RNN`, `nn.LSTM` and `nn.GRU` and their cells, on drawn configs, in both forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.closeness import assert_same
from tutorlib.layers.recurrent import GRUCell, LSTMCell, RNNCell
from tutorlib.pretrained import from_torch

KINDS = {"tanh": nn.RNN, "relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS = {nn.RNNCell: RNNCell, nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell}
DTYPES = st.sampled_from([torch.float32, torch.float64])


def as_list(state):
    """The tensors of a state: one, or an LSTM's two."""
    return [state] if isinstance(state, torch.Tensor) else list(state)


def weighted_sum(outputs, state):
    """A scalar in which every output and every last state has a weight of its own."""
    generator = torch.Generator().manual_seed(7)
    return sum((part * torch.randn(part.shape, generator=generator).to(part)).sum() for part in [outputs, *as_list(state)])


def run_peer(peer, inputs, state, lengths, batch_first):
    """The peer's outputs and state, packed where there are lengths; always (B, T, ...)."""
    inputs = inputs if batch_first else inputs.transpose(0, 1)
    if lengths is None:
        outputs, state = peer(inputs, state)
        return (outputs if batch_first else outputs.transpose(0, 1)), state
    packed = pack_padded_sequence(inputs, lengths, batch_first=batch_first, enforce_sorted=False)
    outputs, state = peer(packed, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=inputs.size(1 if batch_first else 0))[0], state


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(sorted(KINDS)), batch=st.integers(1, 4), length=st.integers(1, 7),
       width=st.integers(1, 5), hidden=st.integers(1, 6), num_layers=st.integers(1, 3), bidirectional=st.booleans(),
       bias=st.booleans(), batch_first=st.booleans(), ragged=st.booleans(), with_state=st.booleans(), dtype=DTYPES,
       fused=st.booleans())
def test_layers(seed, kind, batch, length, width, hidden, num_layers, bidirectional, bias, batch_first, ragged, with_state,
                dtype, fused):
    """Outputs, last state, and the gradients of both in the inputs, the first state and every parameter."""
    torch.manual_seed(seed)
    options = dict(nonlinearity=kind) if KINDS[kind] is nn.RNN else {}
    peer = KINDS[kind](width, hidden, num_layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional, dtype=dtype,
                       **options)
    ours = from_torch(peer)
    ours.fused = fused
    inputs = torch.randn(batch, length, width, dtype=dtype, requires_grad=True)
    lengths = torch.randint(1, length + 1, (batch,)) if ragged else None
    shape = (num_layers * (1 + bidirectional), batch, hidden)
    start = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(1 + (kind == "lstm"))] if with_state else []
    state = None if not start else tuple(start) if kind == "lstm" else start[0]

    outputs, last = ours(inputs, state, lengths)
    expected, expected_last = run_peer(peer, inputs, state, lengths, batch_first)
    assert_same(outputs, expected, "outputs")
    assert isinstance(last, tuple) == (kind == "lstm")
    for mine, theirs in zip(as_list(last), as_list(expected_last), strict=True):
        assert_same(mine, theirs, "state")

    mine = torch.autograd.grad(weighted_sum(outputs, last), [inputs, *start, *ours.parameters()])
    theirs = torch.autograd.grad(weighted_sum(expected, expected_last), [inputs, *start, *in_our_order(peer)])
    for ours_gradient, gradient in zip(mine, theirs, strict=True):
        assert_same(ours_gradient, gradient, "gradient")


def in_our_order(peer):
    """The peer's parameters: input weight, input bias, state weight, state bias of each cell in turn."""
    for suffix in [name.removeprefix("weight_ih") for name, _ in peer.named_parameters() if name.startswith("weight_ih")]:
        for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"):
            if hasattr(peer, name + suffix):
                yield getattr(peer, name + suffix)


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(list(CELLS)), relu=st.booleans(), width=st.integers(1, 5),
       hidden=st.integers(1, 6), bias=st.booleans(), with_state=st.booleans(), dtype=DTYPES)
def test_cells(seed, kind, relu, width, hidden, bias, with_state, dtype):
    torch.manual_seed(seed)
    options = dict(nonlinearity="relu") if kind is nn.RNNCell and relu else {}
    peer = kind(width, hidden, bias=bias, dtype=dtype, **options)
    ours = CELLS[kind](width, hidden, bias=bias, **options).to(dtype)
    names = {"weight_ih": "from_input.weight", "bias_ih": "from_input.bias", "weight_hh": "from_state.weight",
             "bias_hh": "from_state.bias"}
    ours.load_state_dict({names[name]: weight for name, weight in peer.state_dict().items()})
    inputs = torch.randn(3, width, dtype=dtype)
    state = [torch.randn(3, hidden, dtype=dtype) for _ in range(1 + (kind is nn.LSTMCell))]
    state = None if not with_state else tuple(state) if kind is nn.LSTMCell else state[0]
    for mine, theirs in zip(as_list(ours(inputs, state)), as_list(peer(inputs, state)), strict=True):
        assert_same(mine, theirs)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_converted_keeps_its_options(kind):
    options = dict(nonlinearity=kind) if KINDS[kind] is nn.RNN else {}
    peer = KINDS[kind](4, 6, num_layers=2, bidirectional=True, dropout=0.25, **options).eval()
    ours = from_torch(peer)
    assert (ours.input_width, ours.hidden, ours.num_layers, ours.num_directions) == (4, 6, 2, 2)
    assert ours.dropout == 0.25 and ours.fused and not ours.training
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters())
    next(ours.parameters()).data.zero_()
    assert peer.weight_ih_l0.abs().sum() > 0  # a copy


def test_proj_size_is_refused_by_name():
    with pytest.raises(ValueError, match=r"LSTM\(proj_size=2\) is not supported, only proj_size=0"):
        from_torch(nn.LSTM(4, 6, proj_size=2))
