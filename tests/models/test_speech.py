"""The recognizer and the speaker: shapes, what padding changes, and that each learns one example."""

import pytest
import torch

from tutorlib.ctc import greedy_letters
from tutorlib.models import Recognizer, Speaker
from tutorlib.training.reading import (
    even_loss,
    letter_durations,
    reading_loss,
    speaking_loss,
    steps_in,
)


def small_recognizer():
    torch.manual_seed(0)
    return Recognizer(mels=8, symbols=5, width=16)


@pytest.mark.parametrize("frames", [1, 2, 9, 10])
def test_a_step_is_two_frames(frames):
    out = small_recognizer()(torch.randn(2, frames, 8))
    assert out.shape == (2, int(steps_in(torch.tensor(frames))), 5)
    assert torch.allclose(out.exp().sum(-1), torch.ones(out.shape[:2]), atol=1e-5)


def test_a_step_sees_what_is_near_and_no_more():
    model, mel = small_recognizer(), torch.randn(1, 200, 8)
    other = mel.clone()
    other[:, 100] += 5
    moved = (model(mel) != model(other)).any(-1)[0].nonzero()[:, 0]
    assert moved.min() >= 50 - 15 and moved.max() <= 50 + 15 and len(moved) >= 25  # 2 (1 + 2 + 4) steps and a half


def learn(model, loss, batch, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        optimizer.step()
    return value.item()


def test_the_recognizer_overfits_one_batch():
    model = small_recognizer()
    batch = (torch.randn(2, 40, 8), torch.tensor([40, 30]), torch.tensor([[1, 2, 2, 4], [3, 1, 0, 0]]), torch.tensor([4, 2]))
    first = reading_loss(model, batch).item()
    assert learn(model, reading_loss, batch, 250) < 0.05 * first
    assert greedy_letters(model(batch[0]).detach(), steps_in(batch[1])) == [[1, 2, 2, 4], [3, 1]]
    durations = letter_durations(model, batch[0][0], [1, 2, 2, 4])
    assert durations.sum() == 40 and durations.min() >= 1 and len(durations) == 4


def test_the_even_loss_tells_each_step_its_letter():
    class Fixed(torch.nn.Module):
        def forward(self, mel):
            told = torch.tensor([[1, 1, 2, 2, 3], [4, 4, 4, 0, 0]])
            return (50.0 * torch.nn.functional.one_hot(told, 5)).log_softmax(-1)

    batch = (torch.zeros(2, 10, 8), torch.tensor([10, 6]), torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]))
    assert even_loss(Fixed(), batch).item() == pytest.approx(0, abs=1e-5)
    wrong = (batch[0], batch[1], torch.tensor([[1, 3, 2], [4, 0, 0]]), batch[3])
    assert even_loss(Fixed(), wrong) > 5


def test_the_speaker_learns_one_utterance_and_its_lengths():
    torch.manual_seed(0)
    model, letters, durations = Speaker(mels=8, symbols=5, width=16), torch.tensor([1, 2, 3]), torch.tensor([3, 5, 4])
    batch = [(letters, durations, torch.randn(12, 8))]
    first = speaking_loss(model, batch).item()
    assert learn(model, speaking_loss, batch, 150) < 0.2 * first
    mel, lasting = model(letters)
    assert mel.shape == (12, 8) and lasting.exp().round().tolist() == [3, 5, 4]
    assert model(letters, torch.tensor([1, 1, 1]))[0].shape == (3, 8)


@pytest.mark.parametrize("call, message", [
    (lambda: small_recognizer()(torch.zeros(3, 8)), r"mel must be \(B, T, 8\) with T at least 1, got \(3, 8\)"),
    (lambda: small_recognizer()(torch.zeros(1, 3, 9)), r"mel must be \(B, T, 8\) with T at least 1, got \(1, 3, 9\)"),
    (lambda: Speaker()(torch.zeros(0, dtype=torch.long)), r"letters must be \(L,\) with L at least 1, got \(0,\)"),
    (lambda: Speaker()(torch.tensor([1, 2]), torch.tensor([1, 0])), r"durations must be 2 numbers of at least 1, got \[1, 0\]"),
    (lambda: Recognizer(width=0), "width must be at least 1, got 0")])
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_blanks_between_two_letters_are_halved():
    class Fixed(torch.nn.Module):
        def forward(self, mel):
            path = torch.tensor([[0, 1, 0, 0, 0, 2, 2, 0, 3, 0]])
            return (50.0 * torch.nn.functional.one_hot(path, 5)).log_softmax(-1)

    assert letter_durations(Fixed(), torch.zeros(20, 8), [1, 2, 3]).tolist() == [7, 8, 5]  # steps 1, 5 and 6, 8 of ten
