"""RNN, LSTM, GRU: what padding and the future may change, chunks, one result in two forms, what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell, unroll

KINDS = pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
FORMS = pytest.mark.parametrize("fused", [True, False], ids=["fused", "explicit"])
LENGTHS = torch.tensor([3, 6, 1, 5])


def layer(kind, seed=0, **options):
    torch.manual_seed(seed)
    return kind(3, 5, **options)


def sequences(rows=4, length=6, width=3, seed=1):
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(seed))


def tensors(state):
    return state if isinstance(state, tuple) else (state,)


def assert_same_result(ours, reference):
    for mine, theirs in zip((ours[0], *tensors(ours[1])), (reference[0], *tensors(reference[1])), strict=True):
        assert_same(mine, theirs)


# -- what may change what ---------------------------------------------------------------------------------------------


@KINDS
@FORMS
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing_and_gets_nothing(kind, fused, bidirectional):
    """A padded row gives what it gives alone and unpadded; behind its end the output is zero, whatever stands there."""
    ours = layer(kind, num_layers=2, bidirectional=bidirectional, fused=fused)
    inputs = sequences()
    outputs, state = ours(inputs, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, alone_state = ours(inputs[row:row + 1, :length])
        assert_same(outputs[row, :length], alone[0])
        assert (outputs[row, length:] == 0).all()
        for part, alone_part in zip(tensors(state), tensors(alone_state), strict=True):
            assert_same(part[:, row], alone_part[:, 0])
    edited = inputs.masked_fill(torch.arange(6)[:, None] >= LENGTHS[:, None, None], float("nan"))
    assert edited.isnan().any()
    assert_same_result(ours(edited, lengths=LENGTHS), (outputs, state))
    assert (ours(inputs)[0] - outputs).abs().max() > 1e-2


@KINDS
@FORMS
def test_the_gradient_of_padding_is_zero_and_padding_has_no_part_in_any(kind, fused):
    ours, padding = layer(kind, num_layers=2, bidirectional=True, fused=fused), torch.arange(6) >= LENGTHS[:, None]  # (B, T)
    gradients = []
    for value in (0.0, float("nan")):
        inputs = sequences().masked_fill(padding[..., None], value).requires_grad_()
        outputs, state = ours(inputs, lengths=LENGTHS)
        loss = outputs.sum() + sum(part.sum() for part in tensors(state))
        gradients.append(torch.autograd.grad(loss, [inputs, *ours.parameters()]))
    for with_zeros, with_nan in zip(*gradients, strict=True):
        assert_same(with_nan, with_zeros)
    assert (gradients[0][0][padding] == 0).all() and (gradients[0][0][~padding].abs() > 0).all()


@KINDS
@FORMS
def test_one_direction_sees_no_future_and_two_see_all(kind, fused):
    for bidirectional in (False, True):
        ours, inputs = layer(kind, num_layers=2, bidirectional=bidirectional, fused=fused), sequences()
        before = ours(inputs)[0]
        for place in range(6):
            edited = inputs.clone()
            edited[:, place] += 1
            change = (ours(edited)[0] - before).abs().amax(dim=(0, 2))  # (T,)
            assert (change[place:] > 1e-6).all()
            assert (change[:place] > 1e-6).all() if bidirectional else (change[:place] == 0).all()


@KINDS
@FORMS
def test_chunks_with_a_carried_state_are_the_whole(kind, fused):
    ours, inputs = layer(kind, num_layers=2, fused=fused), sequences()
    state, pieces = None, []
    for piece in inputs.split([2, 1, 3], dim=1):
        outputs, state = ours(piece, state)
        pieces.append(outputs)
    assert_same_result((torch.cat(pieces, dim=1), state), ours(inputs))
    assert (ours(inputs[:, 2:])[0] - ours(inputs)[0][:, 2:]).abs().max() > 1e-3  # the state is needed


@KINDS
@FORMS
def test_rows_do_not_see_each_other(kind, fused):
    ours, inputs, order = layer(kind, bidirectional=True, fused=fused), sequences(), torch.tensor([2, 0, 3, 1])
    outputs, state = ours(inputs, lengths=LENGTHS)
    expected = outputs[order], tuple(part[:, order] for part in tensors(state))
    assert_same_result(ours(inputs[order], lengths=LENGTHS[order]), expected)


@KINDS
@pytest.mark.parametrize("bidirectional", [False, True])
def test_where_the_last_state_stands_in_the_outputs(kind, bidirectional):
    """Forward at the last position, backward at the first: a reader of the outputs may take it from there."""
    ours = layer(kind, num_layers=2, bidirectional=bidirectional)
    outputs, state = ours(sequences())
    hidden = tensors(state)[0]  # (layers x directions, B, D)
    assert_same(outputs[:, -1, :5], hidden[-1 - bidirectional])
    if bidirectional:
        assert_same(outputs[:, 0, 5:], hidden[-1])


# -- two faces, one result --------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), kind=st.sampled_from([RNN, LSTM, GRU]), num_layers=st.integers(1, 3),
       bidirectional=st.booleans(), ragged=st.booleans(), bias=st.booleans())
def test_explicit_is_fused(seed, kind, num_layers, bidirectional, ragged, bias):
    fused = layer(kind, seed, num_layers=num_layers, bidirectional=bidirectional, bias=bias)
    explicit = copy.deepcopy(fused)
    explicit.fused = False
    results = []
    for ours in (fused, explicit):
        inputs = sequences(seed=seed).requires_grad_()
        result = ours(inputs, lengths=LENGTHS if ragged else None)
        (result[0].square().sum() + sum(part.square().sum() for part in tensors(result[1]))).backward()
        results.append((result, inputs.grad))
    assert_same_result(results[1][0], results[0][0])
    assert_same(results[1][1], results[0][1])
    for mine, theirs in zip(explicit.parameters(), fused.parameters(), strict=True):
        assert_same(mine.grad, theirs.grad)


@pytest.mark.parametrize("cell", [RNNCell(3, 5), LSTMCell(3, 5), GRUCell(3, 5)], ids=lambda cell: type(cell).__name__)
@pytest.mark.parametrize("backward", [False, True])
def test_unroll_is_a_loop_over_the_cell(cell, backward):
    """With the inputs' product inside the loop, as the definition has it, or outside."""
    inputs = sequences()
    state, outputs = cell(torch.zeros(4, 3)), [None] * 6
    start = state
    for t in reversed(range(6)) if backward else range(6):
        state = cell(inputs[:, t], state)
        outputs[t] = tensors(state)[0]
    assert_same_result(unroll(cell, inputs, start, backward=backward), (torch.stack(outputs, dim=1), state))


