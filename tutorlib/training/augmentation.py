"""New training images from old ones: shifted, rotated, cut out, mixed. Each image of a batch gets its own random change.

Images are (B, C, H, W), of a floating-point dtype, on any device; results have the same. Random numbers come from a
`torch.Generator`, which may live on another device than the images: the same generator makes the same change everywhere.
Where a function changes labels too they are probabilities (B, classes), as `regularization.smooth_labels` makes them.

A batch of `data.ShuffledBatches` is augmented by a function of images, labels and generator::

    lambda images, labels, generator: (shift(images, 2, generator), labels)
"""

import math
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor


def shift(images: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `largest` pixels down or up and right or left, all whole numbers alike.

    Zeros come in at the border. Raises ValueError for a `largest` that is negative, or would push an image out of its frame.
    """
    _check_images(images)
    if not (isinstance(largest, Integral) and 0 <= largest < min(images.shape[2:])):
        raise ValueError(f"largest must be a whole number from 0 and below the shorter side, {min(images.shape[2:])} pixels, "
                         f"got {largest}")
    offsets = torch.randint(-largest, largest + 1, (2, len(images)), generator=generator, device=generator.device)
    return move(images, *offsets.to(images.device))


def move(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move image b by down[b] pixels down and right[b] to the right (negative: up, left); zeros come in at the border.

    down and right are integers (B,). Raises ValueError for others.
    """
    _check_images(images)
    _check_one_each(images, down=down, right=right)
    if down.is_floating_point() or right.is_floating_point():
        raise ValueError(f"down and right must be integers, got {down.dtype} and {right.dtype}")
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - down[:, None]  # (B, H): where each row comes from
    columns = torch.arange(width, device=images.device) - right[:, None]  # (B, W)
    rows, columns = rows.clamp(-1, height) + 1, columns.clamp(-1, width) + 1  # in the frame, whose border stands for outside
    places = rows[:, :, None] * (width + 2) + columns[:, None, :]  # (B, H, W)
    return _take(_framed(images), places)  # (B, C, H, W)


def rotate(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image about its center by an angle drawn evenly from -degrees to degrees; zeros come in at the corners.

    Raises ValueError for `degrees` that are negative or not finite.
    """
    _check_images(images)
    if not 0 <= degrees < math.inf:
        raise ValueError(f"degrees must be finite and not negative, got {degrees}")
    return turn(images, degrees * (2 * _uniform(len(images), generator).to(images.device) - 1))


def turn(images: Tensor, degrees: Tensor, *, fused: bool = True) -> Tensor:
    """Turn image b counterclockwise by degrees[b] about its center, with bilinear interpolation and zeros outside.

    degrees is (B,). `fused` chooses the form of `bilinear`. Raises ValueError for degrees of another shape or not finite.
    """
    _check_images(images)
    _check_one_each(images, degrees=degrees)
    _check_finite(degrees=degrees)
    height, width = images.shape[2:]
    angle = torch.deg2rad(degrees.to(_exact(images)))[:, None, None]  # (B, 1, 1)
    down = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2  # (H, 1), from the center
    right = torch.arange(width, device=images.device) - (width - 1) / 2  # (W,)
    rows = angle.sin() * right + angle.cos() * down + (height - 1) / 2  # (B, H, W): where each pixel comes from
    columns = angle.cos() * right - angle.sin() * down + (width - 1) / 2  # (B, H, W)
    return bilinear(images, rows, columns, fused=fused)


def bilinear(images: Tensor, rows: Tensor, columns: Tensor, *, fused: bool = True) -> Tensor:
    """The images' values at points between pixels: (B, C, H', W') for rows and columns (B, H', W'), counted in pixels from 0.

    Interpolated along the row above the point, along the row below it, and between the two. A pixel outside the image is zero.
    `fused` has `F.grid_sample` do it, which counts from -1 at an image's left or top edge to 1 at its right or bottom edge.
    Raises ValueError where rows and columns differ in shape, are not those of B images, or are not finite.
    """
    _check_images(images)
    if rows.dim() != 3 or rows.shape != columns.shape or len(rows) != len(images):
        raise ValueError(f"rows and columns must have one shape ({len(images)}, H', W'), "
                         f"got {tuple(rows.shape)} and {tuple(columns.shape)}")
    _check_finite(rows=rows, columns=columns)
    values = images.to(_exact(images))
    if not fused:
        return _interpolated(values, rows.to(values), columns.to(values)).to(images.dtype)
    height, width = images.shape[2:]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)  # (B, H', W', 2), x before y
    return F.grid_sample(values, grid.to(values), align_corners=False).to(images.dtype)


def _interpolated(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = images.shape[2:]
    rows, columns = rows.clamp(-1, height) + 1, columns.clamp(-1, width) + 1  # in the frame, whose border stands for outside
    top, left = rows.floor().clamp(max=height), columns.floor().clamp(max=width)  # (B, H', W'), of four neighbors the first
    down, right = (rows - top)[:, None], (columns - left)[:, None]  # (B, 1, H', W'), from 0 to 1
    first = top.long() * (width + 2) + left.long()
    framed = _framed(images)
    above = torch.lerp(_take(framed, first), _take(framed, first + 1), right)  # (B, C, H', W')
    first = first + width + 2  # a row further down
    below = torch.lerp(_take(framed, first), _take(framed, first + 1), right)
    return torch.lerp(above, below, down)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Set a square of `size` by `size` pixels in each image to zero. Its center is any pixel, so it may stick out.

    DeVries and Taylor (2017). Raises ValueError for a `size` below 1.
    """
    _check_images(images)
    if not (isinstance(size, Integral) and size >= 1):
        raise ValueError(f"size must be a whole number of at least 1 pixel, got {size}")
    sides = torch.full((len(images),), size, device=images.device)
    return images.masked_fill(_boxes(images, sides, sides, generator), 0)


def mixup(images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each image with another of the batch, and their labels with the same weights.

    labels (B, classes) are probabilities. The weights m and 1 - m are drawn for each pair, m from Beta(alpha, alpha): with
    alpha near 0 one image dominates, with 1 all weights are equally likely. Zhang et al. (2018).
    Raises ValueError for labels of another shape or an alpha that is not positive.
    """
    _check_mixing(images, labels, alpha)
    weight = _symmetric_beta(len(images), alpha, generator).to(images.device)  # (B,)
    partner = _permutation(images, generator)  # (B,)
    return _blend(images, images[partner], weight), _blend(labels, labels[partner], weight)


def cutmix(images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a box of another image of the batch into each image; the labels are mixed by their shares of the pixels.

    labels (B, classes) are probabilities. The box covers a share 1 - m of the image, m from Beta(alpha, alpha), before the
    border cuts off what sticks out; the labels go by the pixels that were really pasted. Yun et al. (2019).
    Raises ValueError for labels of another shape or an alpha that is not positive.
    """
    _check_mixing(images, labels, alpha)
    side = (1 - _symmetric_beta(len(images), alpha, generator).to(images.device)).sqrt()  # (B,), as a share of the image's
    heights, widths = ((side * length).round().long() for length in images.shape[2:])  # (B,) each
    pasted = _boxes(images, heights, widths, generator)  # (B, 1, H, W)
    partner = _permutation(images, generator)  # (B,)
    kept = 1 - pasted.to(_exact(labels)).mean((1, 2, 3))  # (B,)
    return torch.where(pasted, images[partner], images), _blend(labels, labels[partner], kept)


def _framed(images: Tensor) -> Tensor:
    """The images in a frame of zeros, one pixel wide, with their pixels in a row: (B, C, (H + 2) * (W + 2))."""
    return F.pad(images, (1, 1, 1, 1)).flatten(2)


def _take(pixels: Tensor, places: Tensor) -> Tensor:
    """pixels[b, :, places[b]]: (B, C, H, W) for pixels (B, C, n) and places (B, H, W)."""
    flat = places.flatten(1)[:, None].expand(-1, pixels.size(1), -1)  # (B, C, H*W)
    return pixels.gather(2, flat).unflatten(2, places.shape[1:])


def _boxes(images: Tensor, heights: Tensor, widths: Tensor, generator: torch.Generator) -> Tensor:
    """True in a box of heights[b] by widths[b] pixels around a random pixel, cut at the border: (B, 1, H, W)."""
    def span(length: int, sizes: Tensor) -> Tensor:
        center = torch.randint(length, (len(images),), generator=generator, device=generator.device).to(images.device)
        first = (center - sizes // 2)[:, None]  # (B, 1)
        place = torch.arange(length, device=images.device)
        return (place >= first) & (place < first + sizes[:, None])  # (B, length)

    rows, columns = span(images.size(2), heights), span(images.size(3), widths)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _blend(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """weight * first + (1 - weight) * second, with one weight (B,) for each example."""
    weight = weight.to(first.dtype).view(-1, *[1] * (first.dim() - 1))
    return weight * first + (1 - weight) * second


def _symmetric_beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws (count,) from Beta(alpha, alpha).

    z * sqrt(2 * alpha) is Student's t with 2 * alpha degrees of freedom (Bailey, 1994), and t / sqrt(2 * alpha + t^2), spread
    from -1 to 1, is a symmetric beta variable moved to that interval. sin(atan(z)) is z / sqrt(1 + z^2), also for infinite z.
    """
    radius, direction = _uniform(count, generator), _uniform(count, generator)
    z = (radius ** (-1 / alpha) - 1).sqrt() * (2 * math.pi * direction).cos()
    return (1 + z.atan().sin()) / 2


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _permutation(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)


def _exact(values: Tensor) -> torch.dtype:
    """The dtype to compute in: that of the values, and at least float32."""
    return torch.promote_types(values.dtype, torch.float32)


def _check_images(images: Tensor) -> None:
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError("images must be floating-point numbers of shape (B, C, H, W), "
                         f"got {images.dtype} of shape {tuple(images.shape)}")


def _check_one_each(images: Tensor, **numbers: Tensor) -> None:
    for name, values in numbers.items():
        if values.shape != (len(images),):
            raise ValueError(f"{name} must hold one number for each of the {len(images)} images, "
                             f"got the shape {tuple(values.shape)}")


def _check_finite(**numbers: Tensor) -> None:
    """Raise ValueError for infinite numbers and NaN, except on CUDA, where a look at them would make the CPU wait."""
    for name, values in numbers.items():
        if not values.is_cuda and not values.isfinite().all():
            raise ValueError(f"{name} must be finite, got {values[~values.isfinite()][0]}")


def _check_mixing(images: Tensor, labels: Tensor, alpha: float) -> None:
    _check_images(images)
    if labels.dim() != 2 or len(labels) != len(images) or not labels.is_floating_point():
        raise ValueError(f"labels must be probabilities of shape ({len(images)}, classes), "
                         f"got {labels.dtype} of shape {tuple(labels.shape)}")
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
