"""Training: the loop, optimizers, learning-rate schedules, losses, regularization, augmentation, checkpoints."""

from tutorlib.training.checkpoints import load_checkpoint, save_checkpoint
from tutorlib.training.loop import History, train
from tutorlib.training.losses import cross_entropy, token_cross_entropy
from tutorlib.training.masking import mask_tokens, masked_cross_entropy
from tutorlib.training.optimizers import SGD, Adam, AdamW, decay_groups
from tutorlib.training.regularization import EarlyStopping
from tutorlib.training.schedules import constant, warmup_cosine, warmup_inverse_sqrt, warmup_linear

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "EarlyStopping",
    "History",
    "constant",
    "cross_entropy",
    "decay_groups",
    "load_checkpoint",
    "mask_tokens",
    "masked_cross_entropy",
    "save_checkpoint",
    "token_cross_entropy",
    "train",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
