"""Linear attention and the delta rule: the loop, the sum and the blocks agree; what a state keeps; what is refused."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.closeness import TOLERANCE, assert_same, assert_same_gradients, draw
from tutorlib.device import available_devices
from tutorlib.generation import generate
from tutorlib.layers import (
    CausalConvolution,
    DeltaAttention,
    LinearAttention,
    RecurrentCache,
    StateSpace,
    delta_rule,
    delta_rule_by_steps,
    linear_attention,
    linear_attention_by_steps,
)
from tutorlib.models import GPT, GPTConfig

LAYERS = {"linear": lambda: LinearAttention(12, 3), "delta": lambda: DeltaAttention(12, 3),
          "turning delta": lambda: DeltaAttention(12, 3, largest=2.0, reach=1),
          "state space": lambda: StateSpace(12, head_width=6, state=5)}
SIZES = dict(seed=st.integers(0, 10**6), batch=st.integers(1, 2), heads=st.integers(1, 3), length=st.integers(1, 20),
             width=st.integers(1, 6), value_width=st.integers(1, 6), block=st.integers(1, 22),
             dtype=st.sampled_from([torch.float32, torch.float64]))


def drawn(seed, batch, heads, length, width, value_width, dtype):
    torch.manual_seed(seed)
    query, key = torch.randn(2, batch, heads, length, width, dtype=dtype)
    value = torch.randn(batch, heads, length, value_width, dtype=dtype)
    rate, state = torch.rand(batch, heads, length, dtype=dtype), torch.randn(batch, heads, width, value_width, dtype=dtype)
    return [x.requires_grad_() for x in (query, F.normalize(key, dim=-1), value, rate, state)]


@settings(max_examples=40)
@given(**SIZES)
def test_linear_attention_in_blocks_is_the_loop(block, **sizes):
    query, key, value, rate, state = inputs = drawn(**sizes)
    ours = linear_attention(query, key, value, -rate, state, block=block)
    steps = linear_attention_by_steps(query, key, value, -rate, state)
    for mine, theirs in zip(ours, steps, strict=True):
        assert_same(mine, theirs)
    assert_same_gradients(ours[0], steps[0], inputs, inputs)


@settings(max_examples=40)
@given(**SIZES)
def test_the_delta_rule_in_blocks_is_the_loop(block, **sizes):
    query, key, value, rate, state = inputs = drawn(**sizes)
    ours = delta_rule(query, key, value, 2 * rate, state, block=block)
    steps = delta_rule_by_steps(query, key, value, 2 * rate, state)
    for mine, theirs in zip(ours, steps, strict=True):
        assert_same(mine, theirs)
    assert_same_gradients(ours[0], steps[0], inputs, inputs)


def test_without_decay_it_is_attention_without_softmax():
    query, key, value = draw(3, 2, 3, 10, 4, dtype=torch.float64)
    output, state = linear_attention(query, key, value, block=3)
    assert_same(output, (query @ key.mT).tril() @ value)
    assert_same(state, key.mT @ value)


def test_a_pair_far_back_counts_as_much_as_the_decays_between_leave():
    query, key, value = torch.ones(3, 1, 1, 4, 1, dtype=torch.float64)
    value = value * torch.tensor([1.0, 0, 0, 0])[:, None]
    decay = torch.tensor([0.3, 0.5, 0.25, 0.5], dtype=torch.float64)  # the first has nothing to act on
    output, _ = linear_attention(query, key, value, decay.log()[None, None])
    assert_same(output.flatten(), torch.tensor([1, 0.5, 0.125, 0.0625], dtype=torch.float64))


def test_the_delta_rule_replaces_what_the_sum_piles_up():
    key = torch.tensor([1.0, 0]).expand(1, 1, 2, 2)
    value = torch.tensor([[3.0], [5.0]])[None, None]  # the same key gets 3, then 5
    assert linear_attention(key, key, value)[0].flatten().tolist() == [3, 8]
    assert delta_rule(key, key, value, torch.ones(1, 1, 2))[0].flatten().tolist() == [3, 5]
    assert delta_rule(key, key, 0 * value, torch.full((1, 1, 2), 2.0), torch.tensor([[[[7.0], [1.0]]]]))[0].flatten().tolist() \
        == [-7, 7]  # a beta of 2 turns what stands there


def test_strong_decay_over_a_long_block_stays_finite():
    query, key, value = draw(3, 1, 1, 64, 4)
    output, state = linear_attention(query, key, value, torch.full((1, 1, 64), -30.0))
    assert output.isfinite().all() and state.isfinite().all()
    assert_same(output, (query * key).sum(-1, keepdim=True) * value)  # only itself is left


def test_the_convolution_is_the_one_of_pytorch_with_a_cut_future():
    convolution, states = CausalConvolution(5, 3), draw(2, 7, 5)
    theirs = F.conv1d(states.mT, convolution.weight[:, None], convolution.bias, padding=2, groups=5)[..., :7].mT
    assert_same(convolution(states)[0], theirs)
    first, tail = convolution(states[:, :1])
    rest, _ = convolution(states[:, 1:], tail)
    assert_same(torch.cat([first, rest], 1), theirs)


@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_looks_ahead(name):
    torch.manual_seed(0)
    layer, states = LAYERS[name]().double(), draw(2, 9, 12, dtype=torch.float64)
    changed = states.clone()
    changed[:, 5:] += 1
    assert_same(layer(changed)[:, :5], layer(states)[:, :5])
    assert (layer(changed)[:, 5] - layer(states)[:, 5]).abs().max() > 1e-4


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("cuts", [[9], [1] * 9, [2, 1, 6]])
def test_with_and_without_a_cache_it_gives_the_same(name, cuts):
    torch.manual_seed(0)
    layer, states, cache = LAYERS[name]().double(), draw(2, 9, 12, dtype=torch.float64), RecurrentCache()
    parts = [layer(part, cache=cache) for part in states.split(cuts, dim=1)]
    assert_same(torch.cat(parts, 1), layer(states))
    assert cache.length == 9
    size = cache.state.numel() + cache.tail.numel()
    layer(draw(2, 100, 12, dtype=torch.float64), cache=cache)
    assert cache.state.numel() + cache.tail.numel() == size


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_dtype_and_device_follow_the_layer(name, dtype, device):
    torch.manual_seed(0)
    layer, states = LAYERS[name](), draw(2, 70, 12)
    exact = layer(states)
    found = layer.to(device, dtype)(states.to(device, dtype))
    assert found.dtype == dtype and found.device.type == torch.device(device).type
    assert (found.float().cpu() - exact).abs().max() < 4 * TOLERANCE[dtype] * max(1, exact.abs().max())


@pytest.mark.parametrize("name", LAYERS)
def test_it_takes_the_place_of_attention_in_gpt(name):
    """One layer of the two is recurrent; caches of both kinds give the tokens that no cache gives."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(11, 16, width=12, num_heads=3, num_layers=2)).double().eval()
    model.layers[0].attention = LAYERS[name]().double()
    model.new_cache = lambda capacity: [RecurrentCache(), *GPT.new_cache(model, capacity)[1:]]
    tokens = torch.randint(11, (2, 3))
    with_cache, without = (generate(model, tokens, 8, temperature=0, use_cache=use) for use in (True, False))
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("name", LAYERS)
def test_a_reordered_cache_goes_on_from_the_other_row(name):
    torch.manual_seed(0)
    layer, states, cache = LAYERS[name]().double(), draw(2, 6, 12, dtype=torch.float64), RecurrentCache()
    cache.reorder(torch.tensor([1, 0]))  # nothing to reorder yet
    layer(states[:, :5], cache=cache)
    cache.reorder(torch.tensor([1, 1]))
    last = layer(states[1:, 5:].expand(2, -1, -1), cache=cache)
    assert_same(last, layer(states)[1:, 5:].expand(2, -1, -1))


