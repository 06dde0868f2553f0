"""The reversal task."""

import pytest
import torch

from tutorlib.data.reversal import ReversalBatches


def test_batches_are_sequences_and_their_reversal():
    batches = ReversalBatches(num_symbols=5, length=7, batch_size=11)
    source, target, labels = batches(0)
    assert source.shape == (11, 7) and target.shape == labels.shape == (11, 8)
    assert torch.equal(target[:, 1:], source.flip(1)) and torch.equal(labels[:, :-1], source.flip(1))
    assert (target[:, 0] == 1).all() and (labels[:, -1] == 2).all()
    assert source.min() == 3 and source.max() == 7 == batches.vocabulary_size - 1


def test_a_batch_is_a_function_of_seed_and_step():
    batches = ReversalBatches(seed=1)
    later = batches(5).source
    assert torch.equal(batches(5).source, later) and torch.equal(ReversalBatches(seed=1)(5).source, later)
    assert not torch.equal(batches(6).source, later) and not torch.equal(ReversalBatches(seed=2)(5).source, later)


def test_another_seed_is_not_the_next_step_and_batches_follow_the_device():
    assert not torch.equal(ReversalBatches(seed=0)(1).source, ReversalBatches(seed=1)(0).source)
    assert {tensor.device.type for tensor in ReversalBatches(device="meta")(0)} == {"meta"}


@pytest.mark.parametrize("name", ["num_symbols", "length", "batch_size"])
def test_refuses_nothing(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ReversalBatches(**{name: 0})
    with pytest.raises(ValueError, match=f"{name} must be a whole number, got True"):
        ReversalBatches(**{name: True})
