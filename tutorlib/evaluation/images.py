"""How good drawn images are: whether they are the features of real ones, as a whole, and whether they are copies."""

import torch
from torch import Tensor, nn


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """features (N, D) -> mean (D,) and covariance (D, D), divided by N - 1, in float64. Raises ValueError for N < 2."""
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(f"features must be (N, D) with N of at least 2, got {tuple(features.shape)}")
    mean = features.double().mean(0)  # (D,)
    away = features.double() - mean  # (N, D)
    return mean, away.T @ away / (len(features) - 1)


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Between normal distributions with the moments of features (N, D) and others (M, D), squared (Heusel et al. 2017, FID).

    ‖m - n‖² + tr(A + B - 2 (A B)^½), for means m, n and covariances A, B. The trace of (A B)^½ is the sum of the singular
    values of A^½ B^½. The fewer examples, the larger it comes out, for equal distributions too: compare at equal N and M.
    Raises ValueError for features of two widths.
    """
    if features.shape[1:] != others.shape[1:]:
        raise ValueError(f"others must have as many features, {tuple(features.shape[1:])}, got {tuple(others.shape)}")
    (mean, covariance), (mean2, covariance2) = moments(features), moments(others)
    both = torch.linalg.svdvals(_root(covariance) @ _root(covariance2)).sum()
    return ((mean - mean2).square().sum() + covariance.trace() + covariance2.trace() - 2 * both).item()


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance (D, D)."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T  # (D, D)


def nearest(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each image (N, ...) the distance to the nearest of others (M, ...), a root of summed squares, and its index: (N,).

    Raises ValueError for images of another shape.
    """
    if images.shape[1:] != others.shape[1:]:
        raise ValueError(f"others must have the shape of images, {tuple(images.shape[1:])}, got {tuple(others.shape[1:])}")
    rows, columns = images.flatten(1).double(), others.flatten(1).double()
    found = torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist").min(1)  # exact where an image is a copy
    return found.values.to(images.dtype), found.indices


@torch.no_grad()
def inputs_of(layer: nn.Module, model: nn.Module, images: Tensor, *, batch_size: int = 500) -> Tensor:
    """What reaches a layer of the model for images (N, ...), flattened: (N, D). The model is asked in evaluation mode."""
    found, was_training = [], model.training
    handle = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].flatten(1)))
    model.eval()
    try:
        for some in images.split(batch_size):
            model(some)
    finally:
        handle.remove()
        model.train(was_training)
    return torch.cat(found)  # (N, D)
