"""Preferences and rewards: values by hand, DPO's gradient against the formula, what a group's advantages do not change."""

import copy
import math

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.models.gpt import GPT, GPTConfig
from tutorlib.training.preferences import (
    answer_log_prob,
    answer_mask,
    dpo_loss,
    dpo_margin,
    group_advantages,
    grpo_loss,
    kl_estimate,
    last_reward,
    reward_loss,
    reward_model,
    token_log_probs,
)

CONFIG = GPTConfig(vocabulary=7, max_length=6, width=8, num_heads=2, num_layers=1)


def model(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(CONFIG).double().eval()


def log_probs(*shape: int, seed: int = 0) -> torch.Tensor:
    return -draw(*shape, seed=seed).double().abs()


# -- Bradley-Terry -------------------------------------------------------------------------------------------------------


def test_reward_loss_by_hand():
    """Differences ln 3 and -ln 3: chances 3/4 and 1/4."""
    loss = reward_loss(torch.tensor([math.log(3), 1.0]), torch.tensor([0.0, 1.0 + math.log(3)]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-6)


def test_a_constant_added_to_all_rewards_changes_nothing():
    chosen, rejected = draw(9), draw(9, seed=1)
    assert_same(reward_loss(chosen + 5, rejected + 5), reward_loss(chosen, rejected))


def test_a_large_difference_does_not_overflow():
    assert reward_loss(torch.tensor([-500.0]), torch.tensor([500.0])).item() == pytest.approx(1000)


def test_a_reward_model_leaves_the_language_model_alone_and_begins_at_zero():
    policy = model()
    before = copy.deepcopy(policy.state_dict())
    rewarding = reward_model(policy)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 5], [1, 2, 6, 5, 5, 5]])
    mask = answer_mask(tokens, 2, 5)
    assert (last_reward(rewarding, tokens, mask) == 0).all() and rewarding(tokens).dtype == torch.float64
    torch.nn.init.ones_(rewarding.output.weight)
    rewarding.embedding.weight.data.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_the_reward_is_read_at_the_answer_s_last_token():
    rewarding = reward_model(model())
    torch.nn.init.normal_(rewarding.output.weight)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 5], [1, 2, 6, 5, 5, 5], [1, 2, 3, 3, 3, 3]])
    got = last_reward(rewarding, tokens, answer_mask(tokens, 2, 5))
    expected = torch.stack([rewarding(tokens)[row, place, 0] for row, place in enumerate((4, 3, 5))])
    assert_same(got, expected)


# -- log-probabilities ---------------------------------------------------------------------------------------------------


