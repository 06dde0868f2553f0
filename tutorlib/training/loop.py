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

from tutorlib.training.checkpoints import load_checkpoint, save_checkpoint
from tutorlib.training.schedules import Schedule, constant


@dataclass
class History:
    """What happened: one entry a step, and one pair (steps done, value) an evaluation."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)  # before clipping
    evaluations: list[tuple[int, Any]] = field(default_factory=list)


def train(
    model: nn.Module,
    batches: Callable[[int], Any],
    loss: Callable[[nn.Module, Any], Tensor],
    optimizer: Optimizer,
    *,
    steps: int,
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
) -> History:
    """Train `model` for `steps` steps and return what happened.

    `batches(step)` is the batch of a step, counted from 0: a function, so that a resumed run needs no iterator's state.
    `loss(model, batch)` is a scalar. The optimizer's learning rates are multiplied by `schedule(step)` and are put back at the
    end. Gradients are scaled down to the norm `clip_norm`. `evaluate(model)` is called without gradients, in evaluation mode,
    after every `evaluate_every` steps and after the last one. `stop(history)` is asked after each evaluation; the run ends
    where it says yes, and that step is then the last (`regularization.EarlyStopping` is made for this).

    With a `checkpoint` path the state is saved after every `checkpoint_every` steps and after the last. Where that file already
    exists, the run goes on from it, and on the CPU ends with the same bits as a run that was never interrupted: model,
    optimizer, history, torch's own random numbers and those of `generators` are restored. Delete the file to start anew.
    `about`, plain containers that say what the run is, is saved with it.

    `autocast=torch.bfloat16` computes the loss in mixed precision.
    Raises ValueError for a wrong argument or checkpoint; FloatingPointError, naming the step, where the loss or the gradient
    is not finite.
    """
    _check_counts(steps=steps, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    _check_options(autocast, clip_norm)
    if stop is not None and evaluate is None:
        raise ValueError("stop needs an evaluation to look at: expected evaluate, got None")
    schedule = schedule or constant()
    rates = [group["lr"] for group in optimizer.param_groups]
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        history = _resume(checkpoint, model, optimizer, generators, steps)
    device = next(model.parameters()).device
    was_training = model.training
    model.train()
    todo = range(len(history.steps), steps)
    bar = progress_bar(todo, progress, initial=todo.start, total=steps, unit="step")
    try:
        for step in bar:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step)
            optimizer.zero_grad()
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                value = loss(model, batches(step))
            value.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf if clip_norm is None else clip_norm)
            _record(history, step, value.item(), optimizer.param_groups[0]["lr"], norm.item())
            optimizer.step()
            done = step + 1
            stopped = False
            if evaluate is not None and (done == steps or (evaluate_every and done % evaluate_every == 0)):
                history.evaluations.append((done, _evaluate(evaluate, model)))
                stopped = stop is not None and stop(history)
            if checkpoint is not None and (done == steps or stopped or done % checkpoint_every == 0):
                _save(checkpoint, model, optimizer, generators, history, about)
            if hasattr(bar, "set_postfix"):
                bar.set_postfix(loss=f"{history.losses[-1]:.3f}", rate=f"{history.learning_rates[-1]:.1e}", refresh=False)
            if stopped:
                break
    finally:
        model.train(was_training)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
    return history


def _record(history: History, step: int, loss: float, rate: float, norm: float) -> None:
    """Write a step down, unless a number went wrong: the weights must not take a step that is not a number."""
    for name, number in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(number):
            raise FloatingPointError(f"the {name} is {number} at step {step}, with learning rate {rate:.3g}")
    history.steps.append(step)
    history.losses.append(loss)
    history.learning_rates.append(rate)
    history.gradient_norms.append(norm)


def _evaluate(evaluate: Callable[[nn.Module], Any], model: nn.Module) -> Any:
    model.eval()
    with torch.no_grad():
        value = evaluate(model)
    model.train()
    return value


def progress_bar(items: Sequence, wanted: bool, **options: Any) -> Iterable:
    """The items with a tqdm bar around them, or the bare items where no bar is wanted or tqdm is not installed."""
    if not wanted:
        return items
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        return items
    return tqdm(items, dynamic_ncols=True, **options)


def _save(path, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator], history: History,
          about: dict[str, Any] | None) -> None:
    save_checkpoint(
        path,
        about=about,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        history=asdict(history),
        random={
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "generators": [generator.get_state() for generator in generators],
        },
    )


def _resume(path, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator], steps: int) -> History:
    """Put everything back as `_save` found it; nothing is touched where the checkpoint does not fit the model."""
    state = load_checkpoint(path)
    name = Path(path).name
    if missing := {"model", "optimizer", "history", "random"} - state.keys():
        raise ValueError(f"checkpoint: {name} lacks {sorted(missing)}; expected one that train() has written")
    history, random = History(**state["history"]), state["random"]
    if len(history.steps) > steps:
        raise ValueError(f"checkpoint: {name} has done {len(history.steps)} steps; expected at most steps = {steps}")
    if len(random["generators"]) != len(generators):
        raise ValueError(f"generators must be {len(random['generators'])}, as {name} has, got {len(generators)}")
    own = {key: tensor.shape for key, tensor in model.state_dict().items()}
    if own != {key: tensor.shape for key, tensor in state["model"].items()}:
        raise ValueError(f"checkpoint: {name} holds another model's weights; expected those of this {type(model).__name__}")
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise ValueError(f"checkpoint: {name} holds another optimizer's state ({error})") from error
    model.load_state_dict(state["model"])
    torch.set_rng_state(random["cpu"])
    if torch.cuda.is_available() and random["cuda"]:
        torch.cuda.set_rng_state_all(random["cuda"])
    for generator, saved in zip(generators, random["generators"], strict=True):
        generator.set_state(saved)
    return history


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _check_options(autocast: torch.dtype | None, clip_norm: float | None) -> None:
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be a positive number, or None for no clipping, got {clip_norm}")
    if autocast not in (None, torch.bfloat16):
        raise ValueError(f"autocast must be torch.bfloat16 or None (float16 would need loss scaling), got {autocast}")
