import math

import pytest
import torch
from torch.testing import assert_close

from tutorlib.models.bert import BERTConfig, BERTForMaskedLM
from tutorlib.training.losses import NO_CLASS, token_cross_entropy
from tutorlib.training.masking import mask_tokens, masked_cross_entropy

PAD, CLS, SEP, MASK, V = 0, 1, 2, 3, 1000
SPECIAL = (PAD, CLS, SEP, MASK)


def draw(seed=0, share=0.15, shape=(400, 50)):
    tokens = torch.randint(4, V, shape, generator=torch.Generator().manual_seed(99))  # (B, T)
    tokens[:, 0], tokens[:, -1], tokens[::2, -5:] = CLS, SEP, PAD
    generator = torch.Generator().manual_seed(seed)
    return tokens, *mask_tokens(tokens, MASK, V, special=SPECIAL, share=share, generator=generator)


def within(count, trials, share, miss=1e-9):
    """Whether a count lies between the exact binomial quantiles that fair draws leave with probability `miss` a side."""
    k = torch.arange(trials + 1, dtype=torch.float64)
    log_choose = math.lgamma(trials + 1) - torch.lgamma(k + 1) - torch.lgamma(trials - k + 1)
    below = (log_choose + k * math.log(share) + (trials - k) * math.log1p(-share)).exp().cumsum(0)
    low, high = (below < miss).sum(), (below < 1 - miss).sum()
    return low <= count <= high


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_shares_are_those_of_the_paper(share):
    tokens, inputs, labels = draw(share=share)
    chosen = labels != NO_CLASS
    hidden = chosen & (inputs == MASK)
    same = chosen & (inputs == tokens)
    ordinary = int((tokens > MASK).sum())
    n = int(chosen.sum())
    assert within(n, ordinary, share)
    assert within(hidden.sum(), n, 0.8)
    assert within(same.sum(), n, 0.1 + 0.1 / (V - 4))  # a random token is now and then the old one
    assert not within(n, ordinary, share + 0.03) and not within(hidden.sum(), n, 0.9)  # the bounds can fail


def test_special_tokens_and_padding_are_never_chosen_nor_drawn():
    tokens, inputs, labels = draw(share=0.9)
    special = tokens <= MASK
    assert (labels[special] == NO_CLASS).all() and (inputs[special] == tokens[special]).all()
    changed = (inputs != tokens) & (inputs != MASK)
    assert changed.any() and (inputs[changed] > MASK).all()
    assert len(inputs[changed].unique()) > 0.5 * V  # from all over the vocabulary


def test_every_ordinary_token_is_drawn_and_the_share_is_that_of_the_paper_unless_told_otherwise():
    tokens = torch.full((100, 10), 5)
    inputs, labels = mask_tokens(tokens, MASK, 7, special=SPECIAL, generator=torch.Generator().manual_seed(0))
    assert set(inputs.unique().tolist()) == {MASK, 4, 5, 6}
    assert within((labels != NO_CLASS).sum(), 1000, 0.15)
    told = mask_tokens(tokens, MASK, 7, special=SPECIAL, share=0.15, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labels, told[1]) and torch.equal(inputs, told[0])


def test_labels_are_the_chosen_tokens_and_nothing_else_changes():
    tokens, inputs, labels = draw()
    chosen = labels != NO_CLASS
    assert (labels[chosen] == tokens[chosen]).all()
    assert (inputs[~chosen] == tokens[~chosen]).all()


def test_the_generator_decides_and_the_tokens_stay():
    tokens, inputs, labels = draw(seed=3)
    again, same_inputs, same_labels = draw(seed=3)
    assert (tokens == again).all() and (inputs == same_inputs).all() and (labels == same_labels).all()
    assert (labels != draw(seed=4)[2]).any()