@KINDS
@FORMS
def test_dropout_acts_between_layers_in_training(kind, fused):
    """With all of it dropped, the second layer reads zeros; the first layer's own outputs are never dropped."""
    ours = layer(kind, num_layers=2, dropout=0.3, fused=fused)
    assert ours.dropout == 0.3
    ours.dropout = 1.0
    outputs, state = ours(sequences())
    blind = unroll(ours.cells[1], torch.zeros(4, 6, 5))[0]
    assert_same(outputs, blind)
    assert_same(tensors(state)[0][0], tensors(ours.eval()(sequences())[1])[0][0])
    assert (ours(sequences())[0] - blind).abs().max() > 1e-3
    single = layer(kind, dropout=0.9, fused=fused)
    assert_same(single(sequences())[0], copy.deepcopy(single).eval()(sequences())[0])


@KINDS
def test_the_fused_form_is_the_default(kind):
    assert layer(kind).fused and not layer(kind, fused=False).fused


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, gates", [(RNN, 1), (LSTM, 4), (GRU, 3)])
def test_parameters_by_formula(kind, gates):
    ours = kind(7, 16, num_layers=2, bidirectional=True)
    first, second = gates * 16 * (7 + 16 + 2), gates * 16 * (32 + 16 + 2)  # the second layer reads both directions
    assert sum(p.numel() for p in ours.parameters()) == 2 * first + 2 * second
    without = kind(7, 16, bias=False)
    assert [name for name, _ in without.named_parameters()] == ["cells.0.from_input.weight", "cells.0.from_state.weight"]


