"""Training in few bits: number formats and rounding, loss scaling, steps that are computed in float32, and the bytes of a step.

A weight is changed by far less than it weighs, and a sum of small changes is lost where each is rounded away. What follows
keeps the arithmetic in few bits and the sum in many (Micikevicius et al. 2018).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from tutorlib.arguments import check_counts, check_whole

Result = TypeVar("Result")


# -- formats ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberFormat:
    """A sign, `exponent_bits` and `fraction_bits`: ± 1.fraction · 2^exponent, and evenly spaced below the smallest such power.

    Without `has_infinity` the largest exponent belongs to numbers too, but for one pattern that is not a number, as in
    float8_e4m3fn (Micikevicius et al. 2022). Raises ValueError for fewer than 2 bits of exponent or 1 of fraction, or where a
    float32 cannot hold the numbers.
    """

    exponent_bits: int
    fraction_bits: int
    has_infinity: bool = True

    def __post_init__(self) -> None:
        for name, least, most in (("exponent_bits", 2, 8), ("fraction_bits", 1, 23)):
            check_whole(name, getattr(self, name), least)
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, as in float32, got {getattr(self, name)}")

    @property
    def lowest(self) -> int:
        """The exponent of the smallest normal number; below it the spacing stays."""
        return 2 - 2 ** (self.exponent_bits - 1)

    @property
    def smallest(self) -> float:
        """The smallest positive number."""
        return 2.0 ** (self.lowest - self.fraction_bits)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        top = 2 ** (self.exponent_bits - 1) - self.has_infinity
        return (2 - 2.0 ** -self.fraction_bits * (1 if self.has_infinity else 2)) * 2.0 ** top


FLOAT32, BFLOAT16, FLOAT16 = NumberFormat(8, 23), NumberFormat(8, 7), NumberFormat(5, 10)
FLOAT8_E5M2, FLOAT8_E4M3 = NumberFormat(5, 2), NumberFormat(4, 3, has_infinity=False)


def spacing(values: Tensor, form: NumberFormat) -> Tensor:
    """The step between neighbors in `form` where the values stand: 2^(exponent - fraction_bits), in float32. Any shape.

    Raises ValueError for values that are no floats.
    """
    _check_floats("values", values)
    exponent = torch.frexp(values.float())[1] - 1  # |value| is 1.something · 2^exponent
    exponent = torch.where(values == 0, form.lowest, exponent.clamp_min(form.lowest))
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent - form.fraction_bits)


def round_to(values: Tensor, form: NumberFormat) -> Tensor:
    """The nearest numbers of `form`, a tie to the even one, as float32: what `Tensor.to` does. Any shape.

    Half a step above the largest number and beyond become infinite, or the largest number in a format without infinity.
    Raises ValueError for values that are no floats.
    """
    step = spacing(values, form)
    return _overflown((values.float() / step).round() * step, form)  # torch rounds halves to even


def round_stochastically(values: Tensor, form: NumberFormat, generator: torch.Generator | None = None) -> Tensor:
    """One of the two neighbors in `form`, as float32: the upper one as often as the value lies near it, so right on average.

    Any shape. A number of the format stays as it is (Gupta et al. 2015). Raises ValueError for values that are no floats.
    """
    step = spacing(values, form)
    dice = torch.rand(values.shape, generator=generator, device=values.device)
    steps = values.float() / step
    below = steps.floor()
    return _overflown((below + (dice < steps - below)) * step, form)


def bit_pattern(value: float, dtype: torch.dtype) -> str:
    """The bits of a number in a dtype of torch, sign, exponent and fraction apart: "0 01111111 1000000" for 1.5 in bfloat16.

    Raises ValueError for a dtype that is none of the five formats.
    """
    layouts = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16,
               torch.float8_e5m2: FLOAT8_E5M2, torch.float8_e4m3fn: FLOAT8_E4M3}
    if dtype not in layouts:
        raise ValueError(f"dtype must be one of {[*map(str, layouts)]}, got {dtype}")
    form, size = layouts[dtype], dtype.itemsize
    whole = torch.tensor(value).to(dtype).view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[size]).item()
    text = f"{whole % 2 ** (8 * size):0{8 * size}b}"
    return f"{text[0]} {text[1:1 + form.exponent_bits]} {text[1 + form.exponent_bits:]}"


# -- loss scaling -----------------------------------------------------------------------------------------------------


class LossScaler:
    """The loss times `scale`, so that small gradients are numbers of float16; the gradients divided by it before the step.

    Where one of them is not finite the step is left out and the scale multiplied by `backoff`; after `interval` steps in a
    row that were taken, by `growth`: `torch.amp.GradScaler`. Raises ValueError for a scale, growth or backoff that does not
    fit, or a number of steps below 1.
    """

    def __init__(self, scale: float = 2.0**16, *, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000):
        check_counts(interval=interval)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be a positive number, got {scale}")
        if not growth > 1:
            raise ValueError(f"growth must be above 1, got {growth}")
        if not 0 < backoff < 1:
            raise ValueError(f"backoff must lie in (0, 1), got {backoff}")
        self.scale, self.growth, self.backoff, self.interval = scale, growth, backoff, interval
        self.taken = 0  # steps in a row, since the last change of the scale

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss of which `backward` is to be called."""
        return loss * self.scale

    @torch.no_grad()
    def step(self, optimizer: Optimizer, clip_norm: float = math.inf) -> bool:
        """Unscale the gradients, cut them to `clip_norm`, take the step if all are finite, and say whether it was taken.

        Raises ValueError where there are none, or some in float16: divided there, the small ones would be lost after all.
        """
        weights = [w for group in optimizer.param_groups for w in group["params"] if w.grad is not None]
        if not weights:
            raise ValueError("optimizer has no gradient: expected scaled(loss).backward() before step")
        if any(weight.grad.dtype == torch.float16 for weight in weights):
            raise ValueError("optimizer has gradients in float16: expected float32 weights, rounded in the forward pass")
        for weight in weights:
            weight.grad /= self.scale
        finite = all(weight.grad.isfinite().all() for weight in weights)
        if finite:
            nn.utils.clip_grad_norm_(weights, clip_norm)
            optimizer.step()
        self._follow(finite)
        return finite

    def _follow(self, finite: bool) -> None:
        self.taken = self.taken + 1 if finite else 0
        if not finite:
            self.scale *= self.backoff
        elif self.taken == self.interval:
            self.scale, self.taken = self.scale * self.growth, 0


