"""The training loop: one function, with everything that decides a run in its arguments."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tutorlib.arguments import check_counts
from tutorlib.training.checkpoints import plain
from tutorlib.training.resuming import resume_run, save_run
from tutorlib.training.schedules import Schedule, constant

Clip = Callable[[Iterable[nn.Parameter], float], Tensor]  # scale the gradients down to a norm; the norm before


@dataclass
class History:
    """What happened: one entry a step, and one pair (steps done, value) an evaluation."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)  # before clipping
    evaluations: list[tuple[int, Any]] = field(default_factory=list)

    def record(self, rate: float, loss: float, norm: float) -> None:
        """Write the next step down."""
        self.steps.append(len(self.steps))
        self.losses.append(loss)
        self.learning_rates.append(rate)
        self.gradient_norms.append(norm)


def update(model: nn.Module, batches: Callable[[int], Any], loss: Callable[[nn.Module, Any], Tensor], optimizer: Optimizer,
           step: int, *, accumulate: int = 1, clip_norm: float | None = None, autocast: torch.dtype | None = None,
           clip: Clip = nn.utils.clip_grad_norm_) -> tuple[float, float]:
    """Take one step, as `train` does: the mean loss of its micro-batches, and the norm of the gradient before clipping.

    Raises FloatingPointError, naming the step, where one of them is not finite; the weights have then not moved.
    """
    parameters = _trained(model, optimizer)
    optimizer.zero_grad()
    total = 0.0
    for number in range(step * accumulate, (step + 1) * accumulate):
        with torch.autocast(parameters[0].device.type, dtype=autocast, enabled=autocast is not None):
            share = loss(model, batches(number)) / accumulate
        share.backward()  # adds to the gradients that are there
        total += share.detach()
    norm = clip(parameters, math.inf if clip_norm is None else clip_norm)
    mean, norm = _finite(step, optimizer, total, norm)
    optimizer.step()
    return mean, norm


