"""Exercises of the chapter on convolution and residual networks."""
import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.layers import receptive_field

check = ExerciseSheet()


# 1: sizes and parameters

def describe(channels, maps, side, kernel_size, stride, padding):
    out = (side + 2 * padding - kernel_size) // stride + 1
    return out, maps * (channels * kernel_size**2 + 1)


def describe_without_bias(channels, maps, side, kernel_size, stride, padding):
    return describe(channels, maps, side, kernel_size, stride, padding)[0], maps * channels * kernel_size**2


def describe_one_side_padded(channels, maps, side, kernel_size, stride, padding):
    return (side + padding - kernel_size) // stride + 1, maps * (channels * kernel_size**2 + 1)


def describe_rounded_up(channels, maps, side, kernel_size, stride, padding):
    return -(-(side + 2 * padding - kernel_size) // stride) + 1, maps * (channels * kernel_size**2 + 1)


def describe_without_padding(channels, maps, side, kernel_size, stride, padding):
    return describe(channels, maps, side, kernel_size, stride, 0)


def describe_without_stride(channels, maps, side, kernel_size, stride, padding):
    return describe(channels, maps, side, kernel_size, 1, padding)


def describe_in_reverse(channels, maps, side, kernel_size, stride, padding):
    return describe(channels, maps, side, kernel_size, stride, padding)[::-1]


def describe_divided(channels, maps, side, kernel_size, stride, padding):
    return (side + 2 * padding - kernel_size) / stride + 1, maps * (channels * kernel_size**2 + 1)


def describe_one_too_few(channels, maps, side, kernel_size, stride, padding):
    return (side + 2 * padding - kernel_size) // stride, maps * (channels * kernel_size**2 + 1)


def describe_one_channel(channels, maps, side, kernel_size, stride, padding):
    return describe(channels, maps, side, kernel_size, stride, padding)[0], maps * (kernel_size**2 + 1)


def describe_biased_per_channel(channels, maps, side, kernel_size, stride, padding):
    return describe(channels, maps, side, kernel_size, stride, padding)[0], maps * channels * (kernel_size**2 + 1)


def describe_a_linear_layer(channels, maps, side, kernel_size, stride, padding):
    out = describe(channels, maps, side, kernel_size, stride, padding)[0]
    return out, (channels * side**2 + 1) * maps * out**2


@check.exercise(1, "Size and count", reference=describe, mistakes=[
    (describe_without_bias, "Each map has one bias."),
    (describe_one_side_padded, "Padding is put on both sides of the image."),
    (describe_without_padding, "The image grows by the padding before the window moves over it."),
    (describe_without_stride, "The window moves by the stride: fewer places fit."),
    (describe_in_reverse, "Give the side first, then the parameters."),
    (describe_rounded_up, "A last step that does not fit is dropped: round down."),
    (describe_divided, "A side is a whole number of pixels: round down."),
    (describe_one_too_few, "Zero steps still leave one place: the first."),
    (describe_one_channel, "A kernel covers all channels of its input."),
    (describe_biased_per_channel, "There is one bias a map, not one for each pair of channel and map."),
    (describe_a_linear_layer, "The weights do not depend on the size of the image: every place shares them."),
])
def check_description(answer):
    return [tuple(answer(3, 64, 224, 7, 2, 3)), tuple(answer(1, 32, 28, 3, 1, 0)), tuple(answer(4, 6, 10, 2, 3, 1))]


# 2: the flip

def true_convolution(images, weight):
    return F.conv2d(images, weight.flip(2, 3))  # both sides of the window, no channels


def not_flipped(images, weight):
    return F.conv2d(images, weight)


def flipped_across(images, weight):
    return F.conv2d(images, weight.flip(3))


def flipped_down(images, weight):
    return F.conv2d(images, weight.flip(2))


def transposed(images, weight):
    return F.conv2d(images, weight.transpose(2, 3))


def flipped_wrong_sides(images, weight):
    return F.conv2d(images, weight.flip(0, 1))


def flipped_everywhere(images, weight):
    return F.conv2d(images, weight.flip(1, 2, 3))


def flipped_images(images, weight):
    return F.conv2d(images.flip(2, 3), weight)


def flipped_by_transposed_kernel(images, weight):
    return F.conv_transpose2d(images, weight.transpose(0, 1))


@check.exercise(2, "A convolution that flips", reference=true_convolution, mistakes=[
    (not_flipped, "This is cross-correlation: the kernel is not flipped."),
    (flipped_across, "The kernel is flipped left to right only. Turn it upside down too."),
    (flipped_down, "The kernel is flipped upside down only. Flip it left to right too."),
    (transposed, "A transposition swaps rows and columns; a flip reverses the order of each."),
    (flipped_wrong_sides, "The first two dimensions are output and input channels; the window has the last two."),
    (flipped_everywhere, "The channels keep their order: flip only the sides of the window."),
    (flipped_images, "Flipping the image turns the output around as well: flip the kernel."),
    (flipped_by_transposed_kernel, "These sums are right, but places where the window leaves the image do not count."),
])
def check_flip(answer):
    return answer(torch.randn(2, 3, 7, 7), torch.randn(4, 3, 3, 3))


# 3: depth and sight

def depth_needed(stride):
    return next(n for n in range(1, 999) if receptive_field([(3, stride)] * n) >= 224)


LAYERS_NEEDED = depth_needed(1), depth_needed(2)  # 1 + 2n, and 2**(n + 1) - 1


@check.exercise(3, "How deep must it be?", reference=LAYERS_NEEDED, mistakes=[
    ((111, 7), "111 layers see 223 pixels: one layer adds two, starting from one."),
    ((113, 7), "112 layers see 225 pixels already: one layer adds two, starting from one."),
    ((224, 7), "A layer of stride 1 adds two pixels to the side, one at each edge."),
    ((75, 7), "Neighboring windows overlap: at stride 1 a layer adds two pixels to the side, not three."),
    ((112, 8), "With stride 2 the field after n layers is 2**(n + 1) - 1 pixels. Seven already see more than 224."),
    ((112, 6), "Six layers of stride 2 see 127 pixels."),
    ((112, 56), "Strides multiply: each layer of stride 2 doubles the step of all that follow."),
    ((112, 112), "With stride 2 the step doubles at every layer."),
    ((7, 112), "Give the pair in the order stride 1, stride 2."),
])
def check_depth(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Give a pair of numbers: layers of stride 1, layers of stride 2.")
    return tuple(answer)


# 4: folding

def fold(weight, gamma, beta, mean, var, eps=1e-5):
    scale = gamma / (var + eps).sqrt()  # (O,)
    return weight * scale.view(-1, 1, 1, 1), beta - scale * mean


def fold_without_root(weight, gamma, beta, mean, var, eps=1e-5):
    scale = gamma / (var + eps)
    return weight * scale.view(-1, 1, 1, 1), beta - scale * mean


def fold_without_eps(weight, gamma, beta, mean, var, eps=1e-5):
    return fold(weight, gamma, beta, mean, var, 0.0)


def fold_eps_outside(weight, gamma, beta, mean, var, eps=1e-5):
    scale = gamma / (var.sqrt() + eps)
    return weight * scale.view(-1, 1, 1, 1), beta - scale * mean


def fold_unscaled_mean(weight, gamma, beta, mean, var, eps=1e-5):
    return fold(weight, gamma, beta, mean, var, eps)[0], beta - mean


def fold_added_mean(weight, gamma, beta, mean, var, eps=1e-5):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), beta + scale * mean


def fold_only_kernel(weight, gamma, beta, mean, var, eps=1e-5):
    return fold(weight, gamma, beta, mean, var, eps)[0], beta


def fold_without_gamma(weight, gamma, beta, mean, var, eps=1e-5):
    return fold(weight, torch.ones_like(gamma), beta, mean, var, eps)


def fold_by_input_channel(weight, gamma, beta, mean, var, eps=1e-5):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(1, -1, 1, 1), beta - scale * mean


def fold_by_column(weight, gamma, beta, mean, var, eps=1e-5):
    scale = gamma / (var + eps).sqrt()
    return weight * scale, beta - scale * mean


@check.exercise(4, "Fold a norm into its convolution", reference=fold, mistakes=[
    (fold_without_root, "The norm divides by the standard deviation: take the root of the variance."),
    (fold_without_eps, "eps is missing: it is added to the variance, under the root."),
    (fold_eps_outside, "eps stands under the root, beside the variance."),
    (fold_unscaled_mean, "The mean is subtracted before the scaling, so it is scaled too."),
    (fold_added_mean, "The norm subtracts the mean: look at the sign in the bias."),
    (fold_only_kernel, "The mean that the norm subtracts must go into the bias."),
    (fold_without_gamma, "The learned scale gamma is missing."),
    (fold_by_input_channel, "The norm acts on output channels, the first dimension of the kernel."),
    (fold_by_column, "The norm acts on output channels, the first dimension of the kernel; here it met the last."),
])
def check_fold(answer):
    weight, gamma, beta, mean = torch.randn(3, 3, 3, 3), torch.rand(3) + 0.5, torch.randn(3), torch.randn(3)
    var = torch.tensor([0.01, 0.7, 2.0])
    kernel, bias = answer(weight.clone(), gamma.clone(), beta.clone(), mean.clone(), var.clone(), 0.01)
    return kernel, bias


# 5: the residual stream

DEVIATIONS = 2.0**10, 21**0.5  # the variance doubles 20 times, or grows by one 20 times


@check.exercise(5, "Why the residual stream explodes", reference=DEVIATIONS, tolerance=1e-3, mistakes=[
    ((2.0**20, 21.0), "These are the variances. The standard deviation is the root."),
    ((2.0**20, 21**0.5), "The first is a variance. The standard deviation is the root."),
    ((2.0**10, 20**0.5), "The stream starts with the variance 1 of x_0; then 20 corrections of variance 1 come."),
    ((2.0**10, 21.0), "The second is a variance. The standard deviation is the root."),
    ((21**0.5, 2.0**10), "Give the pair in the order without norm, with norm."),
    ((2.0**20, 20.0), "Variances of independent terms add up, standard deviations do not: count variance, then take the root."),
    ((2.0**10, 1.0), "The norm is inside f. The stream itself is never normalized, so corrections add up."),
    ((21**0.5, 21**0.5), "Without norm a correction is as large as the stream that it reads, which grows."),
    ((20**0.5, 20**0.5), "Count the variance of x_0 too; and without norm corrections grow with the stream that they read."),
    ((2.0**9.5, 20**0.5), "There are 20 blocks between x_0 and x_20."),
])
def check_deviations(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Give a pair of numbers: the deviation without norm, and with it.")
    # As logarithms, so that both count alike.
    return torch.tensor([float(value) for value in answer], dtype=torch.float64).log()


# 6: confusion

def confusion(labels, predictions, num_classes):
    cells = labels * num_classes + predictions  # (N,): each pair as one number
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def confusion_transposed(labels, predictions, num_classes):
    return confusion(predictions, labels, num_classes)


def confusion_as_shares(labels, predictions, num_classes):
    counts = confusion(labels, predictions, num_classes)
    return counts / counts.sum(1, keepdim=True)


def confusion_overwritten(labels, predictions, num_classes):
    counts = torch.zeros(num_classes, num_classes, dtype=torch.long)
    counts[labels, predictions] += 1
    return counts


def confusion_of_errors(labels, predictions, num_classes):
    return confusion(labels, predictions, num_classes).fill_diagonal_(0)


def confusion_of_present(labels, predictions, num_classes):
    return confusion(labels, predictions, int(max(labels.max(), predictions.max())) + 1)


@check.exercise(6, "A confusion matrix", reference=confusion, mistakes=[
    (confusion_transposed, "Rows are the true classes, columns the predicted ones."),
    (confusion_as_shares, "Count examples; do not divide."),
    (confusion_overwritten, "counts[labels, predictions] += 1 counts a repeated pair only once: use bincount or a loop."),
    (confusion_of_errors, "Right predictions count as well, on the diagonal."),
    (confusion_of_present, "The matrix has num_classes rows and columns, also for classes that do not occur."),
])
def check_confusion(answer):
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predictions = torch.tensor([0, 1, 1, 1, 0, 2, 2, 0, 2])
    return torch.as_tensor(answer(labels, predictions, 4))
