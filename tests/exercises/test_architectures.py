"""The chapter on other architectures: what two mirrors do, checked by counting a row of digits."""
import torch

from tutorlib.exercises.architectures import delta_step, two_mirrors


def test_two_mirrors_count_modulo_three():
    digits = [1, 2, 2, 0, 1, 1, 1, 2]
    state, corners = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    turned = []
    for digit in digits:
        for key in two_mirrors(digit):
            state = delta_step(state, key, torch.zeros(1), 2.0)
        turned.append(int((corners @ state).argmax()))
    assert turned == [sum(digits[:t + 1]) % 3 for t in range(8)]