def train(
    model: nn.Module,
    batches: Callable[[int], Any],
    loss: Callable[[nn.Module, Any], Tensor],
    optimizer: Optimizer,
    *,
    steps: int,
    accumulate: int = 1,
    schedule: Schedule | None = None,
    clip_norm: float | None = 1.0,
    evaluate: Callable[[nn.Module], Any] | None = None,
    evaluate_every: int | None = None,
    stop: Callable[[History], bool] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
    about: dict[str, Any] | None = None,
    autocast: torch.dtype | None = None,
    generators: Sequence[torch.Generator] = (),
    progress: bool = True,
    clip: Clip = nn.utils.clip_grad_norm_,
    save: Callable[..., None] = save_run,
    resume: Callable[..., dict[str, list]] = resume_run,
) -> History:
    """Train `model` for `steps` steps and return what happened.

    `batches(step)` is the batch of a step, counted from 0: a function, so that a resumed run needs no iterator's state.
    `loss(model, batch)` is a scalar. With `accumulate` above 1 a step takes that many micro-batches, from
    `batches(step * accumulate)` on, and the mean of their losses: a large batch in the memory of a small one. The optimizer's
    learning rates are multiplied by `schedule(step)` and are put back at the end. The gradients of the parameters that the
    optimizer moves are scaled down to the norm `clip_norm`. `evaluate(model)` is called without gradients, in evaluation mode,
    after every `evaluate_every` steps and after the last one. `stop(history)` is asked after each evaluation; the run ends
    where it says yes, and that step is then the last (`regularization.EarlyStopping` is made for this).

    With a `checkpoint` path the state is saved after every `checkpoint_every` steps and after the last. Where that file already
    exists, the run goes on from it, and on the CPU ends with the same bits as a run that was never interrupted: model,
    optimizer, history, torch's own random numbers and those of `generators` are restored. Delete the file to start anew.
    `about`, plain containers that say what the run is, is saved with it, and so is what `evaluate` returns.

    `autocast=torch.bfloat16` computes the loss in mixed precision. `clip`, `save` and `resume` are parts for models whose
    weights lie on several processes (`tutorlib.distributed.running`).
    Raises ValueError for a wrong argument or checkpoint; FloatingPointError, naming the step, where the loss or the gradient
    is not finite.
    """
    check_counts(steps=steps, accumulate=accumulate, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    _check_options(autocast, clip_norm)
    _check_evaluation(evaluate, evaluate_every, stop)
    _check_checkpoint(checkpoint, about)
    _trained(model, optimizer)
    schedule = schedule or constant()
    rates = [group["lr"] for group in optimizer.param_groups]
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        history = History(**resume(checkpoint, model, optimizer, generators, steps))
    was_training = model.training
    model.train()
    todo = range(len(history.steps), steps)
    bar = progress_bar(todo, progress, initial=todo.start, total=steps, unit="step")
    try:
        for step in bar:
            rate = _set_rates(optimizer, rates, schedule, step)
            history.record(rate, *update(model, batches, loss, optimizer, step, accumulate=accumulate, clip_norm=clip_norm,
                                         autocast=autocast, clip=clip))
            is_evaluated = evaluate is not None and _is_due(step, evaluate_every, steps)
            if is_evaluated:
                history.evaluations.append((step + 1, _evaluated(model, evaluate, checkpoint is not None)))
            is_last = is_evaluated and stop is not None and bool(stop(history))
            if checkpoint is not None and (is_last or _is_due(step, checkpoint_every, steps)):
                save(checkpoint, model, optimizer, generators, asdict(history), about)
            _show(bar, history)
            if is_last:
                break
    finally:
        model.train(was_training)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
    return history


def _trained(model: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
    """The model's parameters that the optimizer moves, in the model's order.

    The gradients of others are nobody's: nothing sets them to zero, so they must not count in the norm.
    """
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    parameters = [parameter for parameter in model.parameters() if id(parameter) in moved]
    if not parameters:
        raise ValueError(f"optimizer must have parameters of the model, got a {type(optimizer).__name__} of "
                         f"{len(moved)} others")
    return parameters


def _finite(step: int, optimizer: Optimizer, loss: Tensor, norm: Tensor) -> tuple[float, float]:
    """Both as numbers, unless one went wrong: the weights must not take a step that is not a number."""
    numbers = loss.item(), norm.item()
    for name, number in zip(("loss", "gradient norm"), numbers, strict=True):
        if not math.isfinite(number):
            rate = float(optimizer.param_groups[0]["lr"])
            raise FloatingPointError(f"the {name} is {number} at step {step}, with learning rate {rate:.3g}")
    return numbers


def _set_rates(optimizer: Optimizer, rates: Sequence[float | Tensor], schedule: Schedule, step: int) -> float:
    """Multiply the learning rates by the schedule's factor; that of the first group."""
    factor = float(schedule(step))
    if not 0 <= factor < math.inf:
        raise ValueError(f"schedule must give a finite factor of at least 0, got {factor} at step {step}")
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
    return float(optimizer.param_groups[0]["lr"])


def _is_due(step: int, every: int | None, steps: int) -> bool:
    """Whether what happens after every `every` steps, and after the last, happens after this one, counted from 0."""
    done = step + 1
    return done == steps or (every is not None and done % every == 0)


def _evaluated(model: nn.Module, evaluate: Callable[[nn.Module], Any], is_saved: bool) -> Any:
    model.eval()
    with torch.no_grad():
        value = evaluate(model)
    model.train()
    return plain("what evaluate returned", value) if is_saved else value


def _show(bar: Iterable, history: History) -> None:
    if hasattr(bar, "set_postfix"):
        bar.set_postfix(loss=f"{history.losses[-1]:.3f}", rate=f"{history.learning_rates[-1]:.1e}", refresh=False)


def progress_bar(items: Sequence, wanted: bool, **options: Any) -> Iterable:
    """The items with a tqdm bar around them, or the bare items where no bar is wanted or tqdm is not installed."""
    if not wanted:
        return items
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        return items
    return tqdm(items, dynamic_ncols=True, **options)


def _check_options(autocast: torch.dtype | None, clip_norm: float | None) -> None:
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be a positive number, or None for no clipping, got {clip_norm}")
    if autocast not in (None, torch.bfloat16):
        raise ValueError(f"autocast must be torch.bfloat16 or None (float16 would need loss scaling), got {autocast}")


def _check_evaluation(evaluate: Callable | None, evaluate_every: int | None, stop: Callable | None) -> None:
    if stop is not None and evaluate is None:
        raise ValueError("stop needs an evaluation to look at: expected evaluate, got None")
    if evaluate_every is not None and evaluate is None:
        raise ValueError(f"evaluate_every = {evaluate_every} needs something to do then: expected evaluate, got None")


def _check_checkpoint(checkpoint: str | os.PathLike | None, about: dict[str, Any] | None) -> None:
    plain("about", about)
    if checkpoint is not None and (Path(checkpoint).is_dir() or not Path(checkpoint).absolute().parent.is_dir()):
        raise ValueError(f"checkpoint must be a file's path in a folder that is there, got {str(checkpoint)!r}")
