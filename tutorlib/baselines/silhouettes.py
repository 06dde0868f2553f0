"""Segmentation without a network: the parts of one color that touch, each with the name of the most similar silhouette."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tutorlib.baselines.components import Templates, fitted, ground_of, link
from tutorlib.data.scenes import tight
from tutorlib.layers.arguments import check_images


def silhouettes(masks: Sequence[Tensor], labels: Sequence[Tensor]) -> Templates:
    """The shapes of known objects: masks of (M, H, W) bool and labels (M,), for each of some images.

    Raises ValueError where there is none.
    """
    shapes = [fitted(tight(mask).float()) for each in masks for mask in each]
    if not shapes:
        raise ValueError("masks must hold at least one object, got none")
    return Templates(torch.stack(shapes), torch.cat(list(labels)))


def segment_components(images: Tensor, templates: Templates, *, contrast: float, alike: float, least: int = 8) -> Tensor:
    """images (N, 3, H, W) -> the label of each pixel (N, H, W), int64, or 0 for the ground.

    Parts are found by `link`. Of a part, what differs from the ground at least half as much as most of it does is the object:
    a soft edge is left out. It takes the label of the template with the largest cosine; below `least` pixels it is noise.
    Raises ValueError for images of another shape.
    """
    check_images(images)
    far = (images - ground_of(images)).norm(dim=1)  # (N, H, W)
    named = torch.zeros(far.shape, dtype=torch.int64, device=images.device)
    for image, parts, away in zip(named, link(images, contrast=contrast, alike=alike), far, strict=True):
        numbers, counts = parts[parts >= 0].unique(return_counts=True)
        for number in numbers[counts >= least]:
            part = parts == number  # (H, W)
            part &= away >= 0.5 * away[part].quantile(0.75)
            image[part] = templates.labels[(templates.shapes @ fitted(tight(part).float())).argmax()]
    return named