@pytest.mark.parametrize("name", LAYERS)
def test_it_overfits_a_batch(name):
    torch.manual_seed(0)
    layer, states, target = LAYERS[name](), draw(4, 8, 12), draw(4, 8, 12, seed=1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.03)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = F.mse_loss(layer(states), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("argument, value", [("mask", torch.ones(4, 4, dtype=torch.bool)), ("rotation", (1, 2)),
                                             ("padding_mask", torch.ones(2, 4, dtype=torch.bool)), ("causal", False)])
def test_what_a_state_cannot_do_is_refused(name, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be"):
        LAYERS[name]()(torch.randn(2, 4, 12), **{argument: value})


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shape", [(2, 4, 11), (4, 12), (2, 0, 12)])
def test_a_wrong_shape_is_refused(name, shape):
    with pytest.raises(ValueError, match=r"states must have the shape \(B, T, 12\)"):
        LAYERS[name]()(torch.randn(shape))


def test_functions_refuse_shapes_that_do_not_fit():
    query = torch.randn(2, 3, 4, 5)
    with pytest.raises(ValueError, match="query, key"):
        linear_attention(query, query[..., :4], query)
    with pytest.raises(ValueError, match="query, key"):
        linear_attention(query, query[:, :, :3], query)
    with pytest.raises(ValueError, match=r"log_decay must have the shape \(2, 3, 4\), got \(2, 4\)"):
        linear_attention(query, query, query, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"beta must have the shape \(2, 3, 4\)"):
        delta_rule(query, query, query, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"state must have the shape \(2, 3, 5, 5\)"):
        delta_rule(query, query, query, torch.zeros(2, 3, 4), torch.zeros(5, 5))
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        linear_attention(query, query, query, block=0)


def test_sizes_are_refused():
    with pytest.raises(ValueError, match="width must be a positive multiple of num_heads, got width=12, num_heads=5"):
        LinearAttention(12, 5)
    for largest in (0, 2.1):
        with pytest.raises(ValueError, match=rf"largest must lie in \(0, 2\].*got {largest}"):
            DeltaAttention(12, 3, largest=largest)
    with pytest.raises(ValueError, match="reach must be at least 1, got 0"):
        CausalConvolution(3, 0)
    with pytest.raises(ValueError, match=r"expand \* width must be a multiple of head_width, got 2 \* 12 and 7"):
        StateSpace(12, head_width=7)
    with pytest.raises(ValueError, match="state must be at least 1"):
        StateSpace(12, head_width=6, state=0)
