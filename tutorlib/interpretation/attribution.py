"""How much each input number had to do with a score: slopes, slopes along a path, and taking a piece away.

`score` is any function of inputs (B, ...) that returns one number an example, (B,), as ``lambda x: model(x)[:, 3]``; an
example's number must depend on that example alone. A map has the shape of the inputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tutorlib.arguments import check_counts

Score = Callable[[Tensor], Tensor]


def gradient(score: Score, inputs: Tensor) -> Tensor:
    """The slope of the score in each input number (Simonyan et al. 2014, section 3): (B, ...) -> (B, ...).

    Raises ValueError for a score that is not (B,).
    """
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        slope, = torch.autograd.grad(_checked(score(inputs), inputs).sum(), inputs)
    return slope


def gradient_times_input(score: Score, inputs: Tensor) -> Tensor:
    """The slope times the number itself: what a linear score would be made of. (B, ...) -> (B, ...)."""
    return gradient(score, inputs) * inputs.detach()


def integrated_gradients(score: Score, inputs: Tensor, start: Tensor | None = None, *, steps: int = 32) -> Tensor:
    """The mean slope on the straight way from `start` to the inputs, times that way (Sundararajan et al. 2017, equation 1).

    Complete: the map of an example sums to score(inputs) - score(start), but for the error of the `steps` midpoints.
    start: the shape of the inputs, or one that expands to it; zeros where nothing is said. (B, ...) -> (B, ...).
    Raises ValueError for no steps, a start that does not fit, a score that is not (B,).
    """
    check_counts(steps=steps)
    inputs = inputs.detach()
    start = torch.zeros_like(inputs) if start is None else _fitted(start, inputs)
    total = torch.zeros_like(inputs)
    for step in range(steps):
        total += gradient(score, start + (step + 0.5) / steps * (inputs - start))
    return (inputs - start) * total / steps


def occlusion(score: Score, images: Tensor, size: int, fill: Tensor | float = 0.0) -> Tensor:
    """By how much the score falls where one square is covered (Zeiler and Fergus 2014): (B, C, H, W) -> (B, H/P, W/P).

    size: P, the side of the squares, which divides H and W. fill: what covers, a number or a tensor that expands to the images.
    Raises ValueError for images that are not (B, C, H, W), a size that leaves pixels over, a score that is not (B,).
    """
    check_counts(size=size)
    if images.dim() != 4 or images.size(2) % size or images.size(3) % size:
        raise ValueError(f"images must be (B, C, H, W) with H and W multiples of size={size}, got {tuple(images.shape)}")
    fill = torch.as_tensor(fill, dtype=images.dtype, device=images.device).expand_as(images)
    height, width = images.size(2) // size, images.size(3) // size
    falls = []
    with torch.no_grad():
        whole = _checked(score(images), images)  # (B,)
        for top in range(0, images.size(2), size):
            for left in range(0, images.size(3), size):
                square = (..., slice(top, top + size), slice(left, left + size))
                covered = images.clone()
                covered[square] = fill[square]
                falls.append(whole - score(covered))  # (B,)
    return torch.stack(falls, 1).unflatten(1, (height, width))  # (B, H/P, W/P)


def _checked(scores: Tensor, inputs: Tensor) -> Tensor:
    if scores.shape != inputs.shape[:1]:
        raise ValueError(f"score must return one number an example, ({inputs.size(0)},), got {tuple(scores.shape)}")
    return scores


def _fitted(start: Tensor, inputs: Tensor) -> Tensor:
    try:
        return start.detach().to(inputs).expand_as(inputs)
    except RuntimeError:
        raise ValueError(f"start must expand to {tuple(inputs.shape)}, got {tuple(start.shape)}") from None
