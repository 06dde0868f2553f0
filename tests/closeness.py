"""What "equal" means here: within rounding, relative to the largest magnitude of the reference."""

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def assert_same(ours: Tensor, reference: Tensor, what: str = "tensor") -> None:
    """Same shape, same NaN-free values within the tolerance of the dtype."""
    assert ours.shape == reference.shape, f"{what}: {tuple(ours.shape)} is not {tuple(reference.shape)}"
    assert ours.isfinite().all(), f"{what}: not finite"
    bound = TOLERANCE[reference.dtype] * max(reference.abs().max().item(), 0.1)  # a gradient that is zero has no magnitude
    error = (ours.double() - reference.double()).abs().max().item()
    assert error <= bound, f"{what}: differs by {error:.2e}, allowed {bound:.2e}"


def assert_same_gradients(ours: Tensor, reference: Tensor, our_inputs: list[Tensor], reference_inputs: list[Tensor]) -> None:
    """Both outputs, weighted by the same random numbers and summed, have the same gradients in the inputs."""
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(7)).to(ours)
    for mine, theirs in zip(torch.autograd.grad((ours * weight).sum(), our_inputs),
                            torch.autograd.grad((reference * weight).sum(), reference_inputs), strict=True):
        assert_same(mine, theirs, "gradient")


def slow_path(module: nn.Module) -> nn.Module:
    """The reference without its inference fast path, which PyTorch takes only when no gradient is asked for."""
    return module.requires_grad_(True).eval()


def draw(*shape, dtype=torch.float32, device="cpu", seed=0):
    """Normal numbers of this shape, the same for every dtype and device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
