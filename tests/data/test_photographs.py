"""The photographs and class names: all there, labelled, prepared as pretrained networks want them, never imported."""

import sys

import pytest
import torch
import torch.nn.functional as F

from tutorlib import packages
from tutorlib.data import photographs
from tutorlib.data.photographs import MEAN, STD, load_class_names, load_photographs, to_input
from tutorlib.packages import installed_file


def test_twenty_photographs_with_their_labels():
    pictures = load_photographs()
    assert len(pictures) == 20
    assert all(picture.image.dtype == torch.uint8 and picture.image.shape[0] == 3 for picture in pictures)
    names = load_class_names()
    assert [names[picture.label] for picture in pictures[:5]] == ["Bullmastiff", "folding chair", "beaker",
                                                                "horse chestnut seed", "strawberry"]
    from PIL import Image
    with Image.open(installed_file("foolbox", "data/imagenet_04_949.jpg")) as picture:  # PIL counts columns first
        assert pictures[4].image[:, 100, 300].tolist() == list(picture.getpixel((300, 100)))
        assert pictures[4].image.shape[:0:-1] == picture.size
    strawberry = pictures[4].image.float().mean((1, 2))
    assert strawberry[0] > strawberry[1] and strawberry[0] > strawberry[2]  # the first channel is red
    assert not {"foolbox", "open_clip"} & set(sys.modules)


def test_a_thousand_class_names():
    names = load_class_names()
    assert len(names) == 1000 and all(isinstance(name, str) and name for name in names)
    assert names[0] == "tench" and names[340] == "zebra" and names[999] == "toilet paper"


def test_input_is_the_middle_square_normalized():
    """A wide image whose halves differ: left of the middle black, right white."""
    image = torch.zeros(3, 256, 512, dtype=torch.uint8)
    image[:, :, 256:] = 255
    inputs = to_input(image)
    assert inputs.shape == (1, 3, 224, 224)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = inputs[0] * std + mean
    assert pixels[:, :, :112].abs().max() < 1e-5 and (pixels[:, :, 112:] - 1).abs().max() < 1e-5


def test_white_and_black_as_pretrained_networks_know_them(device):
    """Red, green, blue: (1 - 0.485) / 0.229 is 2.2489, -0.485 / 0.229 is -2.1179, and so on."""
    for value, expected in ((255, [2.2489, 2.4286, 2.6400]), (0, [-2.1179, -2.0357, -1.8044])):
        inputs = to_input(torch.full((3, 260, 270), value, dtype=torch.uint8, device=device))
        torch.testing.assert_close(inputs.cpu(), torch.tensor(expected).view(1, 3, 1, 1).expand(1, 3, 224, 224),
                                   atol=1e-4, rtol=0)
    assert to_input(torch.zeros(3, 256, 256, dtype=torch.uint8, device="meta")).device.type == "meta"


@pytest.mark.parametrize(("height", "width"), [(512, 512), (300, 400), (400, 300), (100, 120), (300, 412), (412, 300)])
def test_input_resizes_the_shorter_edge_to_eight_sevenths(height, width):
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scale = 256 / min(height, width)
    resized = F.interpolate(image[None] / 255.0, (round(height * scale), round(width * scale)), mode="bilinear", antialias=True)
    top, left = (resized.shape[2] - 224) // 2, (resized.shape[3] - 224) // 2
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(to_input(image), (resized[..., top : top + 224, left : left + 224] - mean) / std)
    assert to_input(image, side=112).shape == (1, 3, 112, 112)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="The set of photographs comes from the package 'foolbox'"):
        load_photographs()
    with pytest.raises(ModuleNotFoundError, match="The list of class names comes from the package 'open_clip_torch'"):
        load_class_names()


def test_changed_files_are_refused(monkeypatch):
    monkeypatch.setattr(photographs, "SHA256", "0" * 64)
    monkeypatch.setattr(photographs, "NAMES_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="the photographs of foolbox have sha256 .*; expected 000"):
        load_photographs()
    with pytest.raises(ValueError, match="zero_shot_metadata.py has sha256 3bd8ad"):
        load_class_names()


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.int64),
                                   torch.zeros(8, 8, 3, dtype=torch.uint8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
                                   torch.zeros(3, 0, 8, dtype=torch.uint8)])
def test_an_image_of_another_kind_is_refused(image):
    """Values from 0 to 1 would be divided by 255 once more."""
    with pytest.raises(ValueError, match=r"image must be \(3, H, W\) of torch.uint8, got"):
        to_input(image)
