"""Renaming by a table, filling without storage: each tensor in its place, once, or a complaint that names it."""

import pytest
import torch
from torch import nn

from tutorlib.layers import SinusoidalPosition
from tutorlib.layers.compiled import unwrapped
from tutorlib.pretrained.weights import assign, fill, rename

TABLE = {"h.{}.x": "layers.{}.y", "h.0.{}": "first.{}", "position.weight": "table", "head": "output"}


def test_names_of_modules_and_of_tensors_become_ours():
    theirs = {"h.3.x.weight": 1, "h.12.x.bias": 2, "h.0.4.weight": 3, "position.weight": 4, "head": 5}
    assert rename(theirs, TABLE) == {"layers.3.y.weight": 1, "layers.12.y.bias": 2, "first.4.weight": 3, "table": 4,
                                     "output": 5}


def test_the_names_of_compiled_modules_are_those_of_the_modules():
    assert rename({"_orig_mod.h.3._orig_mod.x.weight": 1, "head._orig_mod.bias": 2}, TABLE) == {"layers.3.y.weight": 1,
                                                                                                  "output.bias": 2}


def test_what_is_left_behind_may_lie_in_a_module_that_comes():
    assert rename({"head.weight": 1, "head.count": 2, "pooler.0.bias": 3}, TABLE, ("head.count", "pooler.{}")) == {
        "output.weight": 1}


@pytest.mark.parametrize("name", ["h.x.weight", "g.3.x.weight", "h.3.xx.weight", "h.3.x.y.weight", "position.bias", "my.head"])
def test_a_tensor_without_a_place_is_named(name):
    with pytest.raises(ValueError, match=f"the tensor {name} of the file has no counterpart in ours"):
        rename({"head.weight": 1, name: 2}, TABLE, source="file")


def test_two_tensors_for_one_place_are_refused():
    with pytest.raises(ValueError, match=r"the tensor tail of the model has the place of another, output"):
        rename({"head": 1, "tail": 2}, TABLE | {"tail": "output"})


def weights(**changes):
    return {"weight": torch.ones(2, 3), "bias": torch.ones(2)} | changes


@pytest.mark.parametrize("changes, complaint", [
    ({"bias": None}, "the weights lack 1 of the 2 tensors of Linear: bias"),
    ({"scale": torch.ones(2)}, "Linear has no place for 1 of 3 weights: scale"),
    ({"weight": torch.ones(3, 2)}, r"weight of Linear must have the shape \(2, 3\), got \(3, 2\)"),
    ({"weight": torch.ones(2, 3, dtype=torch.int8)}, "weight of Linear must be torch.float32 or the like, got torch.int8"),
    ({"weight": torch.ones(2, 3, device="meta")}, "weight is to be filled with a tensor on the device 'meta'")])
def test_weights_that_do_not_fit_are_refused_in_words(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        fill(lambda: nn.Linear(3, 2), weights(**changes))


def test_weights_are_copied_or_taken_themselves():
    given = weights(weight=torch.ones(3, 2).T)
    copied, taken = fill(lambda: nn.Linear(3, 2), given), fill(lambda: nn.Linear(3, 2), given, copy=False)
    assert copied.weight.is_contiguous() and copied.weight.data_ptr() != given["weight"].data_ptr()
    assert taken.bias.data_ptr() == given["bias"].data_ptr()
    half = fill(lambda: nn.Linear(3, 2), {name: weight.half() for name, weight in given.items()})
    assert half.weight.dtype == torch.float16


def test_one_tensor_of_theirs_is_one_of_ours_and_two_are_two():
    def build():
        return nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))

    shared = torch.randn(3, 3)
    for copy in (True, False):
        tied = fill(build, {"0.weight": shared, "1.weight": shared.detach()}, copy=copy)
        assert tied[0].weight is tied[1].weight
        for other in (shared.clone(), shared.T):  # equal numbers elsewhere, and the same place read in another order
            apart = fill(build, {"0.weight": shared, "1.weight": other}, copy=copy)
            assert apart[0].weight is not apart[1].weight and torch.equal(apart[1].weight, other)


def test_buffers_are_filled_and_stay_buffers():
    ours = fill(lambda: nn.BatchNorm1d(2), {name: torch.full((2,), 3.0) for name in (
        "weight", "bias", "running_mean", "running_var")} | {"num_batches_tracked": torch.tensor(5)})
    assert set(dict(ours.named_parameters())) == {"weight", "bias"} and ours.running_mean.tolist() == [3, 3]


def test_a_table_that_no_state_dict_holds_is_there_or_missed():
    class Lost(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.arange(3.0), persistent=False)

    with pytest.raises(ValueError, match="table of Lost was built without storage, and no weight fills it"):
        fill(Lost, {})
    assert assign(Lost(), {}).table.tolist() == [0, 1, 2]
    assert assign(SinusoidalPosition(4), {}).table.isfinite().all()


def test_a_compiled_module_is_unwrapped():
    layer = nn.Linear(2, 2)
    assert unwrapped(torch.compile(layer)) is layer is unwrapped(layer)
