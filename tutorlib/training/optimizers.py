"""SGD, Adam and AdamW, written out: each `_update` is a few lines, one for each line of the method's equations.

They are `torch.optim.Optimizer`s, so that `train`, the schedules and checkpoints take them, they follow `torch.optim` step for
step, and they take over a `state_dict` of its. In the equations theta is a parameter, g its gradient and t the step, counted
from 1; every operation is elementwise.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _Elementwise(Optimizer):
    """What the three methods share: a loop over the parameters that have a gradient. A method defines `_update`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; the others are skipped. Return the closure's loss, where one is given.

        Raises ValueError for a sparse or complex gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _check_gradient(parameter.grad)
                    self._update(parameter, parameter.grad, self.state[parameter], group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter in place. `state` is what the method remembers about it, empty before the first step."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch, with the group's options, or the defaults in their place, checked first."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)


class SGD(_Elementwise):
    """Stochastic gradient descent with momentum mu, in torch's form, where the learning rate stands outside the buffer::

        g     <-  g + weight_decay * theta
        b     <-  mu * b + g
        theta <-  theta - lr * b              heavy ball; plain descent where mu = 0
        theta <-  theta - lr * (g + mu * b)   Nesterov

    `momentum` mu is in [0, 1), `weight_decay` is the factor of an L2 penalty's gradient. Torch's Nesterov is the form of
    Sutskever et al. (2013) written for the point at which the gradient is taken, so that no second point is kept.

    Polyak (1964); Nesterov (1983); Sutskever et al. (2013), equations 1 to 4. Raises ValueError for an option outside its
    range and for nesterov without momentum.
    """

    def __init__(self, params: Iterable, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        mu = group["momentum"]
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if mu:
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"].mul_(mu).add_(gradient)
            gradient = gradient.add(buffer, alpha=mu) if group["nesterov"] else buffer
        parameter.add_(gradient, alpha=-group["lr"])


class Adam(_Elementwise):
    """Running averages of the gradient and of its square; the one is divided by the root of the other::

        g     <-  g + weight_decay * theta
        m     <-  beta1 * m + (1 - beta1) * g
        v     <-  beta2 * v + (1 - beta2) * g^2
        theta <-  theta - lr * m^ / (sqrt(v^) + eps)   with  m^ = m / (1 - beta1^t),  v^ = v / (1 - beta2^t)

    `betas` are in [0, 1). The weight decay is an L2 penalty's gradient, and so is divided by sqrt(v^) too; see `AdamW`.

    Kingma and Ba (2015), algorithm 1. Raises ValueError for an option outside its range.
    """

    def __init__(self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        _adam_update(parameter, gradient, state, group)


class AdamW(_Elementwise):
    """Adam whose weight decay stays out of the gradient: every weight shrinks by the same factor, whatever its gradients were::

        theta <-  theta - lr * weight_decay * theta
        m, v and theta as in `Adam`, with the bare gradient

    Loshchilov and Hutter (2019), algorithm 2; as in torch, the decay is multiplied by lr, not by the schedule's factor alone.
    Raises ValueError for an option outside its range.
    """

    def __init__(self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        _adam_update(parameter, gradient, state, group)


def _adam_update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """The last three lines of `Adam`'s equations.

    Both corrections go into scalars, as section 2 of the paper advises, which saves passes over the tensors: with
    r = sqrt(1 - beta2^t), m^ / (sqrt(v^) + eps) = r / (1 - beta1^t) * m / (sqrt(v) + r * eps).
    """
    if not state:
        state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
    step = state["step"] = int(state["step"]) + 1  # torch keeps its count as a tensor
    beta1, beta2 = group["betas"]
    mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
    square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root = math.sqrt(1 - beta2**step)
    rate = group["lr"] * root / (1 - beta1**step)
    parameter.addcdiv_(mean, square.sqrt().add_(root * group["eps"]), value=-rate)


def _check(options: dict[str, Any]) -> None:
    """Refuse what a group of parameters must not hold."""
    for name in ("lr", "weight_decay", "eps"):
        if name in options and not 0 <= options[name] < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {options[name]}")
    if "momentum" in options and not 0 <= options["momentum"] < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, got {options['momentum']}")
    if "betas" in options and not (len(options["betas"]) == 2 and all(0 <= beta < 1 for beta in options["betas"])):
        raise ValueError(f"betas must be two numbers of at least 0 and below 1, got {options['betas']}")
    if options.get("nesterov") and not options["momentum"]:
        raise ValueError(f"nesterov=True needs a momentum above 0, got momentum={options['momentum']}")


def _check_gradient(gradient: Tensor) -> None:
    if gradient.is_sparse or gradient.is_complex():
        raise ValueError(f"gradients must be dense and real, got {gradient.layout}, {gradient.dtype} "
                         f"of shape {tuple(gradient.shape)}")
