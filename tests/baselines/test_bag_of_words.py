"""Counting words: weights by hand, runs of words, and a logistic regression that finds the least loss."""

import math

import pytest
import torch
from torch.testing import assert_close

from tutorlib.baselines.bag_of_words import BagOfWords, logistic_regression


def test_the_weights_by_hand():
    bag = BagOfWords(["Good, good film", "a film"], longest=1)
    assert list(bag.column) == ["a", "film", "good"]
    rare = 1 + math.log(3 / 2)
    row = torch.tensor([0, 1, 2 * rare], dtype=torch.float64)  # `film` is in both: ln(3 / 3) = 0
    assert_close(bag(["Good, good film"]).to_dense()[0], row / row.norm())
    assert bag(["never heard of"]).to_dense().tolist() == [[0, 0, 0]]  # nothing is known of it


def test_runs_of_words():
    bag = BagOfWords(["it's not good"])
    assert bag.runs("It's not good") == ["it's", "not", "good", "it's not", "not good"]
    assert len(bag) == 5


def test_the_regression_finds_the_least_loss():
    torch.manual_seed(0)
    features, labels = torch.randn(60, 5, dtype=torch.float64), torch.arange(60) % 2
    weights, bias = logistic_regression(features, labels, 0.01)
    error = torch.sigmoid(features @ weights + bias) - labels
    assert_close(features.T @ error / 60 + 0.02 * weights, torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)
    assert abs(error.mean()) < 1e-6
    sparse = logistic_regression(features.to_sparse(), labels, 0.01)
    assert_close(sparse[0], weights, atol=1e-5, rtol=0)


def test_a_larger_penalty_makes_smaller_weights():
    features, labels = torch.eye(4), torch.tensor([0, 1, 0, 1])
    sizes = [logistic_regression(features, labels, penalty)[0].norm() for penalty in (1e-4, 1e-2, 1.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="texts must hold at least one text"):
        BagOfWords([])
    with pytest.raises(ValueError, match="longest"):
        BagOfWords(["a"], longest=0)
    with pytest.raises(ValueError, match="penalty must be a positive number, got 0"):
        logistic_regression(torch.eye(2), torch.tensor([0, 1]), 0)
