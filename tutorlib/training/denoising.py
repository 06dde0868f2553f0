"""The loss of diffusion and flow models: one random time for each example, and the squared error of what is predicted there."""

from collections.abc import Callable

import torch
from torch import Tensor

from tutorlib.diffusion import VELOCITY, Parts, Path, Target, at, mix
from tutorlib.layers.arguments import check_share


def denoising_loss(network: Callable[..., Tensor], clean: Tensor, labels: Tensor | None, path: Path,
                   target: Target = VELOCITY, *, generator: torch.Generator | None = None) -> Tensor:
    """The mean square of network(x_t, t, labels) - target, a scalar, for clean examples (B, ...) and times drawn from [0, 1).

    Ho et al. 2020, equation 14, where the target is the noise; Lipman et al. 2023, equation 23, where it is the velocity of
    the straight path. Times come first from the generator, then the noise.
    """
    time = torch.rand(len(clean), generator=generator).to(clean)  # (B,)
    noise = torch.randn(clean.shape, generator=generator).to(clean)  # (B, ...)
    c = at(path, time, clean)
    predicted = network(mix(clean, noise, c), time, labels)  # (B, ...)
    return (predicted - target.of(Parts(clean, noise), c)).square().mean()


def drop_labels(labels: Tensor, unlabeled: int, share: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Labels (B,) of which about a share is replaced by `unlabeled`: a network that is trained so can be guided."""
    check_share("share", share)
    dropped = torch.rand(len(labels), generator=generator).to(labels.device) < share  # (B,)
    return torch.where(dropped, unlabeled, labels)
