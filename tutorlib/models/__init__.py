"""One architecture a file, each read from top to bottom in one sitting."""

from tutorlib.models.bert import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from tutorlib.models.clip import CLIP, CLIPConfig
from tutorlib.models.convnet import ConvNet
from tutorlib.models.detr import DETR, DETRConfig
from tutorlib.models.diffusion import Denoiser
from tutorlib.models.gpt import GPT, GPTConfig
from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.models.mlp import MLP
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.models.recurrent import RecurrentClassifier
from tutorlib.models.resnet import ResNet
from tutorlib.models.sasrec import SASRec, SASRecConfig
from tutorlib.models.silero import VoiceDetector
from tutorlib.models.speech import Recognizer, Speaker
from tutorlib.models.transformer import Transformer, TransformerConfig
from tutorlib.models.unet import UNet
from tutorlib.models.vae import VAE
from tutorlib.models.vision_language import VisionLanguage
from tutorlib.models.vit import ViT, ViTConfig

__all__ = [
    "BERT",
    "CLIP",
    "DETR",
    "GPT",
    "MLP",
    "VAE",
    "BERTConfig",
    "BERTForMaskedLM",
    "BERTForQuestionAnswering",
    "BERTForSequenceClassification",
    "BERTForTokenClassification",
    "CLIPConfig",
    "ConvNet",
    "DETRConfig",
    "Denoiser",
    "GPTConfig",
    "Llama",
    "LlamaConfig",
    "MobileNetV2",
    "Recognizer",
    "RecurrentClassifier",
    "ResNet",
    "SASRec",
    "SASRecConfig",
    "Speaker",
    "Transformer",
    "TransformerConfig",
    "UNet",
    "ViT",
    "ViTConfig",
    "VisionLanguage",
    "VoiceDetector",
]
