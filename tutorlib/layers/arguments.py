"""What layers and models ask of tensors and sizes, in one sentence each."""

from dataclasses import fields

import torch
from torch import Tensor

from tutorlib.arguments import check_whole


def check_config(config: object) -> None:
    """Raise ValueError unless each field of a dataclass that is a whole number, or None, is at least 1."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is int or (field.type == int | None and value is not None):
            check_whole(field.name, value)


def check_share(name: str, share: float) -> None:
    """Raise ValueError unless a probability lies in [0, 1]."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {share}")


def check_width(name: str, states: Tensor, width: int) -> None:
    """Raise ValueError unless the last dimension is `width`: one of 1 would be broadcast."""
    if states.size(-1) != width:
        raise ValueError(f"{name} must have the width {width} in the last dimension, got {tuple(states.shape)}")


def check_floating(name: str, states: Tensor) -> None:
    """Raise ValueError unless the numbers are floats: what is computed in integers is cut off."""
    if not states.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {states.dtype}")


def check_caches(caches: list | None, layers: int) -> None:
    """Raise ValueError unless there is one cache a layer, before the first of them is written."""
    if caches is not None and len(caches) != layers:
        raise ValueError(f"cache must hold one cache for each of the {layers} layers, got {len(caches)}")


def check_images(images: Tensor) -> None:
    """Raise ValueError unless the shape is (B, C, H, W): of a single image (C, H, W) other axes would be taken for these."""
    if images.dim() != 4:
        raise ValueError(f"images must have the shape (B, C, H, W), got {tuple(images.shape)}")


def check_square_images(images: Tensor, channels: int, size: int) -> None:
    """Raise ValueError unless the shape is (B, C, H, W) with these C and H = W."""
    check_images(images)
    expected = (channels, size, size)
    if images.shape[1:] != expected:
        raise ValueError(f"images must have the shape (B, C, H, W) with (C, H, W) = {expected}, got {tuple(images.shape)}")


def check_patches(image_size: int, patch_size: int) -> None:
    """Raise ValueError unless patches fill the side of an image: the pixels that are left over would never be seen."""
    if image_size % patch_size:
        raise ValueError(f"image_size must be a multiple of patch_size={patch_size}, got {image_size}")


def check_length(end: int, max_length: int) -> None:
    """Raise ValueError where a sequence that reaches position `end` is longer than `max_length`."""
    if end > max_length:
        raise ValueError(f"the sequence reaches position {end}, but max_length is {max_length}")


def check_tokens(name: str, tokens: Tensor, vocabulary: int) -> None:
    """Raise ValueError unless `tokens` is a (B, T) tensor of integers in [0, vocabulary).

    The range is checked where looking costs nothing: see `bounds`.
    """
    if tokens.dim() != 2 or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must be integer tokens of shape (B, length), got {tokens.dtype} {tuple(tokens.shape)}")
    found = bounds(tokens)
    if found is not None and not 0 <= found[0] <= found[1] < vocabulary:
        raise ValueError(f"{name} must lie in [0, {vocabulary}), the vocabulary, got values from {found[0]} to {found[1]}")


def bounds(integers: Tensor) -> tuple[int, int] | None:
    """The least and the largest value, or None where there is none or a look would cost too much.

    On an accelerator a look waits for all that was computed before; while a graph is compiled or exported, or a function is
    mapped over a batch, there is nothing to look at.
    """
    if integers.device.type != "cpu" or torch.compiler.is_compiling() or not integers.numel():
        return None
    try:
        return int(integers.min()), int(integers.max())
    except RuntimeError:  # inside torch.func.vmap or a fake-tensor mode
        return None
