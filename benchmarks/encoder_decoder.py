"""The encoder-decoder against `nn.Transformer`: a training step and a forward pass, in float32 and with bfloat16 autocast."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import Variant
from tutorlib.device import has_fast_bfloat16
from tutorlib.pretrained import from_torch

WIDTH, HEADS, LAYERS, HIDDEN, BATCH, LENGTH = 256, 4, 3, 1024, 16, 64
SIZES = (f"{LAYERS} + {LAYERS} layers, width {WIDTH}, {HEADS} heads, batch {BATCH}, {LENGTH} source and target positions, "
         "no dropout")


def _pair() -> tuple[Callable[[], Tensor], Callable[[], Tensor], list[nn.Module]]:
    """The peer and ours with the same weights on the same input, as functions without arguments."""
    torch.manual_seed(0)
    peer = nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, HIDDEN, dropout=0.0, batch_first=True)
    ours = from_torch(peer)
    source, target = torch.randn(BATCH, LENGTH, WIDTH), torch.randn(BATCH, LENGTH, WIDTH)
    look_ahead = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    return (lambda: peer(source, target, tgt_mask=look_ahead, tgt_is_causal=True)), (lambda: ours(source, target)), [peer, ours]


def _autocast(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward()
    return run


def _step(forward: Callable[[], Tensor], model: nn.Module) -> Callable[[], Tensor]:
    """Forward, mean square as the loss, backward, fused AdamW; compared by the gradient of the first parameter."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)  # rate 0: every round does the same work
    watched = max(model.parameters(), key=lambda parameter: parameter.numel())

    def run() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        forward().float().square().mean().backward()
        optimizer.step()
        return torch.stack([watched.grad.norm(), watched.grad.abs().max()])
    return run


def _inference(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode():
            return forward()
    return run


def training() -> list[Variant]:
    """A step of nn.Transformer (the measure), ours, and both with autocast where the CPU has the instructions."""
    peer, ours, (peer_model, our_model) = _pair()
    variants = [Variant("nn.Transformer, float32", _step(peer, peer_model)),
                Variant("tutorlib, float32", _step(ours, our_model))]
    if has_fast_bfloat16("cpu"):
        variants += [Variant("nn.Transformer, bfloat16 autocast", _step(_autocast(peer), peer_model), 0.1),
                     Variant("tutorlib, bfloat16 autocast", _step(_autocast(ours), our_model), 0.1)]
    return variants


def forward() -> list[Variant]:
    """The forward pass in evaluation mode, in the same four variants."""
    peer, ours, models = _pair()
    for model in models:
        model.eval()
    variants = [Variant("nn.Transformer, float32", _inference(peer)), Variant("tutorlib, float32", _inference(ours))]
    if has_fast_bfloat16("cpu"):
        variants += [Variant("nn.Transformer, bfloat16 autocast", _inference(_autocast(peer)), 0.1),
                     Variant("tutorlib, bfloat16 autocast", _inference(_autocast(ours)), 0.1)]
    return variants
