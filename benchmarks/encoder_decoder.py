"""The encoder-decoder against `nn.Transformer`: a training step and a forward pass, in float32 and with bfloat16 autocast."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import Variant, autocast, inference, training_step
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


def training() -> list[Variant]:
    """A step of nn.Transformer (the measure), ours, and both with autocast where the CPU has the instructions."""
    peer, ours, (peer_model, our_model) = _pair()
    variants = [Variant("nn.Transformer, float32", training_step(peer, peer_model)),
                Variant("tutorlib, float32", training_step(ours, our_model))]
    if has_fast_bfloat16("cpu"):
        variants += [Variant("nn.Transformer, bfloat16 autocast", training_step(autocast(peer), peer_model), 0.1),
                     Variant("tutorlib, bfloat16 autocast", training_step(autocast(ours), our_model), 0.1)]
    return variants


def forward() -> list[Variant]:
    """The forward pass in evaluation mode, in the same four variants."""
    peer, ours, models = _pair()
    for model in models:
        model.eval()
    variants = [Variant("nn.Transformer, float32", inference(peer)), Variant("tutorlib, float32", inference(ours))]
    if has_fast_bfloat16("cpu"):
        variants += [Variant("nn.Transformer, bfloat16 autocast", inference(autocast(peer)), 0.1),
                     Variant("tutorlib, bfloat16 autocast", inference(autocast(ours)), 0.1)]
    return variants
