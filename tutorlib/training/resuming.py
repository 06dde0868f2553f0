"""What a run leaves in its checkpoint, and how another goes on from there: all of it is checked before anything is touched."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tutorlib.layers.compiled import plain_name
from tutorlib.training.checkpoints import load_checkpoint, save_checkpoint

PARTS = ("history", "model", "optimizer", "random")
BY_STEP = ("steps", "losses", "learning_rates", "gradient_norms")  # of a history: one entry a step
FREE = {"params", "param_names", "lr", "initial_lr",  # of an optimizer's group: the schedule's, and how a step is computed
        "foreach", "fused", "capturable", "differentiable"}


def save_run(path: str | os.PathLike, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator],
             history: dict[str, list], about: dict[str, Any] | None) -> None:
    """Write everything by which the run goes on: weights, the optimizer's state, the history, and all random numbers' states.

    A compiled model's weights get the names that they have in the model itself.
    """
    save_checkpoint(
        path,
        about=about,
        model={plain_name(name): value for name, value in model.state_dict().items()},
        optimizer=optimizer.state_dict(),
        history=history,
        random={
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "generators": [generator.get_state() for generator in generators],
        },
    )


def resume_run(path: str | os.PathLike, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator],
               steps: int) -> dict[str, list]:
    """Put everything back as `save_run` found it, and return the history.

    Raises ValueError, naming the file, where it does not fit the model, the optimizer, the generators or the number of steps;
    all of them are then as they were.
    """
    state = read_run(path, model, optimizer, generators, steps)
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise ValueError(f"checkpoint: {Path(path).name} {error}") from None
    model.load_state_dict({name: state["model"][plain_name(name)] for name in model.state_dict()})
    restore_random(state["random"], generators)
    return state["history"]


def read_run(path: str | os.PathLike, model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator],
             steps: int) -> dict[str, Any]:
    """What `save_run` wrote, checked. Raises ValueError, naming the file, where a run of `steps` steps cannot go on from it."""
    state = load_checkpoint(path)
    try:
        check_run(state, model, optimizer, generators, steps)
    except ValueError as error:
        raise ValueError(f"checkpoint: {Path(path).name} {error}") from None
    return state


def restore_random(saved: dict[str, Any], generators: Sequence[torch.Generator]) -> None:
    """Put torch's random numbers and those of `generators` back."""
    torch.set_rng_state(saved["cpu"])
    for device, state in _devices(saved["cuda"]):
        torch.cuda.set_rng_state(state, device)
    for generator, state in zip(generators, saved["generators"], strict=True):
        generator.set_state(state)


def check_run(state: dict[str, Any], model: nn.Module, optimizer: Optimizer, generators: Sequence[torch.Generator],
              steps: int) -> None:
    """Raise ValueError, saying what the checkpoint does wrong, unless a run of `steps` steps can go on from `state`."""
    if missing := set(PARTS) - state.keys():
        raise ValueError(f"lacks {sorted(missing)}; expected one that train() has written")
    if wrong := [part for part in PARTS if not isinstance(state[part], dict)]:
        raise ValueError(f"holds no dict as its {wrong[0]}; expected one that train() has written")
    _check_history(state["history"], steps)
    _check_weights(state["model"], model)
    _check_optimizer(state["optimizer"], optimizer)
    _check_random(state["random"], generators)


def _check_history(history: dict[str, Any], steps: int) -> None:
    if history.keys() != {*BY_STEP, "evaluations"} or not all(isinstance(entries, list) for entries in history.values()):
        raise ValueError(f"holds no history of a run; expected lists named {', '.join(BY_STEP)} and evaluations")
    done = len(history["steps"])
    if history["steps"] != list(range(done)) or any(len(history[name]) != done for name in BY_STEP):
        raise ValueError("holds a history with gaps; expected an entry in each list for each step from 0")
    if not all(type(number) is float for name in BY_STEP[1:] for number in history[name]):
        raise ValueError("holds a history of other things than numbers")
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in history["evaluations"]):
        raise ValueError("holds evaluations that are no pairs; expected (steps done, value)")
    if done > steps:
        raise ValueError(f"has done {done} steps; expected at most steps = {steps}")


