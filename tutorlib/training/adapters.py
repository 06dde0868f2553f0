"""Low-rank adapters (LoRA, Hu et al. 2022): a frozen linear layer, and beside it a product of two narrow matrices that learns.

The change of a weight (m, n) is written as s B A, with B (m, r), A (r, n) and s = alpha / r: r (m + n) numbers in place of m n.
B begins at zero, so that an adapted model begins as the one that it was. An adapter can be saved without the model, added to
the weights, where it costs no time, and taken out again.
"""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_whole
from tutorlib.layers.linears import replace_linears

FORMAT = "tutorlib adapter 1"


class LoRALinear(nn.Module):
    """y = W x + b + s B A x, with s = alpha / rank, of a linear layer whose W and b are frozen.

    A is drawn as `nn.Linear` draws its weight, uniformly within 1/√n, and B is zero (section 4.1; the reference code and `peft`
    draw A so, the paper says normal). Raises ValueError for a rank below 1 or above the narrower side of W, where B A could be
    any matrix and would have more numbers, and for an alpha that is no positive number.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float = 16.0, generator: torch.Generator | None = None):
        super().__init__()
        check_whole("rank", rank)
        if rank > (narrow := min(layer.weight.shape)):
            raise ValueError(f"rank must be at most {narrow}, the narrower side of {tuple(layer.weight.shape)}, got {rank}")
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a positive number, got {alpha}")
        self.layer = layer.requires_grad_(False)
        self.alpha, self.rank, self.scale, self.merged = alpha, rank, alpha / rank, False
        bound = layer.in_features**-0.5
        drawn = torch.rand(rank, layer.in_features, generator=generator) * 2 * bound - bound
        self.down = nn.Parameter(drawn.to(layer.weight))  # A (r, n)
        self.up = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))  # B (m, r)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., n) -> (..., m)."""
        outputs = self.layer(inputs)  # (..., m)
        if self.merged:
            return outputs
        return outputs + self.scale * F.linear(F.linear(inputs, self.down), self.up)  # (..., n) -> (..., r) -> (..., m)

    def change(self) -> Tensor:
        """What the adapter adds to the weight: s B A, (m, n)."""
        return self.scale * (self.up @ self.down)

    @torch.no_grad()
    def merge(self) -> None:
        """W + s B A in the place of W: from here on one product. Raises ValueError where it has been done."""
        self._switch(to=True)
        self.layer.weight += self.change()

    @torch.no_grad()
    def unmerge(self) -> None:
        """W again, but for the rounding of the sum. Raises ValueError where nothing was merged."""
        self._switch(to=False)
        self.layer.weight -= self.change()

    def _switch(self, to: bool) -> None:
        if self.merged is to:
            raise ValueError("model: an adapter is merged already; expected one that is not" if to else
                             "model: an adapter is not merged; expected one that is")
        self.merged = to

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}, merged={self.merged}"


# -- in a model -------------------------------------------------------------------------------------------------------


def insert_adapters(model: nn.Module, rank: int, alpha: float = 16.0, *, names: Iterable[str] | None = None,
                    generator: torch.Generator | None = None) -> nn.Module:
    """The model, changed in place: all of it frozen, and a `LoRALinear` in the place of its linear layers.

    `names` are ends of the layers' names, as ("query", "attention.output"); None means every linear layer but those whose
    weight another module has too, as the output matrix that is the embedding: merging would change both.
    Raises ValueError for a model that has adapters, a name that no linear layer has, a weight that is shared, and what
    `LoRALinear` refuses; the model is then as it was.
    """
    if any(True for _ in adapters(model)):
        raise ValueError("model has adapters already: expected one without; remove_adapters takes them out")
    chosen = _chosen(model, names)
    frozen = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        made = {layer: LoRALinear(layer, rank, alpha, generator) for layer in chosen}
    except ValueError:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen[name])
        raise
    model.requires_grad_(False)
    return replace_linears(model, lambda layer: made.get(layer, layer))


