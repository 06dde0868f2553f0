"""Exercises of the chapter on ViT."""
import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet

check = ExerciseSheet()


# 1: cut and put together

def joined(rows, size):
    # rows (B, n, C P P) in reading order, n a square number -> images (B, C, H, H)
    across = int(rows.size(1) ** 0.5)
    squares = rows.unflatten(2, (-1, size, size)).unflatten(1, (across, across))
    # (B, H/P, H/P, C, P, P) -> (B, C, H/P, P, H/P, P)
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def reshaped(rows, size):
    across = int(rows.size(1) ** 0.5)
    return rows.reshape(len(rows), -1, across * size, across * size)


def columns_first(rows, size):
    across = int(rows.size(1) ** 0.5)
    squares = rows.unflatten(2, (-1, size, size)).unflatten(1, (across, across))
    return squares.permute(0, 3, 2, 4, 1, 5).flatten(4, 5).flatten(2, 3)


def channels_last(rows, size):
    across = int(rows.size(1) ** 0.5)
    squares = rows.unflatten(2, (size, size, -1)).unflatten(1, (across, across))
    return squares.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def turned_inside(rows, size):
    across = int(rows.size(1) ** 0.5)
    squares = rows.unflatten(2, (-1, size, size)).unflatten(1, (across, across)).mT
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


@check.exercise(1, "Put the patches together", reference=joined, mistakes=[
    (reshaped, "reshape alone keeps the order of the numbers. A row of the image runs through several patches: permute first."),
    (columns_first, "The patches lie in the wrong order: they are numbered row by row."),
    (channels_last, "A row holds channel 0 whole, then channel 1: (C, P, P), not (P, P, C)."),
    (turned_inside, "Each patch is turned about its diagonal: inside it the row comes before the column."),
])
def check_joined(answer):
    return answer(torch.randn(2, 9, 3 * 4 * 4), 4)


# 2: count the parameters

