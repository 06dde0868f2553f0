"""Hiding tokens for the masked language model, and its loss (Devlin et al. 2019, section 3.1 and appendix A.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutorlib.training.losses import NO_CLASS, token_cross_entropy

HIDDEN, RANDOM = 0.8, 0.1  # of the chosen tokens: become [MASK], become another token; the rest stay as they are


def mask_tokens(tokens: Tensor, mask: int, vocabulary: int, *, special: Sequence[int], share: float = 0.15,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Choose `share` of the tokens for the model to guess: tokens (B, T) -> inputs (B, T), labels (B, T).

    Each token is chosen by a draw of its own, except the `special` ids (padding, marks), which never are. Of the chosen ones
    80 % become `mask`, 10 % a token drawn from the `vocabulary` ids that are not special, 10 % stay. Labels hold the chosen
    tokens and `NO_CLASS` elsewhere. `tokens` are any integers and are left as they are; what is made of them is int64.
    Raises ValueError for a share outside (0, 1), for ids outside the vocabulary, and for a vocabulary of special ids alone.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(f"tokens must be integers, got {tokens.dtype}")
    _check_ids(vocabulary, mask=torch.tensor(mask), special=torch.tensor(list(special), dtype=torch.int64), tokens=tokens)
    tokens = tokens.long()  # labels need room for NO_CLASS
    ordinary = torch.ones(vocabulary, dtype=torch.bool)  # (V,)
    ordinary[list(special)] = False
    words = ordinary.nonzero().flatten().to(tokens.device)  # ids that a random token may be
    if not len(words):
        raise ValueError(f"special must leave an ordinary id among the {vocabulary}, got all of them")

    draw = torch.rand(2, *tokens.shape, generator=generator).to(tokens.device)  # (2, B, T)
    chosen = (draw[0] < share) & ordinary.to(tokens.device)[tokens]  # (B, T)
    others = words[torch.randint(len(words), tokens.shape, generator=generator).to(tokens.device)]  # (B, T)
    inputs = tokens.masked_fill(chosen & (draw[1] < HIDDEN), mask)
    inputs = torch.where(chosen & (draw[1] >= 1 - RANDOM), others, inputs)  # (B, T)
    return inputs, tokens.masked_fill(~chosen, NO_CLASS)


def masked_cross_entropy(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    """Mean cross-entropy in nats a chosen token, a scalar: the loss that `train` asks of a `BERTForMaskedLM`.

    batch = (inputs (B, T), labels (B, T)), and an attention_mask (B, T) if there is padding. Only states of chosen positions go
    through the output layer, which is the dearest part of a small model.
    Raises ValueError where no token was chosen, or where labels and inputs differ in shape.
    """
    inputs, labels, *attention_mask = batch
    if labels.shape != inputs.shape:
        raise ValueError(f"labels must have the shape {tuple(inputs.shape)} of the inputs, got {tuple(labels.shape)}")
    labels = labels.long()  # NO_CLASS has no place among smaller integers
    chosen = labels != NO_CLASS  # (B, T)
    if not chosen.any():
        raise ValueError("labels: no token was chosen; expected at least one, so take a larger batch or share")
    logits = model.predict(model.bert(inputs, *attention_mask)[chosen])  # (chosen, V)
    return token_cross_entropy(logits, labels[chosen])


def _check_ids(vocabulary: int, **ids: Tensor) -> None:
    for name, values in ids.items():
        if values.numel() and not 0 <= values.min() <= values.max() < vocabulary:
            raise ValueError(f"{name} must lie in [0, {vocabulary}), the vocabulary, "
                             f"got values from {values.min()} to {values.max()}")
