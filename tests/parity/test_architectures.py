"""Linear attention, the delta rule, the state-space layer and mixtures of experts against the modules of transformers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import Mamba2Config, MixtralConfig, SwitchTransformersConfig
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

from tests.closeness import assert_same, assert_same_gradients
from tests.peers import shaken
from tutorlib.layers import Experts, FeedForward, GatedFeedForward, StateSpace, balance_loss, delta_rule, delta_rule_by_steps

SIZES = dict(seed=st.integers(0, 10**6), batch=st.integers(1, 3), length=st.integers(1, 21), heads=st.integers(1, 3))


def as_mamba(mixer: Mamba2Mixer, config: Mamba2Config) -> StateSpace:
    """Ours with the weights of theirs."""
    ours = StateSpace(config.hidden_size, head_width=config.head_dim, state=config.state_size, expand=config.expand,
                      reach=config.conv_kernel, eps=config.layer_norm_epsilon).to(mixer.D.dtype)
    inner = ours.inner
    gate, inputs, step = mixer.in_proj.weight.split([inner, inner + 2 * config.state_size, config.num_heads])
    ours.load_state_dict({
        "gate.weight": gate, "inputs.weight": inputs, "step.weight": step, "step.bias": mixer.dt_bias,
        "convolution.weight": mixer.conv1d.weight[:, 0], "convolution.bias": mixer.conv1d.bias, "log_rate": mixer.A_log,
        "skip": mixer.D, "norm.weight": mixer.norm.weight, "output.weight": mixer.out_proj.weight})
    return ours


@settings(max_examples=30)
@given(head_width=st.integers(1, 5), state=st.integers(1, 6), expand=st.integers(1, 3), reach=st.integers(1, 5),
       chunk=st.integers(1, 8), **SIZES)
def test_the_state_space_layer_is_the_mixer_of_mamba_2(seed, batch, length, heads, head_width, state, expand, reach, chunk):
    torch.manual_seed(seed)
    config = Mamba2Config(num_heads=heads * expand, head_dim=head_width, hidden_size=heads * head_width, state_size=state,
                          expand=expand, n_groups=1, conv_kernel=reach, chunk_size=chunk, use_conv_bias=True, use_bias=False,
                          hidden_act="silu", num_hidden_layers=1)
    mixer = shaken(Mamba2Mixer(config, layer_idx=0))  # float32: theirs computes in it whatever comes in
    states = torch.randn(batch, length, config.hidden_size, requires_grad=True)
    theirs, ours = mixer(states), as_mamba(mixer, config)(states)
    assert_same(ours, theirs)
    assert_same_gradients(ours, theirs, [states], [states])


@settings(max_examples=30)
@given(width=st.integers(1, 6), value_width=st.integers(1, 6), block=st.integers(1, 25), **SIZES)
def test_the_delta_rule_is_the_gated_one_without_a_gate(seed, batch, length, heads, width, value_width, block):
    torch.manual_seed(seed)
    query, key = torch.randn(2, batch, heads, length, width)  # (B, H, T, K)
    key = nn.functional.normalize(key, dim=-1)
    value, beta = torch.randn(batch, heads, length, value_width), 2 * torch.rand(batch, heads, length)
    swapped = [x.transpose(1, 2) for x in (query * width**0.5, key, value, torch.zeros_like(beta), beta)]
    theirs, state = torch_recurrent_gated_delta_rule(*swapped, output_final_state=True)
    for ours in (delta_rule(query, key, value, beta, block=block), delta_rule_by_steps(query, key, value, beta)):
        assert_same(ours[0], theirs.transpose(1, 2))
        assert_same(ours[1], state)


@settings(max_examples=30)
@given(hidden=st.integers(1, 9), width=st.integers(1, 7), experts=st.integers(2, 6), top=st.integers(2, 6),
       dtype=st.sampled_from([torch.float32, torch.float64]), **{k: v for k, v in SIZES.items() if k != "heads"})
def test_several_experts_are_those_of_mixtral(seed, batch, length, hidden, width, experts, top, dtype):
    torch.manual_seed(seed)
    top = min(top, experts)
    block = shaken(MixtralSparseMoeBlock(MixtralConfig(
        hidden_size=width, intermediate_size=hidden, num_local_experts=experts, num_experts_per_tok=top)))
    ours = Experts(width, (GatedFeedForward(width, hidden) for _ in range(experts)), top_k=top)
    gate, expand = block.experts.gate_up_proj.chunk(2, dim=1)  # (E, F, D) each
    ours.load_state_dict({"router.weight": block.gate.weight} | {
        f"experts.{e}.{name}.weight": weight[e] for e in range(experts)
        for name, weight in {"gate": gate, "expand": expand, "contract": block.experts.down_proj}.items()})
    states = torch.randn(batch, length, width, requires_grad=True)
    mine, theirs = ours(states), block(states)
    assert_same(mine, theirs)
    assert_same_gradients(mine, theirs, [states], [states])
    balance = load_balancing_loss_func((ours.router(states.flatten(0, 1)),), experts, top)
    assert_same(top * balance_loss(ours.last), balance)  # theirs counts every choice as a whole one
    exact, drawn = ours.to(dtype), torch.randn(batch, length, width, dtype=dtype)
    if dtype == torch.float64:
        assert_same(exact(drawn), exact.dense(drawn))


@pytest.mark.parametrize("seed", range(5))
def test_a_single_expert_is_that_of_switch(seed):
    torch.manual_seed(seed)
    width, hidden, experts = 6, 10, 4
    block = shaken(SwitchTransformersSparseMLP(SwitchTransformersConfig(
        d_model=width, d_ff=hidden, num_experts=experts, expert_capacity=100, dense_act_fn="relu", router_bias=False)))
    ours = Experts(width, (FeedForward(width, hidden, bias=False) for _ in range(experts)))
    ours.load_state_dict({"router.weight": block.router.classifier.weight} | {
        f"experts.{e}.{mine}.weight": getattr(block.experts[f"expert_{e}"], theirs).weight
        for e in range(experts) for mine, theirs in {"expand": "wi", "contract": "wo"}.items()})
    states = torch.randn(3, 7, width, requires_grad=True)
    mine, theirs = ours(states), block(states)
    assert_same(mine, theirs)
    assert_same_gradients(mine, theirs, [states], [states])
