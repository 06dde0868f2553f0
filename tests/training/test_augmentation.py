"""Augmentation: geometry against torch's own, labels against pixels, and random numbers from the generator alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.data.batches import ShuffledBatches
from tutorlib.training.augmentation import bilinear, cutmix, cutout, mixup, move, rotate, shift, turn
from tutorlib.training.regularization import smooth_labels

CHANGES = {
    "shift": lambda images, generator: shift(images, 3, generator),
    "rotate": lambda images, generator: rotate(images, 30, generator),
    "cutout": lambda images, generator: cutout(images, 4, generator),
    "mixup": lambda images, generator: mixup(images, labels_for(images), 1.0, generator)[0],
    "cutmix": lambda images, generator: cutmix(images, labels_for(images), 1.0, generator)[0],
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(batch=6, channels=2, height=9, width=11, seed=0, dtype=torch.float32):
    return torch.rand(batch, channels, height, width, generator=generator(seed), dtype=torch.float64).to(dtype)


def labels_for(images, classes=10):
    return smooth_labels(torch.arange(len(images), device=images.device) % classes, classes, 0.0)


@every_change
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_device_and_range_are_kept(change, dtype, device):
    images = draw(dtype=dtype).to(device)
    before = images.clone()
    changed = change(images, generator())
    assert (changed.shape, changed.dtype, changed.device) == (images.shape, dtype, images.device)
    assert changed.min() >= 0 and changed.max() <= 1
    assert torch.equal(images, before)  # the batch itself is left alone
    assert not torch.equal(changed, images)


@every_change
def test_the_generator_alone_decides(change):
    images = draw(batch=20)
    torch.manual_seed(0)
    first = change(images, generator(1))
    torch.manual_seed(1)
    assert torch.equal(first, change(images, generator(1)))
    assert not torch.equal(first, change(images, generator(2)))


@every_change
def test_each_image_gets_a_change_of_its_own(change):
    images = draw(batch=1).expand(8, -1, -1, -1).clone()
    if change in (CHANGES["mixup"], CHANGES["cutmix"]):
        images *= torch.linspace(0.2, 1, 8)[:, None, None, None]
    ratio = change(images, generator()) / images.clamp(min=1e-9)
    assert len({tuple(one.flatten().tolist()) for one in ratio}) > 4


@every_change
def test_an_empty_batch_stays_empty(change):
    assert change(draw(batch=0), generator()).shape == (0, 2, 9, 11)


@every_change
@pytest.mark.parametrize("images", [torch.ones(3, 9, 9), torch.ones(1, 1, 9, 9, dtype=torch.uint8)])
def test_what_is_no_batch_of_images_is_refused(change, images):
    with pytest.raises(ValueError, match=r"images must be floating-point numbers of shape \(B, C, H, W\), got torch\.\w+ of"):
        change(images, generator())


# Moving


def test_move_by_hand():
    image = torch.arange(1.0, 7).view(1, 1, 2, 3)
    down_right = move(image, torch.tensor([1]), torch.tensor([1]))
    assert down_right[0, 0].tolist() == [[0, 0, 0], [0, 1, 2]]
    up_left = move(image, torch.tensor([-1]), torch.tensor([-1]))
    assert up_left[0, 0].tolist() == [[5, 6, 0], [0, 0, 0]]
    assert move(image, torch.tensor([2]), torch.tensor([0])).abs().sum() == 0


@given(seed=st.integers(0, 10**6), largest=st.integers(0, 12))
def test_move_is_torchs_roll_with_zeros_and_is_undone_inside(seed, largest):
    images = draw(seed=seed)
    down, right = torch.randint(-largest, largest + 1, (2, 6), generator=generator(seed))
    moved = move(images, down, right)
    for image, shifted, d, r in zip(images, moved, down.tolist(), right.tolist(), strict=True):
        wide = F.pad(image, (12, 12, 12, 12)).roll((d, r), (1, 2))
        assert torch.equal(shifted, wide[:, 12:-12, 12:-12])
    back, (height, width) = move(moved, -down, -right), images.shape[2:]
    for image, returned, d, r in zip(images, back, down.tolist(), right.tolist(), strict=True):
        stayed = torch.zeros(height, width, dtype=torch.bool)
        stayed[max(0, -d) : max(0, height - max(0, d)), max(0, -r) : max(0, width - max(0, r))] = True
        assert torch.equal(returned, image * stayed)


def test_shift_draws_every_offset_alike():
    images = torch.zeros(20_000, 1, 5, 5)
    images[:, :, 2, 2] = 1
    landed = shift(images, 1, generator()).mean((0, 1))
    expected = F.pad(torch.full((3, 3), 1 / 9), (1, 1, 1, 1))
    assert (landed - expected).abs().max() < 0.01
    assert (landed[expected == 0] == 0).all()


def test_a_shift_of_nothing_changes_nothing():
    images = draw()
    assert torch.equal(shift(images, 0, generator()), images)


# Turning


@given(seed=st.integers(0, 10**6), height=st.integers(1, 8), width=st.integers(1, 8), dtype=st.sampled_from([torch.float32,
                                                                                                          torch.float64]))
def test_bilinear_in_either_form_is_torchs_grid_sample(seed, height, width, dtype):
    images = draw(3, 2, height, width, seed=seed, dtype=dtype)
    rows, columns = 1.5 * torch.randn(2, 3, 4, 5, generator=generator(seed), dtype=dtype) + torch.tensor(
        [height / 2, width / 2], dtype=dtype).view(2, 1, 1, 1)
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)  # (B, H', W', 2), x before y
    for fused in (True, False):
        assert_same(bilinear(images, rows, columns, fused=fused), F.grid_sample(images, grid, align_corners=False))


def test_both_forms_of_bilinear_have_the_same_gradients():
    images = draw(dtype=torch.float64).requires_grad_()
    places = (4 * torch.rand(2, 6, 3, 3, generator=generator(), dtype=torch.float64) + 0.01).requires_grad_()
    explicit, fused = (bilinear(images, *places, fused=fused) for fused in (False, True))
    assert_same_gradients(explicit, fused, [images, places], [images, places])


@pytest.mark.parametrize("fused", [True, False])
def test_bilinear_by_hand(fused):
    image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    rows, columns = torch.tensor([[[0.0, 0.5, 0.25]]]), torch.tensor([[[1.0, 0.5, 0.0]]])
    assert bilinear(image, rows, columns, fused=fused).flatten().tolist() == [1.0, 1.5, 0.5]
    half_outside = bilinear(image, torch.tensor([[[-0.5]]]), torch.tensor([[[1.0]]]), fused=fused)
    assert half_outside.item() == 0.5
    assert bilinear(image.double(), rows, columns, fused=fused).dtype == torch.float64  # whatever the places are


@given(seed=st.integers(0, 10**6), side=st.integers(1, 12))
def test_turn_is_torchs_affine_grid(seed, side):
    images = draw(5, 2, side, side, seed=seed, dtype=torch.float64)
    degrees = 360 * torch.rand(5, generator=generator(seed), dtype=torch.float64) - 180
    cosine, sine = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    zero = torch.zeros_like(cosine)
    theta = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    for fused in (True, False):
        assert_same(turn(images, degrees, fused=fused), F.grid_sample(images, grid, align_corners=False))


@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_a_quarter_turn_is_rot90(side, quarters, device):
    images = draw(height=side, width=side).to(device)
    degrees = torch.full((6,), 90.0 * quarters, device=device)
    for fused in (True, False):
        assert_same(turn(images, degrees, fused=fused).cpu(), images.rot90(quarters, (2, 3)).cpu())


def test_a_turn_keeps_the_pixels_of_an_oblong_image_square():
    """Half a turn of an oblong image is a flip of both axes; a quarter turn keeps distances from the center."""
    images = draw(1, 1, 5, 9)
    assert_same(turn(images, torch.tensor([180.0])), images.flip((2, 3)))
    dot = torch.zeros(1, 1, 5, 9)
    dot[0, 0, 2, 6] = 1  # two pixels right of the center
    assert turn(dot, torch.tensor([90.0])).round().nonzero().tolist() == [[0, 0, 0, 4]]  # two above it


def test_rotate_draws_every_angle_alike():
    dot = torch.zeros(4_000, 1, 21, 21)
    dot[:, :, 9:12, 16:19] = 1  # seven pixels to the right
    turned = rotate(dot, 40, generator())[:, 0]
    weight = turned.sum((1, 2))
    down = (turned.sum(2) @ torch.arange(-10.0, 11)) / weight
    right = (turned.sum(1) @ torch.arange(-10.0, 11)) / weight
    angles = torch.atan2(-down, right).rad2deg().sort().values
    assert (angles - torch.linspace(-40, 40, 4_000)).abs().max() < 2.5


# Cutting out and mixing


def test_cutout_by_hand_and_at_the_border():
    images = torch.ones(5_000, 2, 6, 8)
    cut = cutout(images, 3, generator()) == 0
    assert (cut[:, 0] == cut[:, 1]).all()  # all channels
    rows, columns = cut[:, 0].any(2), cut[:, 0].any(1)  # (B, H), (B, W)
    assert torch.equal(cut[:, 0], rows[:, :, None] & columns[:, None, :])  # a box
    assert (rows[:, 1:] ^ rows[:, :-1]).sum(1).max() <= 2  # in one piece
    heights, widths = rows.sum(1), columns.sum(1)
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3}  # the center is a pixel: at most one row or column is lost
    assert (heights == 2).float().mean().item() == pytest.approx(2 / 6, abs=0.03)
    assert (widths == 2).float().mean().item() == pytest.approx(2 / 8, abs=0.03)


def test_a_cutout_of_everything():
    assert cutout(torch.ones(9, 1, 4, 4), 8, generator()).abs().sum() == 0


def code(classes=8, side=6):
    """Images whose every pixel is one-hot in the channels, so that an image says what it is made of; and their labels."""
    labels = torch.eye(classes)
    return labels[:, :, None, None].expand(-1, -1, side, side).clone(), labels


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_labels_are_mixed_exactly_as_the_pixels_are(mix, alpha, device):
    images, labels = (tensor.to(device) for tensor in code())
    for seed in range(20):
        mixed, targets = mix(images, labels, alpha, generator(seed))
        assert targets.device == labels.device
        assert_same(targets, mixed.mean((2, 3)))
        assert_same(targets.sum(1), torch.ones(8, device=device))


def test_mixup_gives_every_pixel_one_weight_and_cutmix_a_box():
    images, labels = code()
    mixed, targets = mixup(images, labels, 1.0, generator())
    assert_same(mixed, targets[:, :, None, None].expand_as(mixed))
    mixed, _ = cutmix(images, labels, 1.0, generator())
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    pasted = mixed.argmax(1) != torch.arange(8)[:, None, None]  # (B, H, W)
    assert torch.equal(pasted, pasted.any(2)[:, :, None] & pasted.any(1)[:, None, :])


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_partners_are_a_permutation_of_the_batch(mix):
    for seed in range(5):
        images = torch.rand(200, 1, 4, 4, generator=generator(seed))
        _, targets = mix(images, torch.eye(200), 1.0, generator(seed))
        given = targets - torch.diag(targets.diagonal())  # what came from partners
        assert ((given > 0).sum(0) <= 1).all() and ((given > 0).sum(1) <= 1).all()
        assert (given > 0).sum() > 150


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_mixups_weights_are_drawn_from_the_symmetric_beta(alpha):
    images, labels = torch.zeros(400, 1, 1, 1), torch.eye(400)
    weights = torch.cat([mixup(images, labels, alpha, generator(seed))[1].diagonal() for seed in range(60)])
    assert weights.min() >= 0 and weights.max() <= 1
    torch.manual_seed(0)
    reference = torch.distributions.Beta(torch.tensor(alpha).double(), torch.tensor(alpha).double()).sample((200_000,))
    levels = torch.linspace(0.01, 0.99, 49)
    share = torch.stack([(weights < level).float().mean() for level in levels])
    expected = torch.stack([(reference < level).float().mean() for level in levels])
    assert (share - expected).abs().max() < 0.015  # one image in 400 is its own partner


def test_cutmix_covers_a_share_drawn_from_beta_where_the_border_cuts_nothing():
    """alpha huge: every weight is 1/2, so the box has sides of sqrt(1/2); its center decides what the border cuts off."""
    images, labels = code(classes=64, side=64)
    mixed, _ = cutmix(images, labels, 1e6, generator())
    pasted = (mixed.argmax(1) != torch.arange(64)[:, None, None])
    rows, columns = pasted.any(2).sum(1), pasted.any(1).sum(1)
    assert rows.max() == columns.max() == 45  # round(64 * sqrt(1/2))
    assert rows.min() < 40 and columns.min() < 40


def test_mixed_labels_may_be_smoothed_ones():
    images, labels = code()
    smoothed = 0.9 * labels + 0.1 / 8
    _, hard = cutmix(images, labels, 1.0, generator(4))
    _, soft = cutmix(images, smoothed, 1.0, generator(4))
    assert_same(soft, 0.9 * hard + 0.1 / 8)


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("labels, alpha, message", [
    (torch.tensor([0, 1, 2]), 1.0, "labels must be probabilities of shape (3, classes), got torch.int64 of shape (3,)"),
    (torch.ones(2, 4), 1.0, "labels must be probabilities of shape (3, classes), got torch.float32 of shape (2, 4)"),
    (torch.ones(3, 4).long(), 1.0, "labels must be probabilities of shape (3, classes), got torch.int64 of shape (3, 4)"),
    (torch.ones(3, 4), 0.0, "alpha must be positive, got 0.0"),
    (torch.ones(3, 4), math.nan, "alpha must be positive, got nan"),
])
def test_mixing_refuses_by_name(mix, labels, alpha, message):
    with pytest.raises(ValueError) as refused:
        mix(draw(batch=3), labels, alpha, generator())
    assert message in str(refused.value)


@pytest.mark.parametrize("call, message", [
    (lambda images: shift(images, -1, generator()), "largest must be a whole number from 0 and below the shorter side, 9 p"),
    (lambda images: shift(images, 9, generator()), "largest must be a whole number from 0 and below the shorter side, 9 p"),
    (lambda images: shift(images, 1.5, generator()), "9 pixels, got 1.5"),
    (lambda images: rotate(images, math.nan, generator()), "degrees must be finite and not negative, got nan"),
    (lambda images: rotate(images, math.inf, generator()), "degrees must be finite and not negative, got inf"),
    (lambda images: cutout(images, 1.5, generator()), "size must be a whole number of at least 1 pixel, got 1.5"),
    (lambda images: move(images, torch.ones(2), torch.tensor([1, 2])), "down and right must be integers, got torch.float32"),
    (lambda images: turn(images, torch.tensor([1.0, math.nan])), "degrees must be finite, got nan"),
    (lambda images: bilinear(images, torch.ones(1, 3, 3), torch.ones(1, 3, 3)),
     "rows and columns must have one shape (2, H', W'), got (1, 3, 3) and (1, 3, 3)"),
    (lambda images: bilinear(images, torch.ones(1, 3, 3), torch.ones(1, 3, 3), fused=False), "must have one shape (2, H', W')"),
    (lambda images: bilinear(images, torch.ones(2, 3, 3), torch.ones(2, 1, 3)), "got (2, 3, 3) and (2, 1, 3)"),
    (lambda images: bilinear(images, torch.ones(2, 3, 3), math.inf * torch.ones(2, 3, 3)), "columns must be finite, got inf"),
    (lambda images: bilinear(images[0], torch.ones(2, 3, 3), torch.ones(2, 3, 3)), "images must be floating-point numbers"),
    (lambda images: rotate(images, -5, generator()), "degrees must be finite and not negative, got -5"),
    (lambda images: cutout(images, 0, generator()), "size must be a whole number of at least 1 pixel, got 0"),
    (lambda images: move(images, torch.tensor([1]), torch.tensor([1, 2])), "down must hold one number for each of the 2"),
    (lambda images: move(images, torch.tensor([1, 2]), torch.tensor(1)), "right must hold one number for each of the 2"),
    (lambda images: turn(images, torch.tensor([[1.0, 2.0]])), "degrees must hold one number for each of the 2"),
])
def test_other_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError) as refused:
        call(draw(batch=2))
    assert message in str(refused.value)


def test_augmentation_inside_shuffled_batches():
    images, labels = draw(batch=30), torch.arange(30) % 10

    def augment(images, labels, generator):
        return mixup(shift(images, 1, generator), smooth_labels(labels, 10, 0.0), 1.0, generator)

    batches = ShuffledBatches(images, labels, batch_size=10, seed=1, augment=augment)
    mixed, targets = batches(4)
    assert mixed.shape == (10, 2, 9, 11) and targets.shape == (10, 10)
    assert all(torch.equal(a, b) for a, b in zip((mixed, targets), batches(4), strict=True))