@KINDS
def test_parameters_start_uniform_as_torch_s_do(kind):
    torch.manual_seed(0)
    for name, parameter in kind(300, 64, num_layers=2).named_parameters():
        assert 0.97 / 8 < parameter.abs().max().item() <= 1 / 8, name
        assert parameter.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.2), name


def test_the_forget_gate_may_start_open():
    """The bias that acts is the sum of the two; the other gates' are left as they are."""
    ours, plain = layer(LSTM, num_layers=2, forget_bias=1.5), layer(LSTM, num_layers=2)
    for cell, other in zip(ours.cells, plain.cells, strict=True):
        bias, before = (c.from_input.bias + c.from_state.bias for c in (cell, other))
        assert (bias[5:10] == 1.5).all() and torch.equal(bias[:5], before[:5]) and torch.equal(bias[10:], before[10:])
    weights = [weight for name, weight in ours.state_dict().items() if name.endswith("weight")]
    assert all(map(torch.equal, weights, [w for name, w in plain.state_dict().items() if name.endswith("weight")]))


def test_an_open_forget_gate_keeps_the_memory():
    """Without input, a cell whose gates have no weights multiplies its memory by σ(forget_bias) at each step."""
    ours = LSTM(1, 4, forget_bias=2.0)
    with torch.no_grad():
        for cell in ours.cells:
            cell.from_input.weight.zero_()
            cell.from_state.weight.zero_()
            cell.from_input.bias.view(4, 4)[2] = cell.from_state.bias.view(4, 4)[2] = 0.0  # the candidate
    memory = torch.randn(1, 2, 4)
    _, (_, after) = ours(torch.randn(2, 5, 1), (torch.zeros(1, 2, 4), memory))
    assert_same(after, memory * torch.tensor(2.0).sigmoid() ** 5)


# -- device, dtype, refusals ------------------------------------------------------------------------------------------


@KINDS
@FORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_follows_device_and_dtype(device, kind, fused, dtype):
    if device.type == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    ours = layer(kind, bidirectional=True, fused=fused).to(device, dtype)
    for lengths in (None, LENGTHS, LENGTHS.int().to(device)):
        outputs, state = ours(sequences().to(device, dtype), lengths=lengths)
        assert {part.dtype for part in (outputs, *tensors(state))} == {dtype}
        assert {part.device.type for part in (outputs, *tensors(state))} == {device.type}
        expected = layer(kind, bidirectional=True)(sequences(), lengths=lengths if lengths is None else LENGTHS)[0]
        torch.testing.assert_close(outputs.float().cpu(), expected, atol=3e-2 if dtype == torch.bfloat16 else 1e-5, rtol=0)


@FORMS
def test_a_batch_may_be_empty_and_a_sequence_may_not(fused):
    ours = layer(LSTM, fused=fused)
    for lengths in (None, torch.zeros(0, dtype=torch.int64)):
        outputs, (hidden, memory) = ours(torch.zeros(0, 4, 3), lengths=lengths)
        assert outputs.shape == (0, 4, 5) and hidden.shape == memory.shape == (1, 0, 5)
    with pytest.raises(ValueError, match=r"inputs must have the shape \(B, T, 3\) with T at least 1, got \(2, 0, 3\)"):
        ours(torch.zeros(2, 0, 3))


PAIR = "a pair \\(hidden, memory\\) of tensors"


