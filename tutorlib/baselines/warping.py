"""Dynamic time warping: how far two recordings are apart when either may be stretched (Sakoe and Chiba 1978)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

FAR = 1e30


def halve(mel: Tensor) -> Tensor:
    """Log mel (T, M) -> (T / 2, M): two frames made one."""
    return mel[:len(mel) // 2 * 2].unflatten(0, (-1, 2)).mean(1)


def sketch(mel: Tensor) -> Tensor:
    """`halve`, less the mean of each band, so that a voice's tint falls out."""
    halved = halve(mel)
    return halved - halved.mean(0)


def warped_distances(one: Tensor, templates: Sequence[Tensor]) -> Tensor:
    """Of a recording (T, M) from N templates (S, M): (N,), the cheapest path's distances, divided by both lengths.

    A path goes from both beginnings to both ends by steps in one or the other or, counted twice, in both. It is computed one
    antidiagonal after the other, for all templates at once. Raises ValueError where there are no templates.
    """
    if not len(templates):
        raise ValueError("templates must be at least one, got none")
    lengths = torch.tensor([*map(len, templates)])
    apart = torch.cdist(pad_sequence(list(templates), batch_first=True).to(one), one)  # (N, S, T)
    count, rows, columns = apart.shape
    leaning = apart.new_full((count, rows, rows + columns), FAR)  # cell (i, j) in column i + j
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    leaning[:, i, i + j] = apart
    before, last = apart.new_full((count, rows), FAR), leaning[:, :, 0]  # cost up to the antidiagonals k - 2 and k - 1
    found = torch.where((lengths == 1) & (columns == 1), last[:, 0], torch.full_like(last[:, 0], FAR))
    for k in range(1, rows + columns - 1):
        step, both = torch.minimum(last, _down(last)), _down(before)
        before, last = last, (leaning[:, :, k] + torch.minimum(step, both + leaning[:, :, k])).clamp(max=FAR)
        ended = lengths - 1 + columns - 1 == k
        found[ended] = last[ended, lengths[ended] - 1]
    return found / (lengths + columns)


def _down(costs: Tensor) -> Tensor:
    """Each row gets the cost of the row above."""
    return torch.cat([torch.full_like(costs[:, :1], FAR), costs[:, :-1]], 1)


def spot_template(stream: Tensor, template: Tensor) -> Tensor:
    """How well a template (S, M) ends at each frame of streams (..., T, M): minus its mean distance on the best path.

    A path may begin anywhere; with each frame of the stream it stays in the template's frame, or goes on by one or by two.
    """
    apart = torch.cdist(stream, template)  # (..., T, S)
    best, scores = torch.full_like(apart[..., 0, :], FAR), []
    begin = torch.zeros_like(best[..., :1])
    for frame in apart.unbind(-2):
        one = torch.cat([begin, best[..., :-1]], -1)
        two = torch.cat([begin + FAR, begin, best[..., :-2]], -1)[..., :best.size(-1)]
        best = torch.minimum(torch.minimum(best, one), two) + frame
        scores.append(-best[..., -1])
    return torch.stack(scores, -1) / len(template)
