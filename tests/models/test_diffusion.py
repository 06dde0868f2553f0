"""The denoiser: it begins with zeros, hears time and label, overfits one batch, refuses what it cannot draw."""

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.diffusion import VELOCITY, straight
from tutorlib.models.diffusion import Denoiser, ModulatedBlock, time_features
from tutorlib.training.denoising import denoising_loss


def awake(**options) -> Denoiser:
    """A small network none of whose weights is zero."""
    torch.manual_seed(0)
    network = Denoiser(3, widths=(8, 16), condition_width=12, **options)
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return network.eval()


def test_a_new_network_gives_zeros_and_has_the_parameters_it_says():
    network = Denoiser()
    assert sum(weights.numel() for weights in network.parameters()) == 404_804
    assert "404,804" in Denoiser.__doc__
    assert not network(draw(2, 1, 28, 28), torch.rand(2)).any()


def test_a_new_block_is_its_shortcut():
    states, condition = draw(2, 8, 5, 5), draw(2, 6)
    assert torch.equal(ModulatedBlock(8, 8, 6)(states, condition), states)
    block = ModulatedBlock(8, 16, 6)
    assert_same(block(states, condition), block.shortcut(states))


def test_a_block_is_the_formula():
    torch.manual_seed(0)
    block, states, condition = ModulatedBlock(8, 8, 6), draw(2, 8, 5, 5), draw(2, 6)
    torch.nn.init.normal_(block.conv2.weight)

    def norm(values):  # 8 groups of one channel: each over its pixels
        return (values - values.mean((2, 3), keepdim=True)) / (values.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()

    def silu(values):
        return values * values.sigmoid()

    scale, shift = block.modulation(condition)[:, :8, None, None], block.modulation(condition)[:, 8:, None, None]
    expected = states + block.conv2(silu(norm(block.conv1(silu(norm(states)))) * (1 + scale) + shift))
    assert_same(block(states, condition), expected)


def test_time_features_by_hand():
    found = time_features(torch.tensor([0.002]), 4)  # frequencies 1 and 1/100, of 1000 t = 2
    assert_same(found, torch.tensor([[2.0, 0.02, 2.0, 0.02]]).double().apply_(float).float().sin() * torch.tensor([1, 1, 0, 0])
                + torch.tensor([[2.0, 0.02, 2.0, 0.02]]).cos() * torch.tensor([0, 0, 1, 1]))


def test_each_image_hears_its_own_time_and_label_and_no_others():
    network, noisy = awake(), draw(3, 1, 8, 8)
    time, labels = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 1, 2])
    before = network(noisy, time, labels)
    for changed in ((torch.tensor([0.1, 0.6, 0.9]), labels), (time, torch.tensor([0, 3, 2]))):
        moved = (network(noisy, *changed) - before).abs().amax((1, 2, 3))
        assert moved[1] > 1e-3 and moved[0] == moved[2] == 0


def test_every_block_is_told_the_same_bent_sum_of_time_and_label():
    network, told = awake(), []
    for block in (*network.unet.down, *network.unet.middle, *network.unet.up):
        block.modulation.register_forward_pre_hook(lambda _, inputs: told.append(inputs[0]))
    time, labels = torch.tensor([0.1, 0.7]), torch.tensor([2, 0])
    network(draw(2, 1, 8, 8), time, labels)
    states = network.time(time_features(time, 16)) + network.label(labels)  # (B, D)
    assert len(told) == 5
    for each in told:
        assert_same(each, states * states.sigmoid())


def test_none_means_unlabeled():
    network, noisy, time = awake(), draw(2, 1, 8, 8), torch.rand(2)
    assert torch.equal(network(noisy, time), network(noisy, time, torch.full((2,), 3)))


def test_patches_hold_their_pixels():
    network = awake()
    torch.nn.init.zeros_(network.stem.weight)  # the image then arrives nowhere
    torch.nn.init.zeros_(network.stem.bias)
    noisy = draw(2, 1, 8, 8)
    assert_same(network(noisy, torch.full((2,), 0.5)), network(0 * noisy, torch.full((2,), 0.5)))


@pytest.mark.parametrize("options", [{}, {"in_channels": 3}, {"patch": 1}, {"patch": 4}])
def test_shapes(options):
    noisy = draw(2, options.get("in_channels", 1), 16, 24)
    assert awake(**options)(noisy, torch.rand(2)).shape == noisy.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_device(dtype, device):
    network = awake().to(device, dtype)
    out = network(draw(2, 1, 8, 8, dtype=dtype, device=device), torch.rand(2, device=device))
    assert out.dtype == dtype and out.device.type == device.type and out.isfinite().all()


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    network, images = Denoiser(2, widths=(16, 32), condition_width=32), draw(4, 1, 8, 8).sign()
    optimizer, labels = torch.optim.AdamW(network.parameters(), 3e-3), torch.tensor([0, 1, 0, 1])

    def loss(seed):
        return denoising_loss(network, images.repeat(16, 1, 1, 1), labels.repeat(16), straight, VELOCITY,
                              generator=torch.Generator().manual_seed(seed))

    first = loss(0).item()
    for step in range(250):
        optimizer.zero_grad()
        loss(step % 5).backward()
        optimizer.step()
    assert first > 1.8 and loss(0).item() < 0.15 * first


@pytest.mark.parametrize(("call", "said"), [
    (lambda: Denoiser(widths=(12, 16)), "widths must be at least two multiples of 8, got (12, 16)"),
    (lambda: Denoiser(widths=(16,)), "widths must be"),
    (lambda: Denoiser(0), "num_classes must be at least 1"),
    (lambda: awake()(draw(2, 1, 9, 8), torch.rand(2)), "noisy must have sides that are multiples of patch = 2"),
    (lambda: awake()(draw(1, 8, 8), torch.rand(2)), "(B, C, H, W)"),
    (lambda: time_features(torch.rand(2), 3), "width must be even"),
])
def test_refusals(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert said in str(error.value)