def vit_parameters(image, patch, channels, width, layers, classes):
    embedding = (channels * patch**2 + 1) * width  # one matrix and its bias
    tokens = (image // patch) ** 2 + 1
    layer = 12 * width**2 + 13 * width  # weights; 9 D of biases, 4 D of two norms
    head = 2 * width + (width + 1) * classes  # the last norm and the linear map
    return embedding + width + tokens * width + layers * layer + head


def without_the_class_token(image, patch, channels, width, layers, classes):
    return vit_parameters(image, patch, channels, width, layers, classes) - width


def without_its_place(image, patch, channels, width, layers, classes):
    return vit_parameters(image, patch, channels, width, layers, classes) - 2 * width


def a_matrix_for_each_patch(image, patch, channels, width, layers, classes):
    more = ((image // patch) ** 2 - 1) * (channels * patch**2 + 1) * width
    return vit_parameters(image, patch, channels, width, layers, classes) + more


def without_channels(image, patch, channels, width, layers, classes):
    return vit_parameters(image, patch, 1, width, layers, classes)


def without_biases(image, patch, channels, width, layers, classes):
    return vit_parameters(image, patch, channels, width, layers, classes) - 9 * layers * width - width - classes


@check.exercise(2, "Count the parameters", reference=vit_parameters, mistakes=[
    (without_the_class_token, "The class token is learned, too: D numbers."),
    (without_its_place, "2 D are missing: the class token and its own position, or the norm behind the last layer."),
    (a_matrix_for_each_patch, "All patches share one matrix."),
    (without_channels, "A patch has C P P numbers, not P P."),
    (without_biases, "The linear maps have biases: D for the patches, 9 D a layer, one for each class."),
])
def check_parameters(answer):
    return [answer(28, 7, 1, 64, 3, 10), answer(224, 16, 3, 768, 12, 1000)]


# 3: a ViT for shuffled images

def table_for(table, order):
    # table (1 + n, D). Place i of the shuffled image shows patch order[i]
    return torch.cat([table[:1], table[1:][order]])


def as_it_was(table, order):
    return table


def undone(table, order):
    return torch.cat([table[:1], table[1:][order.argsort()]])


def class_token_too(table, order):
    return table[order]


def class_token_last(table, order):
    return torch.cat([table[1:][order], table[:1]])


def off_by_one(table, order):
    return torch.cat([table[:1], table[order]])


@check.exercise(3, "Read shuffled images", reference=table_for, mistakes=[
    (as_it_was, "The patches have moved and their positions have not."),
    (undone, "That is the inverse permutation: place i now shows patch order[i], so it needs that patch's vector."),
    (class_token_too, "Row 0 is the class token's and stays where it is; patch 0 has row 1."),
    (class_token_last, "The class token stays in front."),
    (off_by_one, "Patch number p has row p + 1 of the table."),
])
def check_table(answer):
    order = torch.tensor([3, 1, 4, 8, 5, 0, 2, 7, 6])
    return answer(torch.randn(10, 4), order)


# 4: the rollout of a network that looks nowhere

# a layer is I / 2 + J / 34, where J is all ones. J / 17 times itself is J / 17, so that
# three layers give I / 8 + (1 - 1 / 8) J / 17; on the diagonal
SHARE = 1 / 8 + 7 / 8 / 17


@check.exercise(4, "The rollout of a network that looks nowhere", reference=SHARE, tolerance=0.002, mistakes=[
    (1 / 17, "Half of each layer is the residual path, and that leads from the class token to itself."),
    (1 / 8, "That is the residual path through all three layers. Some of what went elsewhere comes back."),
    ((1 / 2 + 1 / 34) ** 3, "That counts the ways that never leave the class token. It may go to a patch and come back."),
    (1 / 2 + 1 / 34, "That is after one layer; multiply three."),
    (1 / 8 + 1 / 17, "The two shares must sum to 1 over the row: the second is seven eighths of 1/17."),
    (1 / 16 + 15 / 16 / 17, "That is for four layers."),
])
def check_share(answer):
    return answer


# 5: a finer grid

def finer(table, across):
    # table (1 + n, D) -> (1 + across across, D)
    old = int((len(table) - 1) ** 0.5)
    grid = table[1:].T.reshape(1, -1, old, old)  # (1, D, old, old)
    size = (across, across)
    grid = F.interpolate(grid, size, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def one_line(table, across):
    line = F.interpolate(table[1:].T[None], across**2, mode="linear", align_corners=False)
    return torch.cat([table[:1], line[0].T])


def class_token_in_the_line(table, across):
    line = F.interpolate(table.T[None], across**2 + 1, mode="linear", align_corners=False)
    return line[0].T


def mixed_features(table, across):
    old = int((len(table) - 1) ** 0.5)
    grid = table[1:].reshape(1, -1, old, old)
    grid = F.interpolate(grid, (across, across), mode="bilinear", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def repeated(table, across):
    old = int((len(table) - 1) ** 0.5)
    grid = F.interpolate(table[1:].T.reshape(1, -1, old, old), (across, across), mode="nearest")
    return torch.cat([table[:1], grid[0].flatten(1).T])


def without_the_class_token_s(table, across):
    return finer(table, across)[1:]


@check.exercise(5, "More patches than positions", reference=finer, mistakes=[
    (one_line, "You interpolated along the line of patches. The end of a row is no neighbor of the next row's start."),
    (class_token_in_the_line, "Row 0 belongs to the class token, which lies nowhere in the image: leave it as it is."),
    (mixed_features, "Rows of the table are patches, columns features: transpose before you make a grid of it."),
    (repeated, "Interpolate between neighbors, bilinearly, instead of repeating the nearest."),
    (without_the_class_token_s, "The class token's row is missing in front."),
])
def check_finer(answer):
    return answer(torch.randn(10, 6), 5)
