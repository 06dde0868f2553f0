"""Mixture of experts: many feed-forward networks, of which each token uses a few (Shazeer et al. 2017; Fedus et al. 2022)."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.arguments import check_whole


class Routing(NamedTuple):
    """Where N tokens go: probabilities (N, E) of all experts; chosen and weights (N, k) of those taken."""

    probabilities: Tensor
    chosen: Tensor
    weights: Tensor


class Experts(nn.Module):
    """FFN(x) = the sum over the k experts that the router finds most probable of weight_e FFN_e(x).

    It stands in the place of a feed-forward network, of which the experts are some. The weights of several experts are their
    probabilities, divided by the sum of the chosen ones (Jiang et al. 2024); a single expert keeps its probability (Fedus et
    al. 2022): divided by itself it would be 1, and the router would have no gradient. `last` is the latest call's routing.
    """

    def __init__(self, width: int, experts: Iterable[nn.Module], top_k: int = 1):
        super().__init__()
        self.experts = nn.ModuleList(experts)
        check_whole("width", width)
        check_whole("top_k", top_k)
        if top_k > len(self.experts):
            raise ValueError(f"top_k must be at most the number of experts, {len(self.experts)}, got {top_k}")
        self.router, self.top_k = nn.Linear(width, len(self.experts), bias=False), top_k
        self.last: Routing | None = None

    def route(self, tokens: Tensor) -> Routing:
        """tokens (N, D) -> their routing. The softmax is at least float32: near ties must not be decided by rounding."""
        logits = self.router(tokens)  # (N, E)
        probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)  # (N, k)
        return Routing(probabilities, chosen, weights / weights.sum(-1, keepdim=True) if self.top_k > 1 else weights)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D); each expert sees only the tokens that chose it."""
        tokens = states.flatten(0, -2)  # (N, D)
        self.last = routing = self.route(tokens)
        output = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, place = (routing.chosen == number).nonzero(as_tuple=True)  # (M,) each
            share = routing.weights[token, place, None] * expert(tokens[token])  # (M, D)
            output = output.index_add(0, token, share.to(output.dtype))
        return output.view_as(states)

    def dense(self, states: Tensor) -> Tensor:
        """The definition, at the cost of all experts: every expert sees every token, most with the weight zero."""
        tokens = states.flatten(0, -2)  # (N, D)
        routing = self.route(tokens)
        weights = torch.zeros_like(routing.probabilities).scatter(1, routing.chosen, routing.weights)  # (N, E)
        outputs = torch.stack([expert(tokens) for expert in self.experts], dim=1)  # (N, E, D)
        return (weights[..., None].to(outputs.dtype) * outputs).sum(1).view_as(states)


def balance_loss(routing: Routing) -> Tensor:
    """E times the sum over experts of (share of the choices) (mean probability): 1 where all are alike, at most E.

    The share has no gradient, the probability has one (Fedus et al. 2022, equation 4, there for k = 1). A scalar.
    """
    experts = routing.probabilities.size(-1)
    share = torch.bincount(routing.chosen.flatten(), minlength=experts) / routing.chosen.numel()  # (E,)
    return experts * (share.to(routing.probabilities) * routing.probabilities.mean(0)).sum()
