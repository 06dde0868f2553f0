"""A language model asked in words: how probable it holds each of the answers that a question allows.

The probability of an answer of several tokens is the product of theirs, each given the question and the tokens before it. So
a longer answer is less probable for its length alone, and one that is frequent anywhere is more probable after any question;
`calibrated` takes the second off (Zhao et al. 2021).
"""

from collections.abc import Iterator, Sequence
from copy import copy

import torch
from torch import Tensor, nn

from tutorlib.arguments import check_counts
from tutorlib.text.vocabulary import pad_right


@torch.no_grad()
def answer_log_probabilities(model: nn.Module, questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *,
                             prefix: Sequence[int] = (), batch_size: int = 32) -> Tensor:
    """ln p(answer | prefix, question) in nats, float32: N questions and A answers as rows of ids -> (N, A).

    The model is causal, with `new_cache`, as `GPT` and `Llama`. It reads `prefix`, what all questions share, once. It is asked
    in evaluation mode and left in the mode it was in. Raises ValueError where there is no question or no answer, for one
    without tokens, and for a `batch_size` below 1.
    """
    check_counts(batch_size=batch_size)
    for name, rows in (("questions", questions), ("answers", answers)):
        if not len(rows) or any(not len(row) for row in rows):
            raise ValueError(f"{name} must be rows of at least one token, at least one row, got "
                             f"{[len(row) for row in rows]}")
    was_training = model.training
    model.eval()
    try:
        found = torch.empty(len(questions), len(answers), device=next(model.parameters()).device)
        stems = {tuple(answer[:-1]): [a for a, other in enumerate(answers) if tuple(other[:-1]) == tuple(answer[:-1])]
                 for answer in answers}  # answers that differ in their last token alone are read off one pass
        for stem, members in stems.items():
            ends = torch.tensor([[*answers[a]] for a in members], device=found.device)  # (members, k)
            for rows, steps in _next_tokens(model, questions, stem, prefix, batch_size):  # (B, k, V)
                chosen = steps.gather(2, ends.T.expand(len(rows), -1, -1))  # (B, k, members)
                found[rows[:, None], torch.tensor(members)] = chosen.sum(1)
    finally:
        model.train(was_training)
    return found


def _next_tokens(model: nn.Module, questions: Sequence[Sequence[int]], stem: tuple[int, ...], prefix: Sequence[int],
                 batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of questions (B,), and ln p of every token (B, k, V) at the end of each, and after each token of the stem."""
    lengths = torch.tensor([len(question) for question in questions])
    device = next(model.parameters()).device
    room = len(prefix) + int(lengths.max()) + len(stem)
    shared = model.new_cache(room) if len(prefix) else None
    if shared is not None:
        model(torch.tensor([[*prefix]], device=device), shared)
    for rows in lengths.argsort(stable=True).split(batch_size):  # of similar lengths: little padding
        inputs = pad_right([[*questions[row], *stem] for row in rows.tolist()]).to(device)  # (B, T)
        cache = None if shared is None else [_repeated(each, len(rows)) for each in shared]
        logits = model(inputs, cache)  # (B, T, V); padding stands at the right, where causal attention never looks
        at = lengths[rows, None] - 1 + torch.arange(len(stem) + 1)  # (B, k)
        yield rows, logits[torch.arange(len(rows))[:, None], at].float().log_softmax(-1)


def _repeated(cache, times: int):
    """A copy for so many rows, which may be written to."""
    other = copy(cache)
    other.reorder(torch.zeros(times, dtype=torch.long))
    return other


def calibrated(log_probabilities: Tensor, content_free: Tensor) -> Tensor:
    """ln p of each answer, less its mean over questions without content: (N, A), (M, A) -> (N, A), each row of sum one.

    After Zhao et al. 2021, who divide by the probabilities that the answers have where the input is "N/A", "[MASK]" or empty;
    here the logarithms are averaged over the M such inputs. Raises ValueError where the answers are not as many, or M is 0.
    """
    if log_probabilities.dim() != 2 or content_free.dim() != 2 or not len(content_free) or (
            log_probabilities.shape[1] != content_free.shape[1]):
        raise ValueError("log_probabilities and content_free must be (N, A) and (M, A) with M at least 1, got "
                         f"{tuple(log_probabilities.shape)} and {tuple(content_free.shape)}")
    return (log_probabilities - content_free.log_softmax(1).mean(0)).log_softmax(1)


def balanced_threshold(scores: Tensor, share: float = 0.5) -> Tensor:
    """The score that the given share of texts exceeds, a scalar: the median where half is of each class.

    scores (N,) of texts without a label; their share must be known from elsewhere. Raises ValueError where there is no score,
    or for a share outside (0, 1).
    """
    if scores.dim() != 1 or not len(scores):
        raise ValueError(f"scores must be (N,) with N at least 1, got {tuple(scores.shape)}")
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    return scores.quantile(1 - share)
