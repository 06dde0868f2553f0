"""One architecture a file, each read from top to bottom in one sitting."""

from tutorlib.models.convnet import ConvNet
from tutorlib.models.mlp import MLP
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.models.recurrent import RecurrentClassifier
from tutorlib.models.resnet import ResNet
from tutorlib.models.transformer import Transformer, TransformerConfig

__all__ = [
    "MLP",
    "ConvNet",
    "MobileNetV2",
    "RecurrentClassifier",
    "ResNet",
    "Transformer",
    "TransformerConfig",
]
