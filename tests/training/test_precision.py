"""Formats against PyTorch's own, rounding on average right, the scaler against GradScaler, float32 steps, bytes by formula."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from tests.closeness import assert_same, draw
from tutorlib.layers import FeedForward, LayerNorm, MultiHeadAttention, TransformerLayer
from tutorlib.models import MLP
from tutorlib.training import constant, token_cross_entropy, train
from tutorlib.training.precision import (
    BFLOAT16,
    FLOAT8_E4M3,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    LossScaler,
    MasterWeights,
    NumberFormat,
    RecomputedLayer,
    RoundedWeights,
    bit_pattern,
    kept_bytes,
    layer_bytes,
    round_stochastically,
    round_to,
    spacing,
    state_bytes,
)

FORMATS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16,
           torch.float8_e5m2: FLOAT8_E5M2, torch.float8_e4m3fn: FLOAT8_E4M3}
SGD = partial(torch.optim.SGD, lr=0.001)


def numbers(seed=0, low=-150, high=128):
    """Of every size, ties and zeros among them."""
    dice = torch.Generator().manual_seed(seed)
    powers = torch.exp2(torch.randint(low, high, (4000,), generator=dice).float())
    ties = 1 + torch.arange(64) / 32  # of three and of five bits, and numbers between
    return torch.cat([torch.randn(4000, generator=dice) * powers, ties, -ties, torch.tensor([0.0, -0.0])])


# -- formats


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_rounding_is_what_a_cast_does(dtype):
    form = FORMATS[dtype]
    values = numbers()
    if not form.has_infinity:  # beyond the largest, releases of torch differ
        values = values[values.abs() <= form.largest]
    assert torch.equal(round_to(values, form), values.to(dtype).float())
    info = torch.finfo(dtype)
    assert form.largest == info.max and form.smallest == info.smallest_normal * info.eps


@pytest.mark.parametrize("form", [BFLOAT16, FLOAT16, FLOAT8_E5M2])
def test_half_a_step_beyond_the_largest_is_infinite_and_less_is_not(form):
    step = form.largest - round_to(torch.tensor(form.largest * (1 - 2.0 ** -(form.fraction_bits + 1))), form).item()
    over = torch.tensor([form.largest + 0.5 * step, form.largest + 0.49 * step, -math.inf])
    assert round_to(over, form).tolist() == [math.inf, form.largest, -math.inf]


def test_without_infinity_the_largest_is_the_end():
    assert round_to(torch.tensor([1e9, -500.0, math.inf]), FLOAT8_E4M3).tolist() == [448.0, -448.0, 448.0]
    assert round_to(torch.tensor([math.nan]), FLOAT8_E4M3).isnan().all()


def test_spacing_doubles_at_powers_of_two_and_stays_below_the_smallest():
    values = torch.tensor([0.99, 1.0, -1.99, 2.0, 2.0**-126, 2.0**-130, 0.0])
    assert spacing(values, BFLOAT16).tolist() == [2.0**-8, 2.0**-7, 2.0**-7, 2.0**-6, 2.0**-133, 2.0**-133, 2.0**-133]


@pytest.mark.parametrize("form", [BFLOAT16, FLOAT16, FLOAT8_E4M3, NumberFormat(6, 1)])
def test_stochastic_rounding_gives_a_neighbor_and_the_value_on_average(form):
    values = torch.tensor([1.1, -1.1, 0.3, 0.007, 1.5, 0.0])
    drawn = round_stochastically(values.expand(20_000, -1), form, torch.Generator().manual_seed(0))  # (N, 6)
    assert torch.equal(round_to(drawn, form), drawn), "no numbers of the format"
    assert ((drawn - values).abs() < spacing(values, form)).all()
    error = spacing(values, form) / 2 / 20_000**0.5
    assert ((drawn.mean(0) - values).abs() <= 5 * error).all()
    assert torch.equal(drawn[:, 4:], values[4:].expand(20_000, -1)), "a number of the format has moved"


def test_a_generator_repeats_the_draw():
    values = draw(500)
    first, again, other = (round_stochastically(values, BFLOAT16, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("value, dtype, bits", [
    (1.5, torch.bfloat16, "0 01111111 1000000"), (-448.0, torch.float8_e4m3fn, "1 1111 110"),
    (1.0, torch.float32, "0 01111111 " + 23 * "0"), (-0.0, torch.float16, "1 00000 0000000000"),
    (1.25, torch.float8_e5m2, "0 01111 01")])
def test_bits(value, dtype, bits):
    assert bit_pattern(value, dtype) == bits


# -- loss scaling


@given(st.lists(st.sampled_from(["fine", "fine", "fine", "inf", "nan"]), min_size=1, max_size=14), st.integers(1, 4),
       st.sampled_from([1.0, 2.0**10, 65536.0]), st.sampled_from([2.0, 4.0]), st.sampled_from([0.5, 0.25]))
def test_the_scaler_is_torchs(happens, interval, scale, growth, backoff):
    ours, theirs = (nn.Linear(2, 1, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    pairs = [(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)) for model in (ours, theirs)]
    scaler = LossScaler(scale, growth=growth, backoff=backoff, interval=interval)
    peer = torch.amp.GradScaler("cpu", scale, growth, backoff, interval)
    for place, what in enumerate(happens):
        inputs = draw(3, 2, seed=place) * {"fine": 1.0, "inf": math.inf, "nan": math.nan}[what]
        for model, optimizer in pairs:
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            (scaler.scaled(loss) if model is ours else peer.scale(loss)).backward()
        before = ours.weight.detach().clone()
        taken = scaler.step(pairs[0][1])
        peer.step(pairs[1][1])
        peer.update()
        assert taken == (what == "fine") and torch.equal(before, ours.weight) != taken
        assert scaler.scale == peer.get_scale()
        assert_same(ours.weight, theirs.weight)


def test_the_scaler_cuts_what_is_unscaled():
    model = nn.Linear(4, 1, bias=False)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=1.0), LossScaler(2.0**12)
    before = model.weight.detach().clone()
    scaler.scaled(3 * model(torch.ones(1, 4)).sum()).backward()  # a gradient of length 6
    scaler.step(optimizer, clip_norm=0.5)
    assert (model.weight - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_scaling_saves_small_gradients_of_float16():
    def gradient(scale):
        weight = torch.ones(1, dtype=torch.float16, requires_grad=True)
        (weight * 1e-9 * scale).sum().backward() if scale == 1 else (weight * (1e-9 * scale)).sum().backward()
        return weight.grad.float().item() / scale

    assert gradient(1) == 0 and gradient(2.0**16) == pytest.approx(1e-9, rel=0.01)


# -- steps in float32


def pushed(optimizer_of, dtype=torch.bfloat16, steps=1000):
    """A weight of 1 that is pushed up by .001 a step, so many times."""
    weight = nn.Parameter(torch.ones(8, dtype=dtype))
    optimizer = optimizer_of([weight])
    for _ in range(steps):
        optimizer.zero_grad()
        weight.grad = -torch.ones_like(weight)
        optimizer.step()
    return weight.detach().float()


def test_a_bfloat16_weight_does_not_move_and_a_copy_moves_it():
    assert torch.equal(pushed(SGD), torch.ones(8))
    assert_close(pushed(SGD, torch.float32), torch.full((8,), 2.0), rtol=1e-4, atol=0)
    assert_same(pushed(lambda weights: MasterWeights(weights, SGD)), torch.full((8,), 2.0))


def test_stochastic_rounding_moves_it_on_average_and_nearest_does_not():
    dice = torch.Generator().manual_seed(0)
    by_dice = partial(round_stochastically, form=BFLOAT16, generator=dice)
    moved = pushed(lambda weights: RoundedWeights(weights, SGD, by_dice))
    assert moved.std() > 0 and 1.7 < moved.mean() < 2.3  # a walk of 1000 steps deviates by .06 at most, a mean of 8 by .03
    assert torch.equal(pushed(lambda weights: RoundedWeights(weights, SGD, partial(round_to, form=BFLOAT16))), torch.ones(8))


def test_of_float32_weights_a_copy_changes_nothing():
    def ends(wrap):
        torch.manual_seed(3)
        model = MLP((5, 8, 3))
        make = partial(torch.optim.AdamW, lr=0.01)
        optimizer = MasterWeights(model.parameters(), make) if wrap else make(model.parameters())
        train(model, lambda step: (draw(6, 5, seed=step), torch.arange(6) % 3),
              lambda model, batch: token_cross_entropy(model(batch[0]), batch[1]), optimizer, steps=5,
              schedule=lambda step: 1 / (1 + step), progress=False)
        return torch.cat([weight.flatten() for weight in model.parameters()])

    assert torch.equal(ends(True), ends(False))


def test_groups_keep_their_own_rates():
    weights = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    optimizer = MasterWeights(weights, lambda copies: torch.optim.SGD(
        [{"params": copies[:1], "lr": 0.1}, {"params": copies[1:], "lr": 0.3}]))
    assert [group["params"][0] is weight for group, weight in zip(optimizer.param_groups, weights, strict=True)] == [True] * 2
    for weight in weights:
        weight.grad = torch.ones(1)
    optimizer.step()
    assert_same(torch.cat(weights), torch.tensor([0.9, 0.7]))


def test_a_weight_without_a_gradient_stays():
    weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = MasterWeights([weight], SGD)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.zero_grad()
    before = optimizer.copies[0].detach().clone()
    optimizer.step()
    assert weight.grad is None and torch.equal(optimizer.copies[0], before)


@pytest.mark.slow
def test_learning_with_copies_reaches_what_float32_reaches_and_without_does_not():
    def loss_of(wrap, dtype):
        torch.manual_seed(0)
        model = MLP((10, 32, 4)).to(dtype)
        make = partial(torch.optim.Adam, lr=2e-4)
        optimizer = MasterWeights(model.parameters(), make) if wrap else make(model.parameters())
        inputs, labels = draw(64, 10).to(dtype), torch.arange(64) % 4
        history = train(model, lambda step: (inputs, labels), lambda m, b: token_cross_entropy(m(b[0]).float(), b[1]),
                        optimizer, steps=600, schedule=constant(), progress=False)
        return history.losses[-1]

    full, copied, bare = loss_of(False, torch.float32), loss_of(True, torch.bfloat16), loss_of(False, torch.bfloat16)
    assert abs(copied - full) < 0.1 * full and bare > 1.3 * full


# -- memory


def layer(width, heads, hidden, dtype=torch.float32):
    return TransformerLayer(MultiHeadAttention(width, heads), FeedForward(width, hidden, activation="gelu_tanh"),
                            LayerNorm(width), LayerNorm(width), norm_first=True).to(dtype)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 40), st.sampled_from(["float32", "bfloat16"]))
def test_bytes_of_a_layer_by_formula(batch, heads, times, hidden, dtype):
    dtype, width, length = getattr(torch, dtype), 8 * heads * times, 130  # up to 128 keys the kernel is another in bfloat16
    model = layer(width, heads, hidden, dtype)
    states = draw(batch, length, width).to(dtype).requires_grad_()
    _, kept = kept_bytes(lambda: model(states, causal=True), model)
    assert kept == layer_bytes(batch * length, width, hidden, heads, dtype.itemsize)


def test_recomputation_keeps_the_input_and_gives_the_same():
    model = layer(16, 2, 32)
    states = draw(2, 20, 16).requires_grad_()
    plain, kept = kept_bytes(lambda: model(states, causal=True), model)
    again, less = kept_bytes(lambda: RecomputedLayer(model)(states, causal=True), model)
    assert less == states.numel() * 4 < kept / 8
    inputs = (states, *model.parameters())
    for one, other in zip(torch.autograd.grad(plain.square().sum(), inputs), torch.autograd.grad(again.square().sum(), inputs),
                          strict=True):
        assert torch.equal(one, other)


def test_a_storage_counts_once_and_weights_do_not():
    model = nn.Linear(4, 4, bias=False)
    inputs = draw(3, 4).requires_grad_()
    _, kept = kept_bytes(lambda: (model(inputs) + model(inputs) + inputs[:2].square().sum()), model)
    assert kept == 3 * 4 * 4


def test_bytes_of_a_parameter():
    assert state_bytes(1) == 16 == state_bytes(1, weights=2, gradients=2, copies=4)
    assert state_bytes(10, weights=2, gradients=2, moments=2) == 80


# -- refusals


def in_half():
    weight = nn.Parameter(torch.ones(1, dtype=torch.float16))
    weight.grad = torch.ones_like(weight)
    return weight


@pytest.mark.parametrize("call, message", [
    (lambda: NumberFormat(9, 7), "exponent_bits must be at most 8, as in float32, got 9"),
    (lambda: NumberFormat(1, 7), "exponent_bits must be at least 2, got 1"),
    (lambda: NumberFormat(8, 0), "fraction_bits must be at least 1, got 0"),
    (lambda: round_to(torch.arange(3), BFLOAT16), "values must be a tensor of floats, got torch.int64"),
    (lambda: round_stochastically([1.0], BFLOAT16), "values must be a tensor of floats, got list"),
    (lambda: bit_pattern(1.0, torch.int8), "dtype must be one of .*float32.*, got torch.int8"),
    (lambda: LossScaler(0.0), "scale must be a positive number, got 0.0"),
    (lambda: LossScaler(math.inf), "scale must be a positive number, got inf"),
    (lambda: LossScaler(growth=1.0), "growth must be above 1, got 1.0"),
    (lambda: LossScaler(backoff=1.0), r"backoff must lie in \(0, 1\), got 1.0"),
    (lambda: LossScaler(interval=0), "interval must be at least 1, got 0"),
    (lambda: LossScaler().step(SGD([nn.Parameter(torch.ones(1))])), "optimizer has no gradient"),
    (lambda: LossScaler().step(SGD([in_half()])), "optimizer has gradients in float16"),
    (lambda: MasterWeights([], SGD), "weights must be at least one parameter, got none"),
    (lambda: layer_bytes(0, 8, 8, 1), "tokens must be at least 1, got 0"),
    (lambda: state_bytes(3, copies=-1), "copies must be at least 0, got -1")])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