def _check_weights(saved: dict[str, Any], model: nn.Module) -> None:
    own = {plain_name(name): value for name, value in model.state_dict().items()}
    if {name: _form(value) for name, value in saved.items()} != {name: _form(value) for name, value in own.items()}:
        raise ValueError(f"holds another model's weights; expected those of this {type(model).__name__}, of the same names, "
                         "shapes and dtypes")
    for name in (plain_name(name) for name, _ in model.named_parameters()):
        if not saved[name].isfinite().all():
            raise ValueError(f"holds weights that are no numbers, in {name}")


def _check_optimizer(saved: dict[str, Any], optimizer: Optimizer) -> None:
    another = f"holds another optimizer's state; expected that of this {type(optimizer).__name__}"
    groups, own = saved.get("param_groups"), optimizer.param_groups
    sizes = [len(group["params"]) for group in own]
    if not isinstance(groups, list) or [_size(group) for group in groups] != sizes:
        raise ValueError(f"{another}, with {sizes} parameters in its groups")
    for before, now in zip(groups, own, strict=True):
        for name in sorted((before.keys() | now.keys()) - FREE):
            if name not in before or name not in now or before[name] != now[name]:
                raise ValueError(f"{another}, with the same options; {name} was {before.get(name, 'not there')!r}, "
                                 f"got {now.get(name, 'none')!r}")
    numbers = chain.from_iterable(group["params"] for group in groups)
    parameters = chain.from_iterable(group["params"] for group in own)
    _check_states(saved.get("state"), dict(zip(numbers, parameters, strict=True)), another)


def _check_states(states: Any, parameters: dict[int, Tensor], another: str) -> None:
    """What the optimizer remembers of each parameter has room in the parameter's shape."""
    if not isinstance(states, dict):
        raise ValueError(another)
    for number, state in states.items():
        if number not in parameters or not isinstance(state, dict):
            raise ValueError(f"{another}; parameter {number} is none of its, or has no state")
        for name, value in state.items():
            if isinstance(value, Tensor) and not (_has_room(parameters[number], value) and not value.isnan().any()):
                raise ValueError(f"{another}; {name} of parameter {number} has another shape, or is no number")


def _check_random(saved: dict[str, Any], generators: Sequence[torch.Generator]) -> None:
    if saved.keys() != {"cpu", "cuda", "generators"} or {type(saved["cuda"]), type(saved["generators"])} != {list}:
        raise ValueError("holds no states of random numbers; expected those of cpu, cuda and generators")
    if len(saved["generators"]) != len(generators):
        raise ValueError(f"was made with others: generators must be {len(saved['generators'])}, as there, "
                         f"got {len(generators)}")
    try:
        torch.Generator().set_state(saved["cpu"])
        for device, state in _devices(saved["cuda"]):
            torch.Generator(device).set_state(state)
        for generator, state in zip(generators, saved["generators"], strict=True):
            torch.Generator(generator.device).set_state(state)
    except (RuntimeError, TypeError):
        raise ValueError("holds states of random numbers that a generator does not take") from None


def _devices(states: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """A saved state for each CUDA device of this machine; it may have fewer than the one that saved, or more."""
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return zip(devices, states)


def _form(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else type(value)


def _size(group: Any) -> int | None:
    params = group.get("params") if isinstance(group, dict) else None
    return len(params) if isinstance(params, list) else None


def _has_room(parameter: Tensor, value: Tensor) -> bool:
    """Whether an optimizer's tensor can be that of a parameter: a number, or of its shape, or of one with sizes of 1 in it."""
    sizes = zip(reversed(value.shape), reversed(parameter.shape))
    return value.numel() == 1 or (value.dim() == parameter.dim() and all(size in (1, own) for size, own in sizes))
