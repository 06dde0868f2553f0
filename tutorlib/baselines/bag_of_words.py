"""What counting words gets: texts as weighted counts, and a linear map on top of them.

The weights are tf-idf (Spärck Jones 1972): a word that few texts have says more about the one that has it.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.arguments import check_counts
from tutorlib.minimum import minimize


class BagOfWords:
    """Texts as rows of length 1 that hold, for each word and each run of up to `longest` words, tf-idf:

        count in the text * (1 + ln((1 + N) / (1 + texts that have it)))

    with N the number of texts that it is made of; of what none of these has, nothing is known, and it is left out.
    Raises ValueError where there is no text or `longest` is below 1.
    """

    def __init__(self, texts: Sequence[str], longest: int = 2):
        check_counts(longest=longest)
        if not texts:
            raise ValueError("texts must hold at least one text, got none")
        self.longest = longest
        having = Counter(chain.from_iterable(set(self.runs(text)) for text in texts))
        self.column = {run: column for column, run in enumerate(sorted(having))}
        rarity = [1 + math.log((1 + len(texts)) / (1 + having[run])) for run in self.column]
        self.rarity = torch.tensor(rarity, dtype=torch.float64)

    def __len__(self) -> int:
        """Columns."""
        return len(self.column)

    def runs(self, text: str) -> list[str]:
        """The words, and the runs of them; an apostrophe belongs to its word."""
        words = re.findall(r"\w+(?:['’]\w+)*", text.lower())
        return [" ".join(words[start:start + length]) for length in range(1, self.longest + 1)
                for start in range(len(words) - length + 1)]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """N texts -> a sparse matrix (N, columns) of float64."""
        places, counts = [], []
        for row, text in enumerate(texts):
            for run, count in Counter(self.runs(text)).items():
                if run in self.column:
                    places.append((row, self.column[run]))
                    counts.append(count)
        at = torch.tensor(places, dtype=torch.long).view(-1, 2).T  # (2, entries)
        values = torch.tensor(counts, dtype=torch.float64) * self.rarity[at[1]]  # (entries,)
        squares = torch.zeros(len(texts), dtype=torch.float64).index_add_(0, at[0], values**2)  # (N,)
        size = len(texts), len(self)
        return torch.sparse_coo_tensor(at, values / squares.sqrt()[at[0]], size, check_invariants=True).coalesce()


def logistic_regression(features: Tensor, labels: Tensor, penalty: float, iterations: int = 200) -> tuple[Tensor, Tensor]:
    """The weights (columns,) and the bias that make the mean loss plus penalty * |weights|^2 least, by L-BFGS in float64.

    features (N, columns), sparse or not; labels (N,) of 0 and 1; a text is of class 1 where features @ weights + bias > 0.
    Raises ValueError for a penalty that is not positive (a loss without it may have no least value).
    """
    if not penalty > 0:
        raise ValueError(f"penalty must be a positive number, got {penalty}")
    features, targets = features.double(), labels.double()
    weights = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    minimize(lambda: F.binary_cross_entropy_with_logits(features @ weights + bias, targets) + penalty * weights.square().sum(),
             [weights, bias], iterations=iterations)
    return weights.detach(), bias.detach()
