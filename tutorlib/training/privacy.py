"""Differential privacy: gradients clipped one example at a time and noised, and what that is worth (Abadi et al. 2016)."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tutorlib.arguments import check_whole

Loss = Callable[[Tensor, Tensor], Tensor]
ORDERS = tuple(1 + step / 10 for step in range(1, 100)) + tuple(range(11, 64)) + (80, 128, 256, 512)  # of Rényi divergences


def per_sample_gradients(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss = F.cross_entropy) -> Tensor:
    """The gradient of each example's own loss: inputs (B, ...), targets (B, ...) -> (B, P), parameters in the model's order.

    `loss` is called with the outputs and targets of a batch of one. Exact where no layer mixes examples, as batch
    normalization in training does.
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def own_loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, parameters, (x[None],)), y[None])

    gradients = vmap(grad(own_loss), in_dims=(None, 0, 0))(parameters, inputs, targets)  # of each parameter (B, *shape)
    return torch.cat([gradient.flatten(1) for gradient in gradients.values()], dim=1)


def clipped(gradients: Tensor, clip_norm: float) -> Tensor:
    """(B, P) -> (B, P): each row scaled down to the norm `clip_norm`; a shorter row stays as it is."""
    norms = gradients.norm(dim=1, keepdim=True)  # (B, 1)
    return gradients * (clip_norm / norms.clamp_min(clip_norm))


def private_gradient(gradients: Tensor, clip_norm: float, noise: float, expected: float, generator: torch.Generator) -> Tensor:
    """The clipped rows (B, P) summed, with noise of the deviation noise * clip_norm, over the *expected* batch size -> (P,).

    Divided by the batch size that chance drew, it would tell that size. Raises ValueError for a clip_norm or expected that is
    not positive and for negative noise.
    """
    _check_positive(clip_norm=clip_norm, expected=expected)
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise}")
    total = clipped(gradients, clip_norm).sum(0)  # (P,)
    drawn = torch.randn(total.shape, generator=generator, dtype=total.dtype).to(total.device)
    return (total + noise * clip_norm * drawn) / expected


def train_privately(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss = F.cross_entropy, *, steps: int,
                    sample_rate: float, clip_norm: float, noise: float, rate: float, generator: torch.Generator) -> None:
    """DP-SGD (Abadi et al. 2016, algorithm 1): in each step every example takes part with the probability `sample_rate`.

    What it is worth says `epsilon(sample_rate, noise, steps, delta)`, whatever `clip_norm` and `rate` are.
    Raises ValueError for arguments out of their range.
    """
    check_whole("steps", steps)
    _check_positive(rate=rate, clip_norm=clip_norm)
    _check_rate(sample_rate)
    for _ in range(steps):
        drawn = torch.rand(len(targets), generator=generator).to(targets.device) < sample_rate  # (N,)
        gradients = per_sample_gradients(model, inputs[drawn], targets[drawn], loss)  # (B, P)
        step = private_gradient(gradients, clip_norm, noise, sample_rate * len(targets), generator)
        weights = parameters_to_vector(model.parameters()).detach()
        vector_to_parameters(weights - rate * step, model.parameters())


def renyi(sample_rate: float, noise: float, order: float) -> float:
    """The Rényi divergence, in nats, of one noised sum from the one in which one example more may take part.

    With mu = N(0, noise^2) and nu = N(1, noise^2) it is log E_mu[((1 - q) + q nu / mu)^order] / (order - 1), q the sampling
    rate (Mironov, Talwar and Zhang 2019), summed here over a fine grid. Raises ValueError for a sampling rate outside (0, 1],
    noise that is not positive, and an order of at most 1.
    """
    _check_rate(sample_rate)
    _check_positive(noise=noise)
    if not order > 1:
        raise ValueError(f"order must be above 1, got {order}")
    step = noise / 32
    z = torch.arange(-12 * noise, order + 12 * noise, step, dtype=torch.float64)
    ratio = (2 * z - 1) / (2 * noise**2)  # log nu / mu
    sampled = torch.tensor(sample_rate, dtype=torch.float64)
    mixed = torch.logaddexp((1 - sampled).log(), sampled.log() + ratio)
    density = -z.square() / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))  # log mu
    return ((density + order * mixed).logsumexp(0).item() + math.log(step)) / (order - 1)


def epsilon(sample_rate: float, noise: float, steps: int, delta: float, orders: Sequence[float] = ORDERS) -> float:
    """The least epsilon of (epsilon, delta)-differential privacy that the orders can show for so many steps of DP-SGD.

    Rényi divergences of steps add up; each order turns the sum into an epsilon (Balle et al. 2020, theorem 21). Raises
    ValueError for a delta outside (0, 1) and as `renyi` does.
    """
    check_whole("steps", steps)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    if not len(orders):
        raise ValueError("orders must be at least one, got none")
    found = (steps * renyi(sample_rate, noise, order) + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
             for order in orders)
    return max(min(found), 0.0)


def noise_for(target: float, sample_rate: float, steps: int, delta: float) -> float:
    """The least noise, up to a thousandth of itself, whose epsilon is at most `target`. Raises ValueError as `epsilon` does."""
    _check_positive(target=target)
    low, high = 0.1, 1.0
    while epsilon(sample_rate, high, steps, delta) > target:
        low, high = high, 2 * high
        if high > 1e4:
            raise ValueError(f"target must be within reach of the orders, got {target} for {steps} steps")
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if epsilon(sample_rate, middle, steps, delta) > target else (low, middle)
    return high


def most_bets_won(epsilon: float, delta: float) -> float:
    """The largest share of even bets on "was this example in?" that anyone can win: (e^epsilon + delta) / (1 + e^epsilon).

    From Kairouz, Oh and Viswanath 2015: both kinds of error together are at least 2 (1 - delta) / (1 + e^epsilon). Raises
    ValueError for a negative epsilon and a delta outside [0, 1].
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    if not 0 <= delta <= 1:
        raise ValueError(f"delta must lie in [0, 1], got {delta}")
    return 1 - (1 - delta) / (1 + math.exp(min(epsilon, 700.0)))


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {number}")


def _check_rate(sample_rate: float) -> None:
    if not 0 < sample_rate <= 1:
        raise ValueError(f"sample_rate must lie in (0, 1], got {sample_rate}")
