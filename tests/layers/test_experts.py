"""Mixtures of experts: a token's experts and no others, their weights, the balance, and what is refused."""

import pytest
import torch

from tests.closeness import TOLERANCE, assert_same, assert_same_gradients, draw
from tutorlib.device import available_devices
from tutorlib.layers import Experts, FeedForward, Routing, balance_loss
from tutorlib.models import GPT, GPTConfig


def some(top_k=1, experts=4):
    torch.manual_seed(0)
    return Experts(6, (FeedForward(6, 9) for _ in range(experts)), top_k=top_k)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_each_token_gets_the_sum_over_its_experts(top_k):
    layer, states = some(top_k).double(), draw(2, 5, 6, dtype=torch.float64).requires_grad_()
    output = layer(states)
    probabilities = layer.router(states).softmax(-1)  # (B, T, E)
    for b in range(2):
        for t in range(5):
            best = probabilities[b, t].argsort(descending=True)[:top_k].tolist()
            total = probabilities[b, t, best].sum() if top_k > 1 else 1.0
            expected = sum(probabilities[b, t, e] / total * layer.experts[e](states[b, t]) for e in best)
            assert_same(output[b, t], expected)
    dense = layer.dense(states)
    assert_same(output, dense)
    inputs = [states, layer.router.weight, layer.experts[0].expand.weight]
    assert_same_gradients(output, dense, inputs, inputs)


def test_an_expert_sees_only_tokens_that_chose_it():
    layer, seen = some(), []
    for expert in layer.experts:
        expert.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    layer(draw(3, 5, 6))
    assert sum(seen) == 15 and seen == layer.last.chosen.flatten().bincount(minlength=4).tolist()


def test_the_router_of_a_single_expert_learns():
    """Its weight is the probability: divided by itself it would be 1, without a gradient."""
    layer = some().double()
    layer(draw(2, 5, 6, dtype=torch.float64)).square().sum().backward()
    assert layer.router.weight.grad.abs().max() > 1e-3


def test_all_experts_alike_are_one_network():
    layer, states = some(top_k=3), draw(2, 5, 6)
    for expert in layer.experts:
        expert.load_state_dict(layer.experts[0].state_dict())
    assert_same(layer(states), layer.experts[0](states))


def test_balance_is_one_for_an_even_split_and_the_number_of_experts_for_a_single_one():
    even = Routing(torch.full((8, 4), 0.25), torch.arange(8)[:, None] % 4, torch.ones(8, 1))
    one = Routing(torch.eye(4)[[2] * 8], torch.full((8, 1), 2), torch.ones(8, 1))
    assert balance_loss(even).item() == 1 and balance_loss(one).item() == 4


def test_the_balance_pushes_toward_the_experts_that_are_chosen_less():
    logits = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]], requires_grad=True)  # three of four choose the first
    probabilities = logits.softmax(-1)
    balance_loss(Routing(probabilities, logits.argmax(-1, keepdim=True), torch.ones(4, 1))).backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1] < 0).all()


def test_it_takes_the_place_of_a_feed_forward_network():
    torch.manual_seed(0)
    model = GPT(GPTConfig(11, 16, width=6, num_heads=3, num_layers=2))
    for layer in model.layers:
        layer.feed_forward = some(top_k=2)
    logits = model(torch.randint(11, (2, 7)))
    assert logits.shape == (2, 7, 11)
    logits.sum().backward()
    assert all(layer.feed_forward.router.weight.grad.abs().sum() > 0 for layer in model.layers)


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_device_follow_the_layer(dtype, device):
    layer, states = some(2), draw(2, 5, 6)
    exact, found = layer(states), layer.to(device, dtype)(states.to(device, dtype))
    assert found.dtype == dtype
    same = layer.last.chosen.sort(-1)[0].cpu() == layer.float().cpu().route(states.flatten(0, 1)).chosen.sort(-1)[0]
    rows = same.all(-1).view(2, 5)  # a near tie may be decided by rounding
    assert rows.float().mean() >= 0.8
    assert (found.float().cpu() - exact)[rows].abs().max() < 4 * TOLERANCE[dtype]


def test_sizes_are_refused():
    for top_k in (0, 5, 1.0):
        with pytest.raises(ValueError, match="top_k must be"):
            some(top_k)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        Experts(0, [FeedForward(6, 9)])
