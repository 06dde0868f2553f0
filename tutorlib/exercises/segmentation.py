"""Exercises of the chapter on segmentation."""
import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.models.unet import unet

check = ExerciseSheet()


# 1: overlap

def overlap(predicted, true):
    both, either = predicted & true, predicted | true  # (H, W) each
    return both.sum() / either.sum()


def of_the_truth(predicted, true):
    return (predicted & true).sum() / true.sum()


def of_the_prediction(predicted, true):
    return (predicted & true).sum() / predicted.sum()


def by_the_sum(predicted, true):
    return (predicted & true).sum() / (predicted.sum() + true.sum())


def dice_score(predicted, true):
    return 2 * (predicted & true).sum() / (predicted.sum() + true.sum())


def share_of_pixels(predicted, true):
    return (predicted == true).float().mean()


@check.exercise(1, "Overlap of two masks", reference=overlap, mistakes=[
    (of_the_truth, "That is recall: a mask that covers everything would get 1. Divide by the pixels in either mask."),
    (of_the_prediction, "That is precision: a mask of one right pixel would get 1. Divide by the pixels in either mask."),
    (by_the_sum, "The pixels in both masks are counted twice below; a perfect mask gets one half."),
    (dice_score, "That is Dice. The union counts the pixels of both masks once."),
    (share_of_pixels, "That is pixel accuracy: the ground counts. Only pixels in one of the masks do."),
])
def check_overlap(answer):
    predicted, true = torch.rand(6, 7) < 0.5, torch.rand(6, 7) < 0.4
    return [answer(predicted, true), answer(true, true)]


# 2: a thicker rim

def rim(mask, width):
    ground = 1.0 - mask[:, None].float()  # (N, 1, H, W)
    near = F.max_pool2d(ground, 2 * width + 1, stride=1, padding=width)[:, 0]
    return mask & (near > 0)


def inside(mask, width):
    return mask & ~rim(mask, width)


def ring_outside(mask, width):
    return rim(~mask, width)


def one_pixel(mask, width):
    return rim(mask, 1)


def steps_aside(mask, width):
    left = mask
    for _ in range(width):
        ground = F.pad(1.0 - left.float(), (1, 1, 1, 1))
        near = ground[:, :-2, 1:-1] + ground[:, 2:, 1:-1] + ground[:, 1:-1, :-2] + ground[:, 1:-1, 2:]
        left = left & (near == 0)
    return mask & ~left


def border_is_ground(mask, width):
    ground = F.pad(1.0 - mask[:, None].float(), (width,) * 4, value=1.0)
    return mask & (F.max_pool2d(ground, 2 * width + 1, stride=1)[:, 0] > 0)


@check.exercise(2, "A thicker rim", reference=rim, mistakes=[
    (inside, "These are the pixels that no ground comes near; the rim is the others."),
    (ring_outside, "These are pixels of the ground. The rim belongs to the object."),
    (one_pixel, "The window must grow with the width: as many pixels on each side."),
    (steps_aside, "Rows and columns count each for itself: one pixel aside and one down is still one away."),
    (border_is_ground, "What lies outside the image is not known to be ground."),
])
def check_rim(answer):
    solid = torch.zeros(1, 9, 10, dtype=torch.bool)
    solid[:, :7, 2:9] = True
    return [answer(solid, 1), answer(solid, 2), answer(torch.rand(2, 9, 10) < 0.95, 2)]


# 3: the U-Net

def segment(model, images):
    x, kept = images, []
    for block in model.down:
        x = block(x)  # (B, C_l, H/2^l, W/2^l)
        kept.append(x)
        x = F.max_pool2d(x, 2)
    for block in model.middle:
        x = block(x)
    for block in model.up:
        doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = block(torch.cat([kept.pop(), doubled], dim=1))
    return model.head(x)  # (B, classes, H, W)


def by(model, images, halve=lambda x: F.max_pool2d(x, 2), double=lambda x: F.interpolate(x, scale_factor=2),
       join=lambda fine, coarse: torch.cat([fine, coarse], dim=1)):
    x, kept = images, []
    for block in model.down:
        x = block(x)
        kept.append(x)
        x = halve(x)
    for block in model.middle:
        x = block(x)
    for block in model.up:
        x = block(join(kept.pop(), double(x)))
    return model.head(x)


def coarse_first(model, images):
    return by(model, images, join=lambda fine, coarse: torch.cat([coarse, fine], dim=1))


def forgotten(model, images):
    return by(model, images, join=lambda fine, coarse: torch.cat([torch.zeros_like(fine), coarse], dim=1))


