"""What a model or its gradient gives away: inputs read back, and who was among its examples."""

import torch
from torch import Tensor


def read_back(weight_gradient: Tensor, bias_gradient: Tensor) -> Tensor:
    """Inputs of a linear layer from its gradient alone: weights (M, n), biases (M,) -> candidates (m, n), at most M.

    The gradient of row k of the weights is the sum over examples of d_k x, that of bias k the sum of d_k, so their quotient is
    a weighted mean of the inputs: x itself where one example alone moved unit k (Phong et al. 2018). Units that
    nothing moved are left out. Raises ValueError where the shapes do not belong together.
    """
    if weight_gradient.dim() != 2 or bias_gradient.shape != weight_gradient.shape[:1]:
        raise ValueError(f"weight_gradient and bias_gradient must be (M, n) and (M,), got {tuple(weight_gradient.shape)} and "
                         f"{tuple(bias_gradient.shape)}")
    moved = bias_gradient != 0
    return weight_gradient[moved] / bias_gradient[moved, None]


def direction_read_back(weight_gradient: Tensor) -> Tensor:
    """The one input of a linear layer up to its scale: (M, n) -> (n,) of length 1, the best under equal noise in all entries.

    Of one example the gradient is an outer product; its leading right singular vector is what noise hides last.
    """
    return torch.linalg.svd(weight_gradient, full_matrices=False).Vh[0]


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """log(p / (1 - p)) for the probability p of the right class: logits (..., C), labels (...) -> (...), in float64.

    Over models trained alike it is close to normal, which a loss is not (Carlini et al. 2022).
    """
    scores = logits.double().log_softmax(-1)
    right = scores.gather(-1, labels[..., None])[..., 0]
    return right - scores.scatter(-1, labels[..., None], -torch.inf).logsumexp(-1)


def membership_ratio(score: Tensor, others: Tensor, member: Tensor) -> Tensor:
    """How much more a score speaks for "in" than for "out", by models that the attacker trained: log ratio (N,).

    score (N,) of the attacked model; others (K, N) of K models, each trained on the examples that `member` (K, N) says. Each
    example has two normals, one of the models that had it and one of the others; the two spreads are shared by all examples,
    for K is small (Carlini et al. 2022, algorithm 1). Raises ValueError for other shapes, and where an example was in none or
    in all of the models.
    """
    if others.dim() != 2 or member.shape != others.shape or score.shape != others.shape[1:]:
        raise ValueError(f"score, others and member must be (N,), (K, N) and (K, N), got {tuple(score.shape)}, "
                         f"{tuple(others.shape)} and {tuple(member.shape)}")
    if member.all(0).any() or not member.any(0).all():
        raise ValueError("member must have every example in some models and not in others, got one that is in none or in all")

    def log_density(mask: Tensor) -> Tensor:
        mean = (others * mask).sum(0) / mask.sum(0)  # (N,)
        variance = ((others - mean).square() * mask).sum() / mask.sum()
        return -(score - mean).square() / (2 * variance) - variance.log() / 2

    return log_density(member) - log_density(~member)