def test_the_mask_is_the_answer_with_its_first_end():
    tokens = torch.tensor([[5, 2, 3, 4, 5, 5], [1, 2, 5, 1, 5, 1], [1, 2, 3, 3, 3, 3]])
    assert answer_mask(tokens, 2, 5).int().tolist() == [[0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]


def test_log_probs_by_the_chain_rule():
    policy, tokens = model(), torch.tensor([[1, 2, 3, 4, 5, 5]])
    p = [policy(tokens[:, :t]).softmax(-1)[0, -1, tokens[0, t]] for t in range(1, 6)]
    assert_same(token_log_probs(policy, tokens)[0], torch.stack([torch.ones_like(p[0]), *p]).log())
    assert_same(answer_log_prob(policy, tokens, answer_mask(tokens, 2, 5))[0], torch.stack(p[1:4]).log().sum())


# -- DPO ---------------------------------------------------------------------------------------------------------------


def test_dpo_by_hand():
    """The chosen answer four times as probable as under the reference, the other half: with beta 1/3 the margin is ln 2."""
    ratios = torch.tensor([4.0]).log(), torch.tensor([0.5]).log()
    zeros = torch.zeros(1)
    assert dpo_margin(*ratios, zeros, zeros, 1 / 3).item() == pytest.approx(math.log(2), rel=1e-6)
    assert dpo_loss(*ratios, zeros, zeros, 1 / 3).item() == pytest.approx(math.log(1.5), rel=1e-6)


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_dpo_s_gradient_is_the_formula(beta, seed):
    """Equation 7's gradient: -beta mean(sigmoid(-margin) (grad log pi(y_w) - grad log pi(y_l)))."""
    policy, reference = model(seed), model(seed + 10)
    chosen = torch.tensor([[1, 2, 3, 4, 5, 5], [1, 0, 6, 5, 5, 5]])
    rejected = torch.tensor([[1, 2, 4, 5, 5, 5], [1, 0, 6, 6, 6, 5]])
    parameters = list(policy.parameters())
    both = [answer_log_prob(each, tokens, answer_mask(tokens, 2, 5)) for each in (policy, reference)
            for tokens in (chosen, rejected)]
    got = torch.autograd.grad(dpo_loss(*both, beta), parameters, retain_graph=True)
    weight = (-dpo_margin(*both, beta)).sigmoid().detach()  # (B,)
    expected = [torch.zeros_like(each) for each in parameters]
    for row in range(2):
        gradient = torch.autograd.grad(both[0][row] - both[1][row], parameters, retain_graph=True)
        for total, part in zip(expected, gradient, strict=True):
            total -= beta * weight[row] * part / 2
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


def test_dpo_is_the_reward_loss_of_implicit_rewards():
    w, lo, ref_w, ref_l = (log_probs(5, seed=seed) for seed in range(4))
    assert_same(dpo_loss(w, lo, ref_w, ref_l, 0.3), reward_loss(0.3 * (w - ref_w), 0.3 * (lo - ref_l)))


def test_at_the_reference_dpo_is_the_logarithm_of_two():
    w, lo = log_probs(5), log_probs(5, seed=1)
    assert dpo_loss(w, lo, w, lo, 0.1).item() == pytest.approx(math.log(2))


# -- groups --------------------------------------------------------------------------------------------------------------


def test_advantages_by_hand():
    got = group_advantages(torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]]), eps=0.1)
    s = 0.1 + 3**0.5 / 4
    torch.testing.assert_close(got, torch.tensor([[0.75 / s, *[-0.25 / s] * 3], [0, 0, 0, 0]]))


def test_advantages_know_neither_offset_nor_scale_of_a_group():
    rewards = draw(4, 6).double()
    moved = rewards * torch.tensor([[1.0], [2.0], [10.0], [0.5]]) + torch.tensor([[0.0], [3.0], [-7.0], [1.0]])
    torch.testing.assert_close(group_advantages(moved), group_advantages(rewards), atol=1e-4, rtol=0)


def test_advantages_sum_to_nothing_and_follow_their_answers():
    rewards = draw(3, 5)
    torch.testing.assert_close(group_advantages(rewards).sum(1), torch.zeros(3), atol=1e-5, rtol=0)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert_same(group_advantages(rewards[:, order]), group_advantages(rewards)[:, order])


def test_groups_do_not_see_each_other():
    rewards = draw(3, 5)
    other = rewards.clone()
    other[1:] = 9 * other[1:] + 1
    assert_same(group_advantages(other)[0], group_advantages(rewards)[0])


# -- KL and the policy's loss ----------------------------------------------------------------------------------------------


def test_kl_estimate_is_exact_in_the_mean_and_never_negative():
    p, q = draw(6).double().softmax(0), draw(6, seed=1).double().softmax(0)
    each = kl_estimate(p.log(), q.log())
    assert (each >= 0).all()
    assert (p * each).sum().item() == pytest.approx((p * (p / q).log()).sum().item())


