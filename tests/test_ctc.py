"""CTC: the sum over all paths, by hand, by brute force, and as torch computes it."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.ctc import align, collapse, ctc_loss, greedy_letters, spot, with_blanks


def drawn(seed, batch, steps, symbols, letters):
    dice = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, steps, symbols, generator=dice, dtype=torch.float64).requires_grad_()
    targets = torch.randint(1, symbols, (batch, letters), generator=dice)
    return (logits, targets, torch.randint(1, steps + 1, (batch,), generator=dice),
            torch.randint(0, letters + 1, (batch,), generator=dice))


def paths(log_probs, target):
    """Every path that spells the target, with the logarithm of its probability."""
    for path in itertools.product(range(log_probs.size(1)), repeat=len(log_probs)):
        if collapse(path) == list(target):
            yield path, sum(log_probs[t, symbol].item() for t, symbol in enumerate(path))


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 4), steps=st.integers(1, 14), symbols=st.integers(2, 6),
       letters=st.integers(0, 6))
@settings(max_examples=80, deadline=None)
def test_loss_and_gradient_are_torchs(seed, batch, steps, symbols, letters):
    logits, targets, lengths, target_lengths = drawn(seed, batch, steps, symbols, letters)
    log_probs = logits.log_softmax(-1)
    ours = ctc_loss(log_probs, targets, lengths, target_lengths)
    theirs = F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, target_lengths, reduction="none")
    assert torch.allclose(ours, theirs.to(ours), rtol=1e-9, atol=1e-9)
    possible = ours.isfinite()
    if possible.any():
        again = F.ctc_loss(log_probs[possible].transpose(0, 1), targets[possible], lengths[possible], target_lengths[possible],
                           reduction="sum")
        mine, = torch.autograd.grad(ours[possible].sum(), logits, retain_graph=True)
        other, = torch.autograd.grad(again, logits)
        assert torch.allclose(mine, other, atol=1e-9)


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 5), letters=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_loss_is_the_sum_over_all_paths_and_align_finds_the_best(seed, steps, letters):
    logits, targets, _, _ = drawn(seed, 1, steps, 4, letters)
    log_probs, target = logits[0].detach().log_softmax(-1), targets[0].tolist()
    every = dict(paths(log_probs, target))
    loss = ctc_loss(log_probs[None], targets, torch.tensor([steps]), torch.tensor([letters]))
    assert math.exp(-loss.item()) == pytest.approx(sum(map(math.exp, every.values())), abs=1e-12)
    if every:
        states = with_blanks(torch.tensor(target, dtype=torch.long))
        assert tuple(states[align(log_probs, target)].tolist()) == max(every, key=every.get)
    else:
        with pytest.raises(ValueError, match="target must fit into the frames"):
            align(log_probs, target)


def test_all_texts_together_have_probability_one():
    log_probs = drawn(1, 1, 3, 3, 1)[0][0].detach().log_softmax(-1)
    texts = [text for count in range(4) for text in itertools.product((1, 2), repeat=count)]
    total = sum(math.exp(-ctc_loss(log_probs[None], torch.tensor([text], dtype=torch.long).view(1, -1), torch.tensor([3]),
                                   torch.tensor([len(text)])).item()) for text in texts)
    assert total == pytest.approx(1)


def test_a_double_letter_needs_a_blank():
    log_probs = torch.zeros(1, 2, 3, dtype=torch.float64).log_softmax(-1)
    lengths = torch.tensor([2])
    assert ctc_loss(log_probs, torch.tensor([[1, 1]]), lengths, lengths) == math.inf
    assert ctc_loss(log_probs, torch.tensor([[1, 2]]), lengths, lengths) == pytest.approx(math.log(9))


def test_what_lies_behind_the_lengths_does_not_count():
    logits, targets, _, _ = drawn(3, 1, 6, 4, 3)
    log_probs = logits.detach().log_softmax(-1)
    short = ctc_loss(log_probs[:, :4], targets[:, :2], torch.tensor([4]), torch.tensor([2]))
    long = ctc_loss(log_probs, targets, torch.tensor([4]), torch.tensor([2]))
    assert torch.equal(short, long)


def test_collapse_and_greedy():
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2] and collapse([]) == [] and collapse([0, 0]) == []
    best = F.one_hot(torch.tensor([[1, 1, 0, 1], [2, 0, 0, 3]]), 4).float()
    assert greedy_letters(best, torch.tensor([4, 3])) == [[1, 1], [2]]


def test_spot_is_zero_where_the_best_path_spells_the_keyword():
    best = [0, 3, 0, 1, 1, 0, 2, 0, 0, 3]
    log_probs = (5.0 * F.one_hot(torch.tensor(best), 4)).log_softmax(-1)
    scores = spot(log_probs, [1, 2])
    assert scores.argmax() == 6 and scores[6] == 0
    assert (scores[:6] < -4).all() and scores[9] < -4
    assert spot(log_probs, [2, 1]).max() < -4


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_spot_is_the_best_over_all_beginnings(seed, steps):
    log_probs = drawn(seed, 1, steps, 4, 1)[0][0].detach().log_softmax(-1)
    below = log_probs - log_probs.amax(1, keepdim=True)
    found = spot(log_probs, [1, 2])
    for end in range(steps):
        options = [score for start in range(end + 1) for path, score in paths(below[start:end + 1], [1, 2])
                   if path[0] == 1 and path[-1] == 2]
        assert found[end].item() == pytest.approx(max(options)) if options else found[end] < -1e20


def test_spot_takes_streams_side_by_side():
    streams = drawn(5, 3, 9, 4, 1)[0].detach().log_softmax(-1)
    assert torch.equal(spot(streams, [1, 2, 2]), torch.stack([spot(each, [1, 2, 2]) for each in streams]))


@pytest.mark.parametrize("changed, message", [
    ({"targets": torch.tensor([[0]])}, "targets must be letters from 1 to 2, got [0]"),
    ({"targets": torch.tensor([[3]])}, "targets must be letters from 1 to 2, got [3]"),
    ({"lengths": torch.tensor([4])}, "lengths must be 1 numbers of at most 3, got [4]"),
    ({"lengths": torch.tensor([0])}, "lengths must be 1 numbers of at most 3, got [0]"),
    ({"target_lengths": torch.tensor([2])}, "target_lengths must be 1 numbers of at most 1, got [2]"),
    ({"log_probs": torch.zeros(3, 3)}, "log_probs must be (B, T, V) and targets (B, L), got (3, 3), (1, 1)")])
def test_wrong_arguments_are_refused(changed, message):
    import re
    given = dict(log_probs=torch.zeros(1, 3, 3), targets=torch.tensor([[1]]), lengths=torch.tensor([3]),
                 target_lengths=torch.tensor([1]))
    with pytest.raises(ValueError, match=re.escape(message)):
        ctc_loss(**(given | changed))


def test_an_empty_keyword_is_refused():
    with pytest.raises(ValueError, match="keyword must have at least one letter, got none"):
        spot(torch.zeros(3, 3), [])