def _chosen(model: nn.Module, names: Iterable[str] | None) -> list[nn.Linear]:
    """The linear layers to adapt, each once, in the model's order."""
    owners: dict[int, set[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(module)
    linears = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    tied = {name for name, layer in linears.items() if len(owners[id(layer.weight)]) > 1}
    if names is None:
        wanted = set(linears) - tied
    else:
        names = (names,) if isinstance(names, str) else tuple(names)
        ends = {end: {name for name in linears if f".{name}".endswith(f".{end}")} for end in names}
        wanted = set().union(*ends.values())
        if missing := sorted(end for end, found in ends.items() if not found):
            known = sorted({name.rpartition(".")[2] for name in linears})
            raise ValueError(f"names: no linear layer is called {missing}; there are {known}")
        if shared := sorted(wanted & tied):
            raise ValueError(f"names: the weight of {shared[0]!r} is another module's too; expected layers with their own")
    if not wanted:
        raise ValueError(f"model: {type(model).__name__} has no nn.Linear with a weight of its own")
    return [layer for name, layer in linears.items() if name in wanted]


def adapters(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The names and adapters in a model, each adapter once."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear))


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What an optimizer is to move: A and B of every adapter. Raises ValueError where the model has none."""
    return [parameter for _, adapter in _some(model) for parameter in (adapter.down, adapter.up)]


def merge_adapters(model: nn.Module) -> nn.Module:
    """The model with every adapter added to its weight, in place. Raises ValueError where there is none or one is merged."""
    for _, adapter in _some(model):
        adapter.merge()
    return model


def unmerge_adapters(model: nn.Module) -> nn.Module:
    """The model with every adapter beside its weight again, in place. Raises ValueError where one is not merged."""
    for _, adapter in _some(model):
        adapter.unmerge()
    return model


def remove_adapters(model: nn.Module) -> nn.Module:
    """The model without adapters, in place: its linear layers as they stand, with what was merged into them. All is frozen."""
    for name, adapter in _some(model):
        parent, _, own = name.rpartition(".")
        if not name:
            return adapter.layer
        setattr(model.get_submodule(parent), own, adapter.layer)
    return model


def _some(model: nn.Module) -> list[tuple[str, LoRALinear]]:
    if not (found := list(adapters(model))):
        raise ValueError(f"model: {type(model).__name__} has no adapters; insert_adapters puts them in")
    return found


# -- in a file --------------------------------------------------------------------------------------------------------


def save_adapter(model: nn.Module, path: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
    """A and B of every adapter in a file of safetensors, with alpha; nothing of the model. `dtype` may halve it.

    Raises ValueError where the model has no adapters.
    """
    from safetensors.torch import save_file

    found = _some(model)
    state = {f"{name}.{part}": getattr(adapter, part).detach().to(dtype=dtype).contiguous()
             for name, adapter in found for part in ("down", "up")}
    save_file(state, path, metadata={"format": FORMAT, "alpha": repr(float(found[0][1].alpha))})


def load_adapter(model: nn.Module, path: str | os.PathLike) -> nn.Module:
    """The model with the adapters of a file, in place, in the dtype of its weights; all else is frozen.

    Raises FileNotFoundError; ValueError for a file of another kind, and, naming the layer, for one that the model has not or
    has in another shape.
    """
    state, alpha = _read(path)
    layers = dict(model.named_modules())
    if any(True for _ in adapters(model)):
        raise ValueError("model has adapters already: expected one without; remove_adapters takes them out")
    made = {}
    for name in sorted({name.rpartition(".")[0] for name in state}):
        down, up = state[f"{name}.down"], state[f"{name}.up"]
        layer = layers.get(name)
        if type(layer) is not nn.Linear or layer.weight.shape != (len(up), down.shape[1]):
            raise ValueError(f"path: {Path(path).name} adapts a linear layer {name!r} of shape {(len(up), down.shape[1])}; "
                             f"the model has {'no such layer' if layer is None else layer}")
        made[layer] = LoRALinear(layer, len(down), alpha)
        made[layer].load_state_dict({"down": down, "up": up}, strict=False)
    model.requires_grad_(False)
    for adapter in made.values():
        adapter.down.requires_grad_(True), adapter.up.requires_grad_(True)
    return replace_linears(model, lambda layer: made.get(layer, layer))


def _read(path: str | os.PathLike) -> tuple[dict[str, Tensor], float]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(f"path: {Path(path).name} is no adapter of this library; expected the format {FORMAT!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, float(about["alpha"])  # noqa: SIM118
    except SafetensorError:
        raise ValueError(f"path: {Path(path).name} is no file of safetensors") from None
