"""ResNet, from the library transformers."""

import itertools
import re
from collections.abc import Mapping

from torch import Tensor, nn

from tutorlib.models.resnet import ResNet
from tutorlib.pretrained.huggingface.config import require
from tutorlib.pretrained.weights import fill, refusal, rename

TABLE = {  # of what `in_one_row` makes
    "resnet.embedder.embedder.convolution": "stem.convolution",
    "resnet.embedder.embedder.normalization": "stem.norm",
    "resnet.encoder.blocks.{}.layer.{}.convolution": "blocks.{}.correction.{}.convolution",
    "resnet.encoder.blocks.{}.layer.{}.normalization": "blocks.{}.correction.{}.norm",
    "resnet.encoder.blocks.{}.shortcut.convolution": "blocks.{}.shortcut.convolution",
    "resnet.encoder.blocks.{}.shortcut.normalization": "blocks.{}.shortcut.norm",
    "classifier.1": "output",  # behind a layer that flattens
}
LEFT_BEHIND = tuple(f"{theirs}.num_batches_tracked" for theirs, ours in TABLE.items() if ours.endswith("norm"))


def in_one_row(theirs: Mapping[str, Tensor], depths: list[int]) -> dict[str, Tensor]:
    """The tensors with their blocks numbered through all stages, as ours are: stage 1, block 0 follows the last of stage 0."""
    first = [0, *itertools.accumulate(depths)]  # the number of each stage's first block

    def number(match: re.Match) -> str:
        return f"blocks.{first[int(match[1])] + int(match[2])}."

    return {re.sub(r"stages\.(\d+)\.layers\.(\d+)\.", number, name): tensor for name, tensor in theirs.items()}


def convert_resnet(model: nn.Module) -> ResNet:
    require(model, hidden_act="relu", downsample_in_first_stage=False, downsample_in_bottleneck=False)
    config = model.config
    if config.num_labels < 1:
        raise refusal(model, "num_labels", config.num_labels, "at least one class")
    weights = rename(in_one_row(model.state_dict(), config.depths), TABLE, LEFT_BEHIND)
    return fill(lambda: ResNet(config.depths, config.hidden_sizes, num_classes=config.num_labels,
                               in_channels=config.num_channels, stem_width=config.embedding_size,
                               bottleneck=config.layer_type == "bottleneck"), weights)
