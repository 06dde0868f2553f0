"""A small model that learns what a large one says (Hinton et al. 2015)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers.arguments import check_tokens


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """-Σ q log p a position, its mean, a scalar: q the teacher's probabilities and p the student's, both at a temperature.

    Logits (..., V) each. Times T², so that its gradient is as long as that of hard targets at any temperature (section 2.1).
    Raises ValueError where the shapes differ or the temperature is not above 0.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student and teacher must have one shape, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    q = (teacher.detach().float() / temperature).softmax(-1)  # (..., V)
    log_p = (student.float() / temperature).log_softmax(-1)  # (..., V)
    return -temperature**2 * (q * log_p).sum(-1).mean()


class Distillation:
    """The loss of a student, as `training.train` asks for it: `soft` parts of the teacher's word, the rest of the text's.

    `loss(model, (inputs, targets))`: both models give logits (..., V) of the inputs; targets (...). The teacher is asked
    without gradients and in evaluation mode. With soft = 0 it is not asked at all.
    Raises ValueError for a share `soft` outside [0, 1], a temperature not above 0, and targets outside the vocabulary.
    """

    def __init__(self, teacher: nn.Module, soft: float = 0.5, temperature: float = 1.0):
        if not 0 <= soft <= 1:
            raise ValueError(f"soft must be a share from 0 to 1, got {soft}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.teacher, self.soft, self.temperature = teacher.eval(), soft, temperature

    def __call__(self, model: nn.Module, batch: tuple[Any, Tensor]) -> Tensor:
        """A scalar, in nats a token."""
        inputs, targets = batch
        logits = model(inputs)  # (..., V)
        check_tokens("targets", targets.reshape(1, -1), logits.size(-1))
        hard = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten())
        if self.soft == 0:
            return hard
        with torch.no_grad():
            said = self.teacher(inputs)  # (..., V)
        soft = soft_cross_entropy(logits, said, self.temperature)
        return self.soft * soft + (1 - self.soft) * hard
