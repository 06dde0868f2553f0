"""SGD, Adam and AdamW, written out: each `_update` is a few lines, one for each line of the method's equations.

They are `torch.optim.Optimizer`s, so that `train`, the schedules and checkpoints take them, they follow `torch.optim` step for
step, and they take over a `state_dict` of its, unless it has an option on that they lack. In the equations theta is a
parameter, g its gradient and t the step, counted from 1; every operation is elementwise.
"""

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tutorlib.training.regularization import is_weight

# Of a group of parameters, what every optimizer may hold: how a step is computed, and what others note there.
WITHOUT_EFFECT = {"params", "param_names", "initial_lr", "foreach", "fused", "capturable", "differentiable"}


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The model's parameters in two groups for an optimizer: weights, which decay, and the others, which do not.

    Weights are matrices, kernels and embedding tables, as `regularization.is_weight` has it; biases, the scales and shifts of
    norms and single numbers are spared. Raises ValueError for a weight decay that is no number of at least 0.
    """
    _check({"weight_decay": weight_decay})
    weights = [parameter for parameter in model.parameters() if is_weight(parameter)]
    others = [parameter for parameter in model.parameters() if not is_weight(parameter)]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


class _Elementwise(Optimizer):
    """What the three methods share: a loop over the parameters that have a gradient. A method defines `_update`.

    `_fixed` are options of torch's optimizer of the same name that the method lacks, at the value that it stands for.
    """

    _fixed: ClassVar[dict[str, Any]] = {}

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
        super().add_param_group(self._checked({**self.defaults, **param_group}))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, whose optimizers' states it takes over, too.

        Raises ValueError where that optimizer did what this one does not, `amsgrad` for instance, or is another method.
        """
        for group in state_dict["param_groups"]:
            if missing := sorted(self.defaults.keys() - group.keys()):
                raise ValueError(f"state_dict has no {missing[0]}; expected that of {type(self).__name__}")
        super().load_state_dict({**state_dict, "param_groups": list(map(self._checked, state_dict["param_groups"]))})

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        """The group, with Python's numbers. Raises ValueError for an option that is out of range or would have no effect."""
        for name in sorted(group.keys() - self.defaults.keys() - WITHOUT_EFFECT):
            if name not in self._fixed or group[name] != self._fixed[name]:
                raise ValueError(f"{name} = {group[name]} has no effect in this {type(self).__name__}; "
                                 f"expected {self._fixed.get(name, 'no such option')}")
        group = {name: _as_number(value) if name in self.defaults else value for name, value in group.items()}
        _check(group)
        return group


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

    _fixed: ClassVar[dict[str, Any]] = {"dampening": 0, "maximize": False}

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

    _fixed: ClassVar[dict[str, Any]] = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": False}

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

    _fixed: ClassVar[dict[str, Any]] = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}

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
        if name in options and not (_is_number(options[name]) and 0 <= options[name] < math.inf):
            raise ValueError(f"{name} must be a finite number of at least 0, got {options[name]}")
    momentum, betas = options.get("momentum", 0), options.get("betas", (0, 0))
    if not (_is_number(momentum) and 0 <= momentum < 1):
        raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
    if not (isinstance(betas, (tuple, list)) and len(betas) == 2 and all(_is_number(beta) and 0 <= beta < 1 for beta in betas)):
        raise ValueError(f"betas must be two numbers of at least 0 and below 1, got {betas}")
    if options.get("nesterov") and not momentum:
        raise ValueError(f"nesterov=True needs a momentum above 0, got momentum={momentum}")


def _as_number(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_as_number, value))
    return value.item() if hasattr(value, "item") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_gradient(gradient: Tensor) -> None:
    if gradient.is_sparse or gradient.is_complex():
        raise ValueError(f"gradients must be dense and real, got {gradient.layout}, {gradient.dtype} "
                         f"of shape {tuple(gradient.shape)}")
