"""Learning from what is preferred or checked: Bradley-Terry rewards, DPO, and a policy gradient with a group's mean (GRPO)."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def reward_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid(r_w - r_l), nats a pair, averaged: rewards (B,) of the preferred and of the other answer.

    The likelihood of Bradley and Terry (1952): the chance to be preferred is the sigmoid of the difference.
    Raises ValueError for two shapes.
    """
    _check_shapes(chosen=chosen, rejected=rejected)
    return -F.logsigmoid(chosen - rejected).mean()


def reward_model(model: nn.Module) -> nn.Module:
    """A copy of a language model whose output layer gives one number a position, zero at first: (B, T) -> (B, T, 1).

    Raises ValueError for a model without a linear layer named `output`.
    """
    output = getattr(model, "output", None)
    if not isinstance(output, nn.Linear):
        raise ValueError(f"model must have a linear layer named output, got {type(model).__name__} with {output!r}")
    rewarding = copy.deepcopy(model)
    rewarding.output = nn.Linear(output.in_features, 1, bias=False).to(output.weight)
    nn.init.zeros_(rewarding.output.weight)
    return rewarding


def answer_mask(tokens: Tensor, prompt: int, end: int) -> Tensor:
    """True where a token was the model's to choose: behind the prompt, up to and with the first `end`. (B, T) -> (B, T)."""
    if tokens.dim() != 2 or not 0 < prompt < tokens.size(1):
        raise ValueError(f"prompt must be from 1 to T - 1 of tokens (B, T), got {prompt} of {tuple(tokens.shape)}")
    ended = (tokens[:, prompt:] == end).long().cumsum(dim=1)  # (B, A): ends so far
    before = ended - (tokens[:, prompt:] == end).long()  # (B, A): ends before this token
    return torch.cat([torch.zeros_like(tokens[:, :prompt], dtype=torch.bool), before == 0], dim=1)


def token_log_probs(model: nn.Module, tokens: Tensor) -> Tensor:
    """log p(token t | tokens before t), (B, T), in nats; the first token has no prediction and gets 0."""
    logits = model(tokens)[:, :-1]  # (B, T - 1, V)
    found = -F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")  # (B, T - 1)
    return F.pad(found, (1, 0))  # (B, T)


def answer_log_prob(model: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """log pi(answer | prompt), (B,): the sum over the tokens (B, T) where the mask (B, T) is True."""
    _check_shapes(tokens=tokens, mask=mask)
    return (token_log_probs(model, tokens) * mask).sum(dim=1)


def last_reward(model: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """What a `reward_model` gives at the last token of each answer, (B,)."""
    _check_shapes(tokens=tokens, mask=mask)
    places = torch.arange(tokens.size(1), device=tokens.device)
    last = (mask * places).argmax(dim=1, keepdim=True)  # (B, 1)
    return model(tokens).squeeze(-1).gather(1, last).squeeze(1)  # (B, T, 1) -> (B,)


def dpo_margin(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float) -> Tensor:
    """beta ((log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))), (B,): the difference of implicit rewards.

    All four are log-probabilities of whole answers, (B,). Raises ValueError for unlike shapes and a beta that is not positive.
    """
    _check_shapes(chosen=chosen, rejected=rejected, reference_chosen=reference_chosen, reference_rejected=reference_rejected)
    _check_positive("beta", beta)
    return beta * ((chosen - reference_chosen) - (rejected - reference_rejected))


def dpo_loss(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float) -> Tensor:
    """-log sigmoid(`dpo_margin`), nats a pair, averaged (Rafailov et al. 2023, equation 7)."""
    return -F.logsigmoid(dpo_margin(chosen, rejected, reference_chosen, reference_rejected, beta)).mean()


def group_advantages(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """(r - mean) / (std + eps) within each group: rewards (P, G) of G answers to each of P prompts -> (P, G).

    The standard deviation divides by G. Where all answers of a group earn the same, all its advantages are 0.
    Raises ValueError for another shape or groups of one (Shao et al. 2024, section 4.1).
    """
    if rewards.dim() != 2 or rewards.size(1) < 2:
        raise ValueError(f"rewards must have the shape (P, G) with G at least 2, got {tuple(rewards.shape)}")
    rewards = rewards.float()
    centered = rewards - rewards.mean(dim=1, keepdim=True)  # (P, G)
    return centered / (centered.square().mean(dim=1, keepdim=True).sqrt() + eps)


def kl_estimate(log_probs: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log ref - log pi, a token: at least 0, in the mean over draws from pi KL(pi || ref)."""
    _check_shapes(log_probs=log_probs, reference=reference)
    d = reference - log_probs
    return d.exp() - d - 1


def grpo_loss(log_probs: Tensor, sampled: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor, *, beta: float,
              clip: float = 0.2) -> Tensor:
    """The loss of group-relative policy optimization (Shao et al. 2024, equation 3): a mean over answers of means over tokens.

    Args:
        log_probs: (B, T) of the tokens under the policy that learns.
        sampled: the same under the policy that drew them; no gradient goes here.
        reference: the same under the fixed reference.
        advantages: (B,), one number for all tokens of an answer.
        mask: (B, T), True on the answer's tokens.
        beta: the price of a nat of `kl_estimate` a token.
        clip: how far the ratio to `sampled` may move before a token's gain stops to count.

    Raises ValueError for unlike shapes, a negative beta, a clip that is not positive.
    """
    _check_shapes(log_probs=log_probs, sampled=sampled, reference=reference, mask=mask)
    _check_shapes(**{"log_probs[:, 0]": log_probs[:, 0], "advantages": advantages})
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta must be a number of at least 0, got {beta}")
    _check_positive("clip", clip)
    ratio = (log_probs - sampled.detach()).exp()  # (B, T)
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])  # (B, T)
    objective = (gain - beta * kl_estimate(log_probs, reference.detach())) * mask  # (B, T)
    return -(objective.sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


def _check_shapes(**tensors: Tensor) -> None:
    (first, expected), *others = ((name, tuple(tensor.shape)) for name, tensor in tensors.items())
    for name, shape in others:
        if shape != expected:
            raise ValueError(f"{name} must have the shape of {first}, {expected}, got {shape}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value}")
