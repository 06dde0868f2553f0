"""The feed-forward networks."""

import pytest
import torch

from tests.closeness import assert_same
from tutorlib.layers import FeedForward, GatedFeedForward


def test_the_gated_network_is_its_formula():
    torch.manual_seed(0)
    network, states = GatedFeedForward(6, 10), torch.randn(2, 3, 6)
    gate, expand = states @ network.gate.weight.T, states @ network.expand.weight.T
    assert_same(network(states), (gate * gate.sigmoid() * expand) @ network.contract.weight.T)
    assert not [name for name, _ in network.named_parameters() if name.endswith("bias")]
    with pytest.raises(ValueError, match="activation must be one of .*, got 'swiglu'"):
        GatedFeedForward(6, 10, activation="swiglu")


@pytest.mark.parametrize("make", [FeedForward, GatedFeedForward])
@pytest.mark.parametrize("sizes, name", [((0, 4), "width"), ((4, 0), "hidden"), ((4, -1), "hidden"), ((4.0, 4), "width")])
def test_sizes_are_whole_and_positive(make, sizes, name):
    with pytest.raises(ValueError, match=f"{name} must be (a whole number|at least 1)"):
        make(*sizes)
