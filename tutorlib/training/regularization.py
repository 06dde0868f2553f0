"""Against overfitting: penalties, proximal steps, dropout, early stopping and smoothed labels, each written out.

Penalties and proximal steps act on weights, which here means every parameter of two or more dimensions: matrices, kernels and
embedding tables. Biases and the scales and shifts of normalization layers have one dimension and are left alone: they hold few
numbers, and shrinking them moves outputs toward zero without making the function smoother.
"""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from tutorlib.training.loop import History


def is_weight(parameter: Tensor) -> bool:
    """Whether penalties apply to a parameter: it has two or more dimensions, so it is no bias and no norm's scale."""
    return parameter.dim() >= 2


def l1_penalty(model: nn.Module) -> Tensor:
    """Sum of the absolute values of the model's weights, a scalar. Its gradient is sign(w), and 0 at 0."""
    return sum(weight.abs().sum() for weight in _weights(model))


def l2_penalty(model: nn.Module) -> Tensor:
    """Half the sum of the squares of the model's weights, a scalar.

    With the half the gradient of `strength * l2_penalty(model)` is `strength * w`, which torch's SGD adds itself when its
    `weight_decay` is `strength` (on every parameter that it is given, biases too).
    """
    return 0.5 * sum(weight.square().sum() for weight in _weights(model))


def soft_threshold(values: Tensor, threshold: float) -> Tensor:
    """Move every value toward zero by `threshold`, and to exactly zero where it would pass zero; same shape.

    The proximal operator of the L1 norm: the `u` for which `(u - values)**2 / 2 + threshold * abs(u)` is smallest.
    Raises ValueError for a threshold that is negative or not finite.
    """
    _check_strength(threshold=threshold)
    return values.sign() * (values.abs() - threshold).clamp(min=0)


def proximal_l1(optimizer: Optimizer, strength: float) -> RemovableHandle:
    """From now on soft-threshold the optimizer's weights after each of its steps; the handle's `remove()` ends that.

    The threshold is learning rate times `strength`, as `strength` times the L1 norm in the loss would have it. After a step of
    plain SGD on the rest of the loss this is proximal gradient descent (Parikh and Boyd, 2014, section 4.2), whose limit has
    exact zeros. After a step of Adam, which scales each entry on its own, it gives zeros as well but minimizes another loss.
    Raises ValueError for a strength that is negative or not finite.
    """
    _check_strength(strength=strength)

    @torch.no_grad()
    def shrink(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for weight in filter(is_weight, group["params"]):
                weight.copy_(soft_threshold(weight, float(group["lr"]) * strength))

    return optimizer.register_step_post_hook(shrink)


def dropout(states: Tensor, probability: float, *, generator: torch.Generator | None = None,
            keep: Tensor | None = None) -> Tensor:
    """Set entries to zero with the given probability and divide the others by 1 - probability; same shape.

    The division ("inverted" dropout) keeps the expected value of each entry, so that nothing is left to do in evaluation.
    Each entry is kept or not on its own, by numbers of `generator`, or as the boolean mask `keep` says.
    Srivastava et al. (2014), section 4; they scale the weights in evaluation instead.
    Raises ValueError for a probability outside [0, 1), a mask of another shape, or unless exactly one of generator and keep
    is given.
    """
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be at least 0 and less than 1, got {probability}")
    if (generator is None) == (keep is None):
        raise ValueError(f"generator or keep must be given, and not both, got {generator} and {keep}")
    if keep is None:
        draws = torch.rand(states.shape, generator=generator, device=generator.device)  # uniform in [0, 1)
        keep = (draws >= probability).to(states.device)
    if keep.shape != states.shape or keep.dtype != torch.bool:
        raise ValueError(f"keep must be a boolean mask of shape {tuple(states.shape)}, "
                         f"got {keep.dtype} of shape {tuple(keep.shape)}")
    return torch.where(keep, states / (1 - probability), 0)


class EarlyStopping:
    """Ends a run when its evaluations no longer improve, and remembers the weights of the best one::

        stopping = EarlyStopping(model, patience=5)
        train(model, ..., evaluate=validation_loss, evaluate_every=10, stop=stopping)
        stopping.restore()

    The run ends after `patience` evaluations in a row that were not strictly better than the best. `value` takes the number
    to compare from what `evaluate` returned; smaller is better, so a score goes in with
    a minus. NaN is never better.
    `best_step` and `best_value` say when the best evaluation was and what it gave (None before the first).
    A training checkpoint does not hold this object's state. Prechelt (1998).
    """

    def __init__(self, model: nn.Module, patience: int, *, value: Callable[[Any], float] = float):
        if not (isinstance(patience, Integral) and patience >= 1):
            raise ValueError(f"patience must be at least 1 evaluation, got {patience}")
        self.model, self.patience, self.value = model, patience, value
        self.best_step: int | None = None
        self.best_value: float | None = None
        self._best_weights: dict[str, Tensor] = {}
        self._waited = 0

    def __call__(self, history: History) -> bool:
        """Look at the last evaluation; whether to stop."""
        step, evaluation = history.evaluations[-1]
        value = float(self.value(evaluation))
        if self._is_better(value):
            self.best_step, self.best_value, self._waited = step, value, 0
            self._best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            self._waited += 1
        return self._waited >= self.patience

    def restore(self) -> None:
        """Put the best weights, and buffers, back into the model. Raises ValueError where no evaluation gave a number."""
        if self.best_step is None:
            raise ValueError("restore: no evaluation has been seen yet that is a number; expected train(..., stop=this object) "
                             "before")
        self.model.load_state_dict(self._best_weights)

    def _is_better(self, value: float) -> bool:
        if self.best_value is None:
            return value == value  # a number, not NaN
        return value < self.best_value


def smooth_labels(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Labels (B,) as probabilities (B, C): a share `smoothing` spread evenly over all C classes, the rest on the label.

    The label's own class so has 1 - smoothing + smoothing / C. With smoothing 0 the rows are one-hot.
    Szegedy et al. (2016), section 7.
    Raises ValueError for a smoothing outside [0, 1], a label outside the classes, or fewer than one class.
    """
    if not (isinstance(num_classes, Integral) and num_classes >= 1):
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be a share from 0 to 1, got {smoothing}")
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers of shape (B,), got {labels.dtype} of shape {tuple(labels.shape)}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"labels must be from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}")
    one_hot = F.one_hot(labels.long(), num_classes).to(torch.get_default_dtype())  # (B, C)
    return (1 - smoothing) * one_hot + smoothing / num_classes


def _weights(model: nn.Module) -> list[Tensor]:
    """The model's weights; a shared one counts once."""
    weights = [parameter for parameter in model.parameters() if is_weight(parameter)]
    if not weights:
        raise ValueError(f"model: {type(model).__name__} has no parameter of two or more dimensions; expected at least one")
    return weights


def _check_strength(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {number}")
