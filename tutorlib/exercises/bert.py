"""Exercises of the chapter on BERT."""
import torch
import torch.nn.functional as F

from tutorlib.exercises.sheet import ExerciseSheet, Wrong
from tutorlib.training.losses import NO_CLASS

check = ExerciseSheet()


# 1: masks in a batch

# Each of the 3,200 ordinary tokens is chosen with probability 0.15;
# of the chosen 80 % become [MASK].
MASKS = 32 * (128 - 28) * 0.15 * 0.8


@check.exercise(1, "Count the masks", reference=MASKS, tolerance=1e-6, mistakes=[
    (480.0, "480 tokens are chosen, but not all of them become [MASK]."),
    (491.52, "Special tokens and padding are never chosen."),
    (12.0, "That is one row; the batch has 32."),
    (2560.0, "Only 15 % of the ordinary tokens are chosen at all."),
    (614.4, "Special tokens and padding are never chosen, and only 80 % of the chosen become [MASK]."),
    (0.12, "That is a share of the ordinary tokens; the question asks for a number of tokens."),
])
def check_masks(answer):
    return float(answer)


# 2: the loss

# The loss of all positions is dominated by the 85 % where the answer
# stands in the input.
def masked_loss(logits, labels, tokens):
    chosen = labels != NO_CLASS  # (B, T)
    return F.cross_entropy(logits[chosen], labels[chosen])


def loss_everywhere(logits, labels, tokens):
    return F.cross_entropy(logits.mT, tokens)


def loss_summed(logits, labels, tokens):
    chosen = labels != NO_CLASS
    return F.cross_entropy(logits[chosen], labels[chosen], reduction="sum")


def loss_over_all_positions(logits, labels, tokens):
    return loss_summed(logits, labels, tokens) / labels.numel()


def loss_elsewhere(logits, labels, tokens):
    rest = labels == NO_CLASS
    return F.cross_entropy(logits[rest], tokens[rest])


def loss_by_row(logits, labels, tokens):
    return torch.stack([masked_loss(*row) for row in zip(logits, labels, tokens, strict=True)]).mean()


@check.exercise(2, "Repair the loss", reference=masked_loss, mistakes=[
    (loss_everywhere, "Every position counts here; only those whose label is not NO_CLASS should."),
    (loss_summed, "This is the sum over the chosen positions; the loss is their mean."),
    (loss_over_all_positions, "Divide by the number of chosen positions, not by that of all positions."),
    (loss_elsewhere, "You scored the positions that were not chosen."),
    (loss_by_row, "This is a mean of means: rows with few gaps count as much as rows with many. Take one mean over all gaps."),
])
def check_loss(answer):
    logits = torch.randn(3, 7, 11)  # (B, T, V)
    tokens = torch.randint(11, (3, 7))
    labels = torch.full((3, 7), NO_CLASS)
    for row, place in ((0, 1), (0, 5), (0, 6), (1, 0), (2, 3)):
        labels[row, place] = tokens[row, place]
    return answer(logits, labels, tokens)


# 3: pooling

# The mask becomes weights that sum to one in each row.
def pool(states, attention_mask):
    weights = attention_mask / attention_mask.sum(1, keepdim=True)  # (B, T)
    return (weights.unsqueeze(-1) * states).sum(1)  # (B, D)


def pool_all(states, attention_mask):
    return states.mean(1)


def pool_over_length(states, attention_mask):
    return (attention_mask.unsqueeze(-1) * states).mean(1)


def pool_sum(states, attention_mask):
    return (attention_mask.unsqueeze(-1) * states).sum(1)


def pool_first(states, attention_mask):
    return states[:, 0]


def pool_whole_batch(states, attention_mask):
    return (attention_mask.unsqueeze(-1) * states).sum(1) / attention_mask.sum()


@check.exercise(3, "Pool real tokens", reference=pool, mistakes=[
    (pool_all, "Padding is part of your mean: leave out states whose attention_mask is 0."),
    (pool_over_length, "You divide by the padded length T; divide by the number of real tokens of each row."),
    (pool_sum, "This is the sum; divide it by the number of real tokens of each row."),
    (pool_first, "This is the state of the first token, [CLS]; the mean over all real tokens is asked for."),
    (pool_whole_batch, "Divide each row by its own number of real tokens, not by that of the whole batch."),
])
def check_pool(answer):
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])  # (B, T)
    pooled = answer(torch.randn(3, 5, 4), mask)
    if pooled.shape == (3, 5):
        raise Wrong("The result should be (B, D): the mean is over the tokens, dimension 1, not over the width.")
    return pooled


# 4: parameters

# A norm has two vectors of D; the feed-forward network has biases
# of hidden and of D.
def count(V, max_length, token_types, D, hidden, layers):
    embeddings = (V + max_length + token_types) * D + 2 * D
    layer = 4 * (D * D + D) + 2 * D * hidden + hidden + D + 4 * D
    return embeddings + layers * layer


def count_without(what):
    def wrong(V, max_length, token_types, D, hidden, layers):
        missing = {"biases": layers * (5 * D + hidden), "layer norms": layers * 4 * D, "first norm": 2 * D,
                   "norms": layers * 4 * D + 2 * D, "output projection": layers * (D * D + D), "types": token_types * D,
                   "positions": max_length * D, "norm shifts": layers * 2 * D + D}[what]
        return count(V, max_length, token_types, D, hidden, layers) - missing
    return wrong


def count_with_head(V, max_length, token_types, D, hidden, layers):
    return count(V, max_length, token_types, D, hidden, layers) + D * D + D


@check.exercise(4, "Count the parameters", reference=count, mistakes=[
    (count_without("biases"), "Every linear map has a bias: four of D in attention, one of hidden and one of D behind it."),
    (count_without("layer norms"), "Each layer has two norms, with a scale and a shift of D each."),
    (count_without("first norm"), "There is a norm behind the embeddings too."),
    (count_without("norms"), "A norm has a scale and a shift of D; there are two in a layer and one behind the embeddings."),
    (count_without("norm shifts"), "A norm has a scale and a shift: 2 D."),
    (count_without("output projection"), "Attention has four projections: query, key, value and output."),
    (count_without("types"), "The token types have an embedding as well."),
    (count_without("positions"), "The positions are learned: max_length rows of D."),
    (count_with_head, "That includes a pooler or a head, D^2 + D; the encoder alone is asked for."),
])
def check_count(answer):
    return [int(answer(*sizes)) for sizes in ((30522, 512, 2, 768, 3072, 12), (50, 7, 3, 12, 40, 2))]


# 5: the lazy model

# It is right in 6 % of the 80 % that show [MASK], and in the tenth that was kept.
LAZY = 0.8 * 0.06 + 0.1


@check.exercise(5, "Guess without context", reference=LAZY, tolerance=1e-3, mistakes=[
    (0.048, "Where it sees a word it says that word, and for a tenth of the chosen tokens that is right."),
    (0.1, "Where it sees [MASK] it says the most frequent word, which is right in 6 % of these cases."),
    (0.06, "Treat the three cases apart: [MASK], a random word, the word itself."),
    (0.248, "A random word is not the answer: only the tenth that was kept is right."),
    (0.16, "It says the frequent word only where it sees [MASK]: weigh the 6 % with 0.8."),
    (14.8, "Give a share between 0 and 1, not a percentage."),
    (0.0222, "The share is asked of the chosen tokens, not of all tokens."),
])
def check_lazy(answer):
    return float(answer)
