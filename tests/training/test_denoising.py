"""The loss of a denoiser: against the same draws by hand, at its minimum, and the labels that are dropped."""

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.diffusion import CLEAN, NOISE, VELOCITY, Parts, at, cosine, exact, mix, straight
from tutorlib.training.denoising import denoising_loss, drop_labels

TARGETS = {"clean": CLEAN, "noise": NOISE, "velocity": VELOCITY}


@pytest.mark.parametrize("path", [straight, cosine])
@pytest.mark.parametrize("target", TARGETS)
def test_by_hand(path, target):
    clean, generator = draw(6, 1, 2, 2), torch.Generator().manual_seed(3)
    time, noise = torch.rand(6, generator=generator), torch.randn(clean.shape, generator=generator)
    c = at(path, time, clean)
    x, asked = mix(clean, noise, c), {}

    def network(noisy, when, labels):
        asked.update(noisy=noisy, time=when, labels=labels)
        return 0.5 * noisy

    labels = torch.arange(6)
    loss = denoising_loss(network, clean, labels, path, TARGETS[target], generator=torch.Generator().manual_seed(3))
    assert_same(loss, (0.5 * x - TARGETS[target].of(Parts(clean, noise), c)).square().mean())
    assert_same(asked["noisy"], x)
    assert torch.equal(asked["time"], time) and torch.equal(asked["labels"], labels)


def test_the_mean_is_the_best_answer():
    """What is regressed with squared errors is the mean: shift or scale the exact denoiser, and the loss rises."""
    centers = torch.tensor([[-1.0], [0.5], [2.0]]).double()
    rows, best = torch.randint(3, (40_000,), generator=torch.Generator().manual_seed(0)), exact(centers, 0.0, straight)
    losses = [denoising_loss(lambda noisy, time, labels, by=by: best(noisy, time).clean + by, centers[rows], None, straight,
                             CLEAN, generator=torch.Generator().manual_seed(1)).item() for by in (-0.1, 0.0, 0.1)]
    assert losses[1] == pytest.approx(losses[0] - 0.01, abs=2e-3)
    assert losses[1] == pytest.approx(losses[2] - 0.01, abs=2e-3)


def test_the_share_of_dropped_labels():
    labels = torch.arange(10).repeat(2000)
    found = drop_labels(labels, 10, 0.1, generator=torch.Generator().manual_seed(0))
    assert (found == 10).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(found[found != 10], labels[found != 10])
    assert torch.equal(drop_labels(labels, 10, 0.0), labels) and (drop_labels(labels, 10, 1.0) == 10).all()


def test_refusals():
    with pytest.raises(ValueError, match="share must lie in"):
        drop_labels(torch.arange(3), 10, 1.5)
