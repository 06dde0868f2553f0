"""The variational autoencoder: its divergence and bound against other ways to them, its drawing of codes, its learning."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.closeness import assert_same, draw
from tutorlib.models.vae import VAE, divergence, negative_bound


def test_divergence_is_torchs():
    mean, log_variance = draw(5, 3, dtype=torch.float64), draw(5, 3, dtype=torch.float64, seed=1)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    assert_same(divergence(mean, log_variance), expected)
    assert not divergence(torch.zeros(2, 3), torch.zeros(2, 3)).any()


def test_the_bound_is_minus_log_probability_plus_divergence():
    images, decoded = draw(4, 1, 2, 3, dtype=torch.float64), draw(4, 1, 2, 3, dtype=torch.float64, seed=1)
    mean, log_variance = draw(4, 2, dtype=torch.float64), draw(4, 2, dtype=torch.float64, seed=2)
    constant = 6 * math.log(0.5 * math.sqrt(2 * math.pi))
    expected = -Normal(decoded, 0.5).log_prob(images).sum((1, 2, 3)) - constant + divergence(mean, log_variance)
    assert_same(negative_bound(decoded, images, mean, log_variance, 0.5), expected.mean())


def test_it_bounds_the_probability_of_a_model_that_can_be_integrated():
    """One pixel, one code, x = 2 z + 0.5 noise: log p(x) is known, and the bound meets it at the true posterior."""
    images = torch.tensor([[[[1.3]]]]).double()
    log_p = Normal(0.0, math.sqrt(4.25)).log_prob(images).item()
    variance = 1 / (1 + 4 / 0.25)
    best = variance * 2 * 1.3 / 0.25
    for mean, scale, tight in ((best, 1.0, True), (0.2, 1.0, False), (best, 3.0, False)):
        code = mean + math.sqrt(variance * scale) * draw(400_000, 1, dtype=torch.float64)  # (N, 1)
        errors = (2 * code - 1.3).square().mean() / (2 * 0.25)
        kl = divergence(torch.tensor([[mean]]).double(), torch.tensor([[variance * scale]]).double().log())
        bound = -(errors + kl.item()).item() - math.log(0.5 * math.sqrt(2 * math.pi))
        assert bound == pytest.approx(log_p, abs=0.02) if tight else bound < log_p - 0.2


def test_codes_are_drawn_from_what_the_encoder_says():
    torch.manual_seed(0)
    vae, images, labels = VAE(3, pixels=6, hidden=8, code=2), draw(1, 1, 2, 3), torch.tensor([1])
    vae.decode_hidden = torch.nn.Linear(5, 2)  # what is decoded is the code, where no ReLU cuts it off
    vae.decode_output = torch.nn.Linear(2, 6)
    for layer, weight in ((vae.decode_hidden, torch.eye(5)[:2]), (vae.decode_output, torch.eye(6)[:, :2])):
        layer.weight.data, layer.bias.data = weight, torch.full((len(weight),), 50.0 if layer is vae.decode_hidden else -50.0)
    decoded, mean, log_variance = vae(images.expand(100_000, 1, 2, 3), labels.expand(100_000), torch.Generator().manual_seed(0))
    code = decoded.flatten(1)[:, :2]
    assert torch.allclose(code.mean(0), mean[0], atol=0.02)
    assert torch.allclose(code.std(0), (log_variance[0] / 2).exp(), atol=0.02)


def test_labels_reach_encoder_and_decoder():
    torch.manual_seed(0)
    vae, images = VAE(3, pixels=6, hidden=8, code=2), draw(1, 1, 2, 3)
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(vae.encode(images, zero)[0], vae.encode(images, one)[0])
    assert not torch.allclose(vae.decode(draw(1, 2), zero), vae.decode(draw(1, 2), one))


def test_gradients_reach_mean_and_variance():
    vae = VAE(3, pixels=6, hidden=8, code=2)
    decoded, *_ = vae(draw(4, 1, 2, 3), torch.tensor([0, 1, 2, 0]), torch.Generator().manual_seed(0))
    decoded.square().sum().backward()
    assert (vae.encode_output.weight.grad.abs().sum(1) > 0).all()


def test_overfits_one_batch():
    torch.manual_seed(0)
    vae, images, labels = VAE(2, pixels=16, hidden=32, code=4), draw(4, 1, 4, 4).sign(), torch.tensor([0, 1, 0, 1])
    optimizer, generator = torch.optim.AdamW(vae.parameters(), 1e-2), torch.Generator().manual_seed(0)
    for _ in range(300):
        loss = negative_bound(vae(images, labels, generator)[0], images, *vae(images, labels, generator)[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (vae(images, labels, generator)[0] - images).square().mean() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_device(dtype, device):
    vae = VAE(3, pixels=6, hidden=8, code=2).to(device, dtype)
    labels = torch.tensor([0, 1], device=device)
    for out in vae(draw(2, 1, 2, 3, dtype=dtype, device=device), labels):
        assert out.dtype == dtype and out.device.type == device.type


@pytest.mark.parametrize(("call", "said"), [
    (lambda: VAE(code=0), "code must be at least 1"),
    (lambda: VAE().encode(draw(28, 28), torch.tensor([1])), "(B, C, H, W)"),
    (lambda: negative_bound(draw(2, 3), draw(2, 3), draw(2, 1), draw(2, 1), 0.0), "deviation must be above 0, got 0.0"),
])
def test_refusals(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert said in str(error.value)