def tiled(model, images):
    return by(model, images, double=lambda x: x.repeat(1, 1, 2, 2))


def smooth(model, images):
    return by(model, images, double=lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"))


def mean_of_four(model, images):
    return by(model, images, halve=lambda x: F.avg_pool2d(x, 2))


@check.exercise(3, "The U-Net from memory", reference=segment, mistakes=[
    (coarse_first, "What was kept comes first, then what comes from below."),
    (forgotten, "The skips bring zeros: join what was kept on the way down, along the channels."),
    (tiled, "repeat lays copies of the whole map beside each other; each vector must be repeated in its place."),
    (smooth, "Here each vector is repeated, and nothing is computed between two of them."),
    (mean_of_four, "To halve, take the maximum of 2 x 2 pixels, not their mean."),
])
def check_segment(answer):
    return answer(unet(3, widths=(4, 6, 8)).eval(), torch.rand(2, 3, 8, 12))


# 4: from patches to pixels

def to_pixels(vectors, num_classes, patch):
    side = int(vectors.size(1) ** 0.5)  # patches along a side, row by row
    grid = vectors.unflatten(2, (num_classes, patch, patch)).unflatten(1, (side, side))
    grid = grid.permute(0, 3, 1, 4, 2, 5)  # (B, C, side, P, side, P)
    return grid.flatten(4, 5).flatten(2, 3)  # (B, C, side P, side P)


def only_reshaped(vectors, num_classes, patch):
    side = int(vectors.size(1) ** 0.5) * patch
    return vectors.reshape(len(vectors), num_classes, side, side)


def classes_last(vectors, num_classes, patch):
    side = int(vectors.size(1) ** 0.5)
    grid = vectors.unflatten(2, (patch, patch, num_classes)).unflatten(1, (side, side))
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def turned(vectors, num_classes, patch):
    return to_pixels(vectors, num_classes, patch).mT


def rows_of_patches_mixed(vectors, num_classes, patch):
    side = int(vectors.size(1) ** 0.5)
    grid = vectors.unflatten(2, (num_classes, patch, patch)).unflatten(1, (side, side))
    return grid.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


@check.exercise(4, "From patches to pixels", reference=to_pixels, mistakes=[
    (only_reshaped, "A reshape moves no number: split the axes, permute, then join the rows of a patch to its row of patches."),
    (classes_last, "A vector holds P x P pixels of the first class, then of the second: classes come first."),
    (turned, "Rows and columns are exchanged."),
    (rows_of_patches_mixed, "A pixel's row is (row of patches) x P + (row in the patch): the patch's axis comes second."),
])
def check_pixels(answer):
    return answer(torch.randn(2, 9, 2 * 4), 2, 2)  # 3 x 3 patches of 2 x 2 pixels, two classes


# 5: what a miss costs

def drawn(logits, weights, cost):
    p = (logits - weights.log().view(-1, 1, 1)).softmax(1)  # (B, C, H, W)
    return cost * (1 - p[:, 0]) > p[:, 0]


def left_in(logits, weights, cost):
    p = logits.softmax(1)
    return cost * (1 - p[:, 0]) > p[:, 0]


def given_twice(logits, weights, cost):
    return drawn(logits, 1 / weights, cost)


def cost_of_drawing(logits, weights, cost):
    return drawn(logits, weights, 1 / cost)


def whatever_it_costs(logits, weights, cost):
    return drawn(logits, weights, 1.0)


def the_likeliest(logits, weights, cost):
    p = (logits - weights.log().view(-1, 1, 1)).softmax(1)
    return cost * p[:, 1:].amax(1) > p[:, 0]


@check.exercise(5, "What a miss costs", reference=drawn, mistakes=[
    (left_in, "Take the weights back first: these shares are not the pixels' own."),
    (given_twice, "The loss has multiplied the odds by the weights already; divide them out, which in logits is to subtract."),
    (cost_of_drawing, "The cost belongs to a miss: it multiplies the share of the objects, which leaving out would lose."),
    (whatever_it_costs, "Half is the line only where both mistakes cost the same."),
    (the_likeliest, "Whether an object is there asks all their classes together, not the likeliest one."),
])
def check_drawn(answer):
    found = answer(2 * torch.randn(2, 4, 9, 10), torch.tensor([0.1, 1.0, 2.0, 0.5]), 3.0)
    if found.shape != (2, 9, 10):
        raise Wrong("Return one truth value a pixel, (B, H, W).")
    return found
