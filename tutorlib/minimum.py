"""A smooth convex loss of a few tensors, brought to its minimum: what logistic regressions and probes are fitted by."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def minimize(loss: Callable[[], Tensor], parameters: Sequence[Tensor], *, iterations: int = 200,
             tolerance: float = 1e-7) -> None:
    """Move `parameters`, in place, until no entry of the gradient of `loss()` exceeds the tolerance, or for so many iterations.

    By L-BFGS with a line search (Liu and Nocedal 1989), all of the data at once; a step that changes nothing beyond 1e-9 is the
    last, too.
    """
    optimizer = torch.optim.LBFGS(list(parameters), max_iter=iterations, tolerance_grad=tolerance,
                                  line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)  # records gradients whatever mode is on