@pytest.mark.parametrize("share", [0, 1, -0.1, 15, math.nan])
def test_a_wrong_share_is_refused(share):
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got"):
        mask_tokens(torch.ones(1, 3, dtype=torch.long), MASK, V, special=(), share=share)


def test_a_vocabulary_of_special_ids_is_refused():
    with pytest.raises(ValueError, match="special must leave an ordinary id among the 4, got all"):
        mask_tokens(torch.ones(1, 3, dtype=torch.long), MASK, 4, special=SPECIAL)


def tiny_bert():
    torch.manual_seed(0)
    return BERTForMaskedLM(BERTConfig(vocabulary=V, max_length=50, width=16, num_heads=2, num_layers=1, hidden=32, dropout=0.0))


def test_the_loss_is_that_of_the_full_logits():
    model = tiny_bert()
    tokens, inputs, labels = draw(shape=(8, 50))
    keep = (tokens != PAD).long()
    expected = token_cross_entropy(model(inputs, keep), labels, ignore=NO_CLASS)
    loss = masked_cross_entropy(model, (inputs, labels, keep))
    assert_close(loss, expected)
    weight = model.bert.embedding.weight
    assert_close(*(torch.autograd.grad(value, weight)[0] for value in (loss, expected)))
    assert (masked_cross_entropy(model, (inputs, labels)) - expected).abs() > 1e-6  # the mask is used


def test_a_batch_without_a_chosen_token_is_refused():
    inputs = torch.ones(2, 5, dtype=torch.long)
    with pytest.raises(ValueError, match="labels: no token was chosen"):
        masked_cross_entropy(tiny_bert(), (inputs, torch.full_like(inputs, NO_CLASS)))


@pytest.mark.parametrize("changed, message", [
    ({"mask": 99}, "mask must lie in [0, 11), the vocabulary, got values from 99 to 99"),
    ({"mask": -1}, "mask must lie in [0, 11), the vocabulary, got values from -1 to -1"),
    ({"special": (0, 11)}, "special must lie in [0, 11), the vocabulary, got values from 0 to 11"),
    ({"special": (0, -1)}, "special must lie in [0, 11), the vocabulary, got values from -1 to 0"),
    ({"tokens": torch.tensor([[4, 11]])}, "tokens must lie in [0, 11), the vocabulary, got values from 4 to 11"),
    ({"tokens": torch.tensor([[4, -1]])}, "tokens must lie in [0, 11), the vocabulary, got values from -1 to 4"),
    ({"tokens": torch.tensor([[4.0, 5.0]])}, "tokens must be integers, got torch.float32"),
    ({"tokens": torch.tensor([[True, False]])}, "tokens must be integers, got torch.bool"),
])
def test_ids_outside_the_vocabulary_are_refused_by_name(changed, message):
    arguments = {"tokens": torch.tensor([[4, 5]]), "mask": MASK, "vocabulary": 11, "special": SPECIAL} | changed
    with pytest.raises(ValueError) as refused:
        mask_tokens(**arguments)
    assert message in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_tokens_may_be_integers_of_any_size(dtype):
    tokens = torch.randint(4, 100, (4, 50))
    results = [mask_tokens(some, MASK, 100, special=SPECIAL, generator=torch.Generator().manual_seed(0))
               for some in (tokens, tokens.to(dtype))]
    assert all(torch.equal(first, second) and second.dtype == torch.int64 for first, second in zip(*results, strict=True))


def test_labels_of_the_masked_loss_may_be_small_integers_and_must_have_the_inputs_shape():
    inputs = torch.randint(4, V, (2, 5))
    expected = masked_cross_entropy(tiny_bert(), (inputs, inputs))
    assert_close(masked_cross_entropy(tiny_bert(), (inputs, inputs.int())), expected)
    with pytest.raises(ValueError, match=r"labels must have the shape \(2, 5\) of the inputs, got \(2, 4\)"):
        masked_cross_entropy(tiny_bert(), (inputs, inputs[:, 1:]))
