"""Reverse-mode differentiation (Linnainmaa 1976; Baydin et al. 2018, section 3.2), small enough to read.

A `Variable` is a tensor that remembers how it was made. Tensors serve as plain arrays: torch's own differentiation is not used.
Device and dtype follow the input. A plain tensor or a number in an operation is a constant and gets no gradient.
"""

from collections.abc import Callable, Iterator
from typing import Any, Union

import torch
from torch import Tensor

Pull = Callable[[Tensor], Tensor]  # takes the gradient of a result to the gradient of one of its parents
Operand = Union["Variable", Tensor, float]
Dims = int | tuple[int, ...] | None


class Variable:
    """A tensor `value`, its gradient `grad` (of the same shape, or None), and the `parents` it was made of.

    A parent is a pair (variable, pull); what pull returns, `backward` sums to the parent's shape where it was broadcast.
    Raises ValueError where the value is not a floating-point tensor, or is one that torch differentiates.
    """

    def __init__(self, value: Tensor, *parents: tuple[Operand, Pull]):
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.requires_grad:
            raise ValueError(f"value must be a floating-point tensor without requires_grad, got {value!r}")
        self.value, self.grad = value, None
        self.parents = [(parent, pull) for parent, pull in parents if isinstance(parent, Variable)]  # constants drop out

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    def backward(self, gradient: Tensor | None = None) -> None:
        """Add to the `grad` of this variable, and of all that it was made of, the derivative of sum(self * gradient).

        `gradient` has the shape of the value; a single number can do without and takes 1.
        Raises ValueError for a gradient of another shape, or none where the value is not a single number.
        """
        if gradient is None and self.value.numel() == 1:
            gradient = torch.ones_like(self.value)
        if gradient is None or gradient.shape != self.shape:
            got = gradient if gradient is None else tuple(gradient.shape)
            raise ValueError(f"gradient must have the shape {tuple(self.shape)} of the value, got {got}; one number needs none")
        gradients = {self: gradient}
        for variable in self._from_last_to_first():
            gradient = gradients.pop(variable)  # complete: all that was made of the variable has been visited
            variable.grad = gradient.clone() if variable.grad is None else variable.grad + gradient
            for parent, pull in variable.parents:
                share = sum_to(pull(gradient), parent.shape)
                gradients[parent] = gradients[parent] + share if parent in gradients else share

    def _from_last_to_first(self) -> Iterator["Variable"]:
        """This variable and all it was made of, each before its parents; a stack of our own knows no recursion limit."""
        finished, seen, stack = [], set(), [(self, False)]
        while stack:
            variable, parents_are_finished = stack.pop()
            if parents_are_finished:
                finished.append(variable)
            elif variable not in seen:
                seen.add(variable)
                stack.append((variable, True))
                stack.extend((parent, False) for parent, _ in variable.parents)
        return reversed(finished)

    # Two operands, broadcast as torch does

    def __add__(self, other: Operand) -> "Variable":
        return Variable(self.value + self._same_kind(other), (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, other: Operand) -> "Variable":
        a, b = self.value, self._same_kind(other)
        return Variable(a * b, (self, lambda g: g * b), (other, lambda g: g * a))

    def __truediv__(self, other: Operand) -> "Variable":
        a, b = self.value, self._same_kind(other)
        return Variable(a / b, (self, lambda g: g / b), (other, lambda g: -g * a / b**2))

    def __matmul__(self, other: Operand) -> "Variable":
        """(..., n, m) @ (..., m, k) -> (..., n, k)."""
        a, b = self.value, self._same_kind(other, matrices=True)
        return Variable(a @ b, (self, lambda g: g @ b.mT), (other, lambda g: a.mT @ g))

    def __rmatmul__(self, other: Tensor) -> "Variable":
        return (self.transpose() @ other.mT).transpose()

    def __pow__(self, exponent: float) -> "Variable":
        if not isinstance(exponent, (int, float)):
            raise ValueError(f"exponent must be a number, got {exponent!r}")
        a, lower = self.value, exponent - 1 if exponent else 0  # the slope of x**0 is 0 even where x is 0
        return Variable(a**exponent, (self, lambda g: g * exponent * a**lower))

    def __neg__(self) -> "Variable":
        return self * -1.0

    def __sub__(self, other: Operand) -> "Variable":
        return self + -other

    def __rsub__(self, other: Operand) -> "Variable":
        return -self + other

    def __rtruediv__(self, other: Operand) -> "Variable":
        return self**-1 * other

    __radd__, __rmul__ = __add__, __mul__

    def _same_kind(self, other: Operand, matrices: bool = False) -> Tensor:
        """The tensor of an operand that fits this variable; raises ValueError where it does not."""
        value = other.value if isinstance(other, Variable) else other
        value = self.value.new_tensor(value) if isinstance(value, (int, float)) else value
        if not isinstance(value, Tensor) or (value.dtype, value.device) != (self.value.dtype, self.value.device):
            got = f"{value.dtype} on {value.device}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"operand must be a number, or {self.value.dtype} on {self.value.device}, got {got}")
        here, there = tuple(self.shape), tuple(value.shape)
        if matrices and (min(len(here), len(there)) < 2 or here[-1] != there[-2]):
            raise ValueError(f"operands of @ must be matrices (..., n, m) and (..., m, k), got the shapes {here} and {there}")
        end = -2 if matrices else None
        if any(n != m and 1 not in (n, m) for n, m in zip(here[:end][::-1], there[:end][::-1])):
            raise ValueError(f"operands must have shapes that broadcast, got {here} and {there}")
        return value

    def exp(self) -> "Variable":
        result = self.value.exp()
        return Variable(result, (self, lambda g: g * result))

    def log(self) -> "Variable":
        a = self.value
        return Variable(a.log(), (self, lambda g: g / a))

    def tanh(self) -> "Variable":
        result = self.value.tanh()
        return Variable(result, (self, lambda g: g * (1 - result**2)))

    def sigmoid(self) -> "Variable":
        result = self.value.sigmoid()
        return Variable(result, (self, lambda g: g * result * (1 - result)))

    def relu(self) -> "Variable":
        a = self.value
        return Variable(a.clamp(min=0), (self, lambda g: g * (a > 0)))

    # Reductions: dims is one dimension, a tuple of them, or None for all

    def sum(self, dims: Dims = None, keepdim: bool = False) -> "Variable":
        dims = tuple(range(self.value.ndim)) if dims is None else dims
        kept = self.value.sum(dims, keepdim=True)  # those of dims have the size 1
        return Variable(kept if keepdim else kept.squeeze(dims), (self, lambda g: g.reshape(kept.shape).expand(self.shape)))

    def mean(self, dims: Dims = None, keepdim: bool = False) -> "Variable":
        total = self.sum(dims, keepdim)
        return total * (total.value.numel() / self.value.numel())

    def max(self, dims: Dims = None, keepdim: bool = False) -> "Variable":
        """The largest entries; where several are equal, they share the gradient evenly, as in `torch.amax`."""
        dims = tuple(range(self.value.ndim)) if dims is None else dims
        kept = self.value.amax(dims, keepdim=True)
        largest = (self.value == kept).to(kept.dtype)
        share = largest / largest.sum(dims, keepdim=True)
        return Variable(kept if keepdim else kept.squeeze(dims), (self, lambda g: g.reshape(kept.shape) * share))

    def reshape(self, *shape: int) -> "Variable":
        return Variable(self.value.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def transpose(self, first: int = -2, second: int = -1) -> "Variable":
        return Variable(self.value.transpose(first, second), (self, lambda g: g.transpose(first, second)))

    def __getitem__(self, index: Any) -> "Variable":
        """Any index that a tensor takes; an entry that is taken twice gets both gradients."""
        a = self.value
        taken = torch.arange(a.numel(), device=a.device).reshape(a.shape)[index].flatten()  # the places of the entries taken
        pull = (self, lambda g: torch.zeros_like(a).flatten().index_add(0, taken, g.flatten()).reshape(a.shape))
        return Variable(a[index], pull)


def sum_to(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Undo a broadcast: an entry that was repeated gets the sum of its copies' gradients."""
    added = gradient.ndim - len(shape)
    dims = [d for d, size in enumerate(gradient.shape) if d < added or shape[d - added] == 1 != size]
    return gradient.sum(dims, keepdim=True).reshape(shape) if dims else gradient


def log_softmax(scores: Variable) -> Variable:
    """scores (..., C) -> logarithms of probabilities (..., C)."""
    shifted = scores - scores.value.amax(-1, keepdim=True)  # a constant, which softmax does not feel; no exp overflows
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def cross_entropy(scores: Variable, labels: Tensor) -> Variable:
    """scores (B, C), labels (B,) of int64 or int32 -> their mean cross-entropy in nats, a single number.

    Raises ValueError where the shapes disagree, B is 0, or a label is not a whole number from 0 to C - 1."""
    if scores.value.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ValueError(f"scores must be (B, C) and labels (B,), got {tuple(scores.shape)} and {tuple(labels.shape)}")
    if labels.dtype not in (torch.int64, torch.int32) or labels.min() < 0 or labels.max() >= scores.shape[1]:
        got = f"{labels.min()} to {labels.max()}, {labels.dtype}"
        raise ValueError(f"labels must be from 0 to {scores.shape[1] - 1}, got {got}")
    return -log_softmax(scores)[torch.arange(len(labels), device=labels.device), labels].mean()
