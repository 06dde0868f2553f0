"""The walk over linear layers: every place, each layer once, subclasses left."""

import pytest
import torch
from torch import nn

from tutorlib.layers.linears import replace_linears


class Wrapped(nn.Module):
    """Holds the layer that it replaces, as low-rank additions do."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = layer


def test_every_linear_layer_is_replaced_in_place():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 4)), nn.Conv2d(1, 1, 1))
    layers = [model[0], model[1][1]]
    assert replace_linears(model, Wrapped) is model
    assert [model[0].layer, model[1][1].layer] == layers and isinstance(model[2], nn.Conv2d)


def test_a_model_that_is_a_linear_layer_is_made_itself():
    layer = nn.Linear(2, 2)
    assert replace_linears(layer, Wrapped).layer is layer


def test_a_layer_in_two_places_is_made_once():
    """Under two names in one module, in two modules, and inside of a module that itself stands in two places."""
    shared, made = nn.Linear(2, 2), []
    twice = nn.Sequential(shared, nn.Linear(2, 2), shared)
    model = nn.Sequential(twice, nn.Sequential(shared), twice)

    def make(layer: nn.Linear) -> Wrapped:
        made.append(layer)
        return Wrapped(layer)

    replace_linears(model, make)
    assert made == [shared, twice[1].layer]
    assert twice[0] is twice[2] is model[1][0] and model[0] is model[2]
    assert isinstance(twice[0].layer, nn.Linear) and isinstance(twice[1].layer, nn.Linear)  # not wrapped twice


def test_a_subclass_stays():
    class Doubled(nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    model = replace_linears(nn.Sequential(Doubled(2, 2), nn.Linear(2, 2)), Wrapped)
    assert type(model[0]) is Doubled and type(model[1]) is Wrapped


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.Sequential(nn.Conv2d(1, 1, 1))])
def test_a_model_without_a_linear_layer_is_refused(model):
    with pytest.raises(ValueError, match=f"model: {type(model).__name__} has no nn.Linear"):
        replace_linears(model, Wrapped)


def test_nothing_is_replaced_where_making_fails():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))

    def make(layer: nn.Linear) -> nn.Module:
        if layer.out_features == 3:
            raise ValueError("three")
        return nn.Identity()

    with pytest.raises(ValueError, match="three"):
        replace_linears(model, make)
    assert model(torch.ones(2)).shape == (3,)
