"""Changing what a model computes on the way: states replaced by those of another input, heads switched off."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tutorlib.interpretation.hooks import removed_after
from tutorlib.layers import MultiHeadAttention


def states_of(model: nn.Module, modules: Sequence[nn.Module], *inputs: Tensor) -> list[Tensor]:
    """What each of `modules` gives out when `model(*inputs)` runs, in their order and without gradients.

    Raises ValueError for a module that the model does not call, or calls more than once.
    """
    found: list[list[Tensor]] = [[] for _ in modules]
    hooks = [module.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output.detach()))
             for module, kept in zip(modules, found, strict=True)]
    with removed_after(hooks), torch.no_grad():
        model(*inputs)
    for module, kept in zip(modules, found, strict=True):
        if len(kept) != 1:
            raise ValueError(f"modules must be called once each, but {type(module).__name__} was called {len(kept)} times")
    return [kept[0] for kept in found]


@contextmanager
def patched(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the `with`, `module` gives out change(output) instead of its output. Raises ValueError for another shape."""
    def replace(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        changed = change(output)
        if changed.shape != output.shape:
            raise ValueError(f"change must keep the shape {tuple(output.shape)}, got {tuple(changed.shape)}")
        return changed

    with removed_after([module.register_forward_hook(replace)]):
        yield


def at_places(places: Tensor, donor: Tensor) -> Callable[[Tensor], Tensor]:
    """A change for `patched`: the states of `donor` (B, T, D) at `places` (B, N), an example each, the rest as it is."""
    def change(states: Tensor) -> Tensor:
        index = places[..., None].expand(-1, -1, states.size(-1))  # (B, N, D)
        return states.scatter(1, index, donor.gather(1, index))  # (B, T, D)

    return change


@contextmanager
def heads_off(model: nn.Module, heads: Iterable[tuple[int, int]]) -> Iterator[None]:
    """Within the `with`, these heads, pairs (layer, head), give zeros.

    A layer is counted among the `MultiHeadAttention` of `model`, in the order of `model.modules()`. A head's output is what
    the matrix `output` reads.
    Raises ValueError for a layer or a head that is not there.
    """
    layers = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        if not 0 <= layer < len(layers) or not 0 <= head < layers[layer].num_heads:
            raise ValueError(f"heads must be pairs (layer, head) of the {len(layers)} layers, got {(layer, head)}")
        by_layer.setdefault(layer, []).append(head)

    def silence(number: int, off: list[int]) -> Callable:
        def replace(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            width = layers[number].head_width
            states = inputs[0].unflatten(-1, (-1, width)).clone()  # (B, T, H, K)
            states[..., off, :] = 0
            return (states.flatten(-2),)  # (B, T, D)

        return replace

    with removed_after([layers[number].output.register_forward_pre_hook(silence(number, off))
                        for number, off in by_layer.items()]):
        yield