@FORMS
@pytest.mark.parametrize("kind, arguments, message", [
    (LSTM, (torch.zeros(2, 3),), r"inputs must have the shape \(B, T, 3\) with T at least 1, got \(2, 3\)"),
    (RNN, (torch.zeros(2, 4, 5),), r"inputs must have the shape \(B, T, 3\) with T at least 1, got \(2, 4, 5\)"),
    (GRU, (sequences(), torch.zeros(1, 3, 5)),
     r"state must be a tensor of shape \(layers x directions, B, D\) = \(1, 4, 5\), got \(1, 3, 5\)"),
    (GRU, (sequences(), (torch.zeros(1, 4, 5),) * 2), r"state must be a tensor .*, got \(1, 4, 5\) and \(1, 4, 5\)"),
    (LSTM, (sequences(), torch.zeros(1, 4, 5)), rf"state must be {PAIR} of shape .* = \(1, 4, 5\), got \(1, 4, 5\)"),
    (LSTM, (sequences(), (torch.zeros(1, 4, 5), torch.zeros(1, 4, 6))), rf"state must be {PAIR} .*, got .* and \(1, 4, 6\)"),
    (LSTM, (sequences(), None, torch.tensor([3, 6, 0, 5])), r"lengths must lie in \[1, T\] = \[1, 6\], got \[3, 6, 0, 5\]"),
    (RNN, (sequences(), None, torch.tensor([3, 7, 1, 5])), r"lengths must lie in \[1, T\] = \[1, 6\], got \[3, 7, 1, 5\]"),
    (GRU, (sequences(), None, torch.tensor([3, 6])), r"lengths must be integers of shape \(B,\) = \(4,\), got .*int64 \(2,\)"),
    (GRU, (sequences(), None, LENGTHS.float()), r"lengths must be integers of shape .*, got torch.float32 \(4,\)")])
def test_calls_that_do_not_fit(fused, kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(kind, fused=fused)(*arguments)


@pytest.mark.parametrize("cell, arguments, message", [
    (RNNCell(3, 5), (torch.zeros(2, 6, 3),), r"inputs must have the shape \(B, 3\), got \(2, 6, 3\)"),
    (GRUCell(3, 5), (torch.zeros(2, 5),), r"inputs must have the shape \(B, 3\), got \(2, 5\)"),
    (GRUCell(3, 5), (torch.zeros(2, 3), torch.zeros(1, 5)), r"state must be a tensor of shape .* \(2, 5\), got \(1, 5\)"),
    (LSTMCell(3, 5), (torch.zeros(2, 3), torch.zeros(2, 5)), rf"state must be {PAIR} of shape \(B, D\) = \(2, 5\), got")])
def test_steps_that_do_not_fit(cell, arguments, message):
    with pytest.raises(ValueError, match=message):
        cell(*arguments)


@pytest.mark.parametrize("make, message", [
    (lambda: RNN(0, 5), "input_width and hidden must be at least 1, got input_width=0, hidden=5"),
    (lambda: GRU(3, 0), "input_width and hidden must be at least 1, got input_width=3, hidden=0"),
    (lambda: LSTM(3, 5, num_layers=0), "num_layers must be at least 1, got 0"),
    (lambda: LSTM(3, 5, dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
    (lambda: RNN(3, 5, nonlinearity="gelu"), r"nonlinearity must be one of \['relu', 'tanh'\], got 'gelu'"),
    (lambda: RNNCell(3, 5, nonlinearity="elu"), r"nonlinearity must be one of \['relu', 'tanh'\], got 'elu'"),
    (lambda: LSTM(3, 5, bias=False, forget_bias=1.0), "forget_bias must be None where bias=False, got 1.0")])
def test_sizes_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, options", [(LSTM, dict(forget_bias=1.0)), (GRU, {})])
def test_it_learns_to_remember_the_first_input(kind, options):
    """Eight signs, five steps of noise behind them: chance is 1/8."""
    torch.manual_seed(0)
    ours, output = kind(8, 32, **options), nn.Linear(32, 8)
    optimizer = torch.optim.Adam([*ours.parameters(), *output.parameters()], lr=1e-2)
    for _ in range(150):
        labels = torch.randint(8, (64,))
        inputs = torch.cat([F.one_hot(labels, 8)[:, None].float(), 0.1 * torch.randn(64, 5, 8)], dim=1)  # (B, 6, 8)
        logits = output(ours(inputs)[0][:, -1])  # (B, 8)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(-1) == labels).float().mean() > 0.95
