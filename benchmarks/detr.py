"""DETR with a ResNet-18 against the class of the library transformers: a training step and inference on 256 x 256 pixels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

from benchmarks.harness import Variant, autocast, inference, training_step
from tutorlib.device import has_fast_bfloat16
from tutorlib.pretrained import from_transformers

BATCH, SIDE = 4, 256
SIZES = (f"DETR of the paper's width and depth (256, six and six layers, 100 queries) with a ResNet-18, batch {BATCH}, "
         f"{SIDE} x {SIDE} pixels, batch norms frozen, no dropout")


def _pair() -> tuple[nn.Module, nn.Module, Tensor]:
    """The peer with all weights trained, ours with the same weights, and images."""
    torch.manual_seed(0)
    resnet = ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", out_features=["stage4"])
    config = DetrConfig(use_timm_backbone=False, backbone_config=resnet, dropout=0.0, num_labels=91)
    peer = DetrForObjectDetection(config).requires_grad_(True)
    for name, tensor in peer.named_buffers():
        if name.endswith("running_var"):
            tensor.fill_(2.0)  # frozen at 1 as they start, the norms would let activations grow from block to block
    return peer, from_transformers(peer), torch.randn(BATCH, 3, SIDE, SIDE)


def _answers(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Logits and boxes side by side, (B, Q, C + 5)."""
    def run() -> Tensor:
        output = model(images)
        return torch.cat(output if isinstance(output, tuple) else (output.logits, output.pred_boxes), -1)
    return run


def _variants(wrap: Callable[[Callable[[], Tensor], nn.Module], Callable[[], Tensor]], tolerance: float,
              pair: tuple[nn.Module, nn.Module, Tensor]) -> list[Variant]:
    """The peer (the measure), ours, both with channels last, both with bfloat16 in addition."""
    peer, ours, images = pair
    last = images.contiguous(memory_format=torch.channels_last)
    variants = [Variant(f"{name}, float32", wrap(_answers(model, images), model), tolerance)
                for name, model in (("transformers", peer), ("tutorlib", ours))]
    variants += [Variant(f"{name}, channels_last", wrap(_answers(model, last), model), tolerance)
                 for name, model in (("transformers", peer), ("tutorlib", ours))]
    if has_fast_bfloat16("cpu"):
        variants += [Variant(f"{name}, channels_last, bfloat16 autocast", wrap(autocast(_answers(model, last)), model), 0.1)
                     for name, model in (("transformers", peer), ("tutorlib", ours))]
    return variants


def training() -> list[Variant]:
    """A step: forward, backward and fused AdamW; the loss is the harness's, since theirs needs scipy."""
    return _variants(training_step, 1e-3, _pair())


def forward() -> list[Variant]:
    """Inference."""
    return _variants(lambda run, _: inference(run), 1e-4, tuple(
        each.eval() if isinstance(each, nn.Module) else each for each in _pair()))
