"""What a recognizer learns from, sound and its letters without their places, and what a speaker learns from."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.ctc import align


def reading_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """CTC: mel (B, T, M), lengths, targets (B, L), target lengths -> mean over texts of the loss a letter, a scalar.

    A text that is longer than its steps has no path and counts as zero.
    """
    mel, lengths, targets, target_lengths = batch
    log_probs = model(mel).transpose(0, 1)  # (T / 2, B, V), as torch wants it
    return F.ctc_loss(log_probs, targets, steps_in(lengths), target_lengths, zero_infinity=True)


def even_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """The control without alignment: the letters are spread evenly over the steps, and each step is told its letter."""
    mel, lengths, targets, target_lengths = batch
    log_probs, steps = model(mel), steps_in(lengths)  # (B, T / 2, V), (B,)
    t = torch.arange(log_probs.size(1), device=mel.device)
    place = (t * target_lengths[:, None] // steps[:, None]).clamp(max=targets.size(1) - 1)  # (B, T / 2)
    told = targets.gather(1, place).masked_fill(t >= steps[:, None], -100)
    return F.nll_loss(log_probs.flatten(0, 1), told.flatten())


def steps_in(lengths: Tensor) -> Tensor:
    """Frames -> steps of the recognizer: half as many, rounded up."""
    return (lengths + 1) // 2


@torch.no_grad()
def letter_durations(recognizer: nn.Module, mel: Tensor, letters: Sequence[int]) -> Tensor:
    """How many of the T frames each letter lasts, (L,): from the best CTC path of the letters over mel (T, M).

    CTC names a letter in a step or two and is blank before and after; the blanks between two letters are halved between them.
    Raises ValueError where the letters do not fit, or a letter would get no frame.
    """
    states = align(recognizer(mel[None])[0], letters)  # (T / 2,), 2i + 1 is letter i
    bounds = [0]
    for place in range(1, len(letters)):
        last = int((states == 2 * place - 1).nonzero()[-1])
        first = int((states == 2 * place + 1).nonzero()[0])
        bounds.append(last + first + 1)  # in frames, twice the middle of the two steps
    durations = torch.tensor([*bounds, len(mel)]).diff()
    if (durations < 1).any():
        raise ValueError(f"letters must have a frame each, got durations {durations.tolist()}")
    return durations


def speaking_loss(model: nn.Module, batch: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Letters (L,), durations (L,), mel (T, M) of some utterances -> mean distance of the mels, and of log durations."""
    losses = []
    for letters, durations, mel in batch:
        heard, lasting = model(letters, durations)
        losses.append((heard - mel).abs().mean() + (lasting - durations.log()).square().mean())
    return torch.stack(losses).mean()