# -- steps in float32 -------------------------------------------------------------------------------------------------


class MasterWeights:
    """An optimizer for weights of few bits that moves a float32 copy of each, and gives the model its rounded value.

    `make(copies)` makes the optimizer, whose moments are then in float32 too. `param_groups` names the model's weights, so
    that `train` and schedules drive it like any other. Raises ValueError where there are no weights.
    """

    def __init__(self, weights: Iterable[nn.Parameter], make: Callable[[list[nn.Parameter]], Optimizer]):
        self.weights = list(weights)
        if not self.weights:
            raise ValueError("weights must be at least one parameter, got none")
        self.copies = [nn.Parameter(weight.detach().float().clone()) for weight in self.weights]
        self.optimizer = make(self.copies)
        theirs = dict(zip(map(id, self.copies), self.weights, strict=True))
        self.param_groups = [group | {"params": [theirs[id(copy)] for copy in group["params"]]}
                             for group in self.optimizer.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients of the model's weights."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Gradients up, a step in float32, weights down."""
        for ours, group in zip(self.param_groups, self.optimizer.param_groups, strict=True):
            group["lr"] = ours["lr"]
        for weight, copy in zip(self.weights, self.copies, strict=True):
            copy.grad = None if weight.grad is None else weight.grad.float()
        self.optimizer.step()
        for weight, copy in zip(self.weights, self.copies, strict=True):
            self.hand_down(weight, copy)
            copy.grad = None

    def hand_down(self, weight: nn.Parameter, copy: nn.Parameter) -> None:
        """Give the model's weight the value of its copy, to the nearest number of its format."""
        weight.copy_(copy)


class RoundedWeights(MasterWeights):
    """An optimizer that steps in float32 and keeps of it only what `rounding` leaves: there is no copy that remembers more.

    `rounding(values)` maps a float32 tensor to numbers of the format: `round_to` or `round_stochastically` with its last
    arguments filled in. The copies are room for one step; their moments stay.
    """

    def __init__(self, weights: Iterable[nn.Parameter], make: Callable[[list[nn.Parameter]], Optimizer],
                 rounding: Callable[[Tensor], Tensor]):
        super().__init__(weights, make)
        self.rounding = rounding

    def hand_down(self, weight: nn.Parameter, copy: nn.Parameter) -> None:
        """Give both the rounded value."""
        copy.copy_(self.rounding(copy))
        weight.copy_(copy)


# -- memory -----------------------------------------------------------------------------------------------------------


class RecomputedLayer(nn.Module):
    """A module of which training keeps the inputs alone: what is inside is computed again on the way back (Chen et al. 2016).

    The same outputs and gradients, for one more forward pass.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module returns."""
        return checkpoint(self.module, *inputs, use_reentrant=False, **options)


def kept_bytes(function: Callable[[], Result], model: nn.Module) -> tuple[Result, int]:
    """Call `function`; its result, and the bytes that it leaves with autograd for the way back.

    A storage that is kept twice counts once, and the model's own weights and buffers do not count.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, tuple[Tensor, int]] = {}  # the tensors too, so that no address is given out twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    return result, sum(size for _, size in kept.values())


def layer_bytes(tokens: int, width: int, hidden: int, heads: int, size: int = 4) -> int:
    """Bytes that a pre-norm `TransformerLayer` keeps of so many tokens for the way back, of `size` bytes a number.

    Eight vectors of the width (input of each norm, its output, query, key, value, what attention gives), two of the hidden
    width (before and after the activation), mean and deviation of two norms, and of each head the sum of its weights, which
    the kernel keeps in float32. No matrix of weights, no dropout. It is the count of Korthikanti et al. (2022) without
    those. Raises ValueError for what is no whole number of at least 1.
    """
    check_counts(tokens=tokens, width=width, hidden=hidden, heads=heads, size=size)
    return tokens * (size * (8 * width + 2 * hidden + 4) + 4 * heads)


def state_bytes(parameters: int, *, weights: int = 4, gradients: int = 4, copies: int = 0, moments: int = 4) -> int:
    """Bytes that so many parameters take in a training with Adam: weights, gradients, float32 copies if any, two moments.

    The others are bytes a number. float32 and autocast 4 + 4 + 0 + 2 · 4 = 16 a parameter; bfloat16 with float32 copies
    2 + 2 + 4 + 2 · 4 = 16; all of it in bfloat16 8. Raises ValueError for what is no whole number, or negative.
    """
    for name, count in dict(parameters=parameters, weights=weights, gradients=gradients, copies=copies,
                            moments=moments).items():
        check_whole(name, count, 0)
    return parameters * (weights + gradients + copies + 2 * moments)


def _overflown(values: Tensor, form: NumberFormat) -> Tensor:
    beyond = math.inf if form.has_infinity else form.largest
    return torch.where(values.abs() > form.largest, values.sign() * beyond, values)


def _check_floats(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise ValueError(f"{name} must be a tensor of floats, got {getattr(values, 'dtype', type(values).__name__)}")
