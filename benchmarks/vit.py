"""ViT-Small of 16 x 16 patches against the class of the library transformers: a training step and inference."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from benchmarks.harness import Variant, autocast, inference, training_step
from tutorlib.device import has_fast_bfloat16
from tutorlib.pretrained import from_transformers

WIDTH, HEADS, LAYERS, BATCH, SIDE, PATCH = 384, 6, 12, 4, 224, 16
SIZES = f"ViT with {LAYERS} layers, width {WIDTH}, {HEADS} heads, batch {BATCH}, {SIDE} x {SIDE} pixels in patches of {PATCH}"


def _pair(attention: str | None = None, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module, Tensor]:
    """The peer, as shipped or with the attention that is named, ours with the same weights, and images."""
    torch.manual_seed(0)
    peer = ViTForImageClassification(ViTConfig(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                                               intermediate_size=4 * WIDTH, num_labels=1000))
    if attention is not None:
        peer.set_attn_implementation(attention)
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return peer.to(dtype), from_transformers(peer), images.to(dtype)


def _logits(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        output = model(images)
        return output if isinstance(output, Tensor) else output.logits
    return run


def training() -> list[Variant]:
    """A step of the peer as shipped (the measure), and with its plain attention; ours; both with bfloat16 autocast."""
    peer, ours, images = _pair()
    plain, _, _ = _pair("eager")
    variants = [Variant(name, training_step(_logits(model, images), model), 1e-3) for name, model in
                (("transformers, float32", peer), ("transformers, plain attention, float32", plain),
                 ("tutorlib, float32", ours))]
    if has_fast_bfloat16("cpu"):
        peer, ours, images = _pair()
        variants += [Variant(f"{name}, bfloat16 autocast", training_step(autocast(_logits(model, images)), model), 0.1)
                     for name, model in (("transformers", peer), ("tutorlib", ours))]
    return variants


def forward() -> list[Variant]:
    """Inference of the peer as shipped (the measure), and with its plain attention; ours; both with bfloat16 weights."""
    peer, ours, images = _pair()
    plain, _, _ = _pair("eager")
    variants = [Variant(name, inference(_logits(model.eval(), images))) for name, model in
                (("transformers, float32", peer), ("transformers, plain attention, float32", plain),
                 ("tutorlib, float32", ours))]
    if has_fast_bfloat16("cpu"):
        peer, ours, images = _pair(dtype=torch.bfloat16)
        variants += [Variant(f"{name}, bfloat16 weights", inference(_logits(model.eval(), images)), 0.1)
                     for name, model in (("transformers", peer), ("tutorlib", ours))]
    return variants