def test_grpo_by_hand():
    """Two answers of one and two tokens; ratios 1, 1.5 (cut at 1.2) and 0.5 (which a negative advantage leaves at 0.8)."""
    sampled = torch.zeros(2, 3, dtype=torch.float64)
    now = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.5, 0.5]], dtype=torch.float64)
    now[:, 1:] = torch.tensor([[1.0, 1.0], [1.5, 0.5]]).double().log()
    mask = torch.tensor([[False, True, False], [False, True, True]])
    up = grpo_loss(now, sampled, now, torch.tensor([1.0, 1.0]).double(), mask, beta=0.0)
    assert up.item() == pytest.approx(-(1 + (1.2 + 0.5) / 2) / 2)
    down = grpo_loss(now, sampled, now, torch.tensor([1.0, -1.0]).double(), mask, beta=0.0)
    assert down.item() == pytest.approx(-(1 - (1.5 + 0.8) / 2) / 2)


def test_grpo_on_fresh_samples_is_the_policy_gradient():
    """At ratio 1: the gradient of advantage times the mean log-probability, without KL."""
    now = log_probs(3, 4).requires_grad_()
    advantages, mask = draw(3).double(), torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]]).bool()
    got, = torch.autograd.grad(grpo_loss(now, now, now, advantages, mask, beta=0.0), now)
    by_hand = -advantages[:, None] * mask / mask.sum(1, keepdim=True) / 3
    torch.testing.assert_close(got, by_hand)


def test_the_price_of_kl_is_paid_where_the_mask_is_true():
    now, reference = log_probs(2, 4), log_probs(2, 4, seed=1)
    mask = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0]]).bool()
    losses = [grpo_loss(now, now, reference, torch.zeros(2).double(), mask, beta=beta).item() for beta in (0.0, 0.5)]
    kl = kl_estimate(now, reference)
    assert losses == [0, pytest.approx(0.5 * (kl[0, 1:].mean() + kl[1, 1]).item() / 2)]


def test_neither_sampler_nor_reference_gets_a_gradient():
    now, sampled, reference = (log_probs(2, 3, seed=seed).requires_grad_() for seed in range(3))
    grpo_loss(now, sampled, reference, draw(2).double(), torch.ones(2, 3).bool(), beta=0.1).backward()
    assert now.grad is not None and sampled.grad is None and reference.grad is None


# -- learning ------------------------------------------------------------------------------------------------------------


def test_dpo_learns_one_pair():
    policy, reference = model(), model()
    chosen, rejected = torch.tensor([[1, 2, 3, 5, 5, 5]]), torch.tensor([[1, 2, 4, 5, 5, 5]])
    masks = answer_mask(chosen, 2, 5), answer_mask(rejected, 2, 5)
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-2)
    for _ in range(20):
        both = [answer_log_prob(each, tokens, mask) for each in (policy, reference)
                for tokens, mask in zip((chosen, rejected), masks, strict=True)]
        loss = dpo_loss(*both, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.35


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_refusals():
    two, three = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"rejected must have the shape of chosen, \(2,\), got \(3,\)"):
        reward_loss(two, three)
    with pytest.raises(ValueError, match="beta must be a positive number, got 0"):
        dpo_loss(two, two, two, two, 0)
    with pytest.raises(ValueError, match="reference_rejected must have the shape of chosen"):
        dpo_margin(two, two, two, three, 0.1)
    with pytest.raises(ValueError, match=r"rewards must have the shape \(P, G\) with G at least 2, got \(3, 1\)"):
        group_advantages(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="model must have a linear layer named output, got Identity"):
        reward_model(torch.nn.Identity())
    with pytest.raises(ValueError, match=r"prompt must be from 1 to T - 1 of tokens \(B, T\), got 4 of \(2, 4\)"):
        answer_mask(torch.zeros(2, 4), 4, 1)
    part, mask = torch.zeros(2, 3), torch.ones(2, 3).bool()
    with pytest.raises(ValueError, match=r"advantages must have the shape of log_probs\[:, 0\], \(2,\), got \(3,\)"):
        grpo_loss(part, part, part, three, mask, beta=0.1)
    with pytest.raises(ValueError, match="beta must be a number of at least 0, got -1"):
        grpo_loss(part, part, part, two, mask, beta=-1)
    with pytest.raises(ValueError, match="clip must be a positive number, got 0"):
        grpo_loss(part, part, part, two, mask, beta=0, clip=0)
