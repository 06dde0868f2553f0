"""Parts named by their silhouettes: drawn shapes of any place, size and color."""

import pytest
import torch

from tutorlib.baselines.silhouettes import segment_components, silhouettes
from tutorlib.data.scenes import tight


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A green square and a red bar on gray: the image (1, 3, 20, 20) and its classes (1, 20, 20)."""
    image, classes = torch.full((1, 3, 20, 20), 0.2), torch.zeros(1, 20, 20, dtype=torch.int64)
    image[:, 1, 2:8, 2:8], classes[:, 2:8, 2:8] = 0.9, 1
    image[:, 0, 4:18, 12:15], classes[:, 4:18, 12:15] = 0.9, 2
    return image, classes


@pytest.fixture
def templates():
    """Of a smaller square and a smaller bar, elsewhere."""
    square, bar = torch.zeros(2, 9, 9, dtype=torch.bool)
    square[1:4, 1:4] = bar[1:9, 1:3] = True
    return silhouettes([torch.stack([square, bar])], [torch.tensor([1, 2])])


def test_names_what_it_knows_whatever_the_place_the_size_and_the_color(templates):
    image, classes = scene()
    for changed, truth in ((image, classes), (image.flip(1), classes), (image.roll(2, 3), classes.roll(2, 2))):
        assert torch.equal(segment_components(changed, templates, contrast=0.2, alike=0.1), truth)


def test_noise_and_soft_edges_are_left_out(templates):
    image, classes = scene()
    image[:, :, 19, 0] = 1.0
    image[:, 1, 2:8, 8] = 0.2 + 0.3 * 0.7  # three tenths of the ink
    assert torch.equal(segment_components(image, templates, contrast=0.1, alike=0.3), classes)
    assert segment_components(image, templates, contrast=0.1, alike=0.3, least=1)[0, 19, 0] > 0
    assert not segment_components(image, templates, contrast=2.0, alike=0.3).any()


def test_objects_that_touch_are_apart_if_their_colors_are(templates):
    image, classes = scene()
    image, classes = torch.cat([image[..., :8], image[..., 12:]], 3), torch.cat([classes[..., :8], classes[..., 12:]], 2)
    assert torch.equal(segment_components(image, templates, contrast=0.2, alike=0.1), classes)
    merged = segment_components(image, templates, contrast=0.2, alike=9.0)
    assert torch.equal(merged > 0, classes > 0) and len(merged[merged > 0].unique()) == 1


def test_device_follows(templates, device):
    image, classes = scene()
    known = type(templates)(*(part.to(device) for part in templates))
    named = segment_components(image.to(device), known, contrast=0.2, alike=0.1)
    assert named.device.type == device.type and torch.equal(named.cpu(), classes)


def test_refusals(templates):
    with pytest.raises(ValueError, match="masks must hold at least one object, got none"):
        silhouettes([torch.zeros(0, 3, 3, dtype=torch.bool)], [torch.zeros(0)])
    with pytest.raises(ValueError, match="mask must hold a pixel, got an empty one"):
        tight(torch.zeros(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\), got \(3, 20, 20\)"):
        segment_components(scene()[0][0], templates, contrast=0.2, alike=0.1)
