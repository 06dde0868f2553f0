"""A variational autoencoder (Kingma & Welling 2014) that is told what to draw: images from noise in one step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.layers.arguments import check_images


class VAE(nn.Module):
    """Encoder: image and label -> mean and log variance of a code. Decoder: code and label -> mean of each pixel.

    Two layers each way, ReLU within. Labels run from 0 to num_classes - 1.
    """

    def __init__(self, num_classes: int = 10, *, pixels: int = 784, hidden: int = 256, code: int = 16):
        super().__init__()
        check_counts(num_classes=num_classes, pixels=pixels, hidden=hidden, code=code)
        self.num_classes, self.pixels, self.code = num_classes, pixels, code
        self.encode_hidden = nn.Linear(pixels + num_classes, hidden)
        self.encode_output = nn.Linear(hidden, 2 * code)
        self.decode_hidden = nn.Linear(code + num_classes, hidden)
        self.decode_output = nn.Linear(hidden, pixels)

    def encode(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W), labels (B,) -> mean and log variance, (B, Z) each."""
        check_images(images)
        states = F.relu(self.encode_hidden(self._with_label(images.flatten(1), labels)))  # (B, hidden)
        mean, log_variance = self.encode_output(states).chunk(2, dim=1)  # (B, Z) each
        return mean, log_variance

    def decode(self, code: Tensor, labels: Tensor) -> Tensor:
        """code (B, Z), labels (B,) -> the mean of each pixel, (B, pixels)."""
        return self.decode_output(F.relu(self.decode_hidden(self._with_label(code, labels))))

    def forward(self, images: Tensor, labels: Tensor,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """images (B, C, H, W) -> what is decoded of a drawn code, (B, C, H, W), and mean and log variance, (B, Z) each."""
        mean, log_variance = self.encode(images, labels)
        noise = torch.randn(mean.shape, generator=generator).to(mean)  # (B, Z)
        code = mean + (log_variance / 2).exp() * noise  # (B, Z): the noise is outside, so that gradients reach both
        return self.decode(code, labels).view_as(images), mean, log_variance

    def _with_label(self, states: Tensor, labels: Tensor) -> Tensor:
        """(B, D) -> (B, D + num_classes), one-hot."""
        return torch.cat([states, F.one_hot(labels, self.num_classes).to(states.dtype)], dim=1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of each code's distribution from the standard normal, in nats: (B, Z) each -> (B,) (the paper's appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def negative_bound(decoded: Tensor, images: Tensor, mean: Tensor, log_variance: Tensor, deviation: float = 0.3) -> Tensor:
    """Minus the bound on log p(image) that is trained, without its constant: a scalar, the mean over the batch (B, ...).

    Squared errors over 2 deviation², the spread that a pixel is granted around its mean, plus `divergence`: the smaller the
    deviation, the sharper the image, and the further the codes from the normal distribution from which new ones are drawn.
    """
    if not deviation > 0:
        raise ValueError(f"deviation must be above 0, got {deviation}")
    errors = (decoded - images).square().flatten(1).sum(1)  # (B,)
    return (errors / (2 * deviation**2) + divergence(mean, log_variance)).mean()
