"""ResNet-18 against the class of the library transformers: a training step and inference on 224 x 224 pixels."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from benchmarks.harness import Variant, autocast, inference, training_step
from tutorlib.device import has_fast_bfloat16
from tutorlib.layers import fold_batch_norms
from tutorlib.pretrained import from_transformers

BATCH, SIDE = 8, 224
SIZES = f"ResNet-18, batch {BATCH}, {SIDE} x {SIDE} pixels"


def _pair() -> tuple[nn.Module, nn.Module, Tensor]:
    """The peer, ours with the same weights, and images."""
    torch.manual_seed(0)
    config = ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=1000)
    peer = ResNetForImageClassification(config)
    return peer, from_transformers(peer), torch.randn(BATCH, 3, SIDE, SIDE)


def _logits(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        output = model(images)
        return output if isinstance(output, Tensor) else output.logits
    return run


def _last(model: nn.Module) -> nn.Module:
    """A copy whose convolutions read and write channels last."""
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def training() -> list[Variant]:
    """A step of the peer (the measure), ours, both with channels last, both with bfloat16 in addition."""
    peer, ours, images = _pair()
    images_last = images.contiguous(memory_format=torch.channels_last)
    variants = [Variant("transformers, float32", training_step(_logits(peer, images), peer), 1e-3),
                Variant("tutorlib, float32", training_step(_logits(ours, images), ours), 1e-3)]
    for name, model in (("transformers", _last(peer)), ("tutorlib", _last(ours))):
        step = training_step(_logits(model, images_last), model)
        variants.append(Variant(f"{name}, channels_last", step, 1e-3))
    if has_fast_bfloat16("cpu"):
        for name, model in (("transformers", _last(peer)), ("tutorlib", _last(ours))):
            step = training_step(autocast(_logits(model, images_last)), model)
            variants.append(Variant(f"{name}, channels_last, bfloat16 autocast", step, 0.1))
    return variants


def forward() -> list[Variant]:
    """Inference of the peer (the measure), ours, then step by step: channels last, norms folded, bfloat16."""
    peer, ours, images = (each.eval() if isinstance(each, nn.Module) else each for each in _pair())
    images_last = images.contiguous(memory_format=torch.channels_last)
    peer_last, ours_last, folded = _last(peer), _last(ours), _last(fold_batch_norms(ours))
    runs = {"transformers, float32": _logits(peer, images),
            "tutorlib, float32": _logits(ours, images),
            "transformers, channels_last": _logits(peer_last, images_last),
            "tutorlib, channels_last": _logits(ours_last, images_last),
            "tutorlib, channels_last, batch norms folded": _logits(folded, images_last)}
    variants = [Variant(name, inference(run)) for name, run in runs.items()]
    if has_fast_bfloat16("cpu"):
        for name, run in (("transformers, channels_last", _logits(peer_last, images_last)),
                          ("tutorlib, channels_last, batch norms folded", _logits(folded, images_last))):
            variants.append(Variant(f"{name}, bfloat16 autocast", inference(autocast(run)), 0.1))
    return variants
