"""Instruction tuning: next-token loss on the answers of a conversation, and not on the questions (Ouyang et al. 2022)."""

from collections.abc import Sequence

from torch import Tensor, nn

from tutorlib.text.vocabulary import pad_right
from tutorlib.training.losses import NO_CLASS, token_cross_entropy


def answer_batch(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids -> inputs (B, T) and targets (B, T): each token of an answer is a target, at the place before its own.

    All other places, of the prompt and of the padding at the right, have the target `NO_CLASS`, which no loss counts.
    Raises ValueError where there is not one answer a prompt, or a row is empty.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"answers must be {len(prompts)}, one a prompt, got {len(answers)}")
    for name, rows in (("prompts", prompts), ("answers", answers)):
        if any(not len(row) for row in rows):
            raise ValueError(f"{name}: row {[len(row) for row in rows].index(0)} is empty; expected at least one token")
    inputs = pad_right([[*prompt, *answer][:-1] for prompt, answer in zip(prompts, answers, strict=True)])  # (B, T)
    targets = pad_right([[NO_CLASS] * (len(prompt) - 1) + list(answer) for prompt, answer in
                         zip(prompts, answers, strict=True)], NO_CLASS)  # (B, T)
    return inputs, targets


def answer_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy in nats a token of the answers, a scalar: the loss that `train` asks of a causal language model."""
    inputs, targets = batch
    return token_cross_entropy(model(inputs), targets)  # logits (B, T, V)
