"""The Frechet distance against closed forms, the nearest neighbor against a loop, features against their layer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, draw
from tutorlib.evaluation.images import frechet_distance, inputs_of, moments, nearest
from tutorlib.models import ConvNet


def test_moments_by_hand():
    mean, covariance = moments(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]]))
    assert_same(mean, torch.tensor([2.0, 2.0]).double())
    assert_same(covariance, torch.tensor([[4.0, 3.0], [3.0, 3.0]]).double())


def test_in_one_dimension_it_is_difference_of_means_and_of_deviations():
    one, other = draw(50, 1, dtype=torch.float64), 3 + 2 * draw(70, 1, dtype=torch.float64, seed=1)
    expected = (one.mean() - other.mean()) ** 2 + (one.std() - other.std()) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-9)


@given(st.integers(0, 100), st.integers(2, 5))
def test_the_root_of_the_product_by_its_eigenvalues(seed, width):
    """tr (A B)^½ is the sum of the roots of the eigenvalues of A B, which is not symmetric."""
    one, other = draw(30, width, dtype=torch.float64, seed=seed), draw(40, width, dtype=torch.float64, seed=seed + 1) + 0.5
    other = other @ draw(width, width, dtype=torch.float64, seed=seed + 2)
    (mean, a), (mean2, b) = moments(one), moments(other)
    root = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    expected = (mean - mean2).square().sum() + a.trace() + b.trace() - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-7, abs=1e-8)


@given(st.integers(0, 100))
def test_symmetric_zero_with_itself_and_blind_to_turns(seed):
    one, other = draw(30, 4, seed=seed), draw(20, 4, seed=seed + 1) * torch.tensor([1.0, 2.0, 0.5, 3.0])
    turned = torch.linalg.qr(draw(4, 4, dtype=torch.float64, seed=seed + 2))[0]
    distance = frechet_distance(one, other)
    assert distance == pytest.approx(frechet_distance(other, one), rel=1e-8)
    assert distance == pytest.approx(frechet_distance(one.double() @ turned, other.double() @ turned), rel=1e-8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_fewer_examples_than_features_are_no_hindrance():
    assert frechet_distance(draw(5, 20), draw(6, 20, seed=1)) > 0


def test_it_grows_as_examples_get_fewer():
    distances = [sum(frechet_distance(draw(size, 8, seed=seed), draw(size, 8, seed=seed + 50)) for seed in range(10))
                 for size in (20, 80, 320)]
    assert distances[0] > 2 * distances[1] > 4 * distances[2]


def test_nearest_against_a_loop():
    images, others = draw(4, 1, 3, 3), draw(6, 1, 3, 3, seed=1)
    distance, index = nearest(images, others)
    for image, found, which in zip(images, distance, index, strict=True):
        all_ = torch.stack([(image - other).square().sum().sqrt() for other in others])
        assert found.item() == pytest.approx(all_.min().item(), rel=1e-6) and which == all_.argmin()


def test_a_copy_is_at_distance_zero():
    images = draw(30, 1, 8, 8)
    assert not nearest(images[5:9], images)[0].any()
    assert torch.equal(nearest(images[5:9], images)[1], torch.arange(5, 9))


def test_inputs_of_a_layer_are_what_it_is_given_and_the_mode_is_put_back():
    torch.manual_seed(0)
    model, images = ConvNet(), draw(7, 1, 28, 28)
    model.train()
    features = inputs_of(model.output, model, images, batch_size=3)
    assert model.training and features.shape == (7, 128) and not model.output._forward_pre_hooks
    assert_same(model.output(features), model(images))
    assert inputs_of(model.conv2, model, images).shape == (7, 32 * 14 * 14)


def test_inputs_are_taken_in_evaluation_mode():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)).train()
    images = draw(3, 4)
    assert torch.equal(inputs_of(model[1], model, images), images)


@pytest.mark.parametrize(("call", "said"), [
    (lambda: frechet_distance(draw(5, 3), draw(5, 4)), "others must have as many features"),
    (lambda: frechet_distance(draw(1, 3), draw(5, 3)), "features must be (N, D) with N of at least 2"),
    (lambda: frechet_distance(draw(5), draw(5)), "features must be (N, D)"),
    (lambda: nearest(draw(2, 1, 3, 3), draw(2, 1, 3, 4)), "others must have the shape of images"),
])
def test_refusals(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert said in str(error.value)
