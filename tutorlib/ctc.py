"""Connectionist temporal classification: letters out of frames when nobody says which frame belongs to which letter.

A network gives each of T frames a probability for every letter and for the **blank**, which is number 0. A path is one choice a
frame; it spells what is left after equal neighbors are made one and blanks are dropped. The probability of a text is the sum
over all paths that spell it (Graves et al. 2006). Everything here is in logarithms.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BLANK = 0
NEVER = -1e30  # instead of -inf, whose gradient is no number


def collapse(path: Sequence[int]) -> list[int]:
    """What a path spells: equal neighbors made one, then the blanks dropped."""
    return [symbol for place, symbol in enumerate(path) if symbol != BLANK and (place == 0 or symbol != path[place - 1])]


def with_blanks(targets: Tensor) -> Tensor:
    """Targets (..., L) -> states (..., 2L + 1): a blank before, between and after the letters."""
    states = targets.new_full((*targets.shape[:-1], 2 * targets.size(-1) + 1), BLANK)
    states[..., 1::2] = targets
    return states


def ctc_loss(log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """-log of the probability of each text: log_probs (B, T, V), targets (B, L), lengths (B,) and (B,) -> (B,).

    What lies behind the lengths does not count. Infinite where a text needs more frames than there are, one a letter and
    one more, a blank, between two equal ones. Equal to `torch.nn.functional.ctc_loss`, which trains faster.
    Raises ValueError for letters that are blanks or out of range, and for lengths that the tensors have not.
    """
    _check(log_probs, targets, lengths, target_lengths)
    states = with_blanks(targets)  # (B, S)
    emit = log_probs.gather(2, states[:, None].expand(-1, log_probs.size(1), -1))  # (B, T, S)
    skip = _may_skip(states)
    first = torch.arange(states.size(1), device=states.device) < 2  # a path begins with the blank or the first letter
    alpha = emit[:, 0].masked_fill(~first, NEVER)  # (B, S)
    for t in range(1, log_probs.size(1)):
        alpha = torch.where((t < lengths)[:, None], _ways(alpha, skip).logsumexp(0) + emit[:, t], alpha)
    last = 2 * target_lengths[:, None]  # the final blank; the state before it is the last letter
    letter = alpha.gather(1, (last - 1).clamp(min=0)).masked_fill(last == 0, NEVER)
    total = torch.cat([alpha.gather(1, last), letter], 1).logsumexp(1)
    return torch.where(total < NEVER / 2, math.inf, -total)  # (B,)


def align(log_probs: Tensor, target: Sequence[int]) -> Tensor:
    """The one most probable path that spells `target`: log_probs (T, V) -> states (T,), numbers of `with_blanks(target)`.

    The recursion of the loss with max in place of the sum (Viterbi): state 2i + 1 is letter i, an even one a blank.
    Raises ValueError where the text does not fit into the frames.
    """
    states = with_blanks(torch.as_tensor(target, dtype=torch.long))  # (S,)
    skip, best = _may_skip(states), log_probs.new_full(states.shape, NEVER)
    best[:2], came = log_probs[0, states[:2]], []
    for frame in log_probs[1:]:
        highest, which = _ways(best, skip).max(0)
        best, came = highest + frame[states], came + [which]
    state = len(states) - 1 if len(states) == 1 or best[-1] > best[-2] else len(states) - 2
    if best[state] < NEVER / 2:
        raise ValueError(f"target must fit into the frames, got {len(target)} letters for {len(log_probs)} frames")
    path = [state]
    for which in reversed(came):
        path.append(path[-1] - int(which[path[-1]]))
    return torch.tensor(path[::-1])


def greedy_letters(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """The text of the most probable path, which need not be the most probable text: (B, T, V), (B,) -> B lists of ids."""
    best = log_probs.argmax(-1).tolist()
    return [collapse(path[:length]) for path, length in zip(best, lengths.tolist(), strict=True)]


def spot(log_probs: Tensor, keyword: Sequence[int]) -> Tensor:
    """How well the `keyword` ends at each frame: log_probs (..., T, V) -> scores (..., T), at most 0.

    The best path through its letters, from any frame on, each frame paid for by what it is less probable than the frame's most
    probable symbol: 0 where the most probable path spells the keyword. Raises ValueError for an empty keyword.
    """
    if not len(keyword):
        raise ValueError("keyword must have at least one letter, got none")
    states = with_blanks(torch.as_tensor(keyword))[1:-1]  # (S,), from the first letter to the last
    skip = _may_skip(states)
    paid = (log_probs - log_probs.amax(-1, keepdim=True))[..., states]  # (..., T, S)
    best, scores = torch.full_like(paid[..., 0, :], NEVER), []
    for frame in paid.unbind(-2):
        best = _ways(best, skip).amax(0)
        best[..., 0] = 0  # the keyword may begin here
        best = best + frame
        scores.append(best[..., -1])
    return torch.stack(scores, -1)


def _may_skip(states: Tensor) -> Tensor:
    """Where a path may come from two states before: into a letter that differs from the letter before it."""
    before = torch.cat([states.new_full((*states.shape[:-1], 2), BLANK), states[..., :-2]], -1)[..., :states.size(-1)]
    return (states != BLANK) & (states != before)


def _ways(alpha: Tensor, skip: Tensor) -> Tensor:
    """The values from which each state (..., S) can be reached, (3, ..., S): its own, one before, two before where it may."""
    return torch.stack([alpha, _shifted(alpha, 1), _shifted(alpha, 2).masked_fill(~skip, NEVER)])


def _shifted(alpha: Tensor, by: int) -> Tensor:
    """Each state's value moved `by` states to the right: what comes from there."""
    return torch.cat([alpha.new_full((*alpha.shape[:-1], by), NEVER), alpha[..., :-by]], -1)[..., :alpha.size(-1)]


def _check(log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> None:
    if log_probs.dim() != 3 or targets.dim() != 2 or len(targets) != len(log_probs):
        raise ValueError("log_probs must be (B, T, V) and targets (B, L), got "
                         f"{tuple(log_probs.shape)}, {tuple(targets.shape)}")
    used = torch.arange(targets.size(1), device=targets.device) < target_lengths[:, None]
    if (used & ((targets <= BLANK) | (targets >= log_probs.size(2)))).any():
        raise ValueError(f"targets must be letters from 1 to {log_probs.size(2) - 1}, got {targets[used].tolist()}")
    for name, given, most in (("lengths", lengths, log_probs.size(1)), ("target_lengths", target_lengths, targets.size(1))):
        if given.shape != (len(log_probs),) or (given < (name == "lengths")).any() or (given > most).any():
            raise ValueError(f"{name} must be {len(log_probs)} numbers of at most {most}, got {given.tolist()}")
