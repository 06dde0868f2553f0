"""A language model asked in words: as one row after the other, with and without a shared prefix."""

import pytest
import torch

from tutorlib.evaluation.asking import answer_log_probabilities, balanced_threshold, calibrated
from tutorlib.models import GPT, Llama
from tutorlib.models.gpt import GPTConfig
from tutorlib.models.llama import LlamaConfig

QUESTIONS = [[5, 6], [7], [8, 9, 10, 11, 12], [6, 5, 4]]
ANSWERS = [[1], [2, 3], [4], [2, 9], [2, 9, 1]]


@pytest.fixture(params=["gpt", "llama"])
def model(request):
    torch.manual_seed(0)
    if request.param == "gpt":
        made = GPT(GPTConfig(vocabulary=20, max_length=32, width=16, num_heads=2, num_layers=2, dropout=0.3))
    else:
        made = Llama(LlamaConfig(vocabulary=20, max_length=32, width=16, num_heads=2, num_key_value_heads=1, num_layers=2,
                                 hidden=32))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@torch.no_grad()
def one_by_one(model, questions, answers, prefix=()):
    """Each answer token's logarithm, read off one unpadded row."""
    table = []
    for question in questions:
        table.append([])
        for answer in answers:
            row = torch.tensor([[*prefix, *question, *answer]])
            steps = model(row).log_softmax(-1)[0]  # (T, V)
            table[-1].append(sum(steps[len(prefix) + len(question) + k - 1, token] for k, token in enumerate(answer)))
    return torch.tensor(table)


@pytest.mark.parametrize("prefix", [(), (3, 4, 5, 6)])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_as_one_row_after_the_other(model, prefix, batch_size):
    found = answer_log_probabilities(model, QUESTIONS, ANSWERS, prefix=prefix, batch_size=batch_size)
    torch.testing.assert_close(found, one_by_one(model.eval(), QUESTIONS, ANSWERS, prefix), rtol=1e-4, atol=1e-4)


def test_the_next_tokens_sum_to_one_and_the_mode_stays(model):
    model.train()
    found = answer_log_probabilities(model, QUESTIONS, [[token] for token in range(20)])
    assert model.training and found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(1), torch.ones(4))


def test_calibration_takes_off_what_is_said_without_content():
    found = torch.tensor([[-1.0, -3.0], [-2.0, -1.0]])
    free = torch.tensor([[-5.0, -4.0], [-7.0, -8.0]])
    after = calibrated(found, free)
    odds = (found[:, 0] - found[:, 1]) - (free[:, 0] - free[:, 1]).mean()
    torch.testing.assert_close(after[:, 0] - after[:, 1], odds)
    torch.testing.assert_close(after.exp().sum(1), torch.ones(2))
    torch.testing.assert_close(calibrated(free, free[:1])[0].exp(), torch.tensor([0.5, 0.5]))  # it says nothing itself


def test_the_threshold_leaves_the_share_above():
    scores = torch.arange(10.0)
    assert (scores > balanced_threshold(scores)).sum() == 5
    assert (scores > balanced_threshold(scores, 0.2)).sum() == 2


def test_refusals(model):
    for questions, answers, name in (([], [[1]], "questions"), ([[1]], [], "answers"), ([[1], []], [[1]], "questions"),
                                     ([[1]], [[]], "answers")):
        with pytest.raises(ValueError, match=f"{name} must be rows of at least one token"):
            answer_log_probabilities(model, questions, answers)
    with pytest.raises(ValueError, match="batch_size"):
        answer_log_probabilities(model, [[1]], [[1]], batch_size=0)
    for first, second in ((torch.zeros(2, 2), torch.zeros(1, 3)), (torch.zeros(2, 2), torch.zeros(0, 2)),
                          (torch.zeros(2), torch.zeros(1, 2))):
        with pytest.raises(ValueError, match="content_free must be"):
            calibrated(first, second)
    with pytest.raises(ValueError, match=r"scores must be \(N,\)"):
        balanced_threshold(torch.zeros(0))
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1"):
        balanced_threshold(torch.zeros(3), 1)
