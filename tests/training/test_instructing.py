"""Instruction tuning: the answer's tokens are the targets, each at the place before it, and nothing else is."""

import pytest
import torch
import torch.nn.functional as F

from tutorlib.models import GPT, GPTConfig
from tutorlib.training.instructing import answer_batch, answer_loss
from tutorlib.training.losses import NO_CLASS


def test_targets_are_the_answers_one_place_early():
    inputs, targets = answer_batch([[5, 6, 7], [8]], [[1, 2], [3]])
    assert inputs.tolist() == [[5, 6, 7, 1], [8, 0, 0, 0]]
    assert targets.tolist() == [[NO_CLASS, NO_CLASS, 1, 2], [3, NO_CLASS, NO_CLASS, NO_CLASS]]


def test_the_loss_is_that_of_the_answers_alone():
    torch.manual_seed(0)
    model = GPT(GPTConfig(11, 8, width=8, num_heads=2, num_layers=1)).eval()
    prompts, answers = [[5, 6, 7], [8]], [[1, 2], [3, 4, 9]]
    each = []
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = model(torch.tensor([prompt + answer]))[0].log_softmax(-1)
        each += [-logits[len(prompt) + place - 1, token] for place, token in enumerate(answer)]
    assert answer_loss(model, answer_batch(prompts, answers)).item() == pytest.approx(torch.stack(each).mean().item(), abs=1e-5)


def test_it_learns_answers():
    torch.manual_seed(0)
    model = GPT(GPTConfig(11, 8, width=16, num_heads=2, num_layers=1))
    batch = answer_batch([[5, 6, 7], [8, 9]], [[1, 2], [3]])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        answer_loss(model, batch).backward()
        optimizer.step()
    right = (model(batch[0]).argmax(-1) == batch[1]) | (batch[1] == NO_CLASS)
    assert right.all() and F.cross_entropy(model(batch[0])[0, 2:3], torch.tensor([1])) < 0.1


def test_refusals():
    with pytest.raises(ValueError, match="answers must be 2, one a prompt, got 1"):
        answer_batch([[1], [2]], [[3]])
    with pytest.raises(ValueError, match="answers: row 1 is empty"):
        answer_batch([[1], [2]], [[3], []])
    with pytest.raises(ValueError, match="prompts: row 0 is empty"):
        answer_batch([[]], [[3]])
