"""Components of one color: linked as a search by hand finds them, and named by the most similar template."""

import torch

from tutorlib.baselines.components import SIDE, Templates, detect_components, fitted, link


def by_search(solid, alike):
    """Numbers by a search from each pixel, given which pixels count and which neighbors are alike."""
    H, W = solid.shape
    number = torch.full((H, W), -1)
    for start in range(H * W):
        if solid.flatten()[start] and number.flatten()[start] < 0:
            waiting = [divmod(start, W)]
            while waiting:
                y, x = waiting.pop()
                if number[y, x] < 0:
                    number[y, x] = start
                    waiting += [(v, u) for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
                                if 0 <= v < H and 0 <= u < W and solid[v, u] and alike(y, x, v, u)]
    return number


def test_components_are_those_that_a_search_finds():
    """Three colors at random on black: long, winding components."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(-3, 4, (6, 16, 16), generator=generator).clamp(min=-1)  # half of it ground
    colors = torch.eye(4, 3)
    colors[3] = torch.tensor([0.5, 0.5, 0.0])
    images = torch.where(kinds[..., None] >= 0, colors[kinds.clamp(min=0)], torch.zeros(3)).permute(0, 3, 1, 2)
    numbers = link(images, contrast=0.2, alike=0.1)
    for number, kind in zip(numbers, kinds, strict=True):
        assert torch.equal(number, by_search(kind >= 0, lambda y, x, v, u, kind=kind: kind[y, x] == kind[v, u]))


def test_light_that_changes_does_not_cut():
    """One color, a quarter as bright on the right as on the left."""
    image = torch.tensor([0.9, 0.3, 0.0]).view(3, 1, 1) * torch.linspace(1, 0.5, 10)
    image = torch.cat([torch.zeros(3, 15, 10), image.expand(3, 5, 10)], 1)  # the ground is the larger part
    number = link(image[None], contrast=0.2, alike=0.1)[0]
    assert (number[15:] == 150).all() and (number[:15] == -1).all()


def test_boxes_labels_and_scores():
    image = torch.zeros(3, 40, 40)
    image[0, 5:15, 10:30] = 1  # a wide red bar
    image[2, 20:36, 2:8] = 1  # a tall blue one
    image[1, 30:32, 30:32] = 1  # too small
    templates = Templates(torch.stack([fitted(torch.ones(20, 10)), fitted(torch.ones(10, 20))]), torch.tensor([4, 7]))
    found, = detect_components(image[None], templates)
    assert found.labels.tolist() == [7, 4]
    expected = torch.tensor([[20, 10, 20, 10], [5, 28, 6, 16]]) / 40
    assert torch.allclose(found.boxes, expected)
    assert 0.8 < found.scores[1] < found.scores[0] <= 1 + 1e-6
    empty, = detect_components(torch.zeros(1, 3, 40, 40), templates)
    assert empty.boxes.shape == (0, 4) and len(empty.labels) == len(empty.scores) == 0


def test_templates_are_in_the_middle_and_of_length_one():
    tall = fitted(torch.ones(30, 15)).view(SIDE, SIDE)
    assert tall.norm().isclose(torch.tensor(1.0)) and torch.allclose(tall, tall.flip(1))
    assert (tall[:, SIDE // 4:-SIDE // 4] > 0).all() and (tall[:, :SIDE // 4] == 0).all()
