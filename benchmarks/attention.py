"""One layer of causal multi-head attention against `nn.MultiheadAttention` over the length, and the memory of its core."""

import math

import torch
from torch import Tensor, nn

from benchmarks.harness import Variant
from tutorlib.device import peak_memory
from tutorlib.layers import blockwise_attention, scaled_dot_product_attention
from tutorlib.pretrained import from_torch

WIDTH, HEADS = 256, 4
LENGTHS = (128, 512, 2048)
MEMORY_LENGTHS = (512, 1024, 2048, 4096)


def layer(length: int) -> list[Variant]:
    """Inference on (1, length, 256): the peer as it comes (weights returned), told not to, ours fused, ours explicit."""
    torch.manual_seed(0)
    peer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    ours = from_torch(peer)
    states = torch.randn(1, length, WIDTH)
    look_ahead = nn.Transformer.generate_square_subsequent_mask(length)

    def run_peer(need_weights: bool) -> Tensor:
        with torch.inference_mode():
            return peer(states, states, states, attn_mask=look_ahead, is_causal=True, need_weights=need_weights)[0]

    def run_ours(return_weights: bool) -> Tensor:
        with torch.inference_mode():
            output = ours(states, causal=True, return_weights=return_weights)
            return output[0] if return_weights else output

    return [Variant("nn.MultiheadAttention, as it comes", lambda: run_peer(True)),
            Variant("nn.MultiheadAttention, need_weights=False", lambda: run_peer(False)),
            Variant("tutorlib, fused", lambda: run_ours(False)),
            Variant("tutorlib, explicit", lambda: run_ours(True))]


def memory() -> dict[str, list[int]]:
    """Peak bytes allocated by one causal head of width 64 at each of MEMORY_LENGTHS, by form."""
    forms = {"explicit": lambda x: scaled_dot_product_attention(x, x, x, causal=True, fused=False),
             "blockwise": lambda x: blockwise_attention(x, x, x, causal=True),
             "fused": lambda x: scaled_dot_product_attention(x, x, x, causal=True)}
    peaks = {name: [] for name in forms}
    for length in MEMORY_LENGTHS:
        states = torch.randn(1, 1, length, 64)
        for name, form in forms.items():
            with torch.no_grad():
                peaks[name].append(peak_memory(lambda form=form, states=states: form(states))[1])
    return peaks


def exponent(lengths: tuple[int, ...], values: list[int]) -> float:
    """The slope of log value over log length, by least squares: 1 is linear growth, 2 is quadratic."""
    x, y = [math.log(length) for length in lengths], [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
