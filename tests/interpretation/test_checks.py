"""The scores of maps by hand; shuffled weights keep their numbers and lose their order."""

import pytest
import torch

from tutorlib.interpretation import share_found, with_shuffled_weights
from tutorlib.models import MLP


def test_share_found_by_hand():
    maps = torch.tensor([[0.1, 0.9, 0.5, 0.2], [0.4, 0.1, 0.2, 0.3]])
    assert share_found(maps, torch.tensor([[1], [1]])).tolist() == [1, 0]
    assert share_found(maps, torch.tensor([[2, 1], [1, 0]])).tolist() == [1, 0.5]


def test_shuffled_weights_are_the_same_numbers_in_another_order():
    torch.manual_seed(0)
    model = MLP((6, 5, 3))
    before = [parameter.clone() for parameter in model.parameters()]
    shuffled = with_shuffled_weights(model, torch.Generator().manual_seed(0))
    for old, now, new in zip(before, model.parameters(), shuffled.parameters(), strict=True):
        assert torch.equal(old, now)
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
    assert not torch.equal(before[0], next(shuffled.parameters()))


def test_only_the_named_weights_are_shuffled():
    torch.manual_seed(0)
    model = MLP((6, 5, 3))
    last = [name for name, _ in model.named_parameters() if name.endswith("weight")][-1]
    shuffled = with_shuffled_weights(model, torch.Generator().manual_seed(0), lambda name: name == last)
    for name, parameter in shuffled.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)) == (name != last)


@pytest.mark.parametrize("call, message", [
    (lambda: share_found(torch.ones(2, 3), torch.zeros(3, 1).long()), "maps must be"),
    (lambda: share_found(torch.ones(2, 3), torch.zeros(2, 4).long()), "maps must be"),
])
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
