"""One LSTM layer against `nn.LSTM`, in the forms from fused to a loop over the cell: forward pass and training step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import Variant, inference
from tutorlib.layers.recurrent import LSTM
from tutorlib.pretrained import from_torch

BATCH, LENGTH, WIDTH = 32, 128, 256
SIZES = f"One layer, batch {BATCH}, length {LENGTH}, width of the input and of the state {WIDTH}, float32"


def _loop(layer: LSTM, inputs: Tensor) -> Tensor:
    """The definition, nothing hoisted: every step projects its own input."""
    state, outputs = None, []
    for step in inputs.unbind(dim=1):  # T of (B, C)
        state = layer.cells[0](step, state)
        outputs.append(state[0])
    return torch.stack(outputs, dim=1)  # (B, T, D)


def _forms() -> list[tuple[str, Callable[[], Tensor], nn.Module]]:
    """Name, forward pass and module of the peer and of ours in three forms, with the same weights on the same inputs."""
    torch.manual_seed(0)
    peer = nn.LSTM(WIDTH, WIDTH, batch_first=True)
    fused, explicit, loop = (from_torch(peer) for _ in range(3))
    explicit.fused = False
    inputs = torch.randn(BATCH, LENGTH, WIDTH)
    return [("nn.LSTM", lambda: peer(inputs)[0], peer),
            ("tutorlib, fused", lambda: fused(inputs)[0], fused),
            ("tutorlib, explicit: input projection hoisted", lambda: explicit(inputs)[0], explicit),
            ("a loop over LSTMCell", lambda: _loop(loop, inputs), loop)]


def forward() -> list[Variant]:
    """Inference on (32, 128, 256)."""
    return [Variant(name, inference(call)) for name, call, _ in _forms()]


def training() -> list[Variant]:
    """Forward, mean square as the loss, backward; compared by the gradient of the bias, which every time step adds to."""
    def run(call: Callable[[], Tensor], module: nn.Module) -> Tensor:
        module.zero_grad(set_to_none=True)
        call().square().mean().backward()
        return next(p.grad for p in module.parameters() if p.dim() == 1)  # (4D,)
    return [Variant(name, lambda call=call, module=module: run(call, module)) for name, call, module in _forms()]
